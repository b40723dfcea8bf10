"""The runners' caches: given to and taken from the runner of a run, never another's."""

from collections.abc import AsyncIterator

from aiohttp import web
from pydantic import ValidationError

from plue.domain.caches import CacheScope
from plue.domain.run import RunnerId
from plue.engine.context import EngineContext
from plue.engine.retention import forget_caches
from plue.errors import NotFoundError
from plue.store.blobs import Blobs
from plue.wire.caches import FOUND_HEADER, MAX_CACHE_BYTES, CacheFound, CacheQuery

__all__ = ["CacheRoutes", "credentials_of"]

_MAX_QUERY = 64 * 1024


def credentials_of(request: web.Request) -> tuple[RunnerId, str]:
    """Return who a request says it is, and its token. Raises HTTPUnauthorized without them."""
    runner = request.headers.get("X-Plue-Runner", "")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not all(x and "\0" not in x for x in (runner, token)):
        raise web.HTTPUnauthorized
    return RunnerId(runner), token


class CacheRoutes:
    """The two requests about caches."""

    def __init__(self, context: EngineContext, blobs: Blobs) -> None:
        """Read and write rows through *context*, archives in *blobs*."""
        self._context = context
        self._blobs = blobs

    def routes(self, app: web.Application) -> None:
        """Serve them in *app*."""
        app.router.add_post("/runner/v1/caches/restore", self._restore)
        app.router.add_post("/runner/v1/caches", self._save)

    async def _restore(self, request: web.Request) -> web.StreamResponse:
        scope = await self._scope(request)
        if (request.content_length or 0) > _MAX_QUERY:
            raise web.HTTPRequestEntityTooLarge(_MAX_QUERY, request.content_length or 0)
        query = _query_of(await request.read())
        while (found := await self._context.caches.find(scope, query)) is not None:
            try:
                path = self._blobs.path(found.blob)
            except NotFoundError:
                # Removed by hand, or of another disk: so that the next one can be kept.
                await self._context.caches.lost(found.blob)
                continue
            told = CacheFound(key=found.key, blob=found.blob)
            # JSON that is all ASCII, as a header must be.
            return web.FileResponse(path, headers={FOUND_HEADER: _ascii(told)})
        raise web.HTTPNotFound

    async def _save(self, request: web.Request) -> web.StreamResponse:
        scope = await self._scope(request)
        try:
            query = CacheQuery.model_validate(dict(request.query))
        except ValidationError as error:
            raise web.HTTPBadRequest from error
        most = min(MAX_CACHE_BYTES, self._context.settings.cache_bytes)
        blob, size = await self._blobs.put(_chunks(request, most))
        fresh = await self._context.caches.insert(
            scope, version=query.version, key=query.key, blob=blob, size=size
        )
        if fresh:
            await forget_caches(self._context, self._blobs)
        return web.Response(status=201 if fresh else 200)

    async def _scope(self, request: web.Request) -> CacheScope:
        runner, token = credentials_of(request)
        scope = await self._context.caches.scope(runner, token)
        if scope is None:
            raise web.HTTPForbidden
        return scope


def _query_of(body: bytes) -> CacheQuery:
    try:
        query = CacheQuery.model_validate_json(body)
    except ValidationError as error:
        raise web.HTTPBadRequest from error
    if "\0" in "".join((query.key, *query.restore_keys)):
        raise web.HTTPBadRequest
    return query


def _ascii(found: CacheFound) -> str:
    return found.model_dump_json(ensure_ascii=True)


async def _chunks(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.content.iter_chunked(256 * 1024):
        size += len(chunk)
        if size > limit:
            raise web.HTTPRequestEntityTooLarge(limit, size)
        yield chunk

"""The evaluator across a network: its server, and the engine's side of it.

The server has a token to be asked with and nothing else: no Kubernetes token, no database. What
it is asked is what `authoring.evaluator` would ask its own process, byte for byte, so that an
evaluation there and one at home cannot differ.

During an upgrade the two sides are of different versions. What an answer tells beyond what is
known here is left out; what a request asks beyond that is not answered, and asked again later.
"""

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import aiohttp
from aiohttp import web
from typing_extensions import override

from plue.authoring.cloning import Clone
from plue.authoring.evaluator import Evaluator, Isolation, body_of
from plue.authoring.fetching import Fetched
from plue.authoring.remotes import GitRequest
from plue.authoring.results import read_as
from plue.errors import PlueError, RejectedError, UnavailableError
from plue.wire.plan import Step

__all__ = ["CLONES_AT_ONCE", "FETCHES_AT_ONCE", "RemoteEvaluator", "evaluator_app"]

_ASK: Final = "/v1/ask"
_FETCH: Final = "/v1/fetch"
_CLONE: Final = "/v1/clone"
_FETCH_SECONDS: Final = 75.0
_CLONE_SECONDS: Final = 600.0
"""With the way of the archive to us, which is as long as the repository is large."""
_KIND: Final = "X-Plue-Kind"
_COMMIT: Final = "X-Plue-Commit"
_REF: Final = "X-Plue-Ref"
_CHUNK_BYTES: Final = 1024 * 1024
_MAX_BYTES: Final = 32 * 1024 * 1024
"""A request holds a repository's workflow files; the evaluator's own limits are far lower."""

_AT_ONCE: Final = 64
"""Requests that may wait for one of the evaluator's children; more are turned away."""

FETCHES_AT_ONCE: Final = 8
"""Each is a git process, with a repository of its own on the disk meanwhile."""

CLONES_AT_ONCE: Final = 4
"""Each has a whole tree on the disk meanwhile, and its archive."""


def evaluator_app(evaluator: Evaluator, *, token: str) -> web.Application:
    """Serve *evaluator* to whoever knows *token*; `/healthz` says whether its process is there."""
    served = _Served(evaluator, token)
    app = web.Application(client_max_size=_MAX_BYTES)
    app.router.add_post(_ASK, served.ask)
    app.router.add_post(_FETCH, served.fetch)
    app.router.add_post(_CLONE, served.clone)
    app.router.add_get("/healthz", served.healthz)
    return app


class _Served:
    """The handlers of an evaluator's server."""

    def __init__(self, evaluator: Evaluator, token: str) -> None:
        self._evaluator = evaluator
        self._expected = f"Bearer {token}".encode()
        self._asking = asyncio.Semaphore(_AT_ONCE)
        self._fetching = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._cloning = asyncio.Semaphore(CLONES_AT_ONCE)

    async def ask(self, request: web.Request) -> web.Response:
        asked = await self._asked(request)
        async with _slot(self._asking, "evaluations"):
            try:
                kind, body = await self._evaluator.ask(asked)
            except PlueError as error:
                raise web.HTTPServiceUnavailable(text=error.message) from error
        return web.Response(body=body, headers={_KIND: kind})

    async def fetch(self, request: web.Request) -> web.Response:
        wanted = await self._wanted(request)
        async with _slot(self._fetching, "fetches"), _problems():
            found = await self._evaluator.fetch(wanted)
        return web.json_response(asdict(found))

    async def clone(self, request: web.Request) -> web.StreamResponse:
        wanted = await self._wanted(request)
        async with _slot(self._cloning, "clones"), _problems(), self._evaluator.clone(wanted) as it:
            headers = {_COMMIT: it.commit} | ({} if it.ref is None else {_REF: it.ref})
            if it.chunks is None:
                return web.Response(status=web.HTTPNoContent.status_code, headers=headers)
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            async for chunk in it.chunks:
                await response.write(chunk)
            await response.write_eof()
            return response

    async def healthz(self, _: web.Request) -> web.Response:
        found = self._evaluator.isolation
        if found is None:
            raise web.HTTPServiceUnavailable(text="the evaluator's process is not there")
        return web.json_response({"ok": True, "notes": list(found.notes)})

    async def _wanted(self, request: web.Request) -> GitRequest:
        try:
            return GitRequest(**await self._asked(request))
        except TypeError as error:
            raise web.HTTPBadRequest(text="this is not a request for a repository") from error

    async def _asked(self, request: web.Request) -> dict[str, Any]:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            raise web.HTTPUnauthorized
        try:
            asked = json.loads(await request.read())
        except ValueError as error:
            raise web.HTTPBadRequest(text="the request is not JSON") from error
        if not isinstance(asked, dict):
            raise web.HTTPBadRequest(text="the request is not an object")
        return asked


@contextlib.asynccontextmanager
async def _slot(slots: asyncio.Semaphore, what: str) -> AsyncIterator[None]:
    if slots.locked():
        raise web.HTTPServiceUnavailable(text=f"too many {what} wait already")
    async with slots:
        yield


@contextlib.asynccontextmanager
async def _problems() -> AsyncIterator[None]:
    """Answer with what a repository's user must mend, or with what may go by itself."""
    try:
        yield
    except RejectedError as error:
        problem = {"message": error.message, "field": error.field, "remedy": error.remedy}
        raise web.HTTPUnprocessableEntity(
            text=json.dumps(problem), content_type="application/json"
        ) from error
    except PlueError as error:
        raise web.HTTPServiceUnavailable(text=error.message) from error


class RemoteEvaluator(Evaluator):
    """An evaluator that asks a server for what needs the sandbox. Needs a running event loop."""

    def __init__(self, url: str, *, token: str) -> None:
        """Ask the server at *url* with *token*."""
        super().__init__()
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    @override
    async def start(self) -> None:
        """Prepare to ask; the server may come later, as in every start of a whole cluster."""
        # Longer than one evaluation and its process's replacement, with others in front of it.
        patience = aiohttp.ClientTimeout(total=4 * self.wall + 10, sock_connect=3)
        self._session = aiohttp.ClientSession(timeout=patience, headers=self._headers)

    @override
    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    @override
    def isolation(self) -> Isolation | None:
        """None: what is in force is known there, not here."""
        return None

    @override
    async def ask(
        self, request: Mapping[str, object], recorded: Sequence[Step] = ()
    ) -> tuple[str, bytes]:
        """Ask the server. Raises UnavailableError when it is away or does not know our token."""
        status, kind, said = await self._post(_ASK, body_of(request, recorded))
        if status == web.HTTPOk.status_code:
            return kind, said
        raise _refused(status, said)

    @override
    async def fetch(self, request: GitRequest) -> Fetched:
        """Have the server fetch: it may reach the world, and knows nothing that is ours."""
        patience = aiohttp.ClientTimeout(total=_FETCH_SECONDS, sock_connect=3)
        status, _, said = await self._post(_FETCH, json.dumps(asdict(request)).encode(), patience)
        if status == web.HTTPOk.status_code:
            return read_as(Fetched, json.loads(said))
        raise _not_had(status, said)

    @override
    @contextlib.asynccontextmanager
    async def clone(self, request: GitRequest) -> AsyncIterator[Clone]:
        """Have the server clone. What breaks off on its way here raises UnavailableError."""
        body = json.dumps(asdict(request)).encode()
        patience = aiohttp.ClientTimeout(total=_CLONE_SECONDS, sock_connect=3)
        async with self._answered(_CLONE, body, patience) as answer:
            if answer.status not in {web.HTTPOk.status_code, web.HTTPNoContent.status_code}:
                raise _not_had(answer.status, await answer.read())
            is_known = answer.status == web.HTTPNoContent.status_code
            chunks = None if is_known else answer.content.iter_chunked(_CHUNK_BYTES)
            yield Clone(answer.headers[_COMMIT], chunks, answer.headers.get(_REF))

    async def _post(
        self, path: str, body: bytes, patience: aiohttp.ClientTimeout | None = None
    ) -> tuple[int, str, bytes]:
        """Return status, kind and body of the answer. Raises UnavailableError."""
        async with self._answered(path, body, patience) as answer:
            return answer.status, answer.headers.get(_KIND, ""), await answer.read()

    @contextlib.asynccontextmanager
    async def _answered(
        self, path: str, body: bytes, patience: aiohttp.ClientTimeout | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give an answer, which need not have come whole. Raises UnavailableError."""
        if self._session is None:
            raise UnavailableError("the evaluator is closed")
        try:
            async with self._session.post(
                self._url + path, data=body, timeout=patience or self._session.timeout
            ) as answer:
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(
                "the evaluator does not answer", remedy="look at the evaluator's pods and log"
            ) from error


def _not_had(status: int, said: bytes) -> PlueError:
    """Return why a repository could not be had."""
    if status == web.HTTPUnprocessableEntity.status_code:
        problem = json.loads(said)
        return RejectedError(
            problem["message"], field=problem.get("field"), remedy=problem.get("remedy")
        )
    return _refused(status, said)


def _refused(status: int, said: bytes) -> UnavailableError:
    """Return why the evaluator did not do what it was asked."""
    if status == web.HTTPUnauthorized.status_code:
        return UnavailableError(
            "the evaluator does not know our token",
            remedy="give PLUE_EVALUATOR_TOKEN the same value everywhere",
        )
    return UnavailableError(
        f"the evaluator answered {status}: {said[:300].decode(errors='replace')}"
    )

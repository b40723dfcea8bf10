"""The evaluator across a network: its server, and the engine's side of it.

The server has a token to be asked with and nothing else: no Kubernetes token, no database. What
it is asked is what `authoring.evaluator` would ask its own process, byte for byte, so that an
evaluation there and one at home cannot differ.
"""

import asyncio
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
from aiohttp import web
from typing_extensions import override

from plue.authoring.evaluator import Evaluator, Isolation, body_of
from plue.errors import PlueError, UnavailableError
from plue.wire.plan import Step

__all__ = ["RemoteEvaluator", "evaluator_app"]

_ASK: Final = "/v1/ask"
_KIND: Final = "X-Plue-Kind"
_MAX_BYTES: Final = 32 * 1024 * 1024
"""A request holds a repository's workflow files; the evaluator's own limits are far lower."""

_AT_ONCE: Final = 64
"""Requests that may wait for one of the evaluator's children; more are turned away."""


def evaluator_app(evaluator: Evaluator, *, token: str) -> web.Application:
    """Serve *evaluator* to whoever knows *token*; `/healthz` says whether its process is there."""
    expected = f"Bearer {token}".encode()
    waiting = asyncio.Semaphore(_AT_ONCE)

    async def ask(request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, expected):
            raise web.HTTPUnauthorized
        if waiting.locked():
            raise web.HTTPServiceUnavailable(text="too many evaluations wait already")
        async with waiting:
            try:
                asked = json.loads(await request.read())
            except ValueError as error:
                raise web.HTTPBadRequest(text="the request is not JSON") from error
            if not isinstance(asked, dict):
                raise web.HTTPBadRequest(text="the request is not an object")
            try:
                kind, body = await evaluator.ask(asked)
            except PlueError as error:
                raise web.HTTPServiceUnavailable(text=error.message) from error
        return web.Response(body=body, headers={_KIND: kind})

    async def healthz(_: web.Request) -> web.Response:
        found = evaluator.isolation
        if found is None:
            raise web.HTTPServiceUnavailable(text="the evaluator's process is not there")
        return web.json_response({"ok": True, "notes": list(found.notes)})

    app = web.Application(client_max_size=_MAX_BYTES)
    app.router.add_post(_ASK, ask)
    app.router.add_get("/healthz", healthz)
    return app


class RemoteEvaluator(Evaluator):
    """An evaluator that asks a server for what needs the sandbox. Needs a running event loop."""

    def __init__(self, url: str, *, token: str) -> None:
        """Ask the server at *url* with *token*."""
        super().__init__()
        self._url = url.rstrip("/") + _ASK
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
        if self._session is None:
            raise UnavailableError("the evaluator is closed")
        body = body_of(request, recorded)
        try:
            async with self._session.post(self._url, data=body) as answer:
                said = await answer.read()
                if answer.status == web.HTTPOk.status_code:
                    return answer.headers[_KIND], said
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, KeyError) as error:
            raise UnavailableError(
                "the evaluator does not answer", remedy="look at the evaluator's pods and log"
            ) from error
        if status == web.HTTPUnauthorized.status_code:
            raise UnavailableError(
                "the evaluator does not know our token",
                remedy="give PLUE_EVALUATOR_TOKEN the same value everywhere",
            )
        raise UnavailableError(
            f"the evaluator answered {status}: {said[:300].decode(errors='replace')}"
        )

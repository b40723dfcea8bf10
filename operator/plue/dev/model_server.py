"""A server that speaks the Messages API from a script: agents without a key and without a cost.

It answers on loopback only, streams as the API does, and is as strict as the API about what it is
asked. Each call is kept, with what became of it, for tests and for ``--log``.
"""

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web
from pydantic import JsonValue
from pydantic_core import to_json

from plue.dev.answers import Answer, error_body
from plue.dev.requests import BadRequestError, Request, opening_of, read_request
from plue.dev.script import Fault, Script, Turn

__all__ = ["Call", "ModelServer"]

MAX_REQUEST_BYTES = 32 * 1024 * 1024
"""What the API takes; more is answered with 413."""

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(slots=True)
class Call:
    """One request and what became of it.

    ``outcome`` is ``open``, ``answered``, ``status N``, ``cut``, ``error``, ``hung`` or
    ``abandoned``: the client left before the answer's end.
    """

    body: bytes
    headers: dict[str, str]
    outcome: str = "open"
    events: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, outcome: str) -> None:
        """Say what became of the call; the first word stays."""
        if self.outcome == "open":
            self.outcome = outcome
            self.ended.set()


class ModelServer:
    """The server: ``async with ModelServer(script) as server`` serves at ``server.url``."""

    def __init__(
        self,
        script: Script,
        *,
        key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        watch: Callable[[Call], None] | None = None,
    ) -> None:
        """Answer from *script*. With *key*, only requests that show it; *watch* sees each call."""
        self.calls: list[Call] = []
        self.url = ""
        self._script, self._key, self._watch = script, key, watch
        self._host, self._port = host, port
        self._arrivals: Counter[str] = Counter()
        self._met: Counter[tuple[str, int, int]] = Counter()
        self._runner: web.AppRunner | None = None

    async def start(self) -> Self:
        """Begin to serve. Raises OSError when the port is taken."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://{self._host}:{self._port}"
        return self

    async def close(self) -> None:
        """End; answers that are on their way are cut."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(self, *_error: object) -> None:
        """Close."""
        await self.close()

    # ── requests ─────────────────────────────────────────────────────────────────────────────────

    async def _messages(self, http: web.Request) -> web.StreamResponse:
        call = Call(await http.read(), {k.lower(): v for k, v in http.headers.items()})
        self.calls.append(call)
        try:
            return await self._serve(http, call)
        except (asyncio.CancelledError, ConnectionError):
            call.end("abandoned")
            raise
        finally:
            call.end("answered")
            if self._watch is not None:
                self._watch(call)

    async def _serve(self, http: web.Request, call: Call) -> web.StreamResponse:
        refused = self._refusal(call.headers)
        if refused is not None:
            return _error(call, *refused)
        try:
            request = read_request(call.body)
            key, index, turn = self._turn(request)
        except BadRequestError as error:
            return _error(call, 400, "invalid_request_error", str(error))
        fault = self._fault(key, index, turn)
        if fault is not None and fault.status is not None:
            kind = _KINDS.get(fault.status, "api_error")
            return _error(call, fault.status, kind, "from the script", fault.retry_after_ms)
        answer = Answer(request, turn, len(self.calls), len(call.body))
        if not request.stream:
            return await self._whole(http, call, answer, fault)
        return await self._stream(http, call, answer, fault)

    def _refusal(self, headers: dict[str, str]) -> tuple[int, str, str] | None:
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if not given:
            return 401, "authentication_error", "x-api-key header is required"
        if self._key is not None and given != self._key:
            return 401, "authentication_error", "invalid x-api-key"
        if "anthropic-version" not in headers:
            return 400, "invalid_request_error", "anthropic-version: header is required"
        return None

    def _turn(self, request: Request) -> tuple[str, int, Turn]:
        """Return the turn that answers, with its conversation and place. Raises BadRequestError."""
        opening = opening_of(request)
        for conversation in self._script.conversations:
            if conversation.fits(request.model, opening):
                break
        else:
            raise BadRequestError("the script has no conversation that fits this request")
        key = hashlib.sha256(opening.encode()).hexdigest()
        index = sum(message.role == "assistant" for message in request.messages)
        if conversation.order == "arrival":
            index = self._arrivals[key]
        turns = conversation.turns
        turn = turns[min(index, len(turns) - 1)]
        if index >= len(turns) and not turn.repeat:
            raise BadRequestError(f"the script has no turn {index + 1} for this conversation")
        return key, index, turn

    def _fault(self, key: str, index: int, turn: Turn) -> Fault | None:
        for place, fault in enumerate(turn.before):
            if self._met[key, index, place] < fault.times:
                self._met[key, index, place] += 1
                return fault
        self._arrivals[key] += 1
        return None

    # ── answers ──────────────────────────────────────────────────────────────────────────────────

    async def _whole(
        self, http: web.Request, call: Call, answer: Answer, fault: Fault | None
    ) -> web.StreamResponse:
        if fault is not None and fault.hang is not None:
            call.end("hung")
            await asyncio.Event().wait()
        if fault is not None:
            _cut(http, call)
        await asyncio.sleep(answer.turn.delay)
        return web.json_response(answer.message(), headers=_ids(call))

    async def _stream(
        self, http: web.Request, call: Call, answer: Answer, fault: Fault | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=_ids(call))
        response.content_type = "text/event-stream"
        response.headers["Cache-Control"] = "no-cache"
        await response.prepare(http)
        for event in answer.events():
            if fault is not None and await self._break(http, response, call, fault):
                return response
            await response.write(_sse(event))
            call.events += 1
            if answer.turn.delay:
                await asyncio.sleep(answer.turn.delay)
        call.end("answered")
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response

    async def _break(
        self, http: web.Request, response: web.StreamResponse, call: Call, fault: Fault
    ) -> bool:
        """Do what *fault* says, when its place is reached; True when the answer ends there."""
        if call.events == fault.cut:
            _cut(http, call)
        if call.events == fault.error:
            await response.write(_sse(error_body(fault.type, "from the script")))
            call.end("error")
            return True
        if call.events == fault.hang:
            call.end("hung")
            await asyncio.Event().wait()
        return False

    async def _count(self, http: web.Request) -> web.Response:
        body = json.loads(await http.read())
        body["max_tokens"] = 1
        try:
            read_request(to_json(body))
        except BadRequestError as error:
            body = error_body("invalid_request_error", str(error))
            return web.json_response(body, status=400)
        return web.json_response({"input_tokens": max(1, len(to_json(body)) // 4)})


def _cut(http: web.Request, call: Call) -> None:
    call.end("cut")
    if http.transport is not None:
        http.transport.abort()
    raise ConnectionResetError("cut by the script")


def _ids(call: Call) -> dict[str, str]:
    return {"request-id": f"req_{hashlib.sha256(call.body).hexdigest()[:16]}"}


def _sse(event: dict[str, JsonValue]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _error(
    call: Call, status: int, kind: str, message: str, retry_after_ms: int | None = None
) -> web.Response:
    call.end(f"status {status}")
    headers = _ids(call)
    if retry_after_ms is not None:
        headers["retry-after-ms"] = str(retry_after_ms)
        headers["retry-after"] = str(-(-retry_after_ms // 1000))
    return web.json_response(error_body(kind, message), status=status, headers=headers)

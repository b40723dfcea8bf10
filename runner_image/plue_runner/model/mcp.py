"""MCP servers: programs of the repository that offer tools, spoken to by the standard streams.

The part of the Model Context Protocol that tools need is five messages of JSON-RPC, a line each:
so it is written out here. The official library was rejected: its import takes 0.9 s of CPU and
thirty packages, in every image. What a server sends is judged like any other input: a hang, an end,
an answer that is too large or no answer at all are errors of the tool, told to the model.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from plue_runner.model.tools import ToolError

__all__ = ["Listed", "McpError", "Peer"]

VERSION = "2025-11-25"
"""The newest revision that begins with a handshake, which servers of all revisions answer."""

_STATELESS = "2026-07-28"
_UNSUPPORTED_VERSION = -32022
_LINE_BYTES = 4 * 1024 * 1024
_PAGES = 50
_TOOLS = 500
_FIELD = re.compile(r"^[a-zA-Z0-9_.-]{1,64}$")
"""What models take as the name of a field; one that is not fails every call."""
_SCHEMA_CHARACTERS = 64 * 1024
_CLIENT = {"name": "plue", "version": "1"}
_PREFIX = "io.modelcontextprotocol/"


class McpError(Exception):
    """The server cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool as its server offers it. ``wrong`` says why it cannot be given to a model."""

    name: str
    description: str
    schema: dict[str, Any]
    wrong: str | None = None


@dataclass(slots=True)
class Peer:
    """The other end: what it says comes in by ``hear``, what it is told leaves by ``send``.

    ``ended`` returns why nothing more will come, None while something may.
    """

    send: Callable[[bytes], None]
    ended: Callable[[], str | None]
    _asked: int = field(default=0, init=False)
    _open: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict, init=False)
    _rest: bytearray = field(default_factory=bytearray, init=False)
    _skipping: bool = field(default=False, init=False)
    _meta: dict[str, Any] | None = field(default=None, init=False)

    # ── what the server offers ───────────────────────────────────────────────────────────────────

    async def begin(self, seconds: float) -> list[Listed]:
        """Shake hands and return the tools. Raises McpError."""
        try:
            async with asyncio.timeout(seconds):
                await self._shake_hands()
                return await self._list()
        except TimeoutError:
            raise McpError(f"it said nothing for {seconds:g} s") from None

    async def _shake_hands(self) -> None:
        wanted = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": _CLIENT}
        answer = await self._ask("initialize", wanted)
        error = answer.get("error")
        if error is None:
            self._tell({"method": "notifications/initialized"})
        elif isinstance(error, Mapping) and error.get("code") == _UNSUPPORTED_VERSION:
            # A server of the newer kind only: there every request says who asks.
            self._meta = {
                f"{_PREFIX}protocolVersion": _STATELESS,
                f"{_PREFIX}clientInfo": _CLIENT,
                f"{_PREFIX}clientCapabilities": {},
            }
        else:
            raise McpError(f"it refused the handshake: {_said(error)}")

    async def _list(self) -> list[Listed]:
        found: list[Listed] = []
        cursor: object = None
        for _ in range(_PAGES):
            answer = await self._ask("tools/list", {} if cursor is None else {"cursor": cursor})
            match answer:
                case {"result": {"tools": list() as tools, **more}}:
                    found += map(_listed, tools)
                    cursor = more.get("nextCursor")
                case {"error": error}:
                    raise McpError(f"it does not list its tools: {_said(error)}")
                case _:
                    raise McpError("its list of tools is not one")
            if cursor is None or len(found) > _TOOLS:
                break
        if len(found) > _TOOLS:
            raise McpError(f"it has more than {_TOOLS} tools")
        return found

    # ── a call ───────────────────────────────────────────────────────────────────────────────────

    async def call(self, name: str, given: Mapping[str, Any], seconds: float) -> str:
        """Return what tool *name* gives, as text. Raises ToolError."""
        try:
            async with asyncio.timeout(seconds):
                answer = await self._ask("tools/call", {"name": name, "arguments": dict(given)})
        except TimeoutError:
            raise ToolError(f"the server did not answer within {seconds:g} s") from None
        except McpError as error:
            raise ToolError(f"the server cannot answer: {error}") from None
        if "error" in answer:
            raise ToolError(_said(answer["error"]))
        text = _text(answer.get("result"))
        if text is None:
            raise ToolError("the server's answer is not a result of a tool")
        if answer["result"].get("isError") is True:
            raise ToolError(text or "it failed, and does not say why")
        return text

    # ── messages ─────────────────────────────────────────────────────────────────────────────────

    def hear(self, data: bytes) -> None:
        """Take what the server said."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole, self._rest = bytes(self._rest) + line, bytearray()
            skipped, self._skipping = self._skipping, False
            if not skipped and len(whole) <= _LINE_BYTES:
                self._message(whole)
            elif not skipped:
                self._too_large()
        if not self._skipping:
            self._rest += rest
        if len(self._rest) > _LINE_BYTES:
            self._rest, self._skipping = bytearray(), True
            self._too_large()

    def _too_large(self) -> None:
        # Whose answer it is stands in it; nobody can wait for it now.
        self.fail(f"an answer is larger than {_LINE_BYTES >> 20} MiB")

    def fail(self, why: str) -> None:
        """Let all who wait fail."""
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(McpError(why))

    def _message(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return  # a program that prints on its standard output; the protocol says: ignore
        if not isinstance(said, dict):
            return
        number = said.get("id")
        waiting = self._open.get(number) if isinstance(number, int) else None
        if "method" in said:
            if number is not None:
                self._answer(said)
        elif waiting is not None and not waiting.done():
            waiting.set_result(said)

    def _answer(self, asked: Mapping[str, Any]) -> None:
        """Answer what the server asks: it may ask whether we are there, and nothing else."""
        known = asked["method"] == "ping"
        error = {"code": -32601, "message": "this client only uses tools"}
        self._tell({"id": asked["id"]} | ({"result": {}} if known else {"error": error}))

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._asked = number = self._asked + 1
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._open[number] = waiting
        if self._meta is not None:
            params = {**params, "_meta": self._meta}
        try:
            self._tell({"id": number, "method": method, "params": params})
            answer = await waiting
        except asyncio.CancelledError:
            if method != "initialize":
                with suppress(McpError):
                    self._tell(
                        {"method": "notifications/cancelled", "params": {"requestId": number}}
                    )
            raise
        finally:
            del self._open[number]
        return answer

    def _tell(self, message: Mapping[str, Any]) -> None:
        if (why := self.ended()) is not None:
            raise McpError(why)
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False)
        try:
            self.send(text.encode("utf-8", "replace") + b"\n")
        except OSError as error:
            raise McpError(self.ended() or os.strerror(error.errno or 0)) from error


def _listed(tool: object) -> Listed:
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        return Listed("", "", {}, "it has no name")
    name, schema = tool["name"], tool.get("inputSchema")
    described = tool.get("description")
    description = described[:10_000] if isinstance(described, str) else ""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return Listed(name, description, {}, "its input schema is not that of an object")
    if any(key in schema for key in ("anyOf", "oneOf", "allOf")):
        return Listed(name, description, {}, "its input schema is a choice of several")
    properties = schema.get("properties") or {}
    if not isinstance(properties, dict) or not all(map(_FIELD.match, properties)):
        return Listed(name, description, {}, f"its fields' names are not all like {_FIELD.pattern}")
    if len(json.dumps(schema)) > _SCHEMA_CHARACTERS:
        return Listed(name, description, {}, "its input schema is too large")
    return Listed(name, description, schema)


def _text(result: object) -> str | None:
    if not isinstance(result, dict) or not isinstance(result.get("content", []), list):
        return None
    parts = [_part(block) for block in result.get("content", [])]
    if not parts and "structuredContent" in result:
        return json.dumps(result["structuredContent"], ensure_ascii=False)
    return None if not parts and "content" not in result else "\n".join(parts)


def _part(block: object) -> str:
    match block:
        case {"type": "text", "text": str() as text}:
            return text
        case {"type": "resource", "resource": {"text": str() as text}}:
            return text
        case {"type": "resource_link", "uri": str() as uri}:
            return uri
        case {"type": str() as kind}:
            return f"[{kind[:40]}: left out, a model is given text only]"
        case _:
            return "[something that is not known: left out]"


def _said(error: object) -> str:
    match error:
        case {"message": str() as message}:
            return message[:2000]
        case _:
            return f"an error that says nothing: {json.dumps(error, default=str)[:200]}"

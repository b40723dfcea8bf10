"""The way out for runs: a CONNECT proxy that lets each run to the hosts that its pool allows.

It opens no request and ends no TLS: what it sees is a name and bytes. The name is looked up here,
because a sandbox has no DNS, and must lead to an address of the internet: no name that somebody
else may point anywhere leads into the cluster. A refusal is an event in the step's log.
"""

import asyncio
import base64
import binascii
import contextlib
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from plue.domain.egress import is_allowed, is_public, target_of
from plue.engine.context import EngineContext
from plue.errors import PlueError
from plue.store.egress import EgressCaller, EgressStore
from plue.wire.model_access import StepClaim, is_token_of, read_claim

__all__ = ["EgressProxy"]

_log = structlog.get_logger(__name__)

_HEAD_BYTES: Final = 16 * 1024
_HEAD_WITHIN: Final = 10.0
_CONNECT_WITHIN: Final = 10.0
_IDLE: Final = 600.0
_PIECE: Final = 64 * 1024
_AT_ONCE: Final = 64
"""Open connections of one run, and events of refusals in one step's log."""

_BEGINS_WITHIN: Final = 2.0
"""How long it may take until a step's start is stored: its first connection may be faster."""


class _RefusedError(Exception):
    """The connection is not made."""

    def __init__(self, status: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


_UNKNOWN = _RefusedError("407 Proxy Authentication Required", "Token", "no running step's token")


class EgressProxy:
    """The proxy of one gateway, between ``start`` and ``close``."""

    def __init__(
        self,
        context: EngineContext,
        *,
        look_up: Callable[[str, int], Awaitable[Sequence[str]]] | None = None,
        may_reach: Callable[[str], bool] = is_public,
    ) -> None:
        """Serve the runs of *context*; *may_reach* judges an address that *look_up* has found."""
        self._context = context
        self._store = EgressStore(context.database)
        self._look_up = look_up or _addresses
        self._may_reach = may_reach
        self._server: asyncio.Server | None = None
        self._open: Counter[str] = Counter()
        self._told: Counter[tuple[str, int, str]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=_HEAD_BYTES)
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a callback of start_server is a task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            authority, token = _asked(await _head(reader))
            claim, caller = await self._caller(token)
            far = await self._reached(caller, authority, claim)
        except _RefusedError as refused:
            _log.info("egress_refused", reason=refused.reason)
            writer.write(f"HTTP/1.1 {refused.status}\r\n\r\n{refused.message}\n".encode())
            await writer.drain()
            return
        self._open[claim.run] += 1
        try:
            writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            await _joined((reader, writer), far)
        finally:
            self._open[claim.run] -= 1
            if self._open[claim.run] == 0:
                del self._open[claim.run]
            far[1].close()

    async def _caller(self, token: str) -> tuple[StepClaim, EgressCaller]:
        """Return who asks. Raises _RefusedError."""
        claim = read_claim(token)
        if claim is None:
            raise _UNKNOWN
        loop = asyncio.get_running_loop()
        end = loop.time() + _BEGINS_WITHIN
        while True:
            try:
                caller = await self._store.caller(claim.run, claim.attempt, claim.step)
            except PlueError as error:
                raise _RefusedError("503 Service Unavailable", "Store", error.message) from error
            if caller is not None and is_token_of(token, caller.token_hash, purpose="egress"):
                return claim, caller
            if caller is not None or loop.time() > end:
                raise _UNKNOWN
            await asyncio.sleep(0.1)

    async def _reached(
        self, caller: EgressCaller, authority: str, claim: StepClaim
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to what was asked for. Raises _RefusedError, which is told."""
        target = target_of(authority)
        refused = None
        if target is None or not is_allowed(caller.allowed, *target):
            message = f"{authority[:200]} is not in the pool's egress"
            refused = _RefusedError("403 Forbidden", "HostNotAllowed", message)
        elif self._open[claim.run] >= _AT_ONCE:
            message = f"{_AT_ONCE} connections are open already"
            refused = _RefusedError("429 Too Many Requests", "TooMany", message)
        else:
            try:
                return await self._connection(*target)
            except _RefusedError as error:
                refused = error
        await self._tell(claim, authority, refused)
        raise refused

    async def _connection(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                for address in await self._look_up(host, port):
                    # The very address that was judged: another look-up might give another one.
                    if self._may_reach(address):
                        return await asyncio.open_connection(address, port)
        except (OSError, TimeoutError) as error:
            message = f"{host}:{port} cannot be reached: {error!r}"
            raise _RefusedError("502 Bad Gateway", "Unreachable", message) from error
        message = f"{host} leads to an address that is not of the internet"
        raise _RefusedError("403 Forbidden", "AddressNotAllowed", message)

    async def _tell(self, claim: StepClaim, authority: str, refused: _RefusedError) -> None:
        key = (claim.run, claim.attempt, claim.step)
        self._told[key] += 1
        if self._told[key] > _AT_ONCE:
            return
        if len(self._told) > 10_000:  # noqa: PLR2004 - steps that were told of lately
            self._told.clear()
        body = {"target": authority[:300], "reason": refused.reason, "message": refused.message}
        with contextlib.suppress(PlueError):
            event = await self._store.refuse(*key, dict(body))
            if event is not None:
                self._context.publish([event])


async def _addresses(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(_HEAD_WITHIN):
            return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise _RefusedError("431 Request Header Fields Too Large", "Head", "too long") from error


def _asked(head: bytes) -> tuple[str, str]:
    """Return what a request asks for, and the token it brings. Raises _RefusedError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[0] != "CONNECT":  # noqa: PLR2004 - method, target, version
        raise _RefusedError("405 Method Not Allowed", "Method", "only CONNECT, for https")
    for line in lines:
        name, _, value = line.partition(":")
        scheme, _, given = value.strip().partition(" ")
        if name.lower() == "proxy-authorization" and scheme.lower() == "basic":
            with contextlib.suppress(binascii.Error, UnicodeDecodeError):
                return words[1], base64.b64decode(given, validate=True).decode().partition(":")[2]
    raise _RefusedError("407 Proxy Authentication Required", "Token", "use $HTTPS_PROXY as it is")


async def _joined(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Copy both ways until both have ended, or nothing came for a while."""
    await asyncio.gather(_pump(near[0], far[1]), _pump(far[0], near[1]))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await asyncio.wait_for(reader.read(_PIECE), _IDLE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, TimeoutError):
        writer.close()

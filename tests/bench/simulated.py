"""Runners that cost nearly nothing: the wire's frames by hand, on a bare socket.

They do what a real runner's session does (hello, renew, accepted, the first event alone and
acknowledged, the rest, finished) and play no tricks with it; only parsing and validating is left
out, so that what is measured is the server.
"""

import asyncio
import base64
import json
import re
import struct
from collections.abc import Callable
from typing import Protocol

__all__ = ["Runner", "Script", "connect"]

_RENEWED_SECONDS = 10.0
_KEY = base64.b64encode(bytes(16)).decode()
_RUN = re.compile(rb'"run":"([0-9a-f-]{36})"')
_ATTEMPT = re.compile(rb'"attempt":(\d+)')
_THROUGH = re.compile(rb'"through":(\d+)')


class Script(Protocol):
    """What a runner does with its attempt once it may start."""

    def started(self, runner: "Runner") -> None:
        """`start` has come."""

    def acked(self, runner: "Runner", through: int) -> None:
        """Everything up to *through* is stored."""


class Runner(asyncio.Protocol):
    """One session of one simulated runner."""

    def __init__(
        self, runner: str, token: str, script: Script, ended: Callable[["Runner"], None]
    ) -> None:
        self.runner = runner
        self.run = b""
        self.attempt = 1
        self.idle = False
        self.token = token
        self._script = script
        self._ended = ended
        self._buffer = bytearray()
        self._upgraded = False
        self._renewing: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            b"GET /runner/v1/session HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: %b\r\n\r\n" % _KEY.encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take the frames that are complete."""
        self._buffer += data
        if not self._upgraded:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            del self._buffer[: end + 4]
            self._upgraded = True
            self.say(
                b'{"type":"hello","protocol":1,"runner":%b,"token":%b,"pid":1}'
                % (json.dumps(self.runner).encode(), json.dumps(self.token).encode())
            )
        while (frame := self._frame()) is not None:
            self._hear(*frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it is over."""
        if self._renewing is not None:
            self._renewing.cancel()
        self._ended(self)

    def _frame(self) -> tuple[int, bytes] | None:
        have = self._buffer
        if len(have) < 2:
            return None
        size, at = have[1] & 0x7F, 2
        if size == 126:
            if len(have) < 4:
                return None
            size, at = struct.unpack_from("!H", have, 2)[0], 4
        elif size == 127:
            if len(have) < 10:
                return None
            size, at = struct.unpack_from("!Q", have, 2)[0], 10
        if len(have) < at + size:
            return None
        code, payload = have[0] & 0x0F, bytes(have[at : at + size])
        del have[: at + size]
        return code, payload

    # ── the session ──────────────────────────────────────────────────────────────────────────────

    def say(self, payload: bytes, code: int = 1) -> None:
        """Send a frame; its mask is zero, which leaves the payload as it is."""
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | code, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | code, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | code, 0x80 | 127, size)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(head + b"\0\0\0\0" + payload)

    def events(self, *events: bytes) -> None:
        """Send events, each a line of JSON with its number."""
        self.say(
            b'{"type":"events","run":"%b","attempt":%d,"events":[%b]}'
            % (self.run, self.attempt, b",".join(events))
        )

    def renew(self) -> None:
        """Ask for the lease, now and again and again."""
        self.say(b'{"type":"renew","sent":1.0}')
        loop = asyncio.get_running_loop()
        self._renewing = loop.call_later(_RENEWED_SECONDS, self.renew)

    def finish(self, n: int) -> None:
        """Say that the attempt is over, with *n* events."""
        self.say(
            b'{"type":"finished","run":"%b","attempt":%d,"n":%d,"state":"succeeded",'
            b'"reason":"Succeeded","outputs":{}}' % (self.run, self.attempt, n)
        )

    def _hear(self, code: int, payload: bytes) -> None:
        if code == 9:
            self.say(payload, 10)
            return
        if code == 8:
            self.close()
            return
        kind = payload[9 : payload.find(b'"', 9)]
        if kind == b"welcome":
            self.idle = True
            self.renew()
        elif kind == b"assign":
            self.idle = False
            self.run = _found(_RUN, payload)
            self.attempt = int(_found(_ATTEMPT, payload))
            self.say(b'{"type":"accepted","run":"%b","attempt":%d}' % (self.run, self.attempt))
        elif kind == b"start":
            self._script.started(self)
        elif kind == b"ack":
            self._script.acked(self, int(_found(_THROUGH, payload)))
        elif kind in {b"done", b"fenced", b"retire"}:
            self.close()

    def close(self) -> None:
        """Say goodbye and leave, as the process's end does."""
        self.say(b"\x03\xe8", 8)
        if self.transport is not None:
            self.transport.close()


def _found(pattern: re.Pattern[bytes], payload: bytes) -> bytes:
    match = pattern.search(payload)
    if match is None:
        raise RuntimeError(f"not in the frame: {payload[:200]!r}")
    return match[1]


async def connect(
    url: str, runner: str, token: str, script: Script, ended: Callable[[Runner], None]
) -> Runner:
    """Connect a runner to the gateway at *url*."""
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(
        lambda: Runner(runner, token, script, ended), host, int(port)
    )
    return protocol


def step_started(n: int, step: str = "hello") -> bytes:
    """Return the event of a step's start."""
    return (
        b'{"n":%d,"type":"step_started","step":"%b","body":{"attempt":1,"try":1,'
        b'"shown":"echo hello"}}' % (n, step.encode())
    )


def step_output(n: int, text: str, line: int, step: str = "hello") -> bytes:
    """Return the event of a chunk of output that begins with line number *line*."""
    return (
        b'{"n":%d,"type":"step_output","step":"%b","body":{"attempt":1,"try":1,"stream":"stdout",'
        b'"text":%b,"line":%d}}' % (n, step.encode(), json.dumps(text).encode(), line)
    )


def step_completed(n: int, step: str = "hello") -> bytes:
    """Return the event of a step's end."""
    return (
        b'{"n":%d,"type":"step_completed","step":"%b","body":{"attempt":1,"state":"succeeded",'
        b'"exit_code":0,"tries":1,"duration_ms":1}}' % (n, step.encode())
    )

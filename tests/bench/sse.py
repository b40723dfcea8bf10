"""A follower of a server-sent event stream that costs little, so that thousands can be played."""

import asyncio
import re
import socket
import time

__all__ = ["Follower", "follower"]

_STAMP = re.compile(rb"@(\d+\.\d{6})@")
_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)


class Follower(asyncio.Protocol):
    """Notes how old each time stamp is that arrives, and which events did."""

    def __init__(self, request: bytes) -> None:
        self.latencies: list[float] = []
        self.ids: list[int] = []
        self.begun = asyncio.Event()
        self.completed = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._request = request
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Look at the events that are whole: a server writes each in one piece."""
        now = time.time()
        self.begun.set()
        data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            self._rest = data
            return
        whole, self._rest = data[:end], data[end:]
        self.ids += map(int, _ID.findall(whole))
        self.latencies += [(now - float(stamp)) * 1000 for stamp in _STAMP.findall(whole)]
        if b"event: run_completed" in whole:
            self.completed = True
            self._end()
            if self.transport is not None:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it is over."""
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def follower(
    url: str, path: str, token: str, *, after: int | None = None, reads: bool = True
) -> Follower:
    """Follow *path* at *url*; one that does not *read* takes a few KB and no more."""
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
    head += "Accept: text/event-stream\r\n"
    if after is not None:
        head += f"Last-Event-ID: {after}\r\n"
    ours = socket.socket()
    ours.settimeout(0)
    if not reads:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(ours, (host, int(port)))
    _, protocol = await loop.create_connection(lambda: Follower(head.encode() + b"\r\n"), sock=ours)
    if not reads and protocol.transport is not None:
        protocol.transport.pause_reading()
    return protocol

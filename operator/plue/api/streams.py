"""Long answers: bytes written as they come, to clients that may be slow, leave, or outlive us.

Every stream has one task that writes. It is ended from outside in two cases: the server closes,
or a sweep sees that the client left. aiohttp by itself does neither: it notices a client that
left only at the next write, and its clean-up waits a minute for handlers that have no end.
Cancelling handlers on disconnect (``handler_cancellation``) was rejected: it would also cancel
the making of a run half-way.

A client that does not read is not buffered for. Writing waits for it, at most ``unread`` for one
piece, then its connection is dropped; the others have tasks of their own and notice nothing.
"""

import asyncio
import enum
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from aiohttp import web

from plue.api.problems import STREAMING, canonical
from plue.errors import PlueError

__all__ = ["ENDING", "PIECE", "Ending", "OpenStreams", "grouped"]

PIECE = 256 * 1024
"""The size at which queued frames go out in more than one write."""

_LAST_WORDS = 1.0
"""Seconds that a closing server gives a client to take the end of its stream."""

_log = structlog.get_logger("plue.api")


class Ending(enum.StrEnum):
    """How a stream ended."""

    COMPLETE = "complete"
    CLOSING = "closing"  # the server closes; the client may resume elsewhere
    LEFT = "left"  # the client went away
    UNREAD = "unread"  # the client did not read
    BROKEN = "broken"  # the source failed after the stream had begun


ENDING: web.ResponseKey[Ending] = web.ResponseKey("plue.ending", Ending)
"""Where a streamed response says how it ended, for the request's log line."""


def grouped(frames: Sequence[bytes]) -> Iterator[bytes]:
    """Join *frames* to pieces of about PIECE bytes; never cuts a frame."""
    part: list[bytes] = []
    size = 0
    for frame in frames:
        if part and size + len(frame) > PIECE:
            yield b"".join(part)
            part, size = [], 0
        part.append(frame)
        size += len(frame)
    if part:
        yield b"".join(part)


class OpenStreams:
    """The streams that are open now."""

    def __init__(self, *, unread: timedelta, sweep: timedelta) -> None:
        """Close who leaves a piece unread for *unread*; look for who left every *sweep*."""
        self._unread = unread.total_seconds()
        self._sweep = sweep.total_seconds()
        self._open: dict[asyncio.Future[Ending], web.Request] = {}
        self._closing = False

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._open)

    def close(self) -> None:
        """End all streams now, and every later one at once."""
        self._closing = True
        for ended in self._open:
            if not ended.done():
                ended.set_result(Ending.CLOSING)

    async def sweep_forever(self) -> None:
        """End the streams whose clients left."""
        while True:
            await asyncio.sleep(self._sweep)
            for ended, request in self._open.items():
                transport = request.transport
                if (transport is None or transport.is_closing()) and not ended.done():
                    ended.set_result(Ending.LEFT)

    async def send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        pieces: AsyncIterator[bytes],
        *,
        cut_when_incomplete: bool,
    ) -> web.StreamResponse:
        """Prepare *response*, write *pieces* to it until they or the stream end, and return it.

        Every item of *pieces* is written whole or not at all as far as a closing server is
        concerned. With *cut_when_incomplete* a stream that is not complete ends the connection
        rudely, for formats whose reader could not tell otherwise that something is missing.
        """
        request[STREAMING] = True
        await response.prepare(request)
        ending = await self._run(request, response, pieces)
        await self._finish(request, response, ending, cut=cut_when_incomplete)
        return response

    async def _run(
        self, request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]
    ) -> Ending:
        """Write until the pieces end or the stream is ended from outside."""
        ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._open[ended] = request
        if self._closing:
            ended.set_result(Ending.CLOSING)
        writer = asyncio.create_task(self._write(request, response, pieces))
        try:
            await asyncio.wait({writer, ended}, return_when=asyncio.FIRST_COMPLETED)
            return writer.result() if writer.done() else ended.result()
        finally:
            del self._open[ended]
            writer.cancel()
            await asyncio.wait({writer})

    async def _write(
        self, request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]
    ) -> Ending:
        """Write the pieces one after the other, each within its time."""
        try:
            async for piece in pieces:
                try:
                    async with asyncio.timeout(self._unread):
                        await response.write(piece)
                except TimeoutError:
                    return Ending.UNREAD
                except ConnectionError:
                    return Ending.LEFT
                # A write that need not wait does not let others run.
                await asyncio.sleep(0)
        except PlueError as error:
            _log.warning("stream_broken", route=canonical(request), error=error.message)
            return Ending.BROKEN
        except Exception as error:  # noqa: BLE001 - the outermost loop of a stream
            _log.error("stream_failed", route=canonical(request), exc_info=error)
            return Ending.BROKEN
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
        return Ending.COMPLETE

    async def _finish(
        self,
        request: web.Request,
        response: web.StreamResponse,
        ending: Ending,
        *,
        cut: bool,
    ) -> None:
        """End the response so that its reader draws the right conclusion."""
        response[ENDING] = ending
        cut = cut and ending in {Ending.BROKEN, Ending.CLOSING}
        if not cut and ending not in {Ending.UNREAD, Ending.LEFT}:
            patience = self._unread if ending is Ending.COMPLETE else _LAST_WORDS
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(patience):
                    await response.write_eof()
                return
        if request.transport is not None:
            _drop(request.transport)


def _drop(transport: asyncio.Transport) -> None:
    """End a connection at once, and have the kernel forget what it still has to deliver.

    Without it, some megabytes wait there for minutes for a client that does not read, and that
    client does not learn that it was cut off.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()

"""Reads a step's two pipes at once, and lets its output leave in good time.

Output leaves at once when it is the first for a while, and then every few milliseconds.

Nothing is ever dropped: while the spool is full the pipes are not read, so that the step waits.
"""

import asyncio
import os
from collections.abc import Callable, Mapping

from plue_runner.output import CHUNK_BYTES, Chunk, Chunker, StreamName
from plue_runner.spool import Spool

__all__ = ["Pipes"]

_FLUSH_SECONDS = 0.015
_READ_BYTES = 64 * 1024


class Pipes:
    """The read ends of the pipes of one try; closes them at their end."""

    def __init__(
        self,
        ends: Mapping[StreamName, int],
        *,
        chunker: Chunker,
        emit: Callable[[Chunk], None],
        spool: Spool,
    ) -> None:
        """Begin to read *ends*, which become non-blocking."""
        self._loop = asyncio.get_running_loop()
        self._open = dict(ends)
        self._chunker = chunker
        self._emit = emit
        self._spool = spool
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = 0.0
        self._paused = False
        self.drained = self._loop.create_future()
        """Done when both pipes have ended."""
        self.heard = self._loop.time()
        """When the step last said something, or could not because its pipes were not read."""
        for descriptor in self._open.values():
            os.set_blocking(descriptor, False)
        self._resume()

    @property
    def paused(self) -> bool:
        """Whether the pipes are not read because the spool is full."""
        return self._paused

    def _resume(self) -> None:
        self._paused = False
        self.heard = self._loop.time()
        for name, descriptor in self._open.items():
            self._loop.add_reader(descriptor, self._read, name, descriptor)

    def _pause(self) -> None:
        self._paused = True
        for descriptor in self._open.values():
            self._loop.remove_reader(descriptor)
        self._spool.on_room.append(self._resume)

    def _read(self, name: StreamName, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        self.heard = self._loop.time()
        if data:
            self._chunker.feed(name, data)
            self._schedule()
        else:
            self._end(name)
        if self._open and not self._paused and self._spool.full:
            self._flush(fragments=True)
            self._pause()

    def _end(self, name: StreamName) -> None:
        self._chunker.close(name)
        descriptor = self._open.pop(name)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        if not self._open and not self.drained.done():
            self.drained.set_result(None)

    def _schedule(self) -> None:
        if self._chunker.size >= CHUNK_BYTES:
            self._flush(fragments=False)
        elif self._timer is None and self._chunker.size:
            now = self._loop.time()
            if now - self._flushed >= _FLUSH_SECONDS:
                self._flush(fragments=False)
            else:
                self._timer = self._loop.call_at(self._flushed + _FLUSH_SECONDS, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._flush(fragments=True)

    def _flush(self, *, fragments: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushed = self._loop.time()
        for chunk in self._chunker.take(fragments=fragments):
            self._emit(chunk)
        if self._chunker.size:
            # An unfinished line: its end may come at once, so it may wait a moment.
            self._timer = self._loop.call_at(self._flushed + _FLUSH_SECONDS, self._on_time)

    def finish(self) -> None:
        """Emit the rest; pipes that are still open are closed unread."""
        for name in list(self._open):
            self._end(name)
        if self._paused and self._resume in self._spool.on_room:
            self._spool.on_room.remove(self._resume)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for chunk in self._chunker.finish():
            self._emit(chunk)

"""Numbered events that the gateway has not acknowledged: a bounded queue, in memory and on disk.

Three parts in order: *in flight* (sent, not acknowledged), *fresh* (not sent, in memory) and a
file queue on disk for what memory does not hold. Memory therefore stays small however long the
gateway is away, and the disk is touched only when it is needed. The spool outlives connections,
not the process: a runner that dies loses its attempt anyway.

When the spool is full, ``full`` says so and whoever reads a step's pipe must stop until ``on_room``
is called; ``append`` itself never refuses, because the few events that are no output must not
wait. When the disk is full, what comes is kept in memory and the spool counts as full until the
gateway has taken everything.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["Spool"]

_IN_FLIGHT_BYTES = 4 * 1024 * 1024
_FRESH_BYTES = 1024 * 1024
_SEGMENT_BYTES = 8 * 1024 * 1024


class Spool:
    """The queue of one attempt's events; each is one line of JSON, numbered from 1."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Hold about *limit* bytes; *folder* is used when memory is not enough."""
        self._limit = limit
        self._disk = _DiskQueue(folder)
        self._in_flight: deque[bytes] = deque()
        self._fresh: deque[bytes] = deque()
        self._stranded: deque[bytes] = deque()  # newer than what is on disk, which is full
        self._in_flight_bytes = 0
        self._fresh_bytes = 0
        self._stranded_bytes = 0
        self._was_full = False
        self.acked = 0
        """The number up to which everything is acknowledged."""
        self.last = 0
        """The number of the newest event."""
        self.on_ack: list[Callable[[], None]] = []
        """Called at every acknowledgement, until taken out."""
        self.on_room: list[Callable[[], None]] = []
        """Called, and forgotten, when the spool is not full any more."""

    @property
    def unsent(self) -> int:
        """How many events wait to be sent."""
        return self.last - self.acked - len(self._in_flight)

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait to be sent."""
        return self._fresh_bytes + self._disk.size + self._stranded_bytes

    @property
    def size(self) -> int:
        """How many bytes are not acknowledged."""
        return self._in_flight_bytes + self.unsent_bytes

    @property
    def full(self) -> bool:
        """Whether output must wait."""
        self._was_full = self.size >= self._limit or bool(self._stranded)
        return self._was_full

    def append(self, event: bytes) -> None:
        """Add the event with the number ``last + 1``."""
        self.last += 1
        if self._stranded:
            self._strand(event)
        elif self._disk.size == 0 and self._fresh_bytes + len(event) <= _FRESH_BYTES:
            self._fresh.append(event)
            self._fresh_bytes += len(event)
        elif not self._disk.append(event):
            self._strand(event)

    def _strand(self, event: bytes) -> None:
        self._stranded.append(event)
        self._stranded_bytes += len(event)

    def take(self, limit: int) -> list[bytes]:
        """Return the next events to send, at most *limit* bytes but at least one event.

        Returns nothing when there is none, or when enough is in flight.
        """
        taken: list[bytes] = []
        size = 0
        while self._in_flight_bytes < _IN_FLIGHT_BYTES:
            if not self._fresh and not self._refill():
                break
            if taken and size + len(self._fresh[0]) > limit:
                break
            event = self._fresh.popleft()
            taken.append(event)
            size += len(event)
            self._fresh_bytes -= len(event)
            self._in_flight.append(event)
            self._in_flight_bytes += len(event)
        return taken

    def _refill(self) -> bool:
        events = self._disk.take(_FRESH_BYTES)
        if not events:
            # The disk's queue is empty: what could not be written is next.
            events = list(self._stranded)
            self._stranded.clear()
            self._stranded_bytes = 0
        self._fresh.extend(events)
        self._fresh_bytes += sum(map(len, events))
        return bool(events)

    def ack(self, through: int) -> None:
        """Drop everything up to the number *through*; older numbers are harmless."""
        while self.acked < through and self._in_flight:
            self._in_flight_bytes -= len(self._in_flight.popleft())
            self.acked += 1
        self._tell_room()

    def rewind(self, acked: int) -> None:
        """Send again all that is not acknowledged: the gateway has stored up to *acked*."""
        self.ack(acked)
        self._fresh.extendleft(reversed(self._in_flight))
        self._fresh_bytes += self._in_flight_bytes
        self._in_flight.clear()
        self._in_flight_bytes = 0
        # A number above what was sent on this connection was stored all the same.
        while self.acked < acked and (self._fresh or self._refill()):
            self._fresh_bytes -= len(self._fresh.popleft())
            self.acked += 1
        self._tell_room()

    def _tell_room(self) -> None:
        for callback in list(self.on_ack):
            callback()
        if self._was_full and not self.full:
            callbacks, self.on_room = self.on_room, []
            for callback in callbacks:
                callback()

    def close(self) -> None:
        """Drop everything."""
        self._disk.close()


class _DiskQueue:
    """First in, first out, in files of a few megabytes that are removed once they are read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: deque[Path] = deque()
        self._count = 0
        self._writer: int | None = None
        self._written = 0
        self._reader: BinaryIO | None = None
        self.size = 0

    def append(self, event: bytes) -> bool:
        """Write *event*; False when the disk does not take it."""
        line = event + b"\n"
        try:
            if self._writer is None or self._written >= _SEGMENT_BYTES:
                self._open_next()
            self._write(line)
        except OSError:
            return False
        self._written += len(line)
        self.size += len(event)
        return True

    def _open_next(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._count + 1:08}.ndjson"
        writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._close_writer()
        self._count += 1
        self._writer, self._written = writer, 0
        self._segments.append(path)

    def _write(self, line: bytes) -> None:
        assert self._writer is not None  # noqa: S101 - for the type checker: opened just before
        rest = memoryview(line)
        at = self._written
        try:
            while rest:
                count = os.pwrite(self._writer, rest, at)
                at += count
                rest = rest[count:]
        except OSError:
            # Half an event must not stay: the next one is written in its place.
            with suppress(OSError):
                os.ftruncate(self._writer, self._written)
            raise

    def take(self, limit: int) -> list[bytes]:
        """Return the oldest events, about *limit* bytes of them."""
        events: list[bytes] = []
        size = 0
        while self.size and size < limit:
            if self._reader is None:
                self._reader = self._segments[0].open("rb")
            line = self._reader.readline()
            if not line:
                self._drop_first()
                continue
            events.append(line[:-1])
            size += len(line) - 1
            self.size -= len(line) - 1
        if not self.size:
            self._reset()
        return events

    def _drop_first(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._segments.popleft().unlink(missing_ok=True)

    def _close_writer(self) -> None:
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def _reset(self) -> None:
        self._close_writer()
        while self._segments:
            self._drop_first()

    def close(self) -> None:
        """Remove all files."""
        self._reset()
        self.size = 0

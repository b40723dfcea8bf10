"""What is kept of a stream so that later steps can use it: all of it up to a limit, and its end.

Only what the plan refers to is kept, or may refer to in a later stage; a log of any length costs a
bounded amount of memory, and that of a step which has ended lies on the disk.
"""

from collections import deque
from contextlib import suppress
from pathlib import Path

from plue.wire.events import Reason
from plue_runner.faults import Fault

__all__ = ["TAIL_CHARACTERS", "Capture", "Tail"]

TAIL_CHARACTERS = 256 * 1024
_STAYS_CHARACTERS = 16 * 1024


class Tail:
    """The last characters of a stream."""

    def __init__(self, limit: int = TAIL_CHARACTERS) -> None:
        """Keep at most about *limit* characters; ``text`` returns at most *limit*."""
        self._limit = limit
        self._parts: deque[str] = deque()
        self._size = 0

    def feed(self, text: str) -> None:
        """Add *text*."""
        text = text[-self._limit :]
        self._parts.append(text)
        self._size += len(text)
        while self._size - len(self._parts[0]) >= self._limit:
            self._size -= len(self._parts.popleft())

    @property
    def text(self) -> str:
        """The end of the stream, trailing newlines included."""
        return "".join(self._parts)[-self._limit :]

    def lines(self, count: int) -> str:
        """Return the last *count* lines, without trailing newlines."""
        return "\n".join(self.text.rstrip("\n").rsplit("\n", count)[-count:])


class Capture:
    """A stream's text, complete up to *limit* bytes of UTF-8, and its end."""

    def __init__(self, limit: int) -> None:
        """Keep up to *limit* bytes; what is longer can be used by its tail only."""
        self._limit = limit
        self._parts: list[str] = []
        self._bytes = 0
        self._tail = Tail()
        self._file: Path | None = None

    def stow(self, path: Path) -> None:
        """Put a long text onto the disk: nothing is added any more, and perhaps nobody asks.

        It stays in memory where the disk does not take it.
        """
        text = "".join(self._parts) if self._bytes <= self._limit else self._tail.text
        if self._file is not None or len(text) <= _STAYS_CHARACTERS:
            return
        with suppress(OSError):
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
            self._file, self._tail = path, Tail()
            self._parts.clear()

    def _kept(self) -> str:
        if self._file is not None:
            return self._file.read_bytes().decode("utf-8", "surrogatepass")
        return "".join(self._parts)

    def feed(self, text: str) -> None:
        """Add *text*."""
        self._tail.feed(text)
        if self._bytes <= self._limit:
            self._parts.append(text)
            self._bytes += len(text) if text.isascii() else len(text.encode())
        else:
            self._parts.clear()

    def complete(self, what: str) -> str:
        """Return all of it, without trailing newlines.

        Raises Fault (OutputTooLarge) when it is longer than the limit; *what* names it.
        """
        if self._bytes > self._limit:
            raise Fault(
                Reason.OUTPUT_TOO_LARGE,
                f"{what} is longer than {self._limit // 1024} KiB",
                remedy="use .tail(lines), or write it to a file in the workspace",
            )
        return self._kept().rstrip("\n")

    def tail(self, lines: int) -> str:
        """Return the last *lines* lines, without trailing newlines."""
        if self._file is not None:
            tail = Tail()
            tail.feed(self._kept())
            return tail.lines(lines)
        return self._tail.lines(lines)

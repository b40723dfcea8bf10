"""From the bytes of a step's two pipes to numbered chunks of text; no I/O and no clock.

Per stream the order is exact. Lines are numbered over both streams together, in the order in
which they arrived. A chunk's ``line`` is the number of its first line and the following lines of
the chunk have the following numbers; so the rest of a line that was begun in an earlier chunk
leaves in a chunk of its own when the other stream has begun a line in between.
"""

import codecs
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from plue_runner.masking import MaskedStream, Masker

__all__ = ["CHUNK_BYTES", "Chunk", "Chunker", "Lines", "StreamName"]

CHUNK_BYTES = 64 * 1024
_CHUNK_WIDE = CHUNK_BYTES // 4  # characters that fit, whatever they are

StreamName = Literal["stdout", "stderr"]
_Decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Text of one stream; ``partial`` says that its last line goes on in the stream's next one."""

    stream: StreamName
    text: str
    line: int
    partial: bool


@dataclass(slots=True)
class Lines:
    """Counts the lines of one try of a step: the number of the next one."""

    next: int = 1


@dataclass(slots=True)
class _Stream:
    name: StreamName
    masked: MaskedStream
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _Decoder("replace"))
    unfinished: int | None = None  # the number of a line of which a part has left already
    closed: bool = False


@dataclass(slots=True)
class _Run:
    """Text of one stream that arrived without anything of the other one in between."""

    stream: _Stream
    parts: list[str]


class Chunker:
    """Both streams of one try of a step."""

    def __init__(
        self,
        masker: Masker,
        keep: Callable[[StreamName, str], None],
        lines: Lines | None = None,
    ) -> None:
        """Hide *masker*'s secrets, and give *keep* all text as it leaves.

        Commands of one step side by side count their *lines* together.
        """
        self._streams: dict[StreamName, _Stream] = {
            "stdout": _Stream("stdout", masker.stream()),
            "stderr": _Stream("stderr", masker.stream()),
        }
        self._keep = keep
        self._waiting: list[_Run] = []
        self._lines = lines or Lines()
        self.size = 0
        """How many characters wait to be taken."""

    def feed(self, name: StreamName, data: bytes) -> None:
        """Add what a pipe gave."""
        stream = self._streams[name]
        text = stream.decoder.decode(data)
        if "\0" in text:
            text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        self._add(stream, stream.masked.feed(text))

    def close(self, name: StreamName) -> None:
        """Say that the stream has ended."""
        stream = self._streams[name]
        if stream.closed:
            return
        rest = stream.masked.feed(stream.decoder.decode(b"", final=True))
        self._add(stream, rest + stream.masked.close())
        stream.closed = True

    def take(self, *, fragments: bool) -> list[Chunk]:
        """Return what can leave now, as chunks in order.

        Without *fragments*, an unfinished last line stays, if it is the only thing that would.
        """
        kept: _Run | None = None
        if not fragments and len(self._waiting) == 1:
            kept = self._hold_back(self._waiting[0])
        chunks: list[Chunk] = []
        last_of = {run.stream.name: run for run in self._waiting}
        for run in self._waiting:
            ends = run.stream.closed and last_of[run.stream.name] is run
            self._cut(run.stream, "".join(run.parts), chunks, ends=ends)
        self._waiting = [] if kept is None else [kept]
        self.size = 0 if kept is None else sum(map(len, kept.parts))
        return chunks

    def finish(self) -> list[Chunk]:
        """Return the last chunks, after both streams were closed."""
        chunks = self.take(fragments=True)
        for stream in self._streams.values():
            if stream.unfinished is not None:
                # It was promised that the line goes on: this says that it ended there.
                chunks.append(Chunk(stream.name, "", stream.unfinished, partial=False))
                stream.unfinished = None
        return chunks

    def _add(self, stream: _Stream, text: str) -> None:
        if not text:
            return
        self._keep(stream.name, text)
        self.size += len(text)
        if self._waiting and self._waiting[-1].stream is stream:
            self._waiting[-1].parts.append(text)
        else:
            self._waiting.append(_Run(stream, [text]))

    @staticmethod
    def _hold_back(run: _Run) -> _Run | None:
        text = "".join(run.parts)
        cut = text.rfind("\n") + 1
        if cut == len(text) or run.stream.closed:
            return None
        run.parts = [text[:cut]]
        return _Run(run.stream, [text[cut:]])

    def _cut(self, stream: _Stream, text: str, chunks: list[Chunk], *, ends: bool) -> None:
        """Cut *text* into chunks; *ends* says that the stream ends after it."""
        at = 0
        while at < len(text):
            piece = _piece(text, at)
            if stream.unfinished is not None and stream.unfinished != self._lines.next - 1:
                # The other stream has begun lines since: the numbers jump after this line's end.
                piece = piece[: piece.find("\n") + 1] or piece
            at += len(piece)
            chunks.append(self._number(stream, piece, ends=ends and at == len(text)))

    def _number(self, stream: _Stream, piece: str, *, ends: bool) -> Chunk:
        first = self._lines.next if stream.unfinished is None else stream.unfinished
        open_line = not piece.endswith("\n")
        begun = piece.count("\n") + open_line - (stream.unfinished is not None)
        self._lines.next += begun
        partial = open_line and not ends
        if not partial:
            stream.unfinished = None
        elif begun:
            stream.unfinished = self._lines.next - 1
        return Chunk(stream.name, piece, first, partial)


def _piece(text: str, at: int) -> str:
    """Return the next at most 64 KiB of *text*, whole lines if it can be."""
    piece = text[at : at + CHUNK_BYTES]
    if not piece.isascii() and len(piece.encode()) > CHUNK_BYTES:
        piece = piece[:_CHUNK_WIDE]
    if at + len(piece) < len(text):
        whole = piece.rfind("\n") + 1
        return piece[:whole] if whole else piece
    return piece

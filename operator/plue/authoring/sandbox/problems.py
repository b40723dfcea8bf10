"""What ends an evaluation early, and where in the author's files it happened.

All of these are BaseExceptions that authors cannot name, so that no ``except`` of theirs can
swallow them; the policy also re-raises them first in every ``try``.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from types import CodeType, FrameType, TracebackType

__all__ = [
    "AUTHOR",
    "Finish",
    "Place",
    "Problem",
    "StageEnd",
    "author_frames",
    "author_place",
    "code_of_file",
    "did_you_mean",
    "place_of_traceback",
    "positions_of",
]

AUTHOR = "plue-file:"
"""Prefix of ``co_filename`` in code that an author wrote."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere in an author's file; line and columns count characters from 1."""

    file: str
    line: int
    column: int = 1
    end_column: int | None = None


class Problem(BaseException):
    """Something is wrong with what the author wrote; reported with code, place and remedy.

    ``from_values`` says that it depends on values that a dry evaluation had to invent.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        remedy: str | None = None,
        place: Place | None = None,
        field: str | None = None,
        related: tuple[str, int] | None = None,
        from_values: bool = False,
    ) -> None:
        """Describe the problem; without *place* it is where the author's code is now."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.place = place or author_place()
        self.field = field
        self.related = related
        self.from_values = from_values

    def diagnostic(self, severity: str = "error") -> dict[str, object]:
        """Return the diagnostic as JSON, without the source line."""
        place = self.place or Place("", 1)
        return {
            "code": str(self.code),
            "message": self.message,
            "file": place.file,
            "line": place.line,
            "column": place.column,
            "end_column": place.end_column,
            "severity": severity,
            "remedy": self.remedy,
            "field": self.field,
            "related": list(self.related) if self.related else None,
        }


class StageEnd(BaseException):
    """A value was asked for that is not known: this branch goes no further."""


class Finish(BaseException):
    """``ctx.fail`` or ``ctx.success`` ended the function that *frame* is of."""

    def __init__(self, frame: object) -> None:
        """Say which function has ended."""
        super().__init__()
        self.frame = frame


def did_you_mean(word: str, known: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    """Return `` — did you mean `x`?`` for the nearest of *known*, or nothing."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" — did you mean `{near[0]}`?" if near else ""


def code_of_file(code: CodeType) -> str | None:
    """Return the author's file that *code* was compiled from, None for code of ours."""
    name = code.co_filename
    return name[len(AUTHOR) :] if name.startswith(AUTHOR) else None


_Positions = list[tuple[int | None, int | None, int | None, int | None]]
# By id, with the code kept alive: hashing a code object reads all of it.
_POSITIONS: dict[int, tuple[CodeType, _Positions]] = {}
SOURCES: dict[str, list[str]] = {}
"""The lines of the files of this evaluation: columns come in bytes and are told in characters."""


def positions_of(code: CodeType) -> _Positions:
    """Return the places of all instructions; walking them is linear in the function."""
    known = _POSITIONS.get(id(code))
    if known is None:
        known = _POSITIONS[id(code)] = (code, list(code.co_positions()))
    return known[1]


def _place(code: CodeType, instruction: int, line: int | None) -> Place:
    found = positions_of(code)[instruction // 2]
    file = code.co_filename[len(AUTHOR) :]
    first, last, column, end = found
    if first is None or column is None:
        return Place(file, line or code.co_firstlineno)
    same_line = last == first and end is not None
    return Place(
        file,
        first,
        characters(file, first, column),
        characters(file, first, end) if same_line and end is not None else None,
    )


def characters(file: str, line: int, column: int) -> int:
    """Turn the AST's column (UTF-8 bytes from 0) into characters from 1."""
    lines = SOURCES.get(file, [])
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    if text.isascii():
        return column + 1
    return len(text.encode("utf-8", "replace")[:column].decode("utf-8", "replace")) + 1


def author_frames(frame: FrameType | None = None) -> Iterator[FrameType]:
    """Yield the author's frames, innermost first."""
    at = frame or sys._getframe(1)  # noqa: SLF001 - the only way to know where the author is
    walker: FrameType | None = at
    while walker is not None:
        if walker.f_code.co_filename.startswith(AUTHOR):
            yield walker
        walker = walker.f_back


def author_place() -> Place | None:
    """Return where the author's code is now: the innermost frame of a file of theirs."""
    for frame in author_frames():
        return _place(frame.f_code, frame.f_lasti, frame.f_lineno)
    return None


def place_of_traceback(traceback: TracebackType | None) -> tuple[Place | None, Place | None]:
    """Return the innermost and the outermost place of *traceback* in the author's files."""
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename.startswith(AUTHOR):
            places.append(_place(code, traceback.tb_lasti, traceback.tb_lineno))
        traceback = traceback.tb_next
    return (places[-1], places[0]) if places else (None, None)

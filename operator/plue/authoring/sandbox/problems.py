"""What ends an evaluation early, and where in the author's files it happened.

All of these are BaseExceptions that authors cannot name, so that no ``except`` of theirs can
swallow them; the policy also re-raises them first in every ``try``.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from opcode import opmap
from types import CodeType, FrameType, TracebackType
from typing import Final

__all__ = [
    "AUTHOR",
    "Finish",
    "Place",
    "Problem",
    "StageEnd",
    "author_frames",
    "author_place",
    "call_places",
    "code_of_file",
    "did_you_mean",
    "learn_calls",
    "place_of_traceback",
    "position_of",
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


Position = tuple[int | None, int | None, int | None, int | None]
CallPlaces = list[dict[int, Position]]
# By id, with the code kept alive: hashing a code object reads all of it.
_POSITIONS: dict[int, tuple[CodeType, list[Position]]] = {}
_CALLS: dict[int, tuple[CodeType, dict[int, Position]]] = {}
_CALL_CODES: Final = frozenset(map(opmap.get, ("CALL", "CALL_FUNCTION_EX", "CALL_KW")))
SOURCES: dict[str, list[str]] = {}
"""The lines of the files of this evaluation: columns come in bytes and are told in characters."""


def call_places(code: CodeType) -> CallPlaces:
    """Return the places of all calls in *code* and in the code within, to be learnt later.

    Nearly every place that is asked for is one. Python would walk all instructions for each.
    """
    found: CallPlaces = []
    for one in _all_code(code):
        operations, places = one.co_code[::2], list(one.co_positions())
        calls: dict[int, Position] = {}
        for at, operation in enumerate(operations):
            if operation in _CALL_CODES:
                last = at
                while last + 1 < len(operations) and operations[last + 1] == 0:
                    last += 1  # a call of a function of Python's own is told by its last cache
                calls[at] = calls[last] = places[at]
        found.append(calls)
    return found


def learn_calls(code: CodeType, places: CallPlaces) -> None:
    """Take what ``call_places`` said of the same code, before it was marshalled."""
    for one, calls in zip(_all_code(code), places, strict=True):
        _CALLS[id(one)] = (one, calls)


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _all_code(one)


def position_of(code: CodeType, instruction: int) -> Position:
    """Return the place of an instruction, given by its offset in bytes."""
    calls = _CALLS.get(id(code))
    if calls is not None and (found := calls[1].get(instruction // 2)) is not None:
        return found
    known = _POSITIONS.get(id(code))
    if known is None:
        known = _POSITIONS[id(code)] = (code, list(code.co_positions()))
    return known[1][instruction // 2]


def _place(code: CodeType, instruction: int, line: int | None) -> Place:
    found = position_of(code, instruction)
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
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as above; a hot path
    while frame is not None:
        if frame.f_code.co_filename.startswith(AUTHOR):
            return _place(frame.f_code, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
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

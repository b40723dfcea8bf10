"""Invented values: with them, lint reaches code that runs only when results are known.

The first stage of a workflow ends where its code asks for a result. What stands behind that is
evaluated twice more with invented results, once as if all went well and once as if nothing did,
so that a misspelt field in a loop's body is told by lint and not by the run. Only what is wrong
whatever the values are is told of it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import AUTHOR, Problem
from plue.authoring.sandbox.values import RefPart
from plue.schemas import options_of

__all__ = ["CERTAIN", "invented", "sample_of", "soon_over"]

CERTAIN: Final = frozenset(
    {
        Code.OPTION, Code.UNKNOWN_INPUT, Code.UNKNOWN_FIELD, Code.UNSUPPORTED, Code.OK_UNHANDLED,
        Code.HANDLE_AS_VALUE, Code.CLEANUP_VALUE, Code.CACHE, Code.PATH, Code.SECRET,
        Code.PARALLEL_FORM, Code.PARALLEL_HANDLE, Code.SUCCESS_IN_BRANCH, Code.GENERATOR,
        Code.CMD_IS_DATA, Code.HOLE, Code.HOLE_OTHER_SHELL, Code.PROMPT_CALL, Code.PROMPT_INPUT,
    }
)  # fmt: skip
"""What is wrong whatever results are, unless the problem itself says otherwise."""

_MOST_LINES: Final = 20_000
_DEEPEST: Final = 8
_FILES: Final = ("glob", "git")
_TEXT: Final = "1"  # a name, a number and a line, whichever is wanted


def sample_of(  # noqa: PLR0911 - a table of types
    schema: Mapping[str, Any], *, yes: bool, depth: int = 0
) -> object:
    """Return a value that fits *schema*; booleans are *yes*, lists have one item."""
    inner, _ = options_of(schema)
    if values := inner.get("enum"):
        return values[0] if yes else values[-1]
    match inner.get("type"):
        case "boolean":
            return yes
        case "integer":
            return 1
        case "number":
            return 1.0
        case "array" if depth < _DEEPEST:
            return [sample_of(inner.get("items") or {}, yes=yes, depth=depth + 1)]
        case "array":
            return []
        case "object" if depth < _DEEPEST:
            fields = inner.get("properties") or {}
            return {n: sample_of(f, yes=yes, depth=depth + 1) for n, f in fields.items()}
        case "object":
            return {}
        case _:
            return _TEXT


def invented(definition: Mapping[str, Any], part: RefPart, *, yes: bool) -> object:
    """Return an answer for *part* of the step with this *definition*."""
    match part.field:
        case "ok":
            return yes
        case "exit_code":
            return 0 if yes else 1
        case "state":
            return "succeeded" if yes else "failed"
        case "turns":
            return 1
        case "outputs":
            return _output(definition, part, yes=yes)
        case _:
            return _TEXT


def _output(definition: Mapping[str, Any], part: RefPart, *, yes: bool) -> object:
    if definition["action"].get("kind") in _FILES:
        value: object = {"files": [_TEXT]}
    elif schema := definition.get("output_schema"):
        value = sample_of(schema, yes=yes)
    else:
        return _TEXT
    for key in part.path:
        if isinstance(value, list) and value:
            value = value[0]
        else:
            value = value.get(key, _TEXT) if isinstance(value, dict) else _TEXT
    return value


@contextmanager
def soon_over() -> Iterator[None]:
    """End what goes through very many lines of the author's, as a loop that no answer ends.

    A timer would do as well, but a child must not be able to set one.
    """
    lines = 0

    def enter(frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        return count if frame.f_code.co_filename.startswith(AUTHOR) else None

    def count(_frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        nonlocal lines
        lines += 1
        if lines > _MOST_LINES:
            raise Problem(Code.TIMEOUT, "it takes long with invented results", remedy="")
        return count

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)

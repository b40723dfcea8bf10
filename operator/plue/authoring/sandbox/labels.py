"""The display group of steps that one place in the file records again and again.

``ctx.run(f"test-{p}", ...)`` in a loop makes ``test-api``, ``test-web``: a matrix, shown under the
name as it is written, ``test-{p}``. A name without a hole makes no group: the rounds of a loop are
told best in their order.
"""

import ast
import re
from types import CodeType
from typing import Final

from plue.authoring.sandbox.problems import AUTHOR, SOURCES, author_frames, position_of

__all__ = ["label_here"]

_LONGEST: Final = 100
_PERHAPS: Final = re.compile(
    r"""(?:\(|\bname\s*=)\s*(?:["'][^"']*["']\s*)*(?:[fF][rR]?|[rR][fF])["']"""
)
"""Where a name can be an f-string: too often is harmless."""

_KNOWN: Final[dict[tuple[int, int], str | None]] = {}
"""By the id of code that ``problems`` keeps alive, and the instruction."""


def label_here() -> str | None:
    """Return the name that is written in the author's present call, when it has holes."""
    for frame in author_frames():
        key = (id(frame.f_code), frame.f_lasti)
        if key not in _KNOWN:
            _KNOWN[key] = _label(frame.f_code, frame.f_lasti)
        return _KNOWN[key]
    return None


def _label(code: CodeType, instruction: int) -> str | None:
    call = _call_at(code, instruction)
    if call is None:
        return None
    named = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    # ctx.call takes the workflow first; its name is a keyword.
    name = named[0] if named else call.args[0] if call.args else None
    if not isinstance(name, ast.JoinedStr):
        return None
    shown = "".join(_shown(part) for part in name.values)
    holes = any(isinstance(part, ast.FormattedValue) for part in name.values)
    return shown[:_LONGEST] if holes else None


def _shown(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return f"{{{ast.unparse(part.value)}}}"
    return str(part.value) if isinstance(part, ast.Constant) else ""


def _call_at(code: CodeType, instruction: int) -> ast.Call | None:
    """Parse the call that is executed at this place of the file; None when it has no holes."""
    first, last, start, end = position_of(code, instruction)
    if first is None or last is None or start is None or end is None:
        return None
    lines = SOURCES.get(code.co_filename[len(AUTHOR) :], [])[first - 1 : last]
    # No hole, and most calls are so: parsing them all would cost more than the rest.
    if not any("{" in line for line in lines) or not _PERHAPS.search("\n".join(lines)):
        return None
    raw = [line.encode("utf-8", "replace") for line in lines]
    raw[-1] = raw[-1][:end]
    raw[0] = raw[0][start:]
    try:
        found = ast.parse(b"(" + b"\n".join(raw) + b")", mode="eval").body
    except (SyntaxError, ValueError):
        return None
    return found if isinstance(found, ast.Call) else None

"""From the arguments of ``ctx.run`` to a step as the plan has it: checked, placed, plain JSON."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from plue.authoring.codes import Code
from plue.authoring.sandbox.book import Book, Recorded
from plue.authoring.sandbox.lexer import Hole, Placement, Refusal, place_holes
from plue.authoring.sandbox.problems import Place, Problem
from plue.authoring.sandbox.texts import text_of
from plue.authoring.sandbox.values import (
    DataPart,
    Guarded,
    Piece,
    Ref,
    RefPart,
    SecretPart,
    Text,
    parts_of,
    refuse_secrets,
    settle,
    unmark,
)

__all__ = [
    "Action",
    "command_of",
    "definition_of",
    "environment_of",
    "number_of",
    "references_in",
    "seconds_of",
    "shown_text",
    "step_name_of",
    "wire_text",
]

_T = TypeVar("_T")
_Held = DataPart | RefPart | SecretPart
MAX_BYTES: Final = 96 * 1024
MAX_NAME: Final = 100
_STEP_NAME: Final = re.compile(r"[A-Za-z0-9][\w .:-]{0,99}")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROGRAM: Final = re.compile(r"[\w./+-]+")
_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_EXECUTED: Final = frozenset(
    [
        "BASH_ENV",
        "ENV",
        "SHELLOPTS",
        "BASHOPTS",
        "PS0",
        "PS1",
        "PS2",
        "PS4",
        "PROMPT_COMMAND",
        "LD_PRELOAD",
        "LD_AUDIT",
    ]
)
SHELLS: Final = ("bash", "sh")


_LONGEST: Final = 30 * 86400
"""Seconds; also what the API allows. Far more would not fit into the store's intervals."""


def seconds_of(value: object, what: str) -> float:
    """Return a duration in seconds: ``"1h30m"`` or a number. Raises Problem."""
    value = unmark(value)
    seconds: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(min(value, 2 * _LONGEST))
    elif isinstance(value, str) and value and (found := _DURATION.fullmatch(value.strip())):
        days, hours, minutes, secs, millis = (float(part or 0) for part in found.groups())
        seconds = days * 86400 + hours * 3600 + minutes * 60 + secs + millis / 1000
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        raise Problem(
            Code.DURATION,
            f"{what}={_shown(value)} is not a duration",
            remedy='write "30m", "90s", "1h30m", or a number of seconds greater than zero',
        )
    if seconds > _LONGEST:
        raise Problem(
            Code.DURATION,
            f"{what}={_shown(value)} is longer than {_LONGEST // 86400} days",
            remedy=f'write at most "{_LONGEST // 86400}d"',
        )
    return seconds


def _shown(value: object) -> str:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return repr(value)
    return type(value).__name__


def number_of(value: object, what: str, most: int) -> int:
    """Return a whole number from 0 to *most*. Raises Problem."""
    value = settle(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    raise Problem(
        Code.STEP_ARGUMENT,
        f"{what}={_shown(unmark(value))} is not a whole number from 0 to {most}",
        remedy=f"write for example {what}=2",
    )


def step_name_of(name: object) -> str:
    """Return a step's name, checked. Raises Problem."""
    value = unmark(name) if isinstance(name, (str, Text, Ref)) else None
    if isinstance(value, str) and _STEP_NAME.fullmatch(value):
        return value
    if not isinstance(value, str):
        message = "a step's name is text"
    elif len(value) > MAX_NAME:
        message = f"the name has {len(value)} characters; {MAX_NAME} are allowed"
    else:
        message = f"{json.dumps(value, ensure_ascii=True)} is not a name for a step"
    raise Problem(
        Code.STEP_NAME,
        message,
        remedy="a name starts with a letter or digit; letters, digits, spaces and _ . : - follow",
    )


# ── text on the wire ─────────────────────────────────────────────────────────────────────────────


def wire_text(value: object, *, secrets: bool = False) -> list[dict[str, object]]:
    """Return *value* as ``plue.wire.plan.Text`` dumps it; with secrets only where it is said."""
    if not secrets:
        refuse_secrets(value, "cannot go there")
    return [_wire_part(part) for part in parts_of(text_of(value)) if part != ""]


def _wire_part(part: Piece) -> dict[str, object]:
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, SecretPart):
        return {"secret": part.name}
    return {"data": part.text} if isinstance(part, DataPart) else part.wire()


def references_in(*values: object) -> list[str]:
    """Return the names of the steps that *values* (text, lists and mappings of it) refer to."""
    names: list[str] = []
    for value in values:
        if isinstance(value, str):
            continue
        if isinstance(value, (Text, Ref)):
            found = [p.step.name for p in parts_of(value) if isinstance(p, RefPart)]
        elif isinstance(value, Mapping):
            found = references_in(*value.values())
        elif isinstance(value, (list, tuple)):
            found = references_in(*value)
        else:
            found = []
        names += [name for name in found if name not in names]
    return names


def check_size(value: object, what: str) -> None:
    """Refuse a value that is known to be too large for the environment."""
    size = sum(
        len((part if isinstance(part, str) else part.text).encode("utf-8", "surrogatepass"))
        for part in parts_of(text_of(value))
        if isinstance(part, (str, DataPart))
    )
    if size > MAX_BYTES:
        raise Problem(
            Code.VALUE_TOO_LARGE,
            f"{what} has {size:,} bytes; {MAX_BYTES:,} are allowed",
            remedy="pass it with stdin=, which takes any size, or through a file",
        )


def environment_of(value: object) -> dict[str, str | Text]:
    """Return ``env=`` as names and text. Raises Problem."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Problem(Code.STEP_ARGUMENT, "env is a dict", remedy='write env={"NAME": value, ...}')
    found: dict[str, str | Text] = {}
    for key, item in value.items():
        name = unmark(key)
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name) or name.startswith("PLUE_"):
            raise Problem(
                Code.ENV_NAME,
                f"{_shown(name)} is not a name for an environment variable",
                remedy="use letters, digits and _; names that start with PLUE_ are Plue's own",
            )
        text = text_of(item)
        if name in _EXECUTED and not isinstance(text, str):
            raise Problem(
                Code.ENV_NAME,
                f"{name} is executed by the shell and takes no value from outside",
                remedy="write its text into the workflow",
            )
        refuse_nul(text, f"env[{name!r}]")
        check_size(text, f"env[{name!r}]")
        found[name] = text
    return found


def refuse_nul(text: str | Text, what: str) -> None:
    """Refuse NUL characters, which no process can be given."""
    pieces = (text,) if isinstance(text, str) else parts_of(text)
    told = [p if isinstance(p, str) else p.text for p in pieces if isinstance(p, (str, DataPart))]
    if any(["\0" in piece for piece in told]):  # noqa: C419 - a list is faster than a generator
        raise Problem(Code.STEP_ARGUMENT, f"{what} has a NUL character", remedy="remove it")


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


class Action:
    """A command: its dump as ``plue.wire.plan.Shell``, its references, and its warnings."""

    def __init__(self, wire: dict[str, object], used: list[str], warnings: list[Problem]) -> None:
        self.wire = wire
        self.used = used
        self.warnings = warnings


def command_of(cmd: object, shell: object, stdin: object) -> Action:
    """Return the action of ``cmd=``, ``shell=`` and ``stdin=``. Raises Problem."""
    program = unmark(shell) if shell is not None else None
    if isinstance(cmd, (list, tuple)):
        wire, used, warnings = _words(cmd, program)
    elif isinstance(cmd, (str, Text, Ref)):
        wire, used, warnings = _script(cmd, "bash" if program is None else program)
    else:
        if isinstance(cmd, Guarded):
            text_of(cmd)  # a handle says itself what to write
        raise Problem(
            Code.CMD_FORM,
            f"cmd is {_shown(cmd)}",
            remedy='write the command as text, or as a list of words: ["git", "tag", version]',
        )
    if stdin is not None:
        wire["stdin"] = wire_text(stdin, secrets=True)
        used += [name for name in references_in(stdin) if name not in used]
    return Action(wire, used, warnings)


def _wire_shell(**given: object) -> dict[str, object]:
    return {
        "kind": "shell",
        "script": None,
        "argv": None,
        "shell": "bash",
        "holes": {},
        "stdin": None,
        "shown": "",
        **given,
    }


def _words(
    cmd: Sequence[object], shell: object
) -> tuple[dict[str, object], list[str], list[Problem]]:
    if shell is not None:
        raise Problem(
            Code.CMD_FORM,
            "a list of words runs without a shell, so shell= has no meaning",
            remedy="remove shell=, or write the command as text",
        )
    words = [text_of(word) for word in cmd]
    if not words or (isinstance(words[0], str) and not words[0]):
        raise Problem(Code.CMD_FORM, "the list has no command", remedy='write ["make", "test"]')
    if not any(isinstance(part, str) for part in parts_of(words[0])):
        raise _is_data()
    for word in words:
        refuse_nul(word, "the command")
        check_size(word, "a word of the command")
    shown = " ".join(_quoted(shown_text(word)) for word in words)
    argv = [wire_text(word, secrets=True) for word in words]
    return _wire_shell(argv=argv, shown=shown), references_in(words), []


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w@%+=:,./<>-]+", text) else json.dumps(text, ensure_ascii=False)


def _is_data() -> Problem:
    return Problem(
        Code.CMD_IS_DATA,
        "the command is data: a value is never executed",
        remedy="write the command itself, and let the value be one of its words",
    )


_LONGEST_SHOWN: Final = 80


def shown_text(text: str | Text | Ref) -> str:
    """Return a text as people read it; long values are cut."""
    shown = ""
    for part in parts_of(text):
        if isinstance(part, str):
            shown += part
        elif isinstance(part, (RefPart, SecretPart)):
            shown += part.shown
        else:
            line = part.text.splitlines()[0] if part.text.splitlines() else ""
            cut = line[:_LONGEST_SHOWN]
            shown += cut + ("…" if cut != part.text else "")
    return shown


def _script(
    cmd: str | Text | Ref, shell: object
) -> tuple[dict[str, object], list[str], list[Problem]]:
    if shell not in SHELLS and not (isinstance(shell, str) and _PROGRAM.fullmatch(shell)):
        raise Problem(
            Code.STEP_ARGUMENT,
            f"shell={_shown(shell)} is not a program",
            remedy='write shell="bash", "sh", "python" or the name of another program',
        )
    shell = str(shell)
    parts = parts_of(cmd)
    written = "".join([part for part in parts if isinstance(part, str)])
    if not written.strip():
        if len(parts) == 0 or all(isinstance(part, str) for part in parts):
            raise Problem(Code.CMD_FORM, "the command is empty", remedy="write a command")
        raise _is_data()
    refuse_nul(cmd if not isinstance(cmd, Ref) else Text(parts), "the command")
    # A character has at most four bytes.
    if len(written) > MAX_BYTES // 4 and (
        len(written.encode("utf-8", "surrogatepass")) > MAX_BYTES
    ):
        raise Problem(
            Code.CMD_TOO_LONG,
            f"the command has {len(written):,} characters; {MAX_BYTES:,} bytes are allowed",
            remedy="put the script into a file of the repository and call that",
        )
    if isinstance(cmd, str):
        return _wire_shell(script=cmd, shell=shell, shown=cmd.strip()), [], []
    holes, pieces = _holes(parts)
    for name, part in holes.items():
        check_size(Text((part,)), f"the value of {name}")
    placed = _place(pieces, list(holes.values()), shell)
    wire = _wire_shell(
        script=placed.script,
        shell=shell,
        holes={name: [_wire_part(part)] for name, part in holes.items()},
        shown=shown_text(cmd).strip(),
    )
    values = list(holes.values())
    warnings = [
        Problem(
            Code.NESTED_SHELL,
            f"the value may be read as code: {why}",
            remedy="pass it as an argument of its own, or with env=",
            place=values[hole.index].place,
        )
        for hole, why in placed.warnings
    ]
    return wire, references_in(cmd), warnings


def _holes(
    parts: Sequence[Piece],
) -> tuple[dict[str, _Held], list[str | Hole]]:
    """Give each hole its variable; the same value twice is one variable."""
    holes: dict[str, _Held] = {}
    known: dict[object, Hole] = {}
    pieces: list[str | Hole] = []
    for part in parts:
        if isinstance(part, str):
            pieces.append(part)
            continue
        key = _identity(part)
        if key not in known:
            known[key] = Hole(len(holes), f"PLUE_V{len(holes) + 1}")
            holes[known[key].variable] = part
        pieces.append(known[key])
    return holes, pieces


def _identity(part: _Held) -> object:
    if isinstance(part, RefPart):
        return part.step.name, part.field, part.path, part.tail, part.default
    return (part.name, None) if isinstance(part, SecretPart) else part.text


def _place(pieces: list[str | Hole], values: list[_Held], shell: str) -> Placement:
    if not values:
        return Placement("".join(str(piece) for piece in pieces))
    if shell not in SHELLS:
        raise Problem(
            Code.HOLE_OTHER_SHELL,
            f"Plue cannot place values in the text of a {shell} script",
            remedy='pass it with env={"X": value} and read the environment in the script',
            place=values[0].place,
        )
    try:
        return place_holes(pieces, shell=shell)
    except Refusal as refusal:
        raise Problem(
            Code.HOLE,
            refusal.reason,
            remedy=refusal.remedy,
            place=values[refusal.hole.index].place,
        ) from None


def attempt(book: Book, make: Callable[[], _T], instead: _T) -> _T:
    """Return what *make* gives; a Problem is noted and *instead* stands in."""
    try:
        return make()
    except Problem as problem:
        book.report(problem)
        return instead


def definition_of(step: Recorded, action: dict[str, object], needs: list[str]) -> dict[str, object]:
    """Return a step as ``plue.wire.plan.Step`` reads it, without any option of the author's."""
    return {
        "name": step.name,
        "action": action,
        "needs": needs,
        "branch": list(step.branch.path),
        "group": list(step.book.frame.groups),
        "site": site_of(step),
    }


def site_of(step: Recorded) -> dict[str, object]:
    """Return the step's place as ``plue.wire.plan.Site`` dumps it."""
    place: Place = step.place
    return {"file": place.file, "line": max(place.line, 1), "column": max(place.column, 1)}

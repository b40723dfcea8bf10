"""What a step is started with: its words, its environment, its folder and its standard input."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plue.wire.events import Reason
from plue.wire.frames import Assignment
from plue.wire.plan import Ref, Shell, Step, Text
from plue_runner.faults import Fault
from plue_runner.process import COOKIE
from plue_runner.values import Values

__all__ = [
    "Command",
    "Places",
    "host_environment",
    "prepared",
    "server_environment",
    "tool_environment",
]

_SHELLS = {
    "bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail"),
    "sh": ("sh", "-e"),
    "python": ("python3",),
}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files of an attempt lie. All but the workspace is outside the workspace."""

    workspace: Path
    steps: Path
    temporary: Path
    event: Path


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is ready to be started."""

    argv: tuple[bytes, ...]
    env: Mapping[bytes, bytes]
    cwd: Path
    stdin: bytes | None
    output: Path


def host_environment() -> dict[str, str]:
    """Return what the host gave the runner, without what is the runner's own business."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PLUE_")}


def prepared(
    step: Step,
    action: Shell,
    *,
    key: str,
    number: int,
    assignment: Assignment,
    values: Values,
    places: Places,
    host: Mapping[str, str],
    cookie: str,
) -> Command:
    """Resolve every value of *step* and its *action* for try *number*, and write the script.

    *key* is a file name that belongs to this step alone. Raises Fault when a value is missing or
    too large, or the folder is missing; OSError when the disk is full.
    """
    limit = assignment.limits.env_value_bytes
    output = places.steps / f"{key}.output"
    env = dict(host) | {"CI": "true", "TMPDIR": str(places.temporary)} | assignment.variables
    for group in (assignment.env, action.holes, step.env):
        env |= {name: _variable(name, text, values, limit) for name, text in group.items()}
    env |= own_variables(step, assignment, places, number, cookie)
    env["PLUE_OUTPUT"] = str(output)
    cwd = places.workspace / values.text(step.cwd)
    if not cwd.is_dir():
        raise Fault(
            Reason.CANNOT_START,
            f"there is no folder {values.text(step.cwd) or str(cwd)!r} in the workspace",
            remedy="correct cwd=, or make the folder in an earlier step",
        )
    argv = _argv(action, places.steps / f"{key}.script", values, limit)
    stdin = action.stdin
    content = None if stdin is None else values.text(stdin).encode()
    _fresh(output, b"")
    return Command(argv, {_raw(k): _raw(v) for k, v in env.items()}, cwd, content, output)


def own_variables(
    step: Step, assignment: Assignment, places: Places, number: int, cookie: str
) -> dict[str, str]:
    """Return the variables that say to a process where and who it is."""
    return {
        "PLUE_EVENT_PATH": str(places.event),
        "PLUE_WORKSPACE": str(places.workspace),
        "PLUE_STEP": step.name,
        "PLUE_ATTEMPT": str(assignment.attempt),
        "PLUE_TRY": str(number),
        COOKIE: cookie,
    }


def tool_environment(
    step: Step,
    assignment: Assignment,
    *,
    number: int,
    values: Values,
    places: Places,
    host: Mapping[str, str],
    cookie: str,
) -> dict[bytes, bytes]:
    """Return the environment of the commands that a step's agent runs. Raises Fault."""
    limit = assignment.limits.env_value_bytes
    env = dict(host) | {"CI": "true", "TMPDIR": str(places.temporary)} | assignment.variables
    for group in (assignment.env, step.env):
        env |= {name: _variable(name, text, values, limit) for name, text in group.items()}
    env |= own_variables(step, assignment, places, number, cookie)
    return {_raw(name): _raw(value) for name, value in env.items()}


def server_environment(
    env: Mapping[str, Text], *, values: Values, places: Places, host: Mapping[str, str], cookie: str
) -> dict[bytes, bytes]:
    """Return the environment of a program that is to see *env* and what every program needs.

    Raises Fault when a value is too large.
    """
    found = {name: host[name] for name in _NEEDED if name in host}
    found |= {"TMPDIR": str(places.temporary), COOKIE: cookie}
    found |= {name: _variable(name, text, values, MAX_VALUE) for name, text in env.items()}
    return {_raw(name): _raw(value) for name, value in found.items()}


_NEEDED = ("PATH", "HOME", "LANG", "LC_ALL")
MAX_VALUE = 96 * 1024


def _fresh(path: Path, content: bytes) -> None:
    """Write a new file: a step may have put anything in the place of an earlier try's."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(content)


def _raw(text: str) -> bytes:
    # The host's environment may hold bytes that are not UTF-8; they must come out unchanged.
    return text.encode("utf-8", "surrogateescape")


def _variable(name: str, text: Text, values: Values, limit: int) -> str:
    value = values.text(text)
    if len(value) > limit or len(value.encode()) > limit:
        raise Fault(
            Reason.VALUE_TOO_LARGE,
            f"the value of {_origin(name, text)} is larger than {limit // 1024} KiB, "
            "too large for an environment variable",
            remedy="give it as stdin=, which has no limit",
        )
    return value


def _origin(name: str, text: Text) -> str:
    refs = [f"{p.ref}.{p.field}" for p in text if isinstance(p, Ref)]
    return f"{refs[0]} (in ${name})" if refs else f"${name}"


def _argv(action: Shell, script: Path, values: Values, limit: int) -> tuple[bytes, ...]:
    if action.argv is not None:
        if not action.argv:
            raise Fault(Reason.CANNOT_START, "the command is empty")
        return tuple(_raw(_word(i, text, values, limit)) for i, text in enumerate(action.argv))
    _fresh(script, (action.script or "").encode())
    program = _SHELLS.get(action.shell, (action.shell,))
    return tuple(map(_raw, (*program, str(script))))


def _word(index: int, text: Text, values: Values, limit: int) -> str:
    value = values.text(text)
    if len(value.encode()) > limit:
        raise Fault(
            Reason.VALUE_TOO_LARGE,
            f"word {index + 1} of the command is larger than {limit // 1024} KiB",
            remedy="give it as stdin=, which has no limit",
        )
    return value

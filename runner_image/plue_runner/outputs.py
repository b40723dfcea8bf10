"""What a step wrote to ``$PLUE_OUTPUT``: ``NAME=value`` lines and ``NAME<<EOF`` blocks."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue
from pydantic_core import to_json

from plue.wire.events import Reason
from plue.wire.frames import Limits
from plue_runner.faults import Fault

__all__ = ["check_sizes", "parse", "read"]

_ENTRY = re.compile(r"([A-Za-z_]\w*)(=|<<)(.*)", re.ASCII)
_SHOWN = 60
_READ_FACTOR = 4  # the last write wins, so a file may hold more than what counts in the end
_HOW = "write NAME=value, or NAME<<EOF, the lines, and EOF"


def read(path: Path, limits: Limits) -> dict[str, str]:
    """Return the outputs in the file; none when the step removed it.

    Raises Fault: InvalidOutput names the line, OutputTooLarge the output.
    """
    most = _READ_FACTOR * limits.outputs_bytes
    try:
        # Not to be held up: a step may have put a pipe in the place of the file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            raw = file.read(most + 1) if regular else b""
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Fault(
            Reason.INVALID_OUTPUT, f"$PLUE_OUTPUT cannot be read: {error.strerror}"
        ) from error
    if len(raw) > most:
        raise Fault(
            Reason.OUTPUT_TOO_LARGE,
            f"more than {most // 1024} KiB were written to $PLUE_OUTPUT",
            remedy="write large data to a file in the workspace",
        )
    outputs = parse(raw.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}"))
    check_sizes(outputs, limits)
    return outputs


def parse(text: str) -> dict[str, str]:
    """Return the outputs that *text* sets. Raises Fault (InvalidOutput), naming the line."""
    outputs: dict[str, str] = {}
    lines = text.removesuffix("\n").split("\n") if text else []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip():
            continue
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            raise _invalid(at, line, _HOW)
        name, sign, rest = entry.groups()
        if sign == "=":
            outputs[name] = rest
            continue
        if not rest.strip():
            raise _invalid(at, line, "name the line that ends the block: NAME<<EOF")
        try:
            end = lines.index(rest, at)
        except ValueError:
            raise _invalid(at, line, f"end the block with a line {rest!r}") from None
        outputs[name] = "\n".join(lines[at:end])
        at = end + 1
    return outputs


def _invalid(number: int, line: str, remedy: str) -> Fault:
    shown = line if len(line) <= _SHOWN else line[:_SHOWN] + "…"
    return Fault(
        Reason.INVALID_OUTPUT,
        f"line {number} of $PLUE_OUTPUT cannot be read: {shown!r}",
        remedy=remedy,
    )


def check_sizes(outputs: Mapping[str, JsonValue], limits: Limits) -> None:
    """Raise Fault (OutputTooLarge) when one output, or all together, are too large."""
    total = 0
    for name, value in outputs.items():
        size = len(value.encode() if isinstance(value, str) else to_json(value))
        total += size
        if size > limits.output_bytes:
            raise Fault(
                Reason.OUTPUT_TOO_LARGE,
                f"output {name!r} is longer than {limits.output_bytes // 1024} KiB",
                remedy="write large data to a file in the workspace",
            )
    if total > limits.outputs_bytes:
        raise Fault(
            Reason.OUTPUT_TOO_LARGE,
            f"the outputs are longer than {limits.outputs_bytes // 1024} KiB together",
            remedy="write large data to a file in the workspace",
        )

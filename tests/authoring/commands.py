"""The commands that pages show below their examples, read as the command line reads them."""

from collections.abc import Sequence
from typing import Any

ENDED = {"ok": True, "state": "succeeded", "exit_code": 0, "stdout": "", "outputs": {}}
"""The values of a step that succeeded and printed nothing."""


def _after(command: Sequence[str], option: str) -> list[str]:
    return [command[at + 1] for at, word in enumerate(command) if word == option]


def inputs_of(command: Sequence[str]) -> dict[str, Any]:
    """Return the inputs of a command."""
    return dict(pair.split("=", 1) for pair in _after(command, "-i"))


def known_of(command: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the values of steps that a command assumes: ``--assume STEP.FIELD=VALUE``."""
    known: dict[str, dict[str, Any]] = {}
    for word in _after(command, "--assume"):
        key, _, value = word.partition("=")
        step, _, field = key.partition(".")
        values = known.setdefault(step, dict(ENDED))
        if field == "ok":
            ok = value == "true"
            values |= {"ok": ok, "exit_code": int(not ok), "state": "succeeded" if ok else "failed"}
        else:
            values[field] = value
    return known

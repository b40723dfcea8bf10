"""Assumed results: what an author says that steps will give, to see where the plan goes.

``unit.ok=false``, ``build.stdout=1.2``, ``review.outputs.approved=true``, ``build.exit_code=2``,
``log.stdout.tail(5)=…``. What is not assumed of a step stays unknown, and the plan waits there.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import JsonValue

from plue.errors import UsageError

__all__ = ["assumed", "known_of"]

_KEY: Final = re.compile(
    r"(?P<step>.+?)\.(?P<field>ok|exit_code|state|status|summary|turns|outputs\.(?P<output>[A-Za-z_]\w*)"
    r"|(?:stdout|stderr|log)(?:\.tail\(\d+\))?)",
    re.DOTALL,
)
_HOW: Final = "write STEP.ok=false, STEP.exit_code=2, STEP.stdout=TEXT or STEP.outputs.NAME=VALUE"
_TEXTS: Final = frozenset({"stdout", "stderr", "log", "state", "status", "summary"})
_NOT_TEXT: Final = frozenset({"ok", "exit_code", "state", "turns"})
_STATES: Final = ("succeeded", "failed", "skipped")


def assumed(words: Iterable[str]) -> dict[str, JsonValue]:
    """Return assumptions from ``STEP.FIELD=VALUE`` words; values are JSON, or else text.

    Raises UsageError.
    """
    found: dict[str, JsonValue] = {}
    for word in words:
        # A step's name has no `=`; what is behind the first one is the value.
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"--assume {word}: an assumption is STEP.FIELD=VALUE", remedy=_HOW)
        found[key] = _value(key, text)
    return found


def _value(key: str, text: str) -> JsonValue:
    match = _KEY.fullmatch(key)
    field = match["field"].split(".")[0] if match else ""
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    # What a program prints is text, also where it looks like JSON.
    if field in _TEXTS and not quoted:
        return text
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return text
    return value


def known_of(assume: Mapping[str, JsonValue]) -> dict[str, dict[str, JsonValue]]:
    """Return *assume* as the evaluator takes known values. Raises UsageError."""
    known: dict[str, dict[str, JsonValue]] = {}
    for key, value in assume.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise UsageError(f"{key!r} names no value of a step", field="assume", remedy=_HOW)
        step = known.setdefault(match["step"], {"partial": True, "outputs": {}})
        if match["output"] is not None:
            outputs = step["outputs"]
            assert isinstance(outputs, dict)  # noqa: S101 - for the type checker: made above
            outputs[match["output"]] = value
        else:
            step[match["field"]] = _checked(key, match["field"], value)
    for step in known.values():
        _complete(step)
    return known


def _checked(key: str, field: str, value: JsonValue) -> JsonValue:
    match field:
        case "ok" if not isinstance(value, bool):
            problem = "is true or false"
        case "exit_code" | "turns" if not isinstance(value, int) or isinstance(value, bool):
            problem = "is a whole number"
        case "state" if value not in _STATES:
            problem = f"is one of {', '.join(_STATES)}"
        case _ if field not in _NOT_TEXT and not isinstance(value, str):
            problem = "is text"
        case _:
            return value
    raise UsageError(f"{key} {problem}, not {json.dumps(value)}", field="assume", remedy=_HOW)


def _complete(step: dict[str, JsonValue]) -> None:
    """Add what follows from what is said: a step that is not ok failed, with exit code 1."""
    state = step.get("state")
    code = step.get("exit_code")
    if state is None:
        failed = step.get("ok") is False or code not in {None, 0}
        state = step["state"] = "failed" if failed else "succeeded"
    step.setdefault("ok", state == "succeeded")
    if state != "skipped":
        step.setdefault("exit_code", 0 if state == "succeeded" else 1)
    else:
        step["reason"] = "Condition"

"""What is known of steps that have ended, as the author's code may ask for it.

Values by step: ``state``, ``reason``, ``exit_code``, ``ok`` and ``outputs`` of a step that has
ended; ``stdout``, ``stderr``, ``log`` and their ends (``stdout.tail(20)``), and ``status``,
``summary`` and ``turns`` of an agent, as far as they have been sent; ``errors`` by the same names
for what can never be asked for. A field that is not there is not known yet. ``partial`` says that
an output which is not there is unknown, not missing: so it is with values that somebody assumed.
"""

from collections.abc import Mapping
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import Problem
from plue.authoring.sandbox.values import RefPart

__all__ = ["UNKNOWN", "Results", "shown_value"]

UNKNOWN: Final = object()
"""In the place of a value: it is not known yet."""

_STREAMS: Final = ("stdout", "stderr", "log")
_OF_AGENTS: Final = ("status", "summary", "turns")
_SKIPPED: Final[Mapping[str, object]] = {
    "ok": False,
    "state": "skipped",
    "exit_code": None,
    **dict.fromkeys(_STREAMS, ""),
}
_SHOWN: Final = 60


def shown_value(value: object) -> str:
    """Return *value* in a few words, as Python writes it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class Results:
    """The known values of one evaluation."""

    def __init__(self, known: Mapping[str, Mapping[str, object]]) -> None:
        """Take what is known, by step."""
        self._known = known

    def has_ended(self, step: str) -> bool:
        """Whether the step has ended."""
        return step in self._known

    def is_never(self, step: str, handled: bool) -> bool:  # noqa: FBT001 - a property of the step
        """Whether the step ended so that its values will never be known."""
        values = self._known.get(step)
        if values is None:
            return False
        match values.get("state"):
            case "failed":
                return not handled
            case "skipped":
                return values.get("reason") != "Condition"
            case "cancelled":
                return True
            case _:
                return False

    def value(self, part: RefPart, *, skipped: bool = False) -> object:
        """Return the value of *part*, or UNKNOWN. A value that is missing is a Problem."""
        values = self._known.get(part.step.name)
        if skipped or (values is not None and values.get("state") == "skipped"):
            return _of_skipped(part)
        if values is None:
            return UNKNOWN
        if part.field in _STREAMS:
            return _stream(part, values)
        if part.field in _OF_AGENTS:
            # Sent as text, as what a step printed is.
            told = values.get(part.field, UNKNOWN)
            return int(told) if part.field == "turns" and isinstance(told, str) else told
        if part.field == "outputs":
            return _output(part, values)
        return values.get(part.field)


def _stream(part: RefPart, values: Mapping[str, object]) -> object:
    ends = f"{part.field}.tail({part.tail})" if part.tail else part.field
    errors = values.get("errors")
    if isinstance(errors, Mapping) and ends in errors:
        raise Problem(
            Code.OUTPUT_TOO_LARGE,
            f"{part.shown} cannot be asked for: {errors[ends]}",
            remedy="use .tail(lines), or let the step write what matters to $PLUE_OUTPUT",
        )
    if ends in values:
        return values[ends]
    whole = values.get(part.field)
    if part.tail is None or not isinstance(whole, str):
        return UNKNOWN
    return "\n".join(whole.splitlines()[-part.tail :])


def _output(part: RefPart, values: Mapping[str, object]) -> object:
    value = values.get("outputs")
    for key in part.path:
        if isinstance(value, dict) and key in value:
            value = value[str(key)]
        elif isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
            value = value[key]
        elif values.get("partial"):
            return UNKNOWN
        elif part.default is not None:
            return part.default
        else:
            raise Problem(
                Code.MISSING_VALUE,
                f"{part.shown} is missing: step `{part.step.name}` did not give it",
                remedy="use .outputs.get(name, default) where it may be absent",
            )
    return value


def _of_skipped(part: RefPart) -> object:
    """Return the values of a step that did not run: not ok, no text, no exit code, no outputs."""
    if part.field in _SKIPPED:
        return _SKIPPED[part.field]
    if part.default is not None:
        return part.default
    raise Problem(
        Code.MISSING_VALUE,
        f"{part.shown} is missing: the step was skipped",
        remedy="test .ok first, or use .outputs.get(name, default)",
    )

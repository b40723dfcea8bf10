"""What a batch of a runner's events means: for the rows of its steps, and of asked values."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import JsonValue

from plue.wire.events import EventType, RunnerEvent, StepState
from plue.wire.plan import RefField
from plue.wire.stages import SENT

__all__ = ["StepChange", "StepValue", "logged_body", "step_changes", "step_values"]


@dataclass(frozen=True, slots=True)
class StepChange:
    """The last that a batch says of one step. ``outputs`` is None unless the step ended."""

    name: str
    state: StepState
    tries: int = 0
    started: bool = False
    ended: bool = False
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    duration_ms: int | None = None
    outputs: dict[str, JsonValue] | None = None


def step_changes(events: Iterable[RunnerEvent]) -> list[StepChange]:
    """Fold *events* into one change a step: a row is written once, however much happened."""
    changes: dict[str, StepChange] = {}
    for event in events:
        if event.step is None:
            continue
        if event.type is EventType.STEP_STARTED:
            changes[event.step] = StepChange(
                event.step, StepState.RUNNING, tries=_whole(event.body.get("try")), started=True
            )
        elif event.type is EventType.STEP_WAITING:
            changes[event.step] = _waiting(event, changes.get(event.step))
        elif event.type is EventType.STEP_COMPLETED:
            before = changes.get(event.step)
            changes[event.step] = _completed(event, started=before is not None and before.started)
    return list(changes.values())


@dataclass(frozen=True, slots=True)
class StepValue:
    """What a step printed, or why that cannot be told. ``tail`` 0 is all of it."""

    step: str
    field: RefField
    tail: int
    value: str | None
    error: str | None


def step_values(events: Iterable[RunnerEvent]) -> list[StepValue]:
    """Return the values that *events* carry; what is not in the form of one is left out."""
    return [
        value
        for event in events
        if event.type is EventType.STEP_VALUES and event.step is not None
        for item in _listed(event.body.get("values"))
        if (value := _value(event.step, item)) is not None
    ]


def _value(step: str, item: JsonValue) -> StepValue | None:
    if not isinstance(item, dict):
        return None
    field = next((name for name in SENT if name == item.get("field")), None)
    value, error = _text(item.get("value")), _text(item.get("error"))
    if field is None or (value is None) == (error is None):
        return None
    return StepValue(step, field, max(_whole(item.get("tail")), 0), value, error)


def logged_body(event: RunnerEvent) -> dict[str, JsonValue]:
    """Return the event's body as the log has it: of values only how long they are."""
    if event.type is not EventType.STEP_VALUES:
        return event.body
    told: list[JsonValue] = []
    for one in step_values([event]):
        item: dict[str, JsonValue] = {"field": one.field}
        if one.tail:
            item["tail"] = one.tail
        if one.value is None:
            item["error"] = one.error
        else:
            item["characters"] = len(one.value)
        told.append(item)
    return {"attempt": event.body.get("attempt"), "values": told}


def _listed(value: JsonValue | None) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _waiting(event: RunnerEvent, before: StepChange | None) -> StepChange:
    """Return what a step's waiting, or its going on, changes."""
    reason = _text(event.body.get("reason"))
    return StepChange(
        name=event.step or "",
        state=StepState.RUNNING if reason is None else StepState.WAITING,
        tries=0 if before is None else before.tries,
        started=before is not None and before.started,
        reason=reason,
        message=_text(event.body.get("message")),
    )


def _completed(event: RunnerEvent, *, started: bool) -> StepChange:
    body = event.body
    outputs = body.get("outputs")
    exit_code = body.get("exit_code")
    change = StepChange(
        name=event.step or "",
        state=_end_state(body.get("state")),
        tries=_whole(body.get("tries")),
        started=started,
        ended=True,
        reason=_text(body.get("reason")),
        message=_text(body.get("message")),
        duration_ms=_whole(body.get("duration_ms")),
        outputs=outputs if isinstance(outputs, dict) else {},
    )
    return change if exit_code is None else replace(change, exit_code=_whole(exit_code))


def _end_state(value: JsonValue | None) -> StepState:
    """Return the end that a runner named; a state that is none counts as a failure."""
    ends = {state.value: state for state in StepState if state.is_end}
    return ends.get(value, StepState.FAILED) if isinstance(value, str) else StepState.FAILED


def _whole(value: JsonValue | None) -> int:
    # A runner is not trusted to send what fits a column.
    number = value if isinstance(value, int) else 0
    return max(-(2**31), min(number, 2**31 - 1))


def _text(value: JsonValue | None) -> str | None:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else None

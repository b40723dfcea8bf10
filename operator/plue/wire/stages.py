"""How a plan grows: extensions, and when a value that is asked for becomes known.

A workflow's code that asks for the value of an unfinished step ends the stage there. The plan so
far runs on; as soon as an awaited value is known the code is evaluated again, and what it plans
beyond the plan so far is an :class:`Extension`. Engine and runner decide by the same functions
whether there is anything to wait for, so that neither waits for the other for ever.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from plue.wire.events import Reason, StepState
from plue.wire.plan import Await, End, Fail, Plan, RefField, Step

__all__ = [
    "SENT",
    "STREAMS",
    "Extension",
    "Placed",
    "Standing",
    "Trouble",
    "extended",
    "extension_of",
    "gives_values",
    "is_due",
    "standing_of",
]

STREAMS: Final[frozenset[RefField]] = frozenset({"stdout", "stderr", "log"})
SENT: Final[frozenset[RefField]] = STREAMS | {"status", "summary", "turns"}
"""Fields whose values the runner sends when they are awaited; all others come with a step's end."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Placed(_Frozen):
    """A new step and its place in the order of the whole plan, which decides about clean-up."""

    at: Annotated[int, Field(ge=0)]
    step: Step


class Trouble(_Frozen):
    """Why the workflow's code could not be evaluated further; the run fails with it."""

    reason: Reason
    message: str


class Extension(_Frozen):
    """What stage ``stage`` adds to the plan of the stage before it.

    ``steps`` come in ascending order of their places. ``fails``, ``end`` and ``awaits`` replace
    those of the stage before. With ``trouble`` nothing more is planned: what is planned ends, and
    then the run fails. ``digest`` is that of the whole plan.
    """

    stage: Annotated[int, Field(ge=2)]
    digest: str = ""
    steps: tuple[Placed, ...] = ()
    fails: tuple[Fail, ...] = ()
    end: End | None = None
    awaits: tuple[Await, ...] = ()
    trouble: Trouble | None = None


def extended(plan: Plan, extension: Extension) -> Plan:
    """Return *plan* with the next stage in it. Trouble leaves it without an end and awaits."""
    steps = list(plan.steps)
    for placed in extension.steps:
        steps.insert(placed.at, placed.step)
    return plan.model_copy(
        update={
            "stage": extension.stage,
            "steps": tuple(steps),
            "fails": extension.fails,
            "end": extension.end,
            "awaits": extension.awaits,
            "digest": extension.digest,
        }
    )


def extension_of(before: Plan, after: Plan) -> Extension:
    """Return what *after*, a later stage that reproduced *before*, adds to it."""
    known = {step.name for step in before.steps}
    new = [Placed(at=i, step=s) for i, s in enumerate(after.steps) if s.name not in known]
    return Extension(
        stage=after.stage,
        digest=after.digest,
        steps=tuple(new),
        fails=after.fails,
        end=after.end,
        awaits=after.awaits,
    )


def gives_values(state: StepState, reason: str | None, *, handled: bool) -> bool:
    """Whether a step that ended so has values that the workflow's code can ask for.

    What failed without being handled, was cancelled, or was skipped because of a failure never
    has any; what its ``when`` kept from running has those of a skipped step.
    """
    match state:
        case StepState.SUCCEEDED:
            return True
        case StepState.FAILED:
            return handled
        case StepState.SKIPPED:
            return reason == Reason.CONDITION
        case _:
            return False


class Standing(StrEnum):
    """What is known of an awaited value."""

    OPEN = "open"  # its step has not ended, or the value has not arrived
    KNOWN = "known"
    FALSE = "false"  # known, and it is the boolean false
    NEVER = "never"  # its step ended without values


def standing_of(
    one: Await, state: StepState | None, reason: str | None, *, arrived: bool = True
) -> Standing:
    """Return what is known of *one*, whose step ended in *state* (None: it has not).

    *arrived* says whether what the step printed is known, where that is asked for.
    """
    if state is None or not state.is_end:
        return Standing.OPEN
    if not gives_values(state, reason, handled=one.handled):
        return Standing.NEVER
    if one.field in SENT and state is not StepState.SKIPPED and not arrived:
        return Standing.OPEN
    failed = one.field == "ok" and state is not StepState.SUCCEEDED
    return Standing.FALSE if failed else Standing.KNOWN


def is_due(awaits: Sequence[Await], standing: Callable[[Await], Standing]) -> bool:
    """Whether the workflow's code is to be evaluated again: one of its questions has an answer."""
    questions: dict[int, list[Standing]] = {}
    for number, one in enumerate(awaits, 1):
        questions.setdefault(one.together or -number, []).append(standing(one))
    return any(map(_is_answered, questions.values()))


def _is_answered(parts: Iterable[Standing]) -> bool:
    found = set(parts)
    if Standing.FALSE in found:
        return True
    return Standing.OPEN not in found and Standing.KNOWN in found

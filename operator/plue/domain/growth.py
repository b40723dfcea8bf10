"""How a run's plan grows: what is due, what an evaluation is given, what viewers are told. Pure.

The cycle: the newest stage names the values that the workflow's code waits for; when one is known
(``due``) the code is evaluated again with all that is known (``known_values``), which gives the
next stage or says why there is none (``trouble_of``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import JsonValue

from plue.domain.progress import StepValue
from plue.wire.events import Reason, StepState
from plue.wire.plan import Await, Plan, Ref, RefField, Step
from plue.wire.stages import Standing, Trouble, is_due, standing_of

__all__ = [
    "MAX_STAGES",
    "Answer",
    "GrownPlan",
    "Results",
    "StepResult",
    "answer_of",
    "due",
    "plan_body",
    "shown_ref",
    "standings",
    "trouble_of",
]

MAX_STAGES: Final = 500
"""How often a run's code is evaluated; a loop that asks without end must end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A value that the workflow's code got, in a few words, and where it asked for it."""

    value: str
    shown: str
    file: str | None = None
    line: int | None = None

    @property
    def text(self) -> str:
        """The answer for people: ``review.approved == False, ci.py:14``."""
        name = (self.file or "").rpartition("/")[2]
        place = f", {name}:{self.line}" if name else ""
        return f"{self.value} == {self.shown}{place}"

    def json(self) -> dict[str, JsonValue]:
        """Return the answer as rows and events have it."""
        told: dict[str, JsonValue] = {"value": self.value, "is": self.shown}
        return told | {"file": self.file, "line": self.line} if self.file else told


def answer_of(item: Mapping[str, Any]) -> Answer:
    """Return the answer that ``Answer.json`` gave."""
    return Answer(item["value"], item["is"], item.get("file"), item.get("line"))


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a step ended."""

    name: str
    state: StepState
    reason: str | None
    exit_code: int | None
    outputs: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Results:
    """What is known of an attempt: the steps that have ended, and what was sent of them."""

    steps: Mapping[str, StepResult] = field(default_factory=dict)
    values: Sequence[StepValue] = ()

    def known(self) -> dict[str, dict[str, JsonValue]]:
        """Return it as the evaluator takes it (``authoring.sandbox.results``)."""
        found: dict[str, dict[str, JsonValue]] = {
            step.name: {
                "state": step.state.value,
                "reason": step.reason,
                "exit_code": step.exit_code,
                "ok": step.state is StepState.SUCCEEDED,
                "outputs": dict(step.outputs),
            }
            for step in self.steps.values()
        }
        errors: dict[str, dict[str, JsonValue]] = {}
        for one in self.values:
            name = f"{one.field}.tail({one.tail})" if one.tail else one.field
            if one.step not in found:
                continue
            if one.error is not None:
                errors.setdefault(one.step, {})[name] = one.error
            else:
                found[one.step][name] = one.value
        for step, told in errors.items():
            found[step]["errors"] = told
        return found


@dataclass(frozen=True, slots=True)
class GrownPlan:
    """A run's plan as far as it has grown, what it is planned from, and what is known of it."""

    plan: Plan
    inputs: Mapping[str, JsonValue]
    event: Mapping[str, JsonValue]
    results: Results


def standings(awaits: Sequence[Await], results: Results) -> dict[Await, Standing]:
    """Return what is known of each of *awaits*."""
    sent = {(one.step, one.field, one.tail) for one in results.values}
    return {one: _standing(one, results.steps.get(one.ref), sent) for one in awaits}


def _standing(
    one: Await, step: StepResult | None, sent: set[tuple[str, RefField, int]]
) -> Standing:
    if step is None:
        return Standing.OPEN
    # All of a stream answers for its end too.
    arrived = bool({(one.ref, one.field, 0), (one.ref, one.field, one.tail or 0)} & sent)
    return standing_of(one, step.state, step.reason, arrived=arrived)


def due(plan: Plan, results: Results) -> bool:
    """Whether the workflow's code is to be evaluated again."""
    return is_due(plan.awaits, standings(plan.awaits, results).__getitem__)


def trouble_of(code: str | None, message: str, place: str | None) -> Trouble:
    """Say why an evaluation gave no further stage. *code* is that of its first diagnostic."""
    where = f"{place}: " if place else ""
    return Trouble(reason=_REASONS.get(code or "", Reason.INVALID_PLAN), message=where + message)


_REASONS: Final[Mapping[str, Reason]] = {
    "PLU505": Reason.MISSING_VALUE,
    "PLU511": Reason.OUTPUT_TOO_LARGE,
    "PLU601": Reason.WORKFLOW_ERROR,
    "PLU607": Reason.REPLAY_DIFFERS,
    "PLU610": Reason.TOO_MANY_STAGES,
}


# ── what viewers are told ────────────────────────────────────────────────────────────────────────


def shown_ref(ref: Ref) -> str:
    """Return a reference as people write it: ``build.outputs.version``, ``build.log.tail(5)``."""
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in ref.path)
    tail = f".tail({ref.tail})" if ref.tail else ""
    return f"{ref.ref}.{ref.field}{path}{tail}"


def plan_body(
    plan: Plan,
    *,
    attempt: int,
    new: Iterable[str] | None = None,
    why: Mapping[str, Sequence[Answer]] | None = None,
    trouble: Trouble | None = None,
) -> dict[str, JsonValue]:
    """Return the body of ``plan_extended``: what a viewer needs to draw the steps.

    *new* names the steps that this stage adds; None means all.
    """
    names = None if new is None else set(new)
    body: dict[str, JsonValue] = {
        "attempt": attempt,
        "stage": plan.stage,
        "digest": plan.digest,
        "steps": [
            _drawn(step, None if names is None else at, (why or {}).get(step.name, ()))
            for at, step in enumerate(plan.steps)
            if names is None or step.name in names
        ],
    }
    if plan.awaits:
        body["awaits"] = [_asked(one) for one in plan.awaits]
    if trouble is not None:
        body |= {"reason": trouble.reason.value, "message": trouble.message}
    return body


def _drawn(step: Step, at: int | None, why: Sequence[Answer]) -> JsonValue:
    drawn: dict[str, JsonValue] = {
        "name": step.name,
        "kind": step.action.kind,
        "needs": list(step.needs),
        "branch": list(step.branch),
        "shown": step.action.shown,
    }
    if step.group:
        drawn["group"] = list(step.group)
    if step.cleanup:
        drawn["cleanup"] = True
    if at is not None:
        drawn["at"] = at
    if why:
        drawn["why"] = [one.json() for one in why]
    return drawn


def _asked(one: Await) -> JsonValue:
    told: dict[str, JsonValue] = {"value": shown_ref(one)}
    return told if one.site is None else told | {"file": one.site.file, "line": one.site.line}

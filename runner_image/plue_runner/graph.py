"""Which steps may start now, and which never will: the rules of order and failure, pure.

The rules are the language reference's 9 (a step starts after what it needs has ended), 14 (what
depends on an unhandled failure is skipped, all else goes on), 15 (``continue_on_error``), 16
(``when``) and 17 (``ctx.cleanup``). Failure is judged over all dependencies, direct or not: a step
that ran ``when="always"`` between a failed step and a plain one does not hide the failure.

A step that ``when`` kept from running (``Condition``) blocks nobody, whichever ``when`` it was: a
``when="failure"`` step after a success must not stop what stands below it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from plue.wire.events import Reason, StepState
from plue.wire.plan import Fail, Plan, Step, When

__all__ = ["Decision", "Order", "Past", "cleanup_decisions", "decide", "fault_in", "happened"]


@dataclass(frozen=True, slots=True)
class Past:
    """How a step ended, and what of it matters to the steps that need it.

    ``failed_above`` says that it, or something that it needs, failed, handled or not;
    ``broken`` that it, or something that it needs, failed without being handled.
    """

    state: StepState
    reason: Reason | None
    tries: int
    failed_above: bool
    broken: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a step whose needs have ended: start it, or skip it for a reason."""

    step: Step
    skip: Reason | None = None
    message: str | None = None


class Order:
    """The steps of a plan and how far they are; no I/O and no clock.

    Clean-up steps are not part of the order: they come after everything else, and a need that
    names one counts as ended.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        """Take the steps of a plan in which ``fault_in`` found nothing."""
        self.past: dict[str, Past] = {}
        self._steps: dict[str, Step] = {}
        self._open: dict[str, int] = {}
        self._dependents: dict[str, list[str]] = {}
        self._add(steps)

    def first(self) -> list[Decision]:
        """Return what is decided before anything has ended: the steps that need nothing."""
        return [decide(s, self.past) for s in self._steps.values() if self._open[s.name] == 0]

    def extend(self, steps: Sequence[Step]) -> list[Decision]:
        """Take more steps, none of which an earlier one needs; return what is decided of them."""
        return [decide(s, self.past) for s in self._add(steps) if self._open[s.name] == 0]

    def _add(self, steps: Sequence[Step]) -> list[Step]:
        new = [step for step in steps if not step.cleanup]
        self._steps |= {step.name: step for step in new}
        self._dependents |= {step.name: [] for step in new}
        for step in new:
            needs = self._needs(step) - self.past.keys()
            self._open[step.name] = len(needs)
            for need in needs:
                self._dependents[need].append(step.name)
        return new

    def end(
        self, step: Step, state: StepState, reason: Reason | None, tries: int
    ) -> list[Decision]:
        """Record how *step* ended; return what is decided by it, in the plan's order."""
        self.past[step.name] = past_of(step, state, reason, tries, self.past)
        ready = []
        for name in self._dependents.get(step.name, ()):
            self._open[name] -= 1
            if self._open[name] == 0:
                ready.append(decide(self._steps[name], self.past))
        return ready

    def _needs(self, step: Step) -> set[str]:
        return {need for need in step.needs if need in self._steps}


def past_of(
    step: Step, state: StepState, reason: Reason | None, tries: int, past: Mapping[str, Past]
) -> Past:
    """Return the record of a step that ended in *state*."""
    above = [past[need] for need in step.needs if need in past]
    failed = state is StepState.FAILED
    broken = (failed and not step.continue_on_error) or state is StepState.CANCELLED
    return Past(
        state=state,
        reason=reason,
        tries=tries,
        failed_above=failed or any(p.failed_above for p in above),
        broken=broken or any(p.broken for p in above),
    )


def decide(step: Step, past: Mapping[str, Past]) -> Decision:
    """Start or skip *step*, all of whose needs have ended."""
    match step.when:
        case When.NEVER:
            return Decision(step, Reason.CONDITION, "its condition is false")
        case When.ALWAYS:
            return Decision(step)
        case When.FAILURE:
            if any(past[need].failed_above for need in step.needs if need in past):
                return Decision(step)
            return Decision(step, Reason.CONDITION, "it runs after a failure, and nothing failed")
        case When.SUCCESS:
            broken = [need for need in step.needs if need in past and past[need].broken]
            if not broken:
                return Decision(step)
            return Decision(step, Reason.DEPENDENCY_FAILED, _because(broken[0], past[broken[0]]))


def _because(need: str, past: Past) -> str:
    if past.state is StepState.FAILED:
        return f"{need!r} failed"
    if past.state is StepState.CANCELLED:
        return f"{need!r} was cancelled"
    return f"a step that {need!r} depends on failed"


def cleanup_decisions(steps: Sequence[Step], past: Mapping[str, Past]) -> list[Decision]:
    """Return what becomes of the clean-up steps, newest first, after all others have ended."""
    return [_cleanup_decision(step, past) for step in reversed(steps) if step.cleanup]


def _cleanup_decision(step: Step, past: Mapping[str, Past]) -> Decision:
    for need in step.needs:
        # A need without a record is another clean-up step: those have no order but their own.
        if need in past and past[need].tries == 0:
            return Decision(
                step, Reason.DEPENDENCY_FAILED, f"{need!r} did not start: nothing to clean up"
            )
    if step.when is When.NEVER:
        return Decision(step, Reason.CONDITION, "its condition is false")
    return Decision(step)


def happened(fails: Iterable[Fail], past: Mapping[str, Past]) -> Fail | None:
    """Return the first ``ctx.fail`` that was reached: nothing that it needs is broken."""
    for fail in fails:
        if not any(past[need].broken for need in fail.needs if need in past):
            return fail
    return None


def fault_in(plan: Plan) -> str | None:
    """Say why the plan's steps cannot be put in order; None when they can."""
    names = [step.name for step in plan.steps]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        return f"two steps have the name {twice!r}"
    known = set(names)
    for step in plan.steps:
        for need in step.needs:
            if need not in known:
                return f"{step.name!r} needs {need!r}, which is not in the plan"
    stuck = _in_a_circle(plan.steps)
    return None if stuck is None else f"{stuck!r} needs itself, directly or not"


def _in_a_circle(steps: Sequence[Step]) -> str | None:
    order = Order(steps)
    ready = [decision.step for decision in order.first()]
    while ready:
        step = ready.pop()
        decided = order.end(step, StepState.SUCCEEDED, None, 1)
        ready.extend(decision.step for decision in decided)
    return next((s.name for s in steps if not s.cleanup and s.name not in order.past), None)

"""What becomes of a run whose runner is lost (language reference, *Failure*: attempts)."""

from dataclasses import dataclass

from plue.wire.events import Reason, RunState

__all__ = ["EndRun", "LostRun", "NextAttempt", "SameAttempt", "Verdict", "verdict_on_lost"]


@dataclass(frozen=True, slots=True)
class LostRun:
    """What is known of a run whose runner surely executes nothing any more.

    ``a_step_started`` is exact: a runner starts an attempt's first step, and every step marked
    ``once``, only after the event that says so was stored.
    """

    state: RunState
    attempt: int
    attempts_allowed: int
    a_step_started: bool
    a_once_step_started: bool
    cancel_state: RunState | None
    cancel_reason: Reason | None
    cancel_message: str | None
    runner_reason: Reason | None
    runner_message: str | None


@dataclass(frozen=True, slots=True)
class SameAttempt:
    """Back to the queue; nothing was used up, because nothing was begun."""


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """Over again with a fresh workspace."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class EndRun:
    """The run ends here."""

    state: RunState
    reason: Reason
    message: str | None


Verdict = SameAttempt | NextAttempt | EndRun

FREE_ATTEMPTS = 5
"""How often a run may lose its runner before any step began. A run whose very assignment kills
its runner would otherwise take one runner after another for ever."""


def verdict_on_lost(run: LostRun) -> Verdict:
    """Decide what a lost runner means for its run."""
    if run.cancel_state is not None:
        # Who asked for the end gets it; the runner's death only brought it about.
        return EndRun(run.cancel_state, run.cancel_reason or Reason.CANCELLED, run.cancel_message)
    if run.state is RunState.CLAIMED:
        return SameAttempt()
    reason = run.runner_reason or Reason.RUNNER_LOST
    objection = _objection(run)
    if objection is None:
        return NextAttempt(reason)
    what = run.runner_message or "the runner ended before it had reported the run's end"
    return EndRun(RunState.FAILED, reason, f"{what}; {objection}")


def _objection(run: LostRun) -> str | None:
    """Say why there may be no next attempt; None when there may."""
    if run.a_once_step_started:
        return "a step marked once=True had started"
    if not run.a_step_started:
        spent = run.attempt >= max(FREE_ATTEMPTS, run.attempts_allowed)
        return f"{run.attempt} runners were lost at its start" if spent else None
    if run.attempt < run.attempts_allowed:
        return None
    if run.attempts_allowed == 1:
        return "steps had started; attempts=N on the workflow allows to start over"
    return f"all {run.attempts_allowed} attempts are used"

"""What a lost runner means for its run."""

import pytest

from plue.domain.lost import EndRun, LostRun, NextAttempt, SameAttempt, Verdict, verdict_on_lost
from plue.wire.events import Reason, RunState


def a_lost_run(**fields: object) -> LostRun:
    """Return a running run that lost its runner after a step had started."""
    values: dict[str, object] = {
        "state": RunState.RUNNING,
        "attempt": 1,
        "attempts_allowed": 1,
        "a_step_started": True,
        "a_once_step_started": False,
        "cancel_state": None,
        "cancel_reason": None,
        "cancel_message": None,
        "runner_reason": None,
        "runner_message": None,
    }
    return LostRun(**(values | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        pytest.param(
            a_lost_run(state=RunState.CLAIMED), SameAttempt(), id="not-accepted-costs-nothing"
        ),
        pytest.param(
            a_lost_run(a_step_started=False),
            NextAttempt(Reason.RUNNER_LOST),
            id="no-step-started-is-tried-again",
        ),
        pytest.param(
            a_lost_run(attempts_allowed=2),
            NextAttempt(Reason.RUNNER_LOST),
            id="the-workflow-allows-another",
        ),
        pytest.param(
            a_lost_run(attempts_allowed=2, runner_reason=Reason.DISK_FULL),
            NextAttempt(Reason.DISK_FULL),
            id="the-hosts-word-is-kept",
        ),
    ],
)
def test_a_run_goes_on_after_its_runner_is_lost(run: LostRun, expected: Verdict) -> None:
    """It goes on when nothing had begun, or when the workflow says that it may."""
    assert expected == verdict_on_lost(run)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        pytest.param(a_lost_run(), "attempts=N", id="a-step-had-started"),
        pytest.param(a_lost_run(attempt=2, attempts_allowed=2), "all 2", id="attempts-used-up"),
        pytest.param(
            a_lost_run(attempts_allowed=3, a_once_step_started=True), "once=True", id="once"
        ),
        pytest.param(
            a_lost_run(attempt=5, a_step_started=False), "at its start", id="it-kills-its-runners"
        ),
    ],
)
def test_a_run_ends_with_its_runner(run: LostRun, words: str) -> None:
    """It fails as RunnerLost and says why there is no other attempt."""
    verdict = verdict_on_lost(run)
    assert isinstance(verdict, EndRun)
    assert (verdict.state, verdict.reason) == (RunState.FAILED, Reason.RUNNER_LOST)
    assert verdict.message is not None
    assert words in verdict.message


def test_a_cancelled_run_ends_as_it_was_asked_to() -> None:
    """Whoever asked for the end gets it, also when the runner died of it."""
    run = a_lost_run(cancel_state=RunState.TIMED_OUT, cancel_reason=Reason.RUN_TIMEOUT)
    assert EndRun(RunState.TIMED_OUT, Reason.RUN_TIMEOUT, None) == verdict_on_lost(run)

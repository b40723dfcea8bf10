"""The store's clock beside ours."""

from datetime import UTC, datetime, timedelta

import pytest

from plue.domain.clock import StoreClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return a time of the store."""
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("shown", "asked", "answered", "jumped"),
    [
        pytest.param(10, 10, 10, False, id="in-step"),
        pytest.param(11, 10, 10, False, id="within-the-tolerance"),
        pytest.param(13, 10, 10, True, id="ahead"),
        pytest.param(7, 10, 10, True, id="behind"),
        pytest.param(3610, 10, 10, True, id="an-hour-ahead"),
        pytest.param(-3590, 10, 10, True, id="an-hour-behind"),
        pytest.param(30, 10, 40, False, id="a-slow-answer-is-no-jump"),
    ],
)
def test_a_jump_is_what_the_two_clocks_disagree_by(
    shown: float, asked: float, answered: float, jumped: bool
) -> None:
    """More than the tolerance, in either direction, and whenever in the answer's time it was."""
    clock = StoreClock(timedelta(seconds=2))
    assert not clock.observe(at(0), asked=0, answered=0)
    assert jumped is clock.observe(at(shown), asked=asked, answered=answered)
    assert clock.jumped_at == (answered if jumped else None)


def test_nothing_is_believed_before_the_first_look() -> None:
    """Without a comparison there is no latest time."""
    clock = StoreClock(timedelta(seconds=2))
    assert clock.latest(5) is None
    clock.observe(at(100), asked=0, answered=0)
    assert clock.latest(5) == at(107)


def test_small_steps_of_one_window_add_up_to_a_jump() -> None:
    """A clock that runs away by a little at each look is found out."""
    clock = StoreClock(timedelta(seconds=2))
    seen = [clock.observe(at(s * 1.5), asked=s, answered=s) for s in range(10)]
    assert any(seen)


def test_slow_drift_over_hours_is_no_jump() -> None:
    """What a correction adds in ten minutes stays within the tolerance."""
    clock = StoreClock(timedelta(seconds=2))
    assert not any(clock.observe(at(s * 1.001), asked=s, answered=s) for s in range(0, 36000, 60))

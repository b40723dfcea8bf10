"""Cron expressions: which are right, what is said of the others, and when they fire."""

from datetime import UTC, datetime, timedelta

import pytest

from plue.domain.schedules import LATE, DueSchedule, cron_of, fires, next_firing

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "cron", "at"),
    [
        pytest.param("30 4 * * 1-5", "30 4 * * 1-5", "2026-11-26T04:30", id="working-days"),
        pytest.param("  0  0 * jan-mar SUN ", "0 0 * jan-mar SUN", "2027-01-03T00:00", id="names"),
        pytest.param("@daily", "0 0 * * *", "2026-11-26T00:00", id="macro"),
        pytest.param("*/15 * * * *", "*/15 * * * *", "2026-11-25T12:15", id="later-than-now"),
        pytest.param("0 0 29 2 *", "0 0 29 2 *", "2028-02-29T00:00", id="leap-day"),
        pytest.param("0 0 * * 7", "0 0 * * 7", "2026-11-29T00:00", id="seven-is-sunday"),
        pytest.param("0 9 L * *", "0 9 L * *", "2026-11-30T09:00", id="last-day"),
    ],
)
def test_right_expressions_fire(text: str, cron: str, at: str) -> None:
    """The next time is later than now, in UTC."""
    assert cron_of(text) == cron
    assert next_firing(cron, NOW) == datetime.fromisoformat(at).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("* * *", "it has 3 fields, not 5", id="three-fields"),
        pytest.param("* * * * * *", "it has 6 fields, not 5", id="seconds"),
        pytest.param("every day", "it has 2 fields", id="words"),
        pytest.param("@sometimes", "it has 1 fields", id="macro"),
        pytest.param("61 * * * *", "minute is `61`, not 0-59", id="minute"),
        pytest.param("0 24 * * *", "hour is `24`, not 0-23", id="hour"),
        pytest.param("0 0 31 2 *", "day is `31`", id="never"),
        pytest.param("0 0 * 13 *", "month is `13`", id="month"),
        pytest.param("0 0 * * 8", "weekday is `8`", id="weekday"),
    ],
)
def test_wrong_expressions_name_the_field(text: str, said: str) -> None:
    """The message says which field, and what it takes."""
    with pytest.raises(ValueError, match=r"it has|is `") as caught:
        cron_of(text)
    assert said in str(caught.value)


def test_what_was_missed_long_ago_is_not_made_up_for() -> None:
    """A little late is on time; a night without a server is no run in the morning."""
    due = DueSchedule("ci", "0 0 * * *", NOW, NOW + LATE)
    assert fires(due)
    assert not fires(DueSchedule("ci", "0 0 * * *", NOW, NOW + LATE + timedelta(seconds=1)))

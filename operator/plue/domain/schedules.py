"""When a schedule fires: five cron fields, in UTC, as Debian's cron reads them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

__all__ = ["LATE", "DueSchedule", "cron_of", "fires", "next_firing"]

LATE: Final = timedelta(minutes=5)
"""How much later than its time a run may still be made; what was missed longer ago is not."""

_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS: Final = {
    "Bad minute": ("minute", 0, "0-59"),
    "Bad hour": ("hour", 1, "0-23"),
    "Bad day-of-month": ("day", 2, "1-31 within its months"),
    "Bad month": ("month", 3, "1-12 or jan-dec"),
    "Bad day-of-week": ("weekday", 4, "0-7 or sun-sat"),
}
# Only its calendar is used, to see whether there is a first time at all.
_SOME_DAY: Final = datetime.fromisoformat("2024-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule whose time has come, as the store sees it at ``now``."""

    workflow: str
    cron: str
    at: datetime
    now: datetime


def cron_of(text: str) -> str:
    """Return *text* as five fields. Raises ValueError that says which field is wrong."""
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"it has {len(fields)} fields, not {len(_FIELDS)}")
    cron = " ".join(fields)
    try:
        next(CronSim(cron, _SOME_DAY))
    except CronSimError as error:
        name, at, known = _FIELDS.get(str(error), ("schedule", 0, "five fields"))
        raise ValueError(f"{name} is `{fields[at]}`, not {known}") from None
    except StopIteration:
        raise ValueError("there is no such day") from None
    return cron


def next_firing(cron: str, after: datetime) -> datetime:
    """Return the first time of *cron* (as ``cron_of`` gave it) later than *after*."""
    return next(CronSim(cron, after))


def fires(due: DueSchedule) -> bool:
    """Whether a run is made for it: a server that was away does not make up for a lost night."""
    return due.now - due.at <= LATE

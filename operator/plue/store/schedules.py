"""When workflows run by the clock, and the clock itself: the database's."""

from collections.abc import Collection
from datetime import datetime

from plue.domain.run import RunId
from plue.domain.schedules import DueSchedule, next_firing
from plue.store.database import Database

__all__ = ["ScheduleStore"]


class ScheduleStore:
    """The schedules of projects."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def record(self, scope: str, wanted: Collection[tuple[str, str]]) -> None:
        """Have exactly *wanted* (workflow, cron); what is new begins with its next time."""
        now: datetime = (await self._database.rows("server_time"))[0]["now"]
        workflows, crons = [w for w, _ in wanted], [c for _, c in wanted]
        await self._database.transaction(
            [
                ("forget_schedules", {"scope": scope, "workflows": workflows, "crons": crons}),
                *(
                    (
                        "record_schedule",
                        {
                            "scope": scope,
                            "workflow": workflow,
                            "cron": cron,
                            "next_at": next_firing(cron, now),
                        },
                    )
                    for workflow, cron in wanted
                ),
            ]
        )

    async def due(self, scope: str, *, limit: int = 100) -> list[DueSchedule]:
        """Return the schedules whose time has come."""
        rows = await self._database.rows("due_schedules", {"scope": scope, "limit": limit})
        return [DueSchedule(r["workflow"], r["cron"], r["next_at"], r["now"]) for r in rows]

    async def advance(self, scope: str, due: DueSchedule, run: RunId | None) -> bool:
        """Move on to the time after now; False when somebody else did. *run* is what was made."""
        row = await self._database.row(
            "advance_schedule",
            {
                "scope": scope,
                "workflow": due.workflow,
                "cron": due.cron,
                "seen": due.at,
                "next_at": next_firing(due.cron, due.now),
                "last_at": None if run is None else due.at,
                "run": run,
            },
        )
        return row is not None

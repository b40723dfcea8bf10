"""What clocks and losses do to runs: cancels, deadlines, lost runners, retention."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from plue.domain.lost import LostRun
from plue.domain.run import RunId, RunnerId
from plue.store.database import Database, seconds
from plue.store.queue import ClaimKey
from plue.wire.events import Reason, RunState
from plue.wire.plan import HIDDEN_KINDS

__all__ = ["LifecycleStore", "OverdueRun", "PendingCancel"]


@dataclass(frozen=True, slots=True)
class PendingCancel:
    """A cancel that a runner must be told of."""

    key: ClaimKey
    state: RunState
    reason: Reason
    message: str | None
    now: bool


@dataclass(frozen=True, slots=True)
class OverdueRun:
    """A run that a clock has something to say about."""

    run: RunId
    attempt: int
    state: RunState
    cancel: tuple[RunState, Reason, str | None] | None
    cancel_overdue: bool
    queue_overdue: bool
    run_overdue: bool


class LifecycleStore:
    """Cancels, deadlines, lost runners and retention."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def request_cancel(
        self,
        run: RunId,
        *,
        state: RunState,
        reason: Reason,
        message: str | None,
        now: bool,
        grace: timedelta,
        margin: timedelta,
    ) -> RunState | None:
        """Ask for a run's end; return its state, or None when it has ended already."""
        row = await self._database.row(
            "request_cancel",
            {
                "run": run,
                "state": state.value,
                "reason": reason.value,
                "message": message,
                "now": now,
                "grace": seconds(grace),
                "margin": seconds(margin),
            },
        )
        return None if row is None else RunState(row["state"])

    async def cancels_of(self, runners: Sequence[RunnerId]) -> list[PendingCancel]:
        """Return the cancels that these runners must be told of."""
        rows = await self._database.rows("cancels_of", {"runners": list(runners)})
        return [
            PendingCancel(
                ClaimKey(RunId(str(row["run_id"])), row["attempt"], RunnerId(row["runner_id"])),
                RunState(row["cancel_state"]),
                Reason(row["cancel_reason"]),
                row["cancel_message"],
                row["cancel_now"],
            )
            for row in rows
        ]

    async def overdue(self, *, limit: int = 500) -> list[OverdueRun]:
        """Return runs past a deadline, and cancelled ones that no runner needs to end."""
        rows = await self._database.rows("runs_overdue", {"limit": limit})
        return [
            OverdueRun(
                RunId(str(row["run_id"])),
                row["attempt"],
                RunState(row["state"]),
                _cancel(row),
                row["cancel_overdue"],
                row["queue_overdue"],
                row["run_overdue"],
            )
            for row in rows
        ]

    async def correct_times(self, *, lease: timedelta, grace: timedelta, margin: timedelta) -> None:
        """Bring times near again that a jump of the store's clock has put far away."""
        await self._database.rows(
            "correct_times",
            {"lease": seconds(lease), "grace": seconds(grace), "margin": seconds(margin)},
        )

    async def lost(
        self,
        *,
        lease_counts: bool,
        not_after: datetime | None,
        margin: timedelta,
        limit: int = 500,
    ) -> tuple[datetime, list[tuple[ClaimKey, LostRun, bool]]]:
        """Return the store's time, and runs whose runner is gone (True) or silent (False).

        Silent is who let a lease and *margin* pass, by a clock that shows at most *not_after*.
        """
        parameters = {
            "lease_counts": lease_counts,
            "not_after": not_after,
            "margin": seconds(margin),
            "limit": limit,
            "harmless": sorted(HIDDEN_KINDS),
        }
        clock, rows = await self._database.transaction(
            [("store_clock", {}), ("runs_lost", parameters)]
        )
        return clock[0]["now"], [
            (
                ClaimKey(RunId(str(row["run_id"])), row["attempt"], RunnerId(row["runner_id"])),
                _lost(row),
                row["runner_state"] in {None, "gone"},
            )
            for row in rows
        ]

    async def next_attempt(self, key: ClaimKey, reason: Reason) -> bool:
        """Start the run over; False when somebody else was first."""
        _, rows = await self._database.transaction(
            [
                ("lock_runs", {"runs": [key.run]}),
                (
                    "next_attempt",
                    {"run": key.run, "attempt": key.attempt, "reason": reason.value},
                ),
            ]
        )
        return bool(rows)

    async def requeue(self, key: ClaimKey, reason: Reason) -> bool:
        """Put a claimed run back into the queue; False when somebody else was first."""
        row = await self._database.row(
            "requeue_same_attempt",
            {
                "run": key.run,
                "attempt": key.attempt,
                "runner": key.runner,
                "reason": reason.value,
            },
        )
        return row is not None

    async def active(self, *, limit: int = 1000) -> list[tuple[RunId, str, RunState]]:
        """Return (id, name, state) of runs that have not ended."""
        rows = await self._database.rows("active_runs", {"limit": limit})
        return [(RunId(str(r["run_id"])), r["name"], RunState(r["state"])) for r in rows]

    async def active_by_key(self, prefix: str) -> list[RunId]:
        """Return the runs that have not ended and whose idempotency key begins with *prefix*."""
        rows = await self._database.rows("active_runs_by_key", {"prefix": prefix})
        return [RunId(str(r["id"])) for r in rows]

    async def ensure_partitions(self) -> None:
        """Make the log's partitions for yesterday up to the day after tomorrow."""
        await self._database.rows("ensure_partitions")

    async def drop_logs(self, *, days: int) -> list[str]:
        """Drop the log's partitions older than *days* whose runs have all ended."""
        rows = await self._database.rows("droppable_partitions", {"days": days})
        for row in rows:
            statement = sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(row["name"]))
            await self._database.execute(statement.as_bytes(None))
        return [row["name"] for row in rows]

    async def delete_runs(self, *, days: int, limit: int = 1000) -> int:
        """Delete a batch of finished runs older than *days*; return how many."""
        rows = await self._database.rows("delete_old_runs", {"days": days, "limit": limit})
        return len(rows)

    async def delete_gone_runners(self) -> None:
        """Delete the rows of runners that went long ago."""
        await self._database.rows("delete_gone_runners")


def _cancel(row: dict[str, Any]) -> tuple[RunState, Reason, str | None] | None:
    if not row["cancelling"]:
        return None
    return RunState(row["cancel_state"]), Reason(row["cancel_reason"]), row["cancel_message"]


def _lost(row: dict[str, Any]) -> LostRun:
    return LostRun(
        state=RunState(row["state"]),
        attempt=row["attempt"],
        attempts_allowed=row["attempts_allowed"],
        a_step_started=row["a_step_started"],
        a_once_step_started=row["a_once_step_started"],
        cancel_state=None if row["cancel_state"] is None else RunState(row["cancel_state"]),
        cancel_reason=None if row["cancel_reason"] is None else Reason(row["cancel_reason"]),
        cancel_message=row["cancel_message"],
        runner_reason=None if row["runner_reason"] is None else Reason(row["runner_reason"]),
        runner_message=row["runner_message"],
    )

"""Claims: the queue, the two phases, and what runners are to be told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from plue.domain.run import RunId, RunnerId, StoredEvent
from plue.store.database import Database, seconds
from plue.wire.events import EventType

__all__ = ["AcceptedRun", "Claim", "ClaimKey", "OpenAssignment", "QueueStore"]


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """What fences: this runner executes this attempt of this run."""

    run: RunId
    attempt: int
    runner: RunnerId


@dataclass(frozen=True, slots=True)
class Claim:
    """A run and a runner that were bound just now; ``gateway`` holds the runner's session."""

    key: ClaimKey
    gateway: str
    event: StoredEvent
    queue_seconds: float


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """A claim whose second phase is recorded; its ``start`` may be sent."""

    key: ClaimKey
    event: StoredEvent
    claim_seconds: float


@dataclass(frozen=True, slots=True)
class OpenAssignment:
    """What a claimed runner is to be told; ``row`` holds the parts of the assignment."""

    key: ClaimKey
    started: bool
    acked: int
    row: Mapping[str, Any]


class QueueStore:
    """The queue and the claims."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def pools_with_work(self) -> list[str]:
        """Return the pools in which something can be claimed now."""
        return [row["name"] for row in await self._database.rows("pools_with_work")]

    async def claim(self, pool: str, *, limit: int) -> list[Claim]:
        """Bind up to *limit* queued runs of *pool* to idle runners, in one transaction."""
        rows = await self._database.rows("claim_runs", {"pool": pool, "limit": limit})
        return [
            Claim(
                _key(row), row["gateway"], _event(row, EventType.RUN_CLAIMED), row["queue_seconds"]
            )
            for row in rows
        ]

    async def assignments(self, runners: Sequence[RunnerId]) -> list[OpenAssignment]:
        """Return the open assignments of *runners*."""
        rows = await self._database.rows("assignments", {"runners": list(runners)})
        return [
            OpenAssignment(_key(row), row["state"] == "running", row["acked"], row) for row in rows
        ]

    async def open_claims(self, gateway: str) -> list[RunnerId]:
        """Return the runners at *gateway* that are claimed and have not accepted."""
        rows = await self._database.rows("open_claims", {"gateway": gateway})
        return [RunnerId(row["id"]) for row in rows]

    async def accept(self, claims: Sequence[ClaimKey]) -> list[AcceptedRun]:
        """Record the second phase of *claims*; return those that this call recorded."""
        rows = await self._database.rows("accept_runs", _keys(claims))
        return [
            AcceptedRun(_key(row), _event(row, EventType.RUN_STARTED), row["claim_seconds"])
            for row in rows
        ]

    async def current(self, claims: Sequence[ClaimKey]) -> dict[ClaimKey, tuple[str, int]]:
        """Return (state, acked) of those *claims* that are still the runs' own."""
        rows = await self._database.rows("running_of", _keys(claims))
        return {_key(row): (row["state"], row["acked"]) for row in rows}

    async def return_unaccepted(
        self, accept_timeout: timedelta, *, limit: int = 500
    ) -> list[tuple[RunId, RunnerId]]:
        """Queue again what was not accepted in time; return (run, retired runner)."""
        rows = await self._database.rows(
            "return_unaccepted", {"accept_timeout": seconds(accept_timeout), "limit": limit}
        )
        return [(RunId(str(row["run_id"])), RunnerId(row["runner_id"])) for row in rows]

    async def explain_waiting(self) -> list[RunId]:
        """Write for every queued run why it waits; return those where that changed."""
        return [RunId(str(row["run_id"])) for row in await self._database.rows("queue_reasons")]

    async def depths(self) -> dict[str, int]:
        """Return the number of queued runs by pool."""
        return {row["pool"]: row["depth"] for row in await self._database.rows("queue_depths")}


def _keys(claims: Sequence[ClaimKey]) -> dict[str, Any]:
    return {
        "runs": [c.run for c in claims],
        "attempts": [c.attempt for c in claims],
        "runners": [c.runner for c in claims],
    }


def _key(row: Mapping[str, Any]) -> ClaimKey:
    return ClaimKey(RunId(str(row["run_id"])), row["attempt"], RunnerId(row["runner_id"]))


def _event(row: Mapping[str, Any], kind: EventType) -> StoredEvent:
    time: datetime = row["time"]
    return StoredEvent(RunId(str(row["run_id"])), row["last_event"], time, kind, None, row["body"])

"""The event log: the hot path in, by the run out, and the one conditional end.

A batch goes in by one statement (``append_events``): fence, numbers, rows and steps together, in
one round trip. COPY would write more rows a second into a bare table, but needs a transaction of
several round trips; log lines come in chunks, so that rows are not what limits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json

from plue.domain.progress import StepChange, StepValue
from plue.domain.run import RunId, RunnerId, StoredEvent
from plue.errors import GoneError, NotFoundError
from plue.store.arrays import Numbers, Texts
from plue.store.database import Database
from plue.store.queue import ClaimKey
from plue.wire.events import EventType, Reason, RunnerEvent, RunState

__all__ = ["Batch", "EndedRun", "EventStore", "LogPlace", "RunEnd", "stored_events"]


MESSAGE_CHARACTERS = 8000
"""How much of a run's message is kept: rows of the run list stay narrow."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one runner, numbered without gaps. ``bodies`` are the log's JSON texts of them."""

    key: ClaimKey
    events: Sequence[RunnerEvent]
    bodies: Sequence[str]
    steps: Sequence[StepChange]
    values: Sequence[StepValue] = ()


@dataclass(frozen=True, slots=True)
class RunEnd:
    """An end to be recorded. ``acked`` None: the engine ends it whatever the runner sent."""

    run: RunId
    attempt: int
    state: RunState
    reason: Reason
    message: str | None = None
    acked: int | None = None
    outputs: dict[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that a call ended, with its last event."""

    run: RunId
    attempt: int
    runner: RunnerId | None
    state: RunState
    reason: Reason
    workflow: str
    pool: str
    duration_ms: int | None
    event: StoredEvent


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a run's events are: their partition, the last number, and whether it can grow."""

    day: date
    last: int
    ended: bool


class EventStore:
    """Events in and out."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def record(
        self, batches: Sequence[Batch], ends: Sequence[RunEnd] = ()
    ) -> tuple[dict[ClaimKey, tuple[int, datetime]], list[EndedRun]]:
        """Store *batches* of different runs and then *ends*, in one transaction.

        Return (last event, time) of the batches that were stored, and the runs that this call
        ended. A batch is not stored when its runner is not the run's any more, or when it does
        not go on exactly behind the last one: ``QueueStore.current`` tells which of the two.
        """
        statements: list[tuple[str, dict[str, Any]]] = []
        if ends:
            # First, and all of the transaction's: one order for everybody who locks several.
            runs = {*(end.run for end in ends), *(batch.key.run for batch in batches)}
            statements.append(("lock_runs", {"runs": sorted(runs)}))
        if batches:
            statements.append(("append_events", _append_parameters(batches)))
        if ends:
            statements.append(("end_runs", _end_parameters(ends)))
        results = await self._database.transaction(statements)
        rows = results[-2 if ends else -1] if batches else []
        stored = {str(row["run_id"]): (row["last_event"], row["time"]) for row in rows}
        kept = {b.key: stored[b.key.run] for b in batches if b.key.run in stored}
        return kept, [_ended(row) for row in results[-1]] if ends else []

    async def end(self, ends: Sequence[RunEnd]) -> list[EndedRun]:
        """End runs conditionally; return those that this call ended."""
        return (await self.record((), ends))[1]

    async def place(self, run: RunId) -> LogPlace:
        """Return where the run's events are. Raises NotFoundError, GoneError."""
        row = await self._database.row("log_place", {"run": run})
        if row is None:
            raise NotFoundError(f"there is no run {run}")
        if not row["kept"]:
            raise GoneError(
                f"the events of {row['log_day']} were dropped by the retention setting",
                remedy="the run's state, steps and outputs are still there: plue run view",
            )
        return LogPlace(row["log_day"], row["last_event"], row["ended"])

    async def read(self, run: RunId, day: date, *, after: int, limit: int) -> list[StoredEvent]:
        """Return up to *limit* events above *after*, in order."""
        rows = await self._database.rows(
            "read_events", {"run": run, "day": day, "after": after, "limit": limit}
        )
        return [
            StoredEvent(
                run, row["n"], row["time"], EventType(row["type"]), row["step"], row["body"]
            )
            for row in rows
        ]


def stored_events(batch: Batch, last_event: int, time: datetime) -> Iterable[StoredEvent]:
    """Yield the batch's events as the store numbered them."""
    shift = last_event - batch.events[-1].n
    for event, body in zip(batch.events, batch.bodies, strict=True):
        yield StoredEvent(batch.key.run, event.n + shift, time, event.type, event.step, body)


def _append_parameters(batches: Sequence[Batch]) -> dict[str, Any]:
    events = [e for b in batches for e in b.events]
    steps = [(b.key.run, s) for b in batches for s in b.steps]
    values = [(b.key.run, v) for b in batches for v in b.values]
    return {
        "runs": [b.key.run for b in batches],
        "attempts": [b.key.attempt for b in batches],
        "runners": [b.key.runner for b in batches],
        "firsts": [b.events[0].n for b in batches],
        "lasts": [b.events[-1].n for b in batches],
        "event_places": Numbers(place for place, b in enumerate(batches, 1) for _ in b.events),
        "event_ns": Numbers(e.n for e in events),
        "event_types": Texts(e.type.value for e in events),
        "event_steps": Texts(e.step for e in events),
        "event_bodies": Texts(body for b in batches for body in b.bodies),
        "step_runs": [run for run, _ in steps],
        "step_names": [s.name for _, s in steps],
        "step_states": [s.state.value for _, s in steps],
        "step_tries": [s.tries for _, s in steps],
        "step_starteds": [s.started for _, s in steps],
        "step_endeds": [s.ended for _, s in steps],
        "step_reasons": [s.reason for _, s in steps],
        "step_messages": [s.message for _, s in steps],
        "step_exit_codes": [s.exit_code for _, s in steps],
        "step_durations": [s.duration_ms for _, s in steps],
        "step_outputs": [
            None if s.outputs is None else to_json(s.outputs).decode() for _, s in steps
        ],
        "value_runs": [run for run, _ in values],
        "value_steps": [v.step for _, v in values],
        "value_fields": [v.field for _, v in values],
        "value_tails": [v.tail for _, v in values],
        "value_texts": [v.value for _, v in values],
        "value_errors": [v.error for _, v in values],
    }


def _end_parameters(ends: Sequence[RunEnd]) -> dict[str, Any]:
    return {
        "runs": [e.run for e in ends],
        "attempts": [e.attempt for e in ends],
        "acked": [e.acked for e in ends],
        "states": [e.state.value for e in ends],
        "reasons": [e.reason.value for e in ends],
        "messages": [_clean(e.message) for e in ends],
        "outputs": [None if e.outputs is None else to_json(e.outputs).decode() for e in ends],
    }


def _clean(message: str | None) -> str | None:
    if message is None:
        return None
    return message[:MESSAGE_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _ended(row: dict[str, Any]) -> EndedRun:
    run = RunId(str(row["run_id"]))
    return EndedRun(
        run=run,
        attempt=row["attempt"],
        runner=None if row["runner_id"] is None else RunnerId(row["runner_id"]),
        state=RunState(row["state"]),
        reason=Reason(row["reason"]),
        workflow=row["workflow"],
        pool=row["pool"],
        duration_ms=row["duration_ms"],
        event=StoredEvent(
            run, row["last_event"], row["time"], EventType.RUN_COMPLETED, None, row["body"]
        ),
    )

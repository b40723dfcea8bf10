"""What every pass works with: the stores, the settings, and the ways to wake the others."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from plue.domain.clock import StoreClock
from plue.domain.run import RunId, StoredEvent
from plue.engine.feed import UNNUMBERED, Feed
from plue.engine.ports import NoSecrets, Secrets, Sessions
from plue.engine.settings import EngineSettings
from plue.marks import Mark, reached
from plue.metrics import Metrics
from plue.store.caches import CacheStore
from plue.store.database import Database
from plue.store.definitions import DefinitionStore
from plue.store.events import EndedRun, EventStore, RunEnd
from plue.store.lifecycle import LifecycleStore
from plue.store.queue import QueueStore
from plue.store.runners import RunnerStore
from plue.store.runs import RunStore
from plue.store.schedules import ScheduleStore
from plue.store.stages import StageStore
from plue.store.usage import UsageStore

__all__ = ["EngineContext"]


def _nobody(*_: object) -> None:
    """Wake nobody: nothing is started yet."""


@dataclass(slots=True, kw_only=True)
class EngineContext:
    """The engine's parts, put together once; passes take it as their only argument."""

    database: Database
    settings: EngineSettings
    metrics: Metrics
    runs: RunStore
    queue: QueueStore
    events: EventStore
    lifecycle: LifecycleStore
    stages: StageStore
    runners: RunnerStore
    definitions: DefinitionStore
    schedules: ScheduleStore
    usage: UsageStore
    caches: CacheStore
    feed: Feed
    lease_counts: Callable[[], bool]
    clock: StoreClock
    secrets: Secrets = field(default_factory=NoSecrets)
    sessions: Sessions | None = None
    wake_claims: Callable[[], None] = _nobody
    wake_pools: Callable[[], None] = _nobody
    wake_lost: Callable[[], None] = _nobody
    wake_stages: Callable[[RunId], None] = _nobody
    log: structlog.stdlib.BoundLogger = field(
        default_factory=lambda: structlog.get_logger("plue.engine")
    )

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Hand stored events to the followers here, and say to other processes that they are."""
        self.feed.publish(events)
        for kind, count in Counter(event.type for event in events).items():
            self.metrics.events_stored.labels(kind.value).inc(count)
        # The last one of each run is its newest.
        for run, n in {event.run: event.n for event in events}.items():
            self.database.tell(f"run:{run}", n)

    def news_of(self, run: RunId) -> None:
        """Have followers everywhere look into the store for *run*."""
        self.feed.wake(run, UNNUMBERED)
        self.database.tell(f"run:{run}", UNNUMBERED)

    def wake_queue(self) -> None:
        """Have a claim pass run, here; other processes look by themselves, slowly."""
        self.wake_claims()

    def attend_everywhere(self) -> None:
        """Have every gateway look what its runners must be told."""
        if self.sessions is not None:
            self.sessions.attend()
        self.database.tell("gateways")

    async def end(self, ends: Sequence[RunEnd]) -> list[EndedRun]:
        """End runs conditionally, and tell everybody whom it concerns."""
        if not ends:
            return []
        ended = await self.events.end(ends)
        self.ended(ended)
        if any(run.runner is not None for run in ended):
            self.attend_everywhere()
        return ended

    def ended(self, runs: Sequence[EndedRun]) -> None:
        """Publish and count runs that were ended just now."""
        if runs:
            reached(Mark.END_STORED)
        self.publish([run.event for run in runs])
        for run in runs:
            self.metrics.runs_ended.labels(run.state.value, run.reason.value).inc()
            if run.duration_ms is not None:
                self.metrics.run_seconds.labels(run.pool, run.state.value).observe(
                    run.duration_ms / 1000
                )
        if runs:
            self.wake_pools()

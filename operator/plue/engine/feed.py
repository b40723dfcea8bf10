"""Who follows a run's events, and how they get them.

One channel a followed run: a short buffer of its newest events, filled by whoever stores events in
this process, and a wake-up for the rest. Followers pull: each keeps its own place, takes from the
buffer what it can and from the store what it cannot, so that a slow one costs only itself and
holds nothing in memory. A notification, or a publication, only wakes; the store decides.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from itertools import islice

from plue.domain.run import RunId, StoredEvent
from plue.metrics import Metrics
from plue.store.events import EventStore, LogPlace
from plue.wire.events import EventType

__all__ = ["UNNUMBERED", "Feed"]

BUFFER_EVENTS = 1024
BUFFER_BYTES = 2 * 1024 * 1024
READ_EVENTS = 256
POLL_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0

UNNUMBERED = 2**62
"""The number of news whose events nobody counted. It must never become a channel's last number:
no event has it, and its followers would ask the store for ever."""


def _nobody(_run: RunId, _type: EventType | None) -> None:
    """Tell nobody."""


class _Channel:
    """The newest events of one run, contiguous, and the followers' common wake-up."""

    def __init__(self) -> None:
        self.followers = 0
        self.last = 0
        self.checked_at = 0.0
        self.changed = asyncio.Event()
        self._buffer: deque[StoredEvent] = deque()
        self._bytes = 0

    def publish(self, event: StoredEvent) -> None:
        if self._buffer and event.n != self._buffer[-1].n + 1:
            if event.n <= self._buffer[-1].n:
                return
            # A gap: another process stored what is between; the store has it.
            self._buffer.clear()
            self._bytes = 0
        self._buffer.append(event)
        self._bytes += len(event.body)
        while len(self._buffer) > BUFFER_EVENTS or self._bytes > BUFFER_BYTES:
            self._bytes -= len(self._buffer.popleft().body)
        self.last = max(self.last, event.n)

    def wake(self, last: int = 0) -> None:
        self.last = max(self.last, last)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def look(self) -> None:
        """Have the store asked for the last number, by whoever wakes first."""
        self.checked_at = 0.0
        self.wake()

    def after(self, n: int) -> Sequence[StoredEvent]:
        """Return what the buffer has directly behind *n*; nothing when it begins later."""
        if not self._buffer or not self._buffer[0].n - 1 <= n < self._buffer[-1].n:
            return ()
        skip = n - self._buffer[0].n + 1
        return list(islice(self._buffer, skip, skip + READ_EVENTS))


class Feed:
    """The channels of this process."""

    def __init__(self, events: EventStore, metrics: Metrics) -> None:
        """Read from *events* what the buffers do not have."""
        self._events = events
        self._metrics = metrics
        self._channels: dict[RunId, _Channel] = {}
        self.on_news: Callable[[RunId, EventType | None], None] = _nobody
        """Called for every event that was stored here, and, without a type, for every run of which
        another process says that it has news."""

    def publish(self, events: Iterable[StoredEvent]) -> None:
        """Hand over events that are stored already. Cheap for runs that nobody follows."""
        touched = set()
        for event in events:
            self.on_news(event.run, event.type)
            channel = self._channels.get(event.run)
            if channel is not None:
                channel.publish(event)
                touched.add(event.run)
        for run in touched:
            self._channels[run].wake()

    def wake(self, run: RunId, last: int) -> None:
        """Say that *run* has events up to *last* in the store; UNNUMBERED: have it looked up."""
        self.on_news(run, None)
        channel = self._channels.get(run)
        if channel is None:
            return
        if last == UNNUMBERED:
            channel.look()
        elif channel.last < last:
            channel.wake(last)

    def wake_all(self) -> None:
        """Make every follower look into the store: something may have been missed."""
        for channel in self._channels.values():
            channel.look()

    async def follow(self, run: RunId, after: int) -> AsyncGenerator[Sequence[StoredEvent], None]:
        """Yield events above *after* in order, without gaps; ends after ``run_completed``.

        Yields an empty batch when there was nothing for 15 s. Raises NotFoundError, GoneError.
        """
        with self._channel(run) as channel:
            place = await self._place(run, channel)
            quiet_since = _now()
            while True:
                batch = channel.after(after)
                if not batch and channel.last > after:
                    batch = await self._events.read(run, place.day, after=after, limit=READ_EVENTS)
                if batch:
                    yield batch
                    after = batch[-1].n
                    quiet_since = _now()
                    if batch[-1].type is EventType.RUN_COMPLETED:
                        return
                    continue
                if place.ended:
                    return
                if await self._quiet(channel, after):
                    place = await self._place(run, channel)
                if _now() - quiet_since >= HEARTBEAT_SECONDS:
                    quiet_since = _now()
                    yield ()

    @contextlib.contextmanager
    def _channel(self, run: RunId) -> Iterator[_Channel]:
        channel = self._channels.setdefault(run, _Channel())
        channel.followers += 1
        self._metrics.followers.inc()
        try:
            yield channel
        finally:
            self._metrics.followers.dec()
            channel.followers -= 1
            if channel.followers == 0:
                self._channels.pop(run, None)

    async def _place(self, run: RunId, channel: _Channel) -> LogPlace:
        place = await self._events.place(run)
        channel.checked_at = _now()
        channel.last = max(channel.last, place.last)
        return place

    async def _quiet(self, channel: _Channel, after: int) -> bool:
        """Wait for news; True when the store should be asked, because nobody did for a while."""
        changed = channel.changed
        if channel.last <= after:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await changed.wait()
        return channel.last <= after and _now() - channel.checked_at >= POLL_SECONDS


def _now() -> float:
    return asyncio.get_running_loop().time()

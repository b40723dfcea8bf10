"""Records what runners send: everything that waits goes into the next transaction together.

While one transaction is on its way to the disk, more arrives; it forms the next batch. So a
single run waits for one commit, and a thousand share one. Nothing is acknowledged before the
transaction that holds it is committed; when the answer of a commit is lost, the same batch is
tried again and the fence tells what had happened. Attempts take turns, because one of them can
have megabytes waiting and another its only line.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import NoReturn

import structlog
from pydantic_core import to_json

from plue.domain.progress import logged_body, step_changes, step_values
from plue.ending import end_tasks
from plue.engine.context import EngineContext
from plue.errors import ConflictError, FencedError, InternalError, UnavailableError
from plue.marks import Mark, reached
from plue.store.events import Batch, RunEnd, stored_events
from plue.store.queue import ClaimKey
from plue.wire.events import RunnerEvent

__all__ = ["Recorder"]

_log = structlog.get_logger(__name__)

BATCH_EVENTS = 2000
BATCH_BYTES = 4 * 1024 * 1024
SHARE_EVENTS = 500
SHARE_BYTES = 256 * 1024
"""What one attempt has of a transaction: a step that prints as fast as it can delays nobody."""

RETRY_SECONDS = 0.2


@dataclass(slots=True)
class _Accept:
    key: ClaimKey
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Append:
    key: ClaimKey
    events: list[RunnerEvent]
    bodies: list[str]
    done: asyncio.Future[None]
    size: int = 0
    answers: bool = False


@dataclass(slots=True)
class _Finish:
    key: ClaimKey
    end: RunEnd
    done: asyncio.Future[None]


_Entry = _Accept | _Append | _Finish


@dataclass(slots=True)
class _Flush:
    """What one transaction takes: at most one batch and one end a run, in their order."""

    accepts: list[_Accept] = field(default_factory=list)
    appends: dict[ClaimKey, list[_Append]] = field(default_factory=dict)
    finishes: list[_Finish] = field(default_factory=list)


class Recorder:
    """One writer for all sessions of a gateway; each call returns when its commit is done."""

    def __init__(self, context: EngineContext) -> None:
        """Write through *context*'s stores."""
        self._context = context
        self._accepts: deque[_Accept] = deque()
        self._entries: dict[ClaimKey, deque[_Append | _Finish]] = {}
        """By attempt; the one that waited longest for its turn is first."""
        self._accepts_filled, self._entries_filled = asyncio.Event(), asyncio.Event()
        # Two writers: whoever may not start yet does not wait for what others print.
        self._tasks = [
            asyncio.create_task(
                self._forever(self._accepts_filled, self._take_accepts), name="recorder-accepts"
            ),
            asyncio.create_task(self._forever(self._entries_filled, self._take), name="recorder"),
        ]

    async def close(self) -> None:
        """End; whoever waits for a commit is told that it did not come."""
        await end_tasks(self._tasks)
        for entry in (*self._accepts, *chain.from_iterable(self._entries.values())):
            entry.done.cancel()

    def accept(self, key: ClaimKey) -> asyncio.Future[None]:
        """Record the second phase of a claim.

        The future raises FencedError when the claim is not this runner's any more.
        """
        return self._put(_Accept(key, _future()))

    def append(
        self, key: ClaimKey, events: Sequence[RunnerEvent], *, answers: bool = False
    ) -> asyncio.Future[None]:
        """Store events, which must go on where the runner's last ones ended.

        With *answers*, whoever evaluates the run's code is woken once they are stored. The
        future raises FencedError as above, and ConflictError when numbers are missing.
        """
        bodies = [to_json(logged_body(event)).decode() for event in events]
        size = sum(map(len, bodies))
        return self._put(_Append(key, list(events), bodies, _future(), size, answers))

    def finish(self, key: ClaimKey, end: RunEnd) -> asyncio.Future[None]:
        """End the run as its runner says, behind everything that was appended before.

        The future raises FencedError as above, and ConflictError when events are missing.
        """
        return self._put(_Finish(key, end, _future()))

    def _put(self, entry: _Entry) -> asyncio.Future[None]:
        if isinstance(entry, _Accept):
            self._accepts.append(entry)
            self._accepts_filled.set()
        else:
            self._entries.setdefault(entry.key, deque()).append(entry)
            self._entries_filled.set()
        return entry.done

    async def _forever(self, filled: asyncio.Event, take: Callable[[], _Flush]) -> NoReturn:
        while True:
            await filled.wait()
            flush = take()
            try:
                await self._record(flush)
            except UnavailableError as error:
                # Nothing is lost: the runners keep what is not acknowledged, and so do we.
                _log.warning("recorder_waits", error=error.message)
                self._put_back(flush)
                await asyncio.sleep(RETRY_SECONDS)
            except InternalError as error:
                await self._record_one_by_one(flush, error)
            except Exception:  # noqa: BLE001 - the outermost loop: without it nothing is stored
                _log.exception("recorder_failed")
                for entry in _entries(flush):
                    # The sessions end, and their runners say again what was not acknowledged.
                    _fail(entry, InternalError("a fault while recording; see the server's log"))

    def _take_accepts(self) -> _Flush:
        flush = _Flush(accepts=list(self._accepts))
        self._accepts.clear()
        self._accepts_filled.clear()
        return flush

    def _take(self) -> _Flush:
        """Take what one transaction can hold: of each attempt its share, in turn."""
        flush, events, size = _Flush(), 0, 0
        for key in list(self._entries):
            if events > BATCH_EVENTS or size > BATCH_BYTES:
                break
            entries = self._entries.pop(key)
            share, bytes_share = events + SHARE_EVENTS, size + SHARE_BYTES
            while entries and events < share and size < bytes_share:
                entry = entries.popleft()
                if isinstance(entry, _Finish):
                    flush.finishes.append(entry)
                    break
                flush.appends.setdefault(key, []).append(entry)
                events += len(entry.events)
                size += entry.size
            if entries:
                self._entries[key] = entries
        if not self._entries:
            self._entries_filled.clear()
        return flush

    def _put_back(self, flush: _Flush) -> None:
        for accept in reversed(flush.accepts):
            if not accept.done.done():
                self._accepts.appendleft(accept)
                self._accepts_filled.set()
        for finish in flush.finishes:
            self._put_first(finish)
        for appends in flush.appends.values():
            for append in reversed(appends):
                self._put_first(append)

    def _put_first(self, entry: _Append | _Finish) -> None:
        if not entry.done.done():
            self._entries.setdefault(entry.key, deque()).appendleft(entry)
            self._entries_filled.set()

    async def _record(self, flush: _Flush) -> None:
        if flush.accepts:
            await self._record_accepts(flush.accepts)
        batches = [_batch(key, appends) for key, appends in flush.appends.items()]
        ends = [entry.end for entry in flush.finishes]
        if not batches and not ends:
            return
        metrics, begun = self._context.metrics, asyncio.get_running_loop().time()
        stored, ended = await self._context.events.record(batches, ends)
        metrics.append_seconds.observe(asyncio.get_running_loop().time() - begun)
        metrics.append_events.observe(sum(len(b.events) for b in batches))
        if stored:
            reached(Mark.EVENTS_STORED)
        self._publish(batches, stored)
        self._context.ended(ended)
        for batch in batches:
            if batch.key in stored:
                appends = flush.appends.pop(batch.key)
                _settle(appends)
                if any(entry.answers for entry in appends):
                    self._context.wake_stages(batch.key.run)
        ended_here = {(run.run, run.attempt) for run in ended}
        done = [f for f in flush.finishes if (f.key.run, f.key.attempt) in ended_here]
        _settle(done)
        flush.finishes = [f for f in flush.finishes if not f.done.done()]
        await self._explain(flush)

    def _publish(
        self, batches: Sequence[Batch], stored: dict[ClaimKey, tuple[int, datetime]]
    ) -> None:
        for batch in batches:
            if batch.key in stored:
                self._context.publish(list(stored_events(batch, *stored[batch.key])))

    async def _record_accepts(self, accepts: Sequence[_Accept]) -> None:
        accepted = await self._context.queue.accept([a.key for a in accepts])
        reached(Mark.ACCEPTED)
        self._context.publish([run.event for run in accepted])
        for run in accepted:
            pool = run.key.runner.rpartition("-")[0]
            self._context.metrics.claim_seconds.labels(pool).observe(run.claim_seconds)
        now = {run.key for run in accepted}
        _settle([a for a in accepts if a.key in now])
        repeated = [a for a in accepts if a.key not in now]
        if repeated:
            current = await self._context.queue.current([a.key for a in repeated])
            for entry in repeated:
                if current.get(entry.key, ("", 0))[0] == "running":
                    _settle([entry])
                else:
                    self._fence(entry)

    async def _explain(self, flush: _Flush) -> None:
        """Find out why entries were not stored: fenced, stored before, or out of step."""
        left = [*flush.appends, *(f.key for f in flush.finishes)]
        if not left:
            return
        current = await self._context.queue.current(list(dict.fromkeys(left)))
        for key, appends in flush.appends.items():
            for entry in appends:
                self._explain_append(entry, current.get(key))
        for finish in flush.finishes:
            self._explain_finish(finish, current.get(finish.key))

    def _explain_append(self, entry: _Append, current: tuple[str, int] | None) -> None:
        state, acked = current or ("", 0)
        if entry.events[-1].n <= acked:
            _settle([entry])  # a repeat, or a commit whose answer was lost
        elif state != "running":
            self._fence(entry)
        elif entry.events[0].n <= acked + 1:
            known = acked - entry.events[0].n + 1
            del entry.events[:known], entry.bodies[:known]
            self._put_first(entry)
        else:
            _fail(
                entry, ConflictError(f"events between {acked} and {entry.events[0].n} are missing")
            )

    def _explain_finish(self, entry: _Finish, current: tuple[str, int] | None) -> None:
        state, acked = current or ("", 0)
        if state == "running" and entry.end.acked is not None and acked < entry.end.acked:
            # Its last events were put back just now; the end waits behind them.
            self._put(entry)
        elif state == "running":
            _fail(entry, ConflictError(f"the run's last event is {acked}, not {entry.end.acked}"))
        elif current is not None and state not in {"queued", "claimed"}:
            _settle([entry])  # ended already: by this very message before, or by a cancel
        else:
            self._fence(entry)

    def _fence(self, entry: _Entry) -> None:
        self._context.metrics.fenced.inc()
        _fail(entry, FencedError())

    async def _record_one_by_one(self, flush: _Flush, error: InternalError) -> None:
        """Find whose data the store refuses, so that it costs only its own sender."""
        singles = [
            *(_Flush(accepts=[a]) for a in flush.accepts if not a.done.done()),
            *(_Flush(appends={key: appends}) for key, appends in flush.appends.items()),
            *(_Flush(finishes=[f]) for f in flush.finishes),
        ]
        if len(singles) == 1:
            _log.error("refused_by_the_store", error=error.message)
            for entry in _entries(flush):
                _fail(entry, error)
            return
        for position, single in enumerate(singles):
            try:
                await self._record(single)
            except UnavailableError:
                for unsent in reversed(singles[position:]):
                    self._put_back(unsent)
                return
            except InternalError as own:
                await self._record_one_by_one(single, own)


def _entries(flush: _Flush) -> list[_Entry]:
    appends = [a for entries in flush.appends.values() for a in entries]
    return [*flush.accepts, *appends, *flush.finishes]


def _batch(key: ClaimKey, appends: Sequence[_Append]) -> Batch:
    events = [event for entry in appends for event in entry.events]
    bodies = [body for entry in appends for body in entry.bodies]
    return Batch(key, events, bodies, step_changes(events), step_values(events))


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def _settle(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        if not entry.done.done():
            entry.done.set_result(None)


def _fail(entry: _Entry, error: Exception) -> None:
    if not entry.done.done():
        entry.done.set_exception(error)

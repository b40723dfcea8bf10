"""A run's event log over HTTP: server-sent events, or NDJSON for tools.

The bytes of an event are the same live and later. What else goes down the wire is not part of
the log and has no id: ``retry`` at the start, and heartbeats, which are real SSE events because a
client cannot see comments (in NDJSON: an empty line).
"""

from collections.abc import AsyncIterator, Callable, Sequence

from aiohttp import web

from plue.api.callers import found_run, while_permitted
from plue.api.keys import ENGINE, STREAMS
from plue.api.negotiation import preferred
from plue.api.problems import MalformedError
from plue.api.queries import MAX_NUMBER, EventsQuery
from plue.api.routes import Call, Nothing
from plue.api.streams import grouped
from plue.domain.run import RunId, StoredEvent
from plue.engine.service import Engine
from plue.errors import RejectedError
from plue.wire.events import EventType

__all__ = ["NDJSON", "SSE", "get_run_events"]

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"

PAGE = 256
"""Events that are read at once. A chunk of output is at most some 64 KiB."""

_HEARTBEAT = {SSE: b"event: heartbeat\ndata: {}\n\n", NDJSON: b"\n"}
_OPENING = {SSE: b"retry: 1000\n\n", NDJSON: b""}
_FRAME: dict[str, Callable[[StoredEvent], bytes]] = {
    SSE: lambda event: event.sse,
    NDJSON: lambda event: event.json + b"\n",
}


def _last_event_id(request: web.Request) -> int | None:
    """Return the header's number. Raises MalformedError when it is none."""
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return None
    # int() would take ` +1_0 ` too, and digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_NUMBER):  # noqa: PLR2004 - digits of 2**63
        raise MalformedError(
            "Last-Event-ID is not the number of an event",
            field="Last-Event-ID",
            remedy="send the `id` of the last event that arrived, or leave the header out",
        )
    return int(text)


def _is_last(events: Sequence[StoredEvent]) -> bool:
    return bool(events) and events[-1].type is EventType.RUN_COMPLETED


async def _has_ended(engine: Engine, run: RunId, after: int, field: str) -> bool:
    """Return whether nothing will ever come after number *after*, when nothing is there now."""
    view = (await engine.details(run)).run
    if after > view.last_event:
        raise RejectedError(
            f"{after} is after the run's last event, {view.last_event}",
            field=field,
            remedy="begin again from the start: the number is of another run or database",
        )
    return view.state.is_end and after == view.last_event


async def _batches(
    engine: Engine, run: RunId, first: Sequence[StoredEvent], after: int, *, follow: bool
) -> AsyncIterator[Sequence[StoredEvent]]:
    """Yield *first*, then what comes after it; an empty batch is a heartbeat."""
    page = first
    while page:
        yield page
        after = page[-1].n
        # A full page means that more is there already: cheaper to read than to wait for.
        if _is_last(page) or (follow and len(page) < PAGE):
            break
        page = await engine.events(run, after=after, limit=PAGE)
    if follow and not _is_last(page):
        async for batch in engine.follow(run, after=after):
            yield batch


async def _pieces(
    batches: AsyncIterator[Sequence[StoredEvent]], media: str
) -> AsyncIterator[bytes]:
    """Yield what is written: each batch joined to one write, in *media*'s frames."""
    frame = _FRAME[media]
    if _OPENING[media]:
        yield _OPENING[media]
    async for batch in batches:
        for piece in grouped([frame(event) for event in batch]) if batch else (_HEARTBEAT[media],):
            yield piece


async def get_run_events(call: Call[EventsQuery, Nothing]) -> web.StreamResponse:
    """Stream a run's events."""
    request = call.request
    engine, streams = request.app[ENGINE], request.app[STREAMS]
    header = _last_event_id(request)
    after = header if header is not None else call.query.after or 0
    run = await found_run(call)
    first = await engine.events(run, after=after, limit=PAGE)
    media = preferred(request, (SSE, NDJSON))
    follow = call.query.follow
    if not first:
        ended = await _has_ended(engine, run, after, "after" if header is None else "Last-Event-ID")
        if ended and header is not None and media == SSE:
            # A browser's EventSource connects again for ever, unless it is told that this is all.
            return web.Response(status=204)
        follow = follow and not ended
    response = web.StreamResponse(
        headers={"Content-Type": media, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    batches = while_permitted(request, run, _batches(engine, run, first, after, follow=follow))
    return await streams.send(request, response, _pieces(batches, media), cut_when_incomplete=False)

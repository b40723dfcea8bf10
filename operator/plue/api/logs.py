"""The output of a run's steps as text or as lines, made from the event log in bounded memory.

The log holds chunks as the runner read them. A chunk may end inside a line, and the two streams
of parallel steps are interleaved, so the beginning of a line waits here for its end: at most
HELD characters of it, a longer line is given in parts.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web
from pydantic_core import to_json

from plue.api.callers import found_run
from plue.api.events import NDJSON, PAGE
from plue.api.keys import ENGINE, STREAMS
from plue.api.negotiation import preferred
from plue.api.problems import did_you_mean
from plue.api.queries import LogsQuery
from plue.api.routes import Call, Nothing
from plue.api.streams import PIECE
from plue.domain.run import RunId, StoredEvent
from plue.engine.service import Engine
from plue.errors import NotFoundError
from plue.wire.events import EventType

__all__ = ["TEXT", "Line", "Lines", "Source", "as_text", "get_run_logs"]

TEXT = "text/plain"

HELD = 2 * 1024 * 1024
"""How much of an unfinished line is held back, in characters."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a line comes from: its stream in one try of a step."""

    step: str
    attempt: int
    try_: int
    stream: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output, or a part of one that is very long. ``time`` is when it began."""

    source: Source
    number: int
    time: datetime
    text: str
    partial: bool = False

    @property
    def json(self) -> bytes:
        """The line as one line of JSON: the API's LogLine."""
        where = self.source
        return to_json(
            {
                "step": where.step,
                "line": self.number,
                "stream": where.stream,
                "time": self.time,
                "text": self.text,
                "attempt": where.attempt,
                "try": where.try_,
                "partial": self.partial,
            }
        )


class Lines:
    """Puts the lines of a log together from its events."""

    def __init__(self, *, step: str | None, stream: str | None) -> None:
        """Take only *step* and only *stream*; None takes all."""
        self._step = step
        self._stream = stream
        self._held: dict[Source, Line] = {}

    def feed(self, event: StoredEvent) -> Iterator[Line]:
        """Yield the lines that *event* completes."""
        if event.step is None or (self._step is not None and event.step != self._step):
            return
        if event.type is EventType.STEP_COMPLETED:
            yield from self._release(event.step)
        if event.type is EventType.STEP_OUTPUT:
            body = json.loads(event.body)
            if self._stream in {None, body["stream"]}:
                source = Source(event.step, body["attempt"], body["try"], body["stream"])
                yield from self._cut(
                    source,
                    body["text"],
                    body["line"],
                    event.time,
                    goes_on=body.get("partial", False),
                )

    def close(self) -> Iterator[Line]:
        """Yield what was held back and will never be completed."""
        yield from self._release(None)

    def _release(self, step: str | None) -> Iterator[Line]:
        """Yield the unfinished lines of *step*, or all of them."""
        for source in [one for one in self._held if step in {None, one.step}]:
            yield self._held.pop(source)

    def _cut(
        self, source: Source, text: str, number: int, time: datetime, *, goes_on: bool
    ) -> Iterator[Line]:
        """Yield the lines of a chunk; its end waits for the next chunk when the line goes on."""
        held = self._held.pop(source, None)
        *whole, rest = text.split("\n")
        if held is not None:
            first = held.text + (whole[0] if whole else rest)
            whole, rest = ([first, *whole[1:]], rest) if whole else ([], first)
        for index, one in enumerate(whole):
            yield Line(source, number + index, held.time if held and not index else time, one)
        if not rest and (held is None or whole):
            return
        since = held.time if held and not whole else time
        last = Line(source, number + len(whole), since, rest, partial=goes_on and len(rest) > HELD)
        if goes_on and not last.partial:
            self._held[source] = last
        else:
            yield last


class _Text:
    """Writes lines as text; the parts of a long line stay one line where nothing comes between."""

    def __init__(self, *, names: bool, times: bool) -> None:
        self._names = names
        self._times = times
        self._unfinished: Source | None = None

    def render(self, line: Line) -> bytes:
        """Return *line* with what stands before and after it."""
        goes_on, self._unfinished = self._unfinished, line.source if line.partial else None
        before = ""
        if goes_on != line.source:
            before = "\n" if goes_on is not None else ""
            if self._names:
                before += line.source.step + "\t"
            if self._times:
                time = line.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
                before += time + " "
        return f"{before}{line.text}{'' if line.partial else chr(10)}".encode()


def as_text(lines: Sequence[Line], *, names: bool = False, times: bool = False) -> bytes:
    """Return *lines* as text, each after its step's name and its time if these are wanted."""
    text = _Text(names=names, times=times)
    return b"".join(map(text.render, lines))


async def _pages(
    engine: Engine, run: RunId, first: Sequence[StoredEvent]
) -> AsyncIterator[Sequence[StoredEvent]]:
    """Yield the log from its first page to its present end."""
    page = first
    while page:
        yield page
        if page[-1].type is EventType.RUN_COMPLETED:
            return
        page = await engine.events(run, after=page[-1].n, limit=PAGE)


async def _pieces(
    pages: AsyncIterator[Sequence[StoredEvent]], query: LogsQuery, media: str
) -> AsyncIterator[bytes]:
    """Yield what is written: small chunks together, large ones by themselves.

    A page of the largest chunks would be many megabytes of text at once, and a write for each of
    the smallest costs more than the rest.
    """
    lines = Lines(step=query.step, stream=query.stream)
    text = _Text(names=query.step is None, times=query.timestamps)
    render = (lambda line: line.json + b"\n") if media == NDJSON else text.render
    part, size = [], 0
    async for page in pages:
        for event in page:
            found = b"".join(map(render, lines.feed(event)))
            part.append(found)
            size += len(found)
            if size >= PIECE:
                yield b"".join(part)
                part, size = [], 0
    part.extend(map(render, lines.close()))
    if part:
        yield b"".join(part)


async def get_run_logs(call: Call[LogsQuery, Nothing]) -> web.StreamResponse:
    """Write a run's output so far."""
    request, query = call.request, call.query
    engine = request.app[ENGINE]
    run = await found_run(call)
    if query.step is not None:
        names = [step.name for step in (await engine.details(run)).steps]
        if query.step not in names:
            raise NotFoundError(
                f"the run has no step `{query.step}`",
                field="step",
                remedy=did_you_mean(query.step, names),
            )
    first = await engine.events(run, after=0, limit=PAGE)
    media = preferred(request, (TEXT, NDJSON))
    kind = "text/plain; charset=utf-8" if media == TEXT else media
    response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-store"})
    pieces = _pieces(_pages(engine, run, first), query, media)
    return await request.app[STREAMS].send(request, response, pieces, cut_when_incomplete=True)

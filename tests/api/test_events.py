"""GET /runs/{id}/events: server-sent events and NDJSON, live, later and resumed."""

import asyncio
import json

import aiohttp
import pytest
from api.memory_engine import Record
from api.served import Served

from plue.wire.events import EventType

RETRY = b"retry: 1000\n\n"


async def a_finished_run(served: Served) -> Record:
    """Return a run with five events."""
    record = served.engine.add_run()
    await record.add(type_=EventType.RUN_QUEUED, pool="default", priority=0)
    await record.add(type_=EventType.STEP_STARTED, step="build", shown="make", **{"try": 1})
    await record.say("build", "caf\u00e9 \U0001f980\nline two\n")
    await record.add(type_=EventType.STEP_COMPLETED, step="build", state="succeeded")
    await record.finish()
    return record


async def test_events_of_a_finished_run_are_the_stored_bytes(served: Served) -> None:
    """A finished run's stream is the joined frames of its log, and ends."""
    record = await a_finished_run(served)
    async with served.client.get("/api/v1/runs/latest/events") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["Cache-Control"] == "no-store"
        assert RETRY + b"".join(event.sse for event in record.log) == await response.read()


async def test_events_are_the_same_bytes_live_and_later(served: Served) -> None:
    """What a live follower got is byte for byte what a later reader gets."""
    record = served.engine.add_run()
    await record.add(type_=EventType.RUN_QUEUED)
    async with served.client.get(f"/api/v1/runs/{record.id}/events") as live:
        first = await live.content.readuntil(b"}\n\n")
        await record.say("build", "one\n")
        second = await live.content.readuntil(b"}\n\n")
        await record.say("build", "two\n", line=2)
        await record.finish()
        live_bytes = first + second + await live.read()
    async with served.client.get(f"/api/v1/runs/{record.id}/events") as later:
        assert live_bytes == await later.read()


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("way", ["header", "query"])
async def test_events_resume_exactly_after_any_number(served: Served, after: int, way: str) -> None:
    """A resumed stream has exactly the events after the number, whichever way it is said."""
    record = await a_finished_run(served)
    headers = {"Last-Event-ID": str(after)} if way == "header" else {}
    query = {"after": str(after)} if way == "query" else {}
    address = f"/api/v1/runs/{record.id}/events"
    async with served.client.get(address, headers=headers, params=query) as response:
        rest = b"".join(event.sse for event in record.log[after:])
        if after == 5 and way == "header":
            assert response.status == 204
        else:
            assert RETRY + rest == await response.read()


async def test_events_as_ndjson_are_one_event_a_line(served: Served) -> None:
    """NDJSON is asked for by Accept, and has the same JSON as SSE."""
    record = await a_finished_run(served)
    headers = {"Accept": "application/x-ndjson"}
    async with served.client.get("/api/v1/runs/ci-1/events", headers=headers) as response:
        assert response.headers["Content-Type"] == "application/x-ndjson"
        lines = (await response.read()).splitlines()
    assert [event.json for event in record.log] == lines
    assert [json.loads(line)["n"] for line in lines] == [1, 2, 3, 4, 5]


async def test_events_without_follow_end_at_the_present_end(served: Served) -> None:
    """`follow=false` gives what is there now and ends, though the run goes on."""
    record = served.engine.add_run()
    await record.add_all([(EventType.STEP_OUTPUT, "build", {"text": "x"})] * 700)
    async with served.client.get("/api/v1/runs/1/events?follow=false") as response:
        assert RETRY + b"".join(event.sse for event in record.log) == await response.read()


async def test_events_that_are_queued_go_out_in_one_write(served: Served) -> None:
    """A batch arrives as one chunk of the transfer."""
    record = served.engine.add_run()
    await record.add(type_=EventType.RUN_QUEUED)
    async with served.client.get("/api/v1/runs/1/events") as response:
        await response.content.readuntil(b"}\n\n")
        batch = await record.add_all([(EventType.STEP_OUTPUT, "build", {"text": "x"})] * 50)
        async with asyncio.timeout(5):
            chunk = b""
            while not chunk:  # the end of the chunk before is a chunk boundary too
                chunk, _ = await response.content.readchunk()
        assert b"".join(event.sse for event in batch) == chunk


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("one", id="word"),
        pytest.param("-1", id="negative"),
        pytest.param("1.0", id="fraction"),
        pytest.param("", id="empty"),
        pytest.param("9" * 19, id="beyond-bigint"),
        pytest.param("\u0663", id="other-digits"),
    ],
)
async def test_events_refuse_a_bad_last_event_id_by_name(served: Served, text: str) -> None:
    """A Last-Event-ID that is no number is a 400 that names the header."""
    await a_finished_run(served)
    headers = {"Last-Event-ID": text}
    async with served.client.get("/api/v1/runs/1/events", headers=headers) as response:
        assert response.status == 400
        assert response.headers["Content-Type"] == "application/problem+json"
        assert (await response.json(content_type=None))["field"] == "Last-Event-ID"


async def test_events_refuse_a_number_after_the_end(served: Served) -> None:
    """A number the run does not have yet is of another run: waiting would skip events."""
    await a_finished_run(served)
    async with served.client.get("/api/v1/runs/1/events?after=6") as response:
        assert response.status == 422
        assert (await response.json(content_type=None))["field"] == "after"


async def test_events_dropped_by_retention_are_410(served: Served) -> None:
    """What retention dropped is Gone, said as a problem before any stream begins."""
    await a_finished_run(served)
    served.engine.dropped_through = 3
    async with served.client.get("/api/v1/runs/1/events") as response:
        assert response.status == 410
        assert (await response.json(content_type=None))["type"] == "urn:plue:problem:gone"
    async with served.client.get("/api/v1/runs/1/events?after=3") as response:
        assert response.status == 200


async def test_events_of_an_unknown_run_are_404(served: Served) -> None:
    """There is no stream of nothing."""
    async with served.client.get("/api/v1/runs/nope/events") as response:
        assert response.status == 404


async def test_events_are_understood_by_a_plain_reader(served: Served) -> None:
    """Each frame has id, event and data, where data is JSON of the same number and type."""
    record = await a_finished_run(served)
    async with served.client.get("/api/v1/runs/1/events") as response:
        frames = (await response.text()).split("\n\n")[1:-1]
    assert len(frames) == 5
    for frame, stored in zip(frames, record.log, strict=True):
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        data = json.loads(fields["data"])
        assert (str(stored.n), stored.type) == (fields["id"], fields["event"])
        assert (stored.n, stored.type, record.id) == (data["n"], data["type"], data["run"])


async def test_a_client_that_leaves_ends_its_stream(served: Served) -> None:
    """A stream whose client left stops following, without an event having to come."""
    record = served.engine.add_run()
    await record.add(type_=EventType.RUN_QUEUED)
    response: aiohttp.ClientResponse = await served.client.get("/api/v1/runs/1/events")
    await response.content.readuntil(b"}\n\n")
    assert served.engine.following == 1
    response.close()
    async with asyncio.timeout(5):
        while served.engine.following:  # noqa: ASYNC110 - the double has no signal for it
            await asyncio.sleep(0.01)

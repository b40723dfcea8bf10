"""Streams under strain: many clients, slow clients, failing stores, a closing server."""

import asyncio
import contextlib
import json
import socket
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from api.memory_engine import MemoryEngine
from api.served import TOKEN, Served, serving
from structlog.testing import capture_logs

from plue.api.keys import STREAMS, ApiLimits
from plue.api.streams import PIECE, grouped
from plue.errors import UnavailableError
from plue.wire.events import EventType

EVENTS = "/api/v1/runs/1/events"
OUTPUT = (EventType.STEP_OUTPUT, "build", {"try": 1, "stream": "stdout", "text": "x" * 1000})


async def until_none_follow(served: Served) -> None:
    """Wait until the server follows nothing for anybody."""
    async with asyncio.timeout(10):
        while served.engine.following or len(served.app[STREAMS]):  # noqa: ASYNC110 - no signal
            await asyncio.sleep(0.01)


def test_frames_are_joined_up_to_a_size_and_never_cut() -> None:
    """Order and bytes stay; no piece has a part of a frame, none is larger than it must be."""
    frames = [bytes([n]) * size for n, size in enumerate([10, PIECE, 10, PIECE * 2, 1, 1])]
    pieces = list(grouped(frames))
    assert b"".join(pieces) == b"".join(frames)
    assert [len(piece) for piece in pieces] == [10, PIECE, 10, PIECE * 2, 2]
    assert list(grouped([])) == []


async def test_two_hundred_subscribers_get_the_same_bytes(served: Served) -> None:
    """Everybody gets everything, and nothing is left open afterwards."""
    record = served.engine.add_run()
    await record.add(type_=EventType.RUN_QUEUED)
    responses = await asyncio.gather(*(served.client.get(EVENTS) for _ in range(200)))
    async with asyncio.timeout(10):
        while served.engine.following < 200:  # noqa: ASYNC110 - the double has no signal for it
            await asyncio.sleep(0.01)
    for _ in range(20):
        await record.add_all([OUTPUT] * 5)
    await record.finish()
    bodies = await asyncio.gather(*(response.read() for response in responses))
    expected = b"retry: 1000\n\n" + b"".join(event.sse for event in record.log)
    assert len(bodies) == 200
    assert set(bodies) == {expected}
    await until_none_follow(served)


async def test_quiet_streams_get_real_heartbeat_events(tmp_path: Path) -> None:
    """A heartbeat is an event without id in SSE, an empty line in NDJSON."""
    async with serving(tmp_path, engine=MemoryEngine(heartbeat=0.02)) as served:
        await served.engine.add_run().add(type_=EventType.RUN_QUEUED)
        async with asyncio.timeout(5):
            async with served.client.get(EVENTS) as response:
                await response.content.readuntil(b"}\n\n")
                beat = await response.content.readuntil(b"\n\n")
            async with served.client.get(
                EVENTS, headers={"Accept": "application/x-ndjson"}
            ) as lines:
                assert json.loads(await lines.content.readline())["n"] == 1
                assert await lines.content.readline() == b"\n"
        assert beat == b"event: heartbeat\ndata: {}\n\n"
        await until_none_follow(served)


def a_lazy_socket(served: Served) -> socket.socket:
    """Return a connection that asked for the events and reads nothing."""
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.setblocking(False)  # noqa: FBT003 - the standard library's parameter
    with contextlib.suppress(BlockingIOError):
        lazy.connect(("127.0.0.1", served.port))
    return lazy


async def test_a_client_that_does_not_read_is_closed_and_costs_nobody(tmp_path: Path) -> None:
    """It is dropped after its time, with little buffered; the others get everything meanwhile."""
    limits = ApiLimits(unread=timedelta(milliseconds=500), sweep=timedelta(milliseconds=50))
    async with serving(tmp_path, limits=limits) as served:
        record = served.engine.add_run()
        loop = asyncio.get_running_loop()
        lazy = a_lazy_socket(served)
        ask = f"GET {EVENTS} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
        await record.add(type_=EventType.RUN_QUEUED)
        with capture_logs() as logs:
            await loop.sock_sendall(lazy, f"{ask}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
            async with served.client.get(EVENTS) as response, asyncio.timeout(20):
                got = asyncio.create_task(response.read())
                for _ in range(20):
                    await record.add_all([OUTPUT] * 1000)
                    buffered = [
                        request.transport.get_write_buffer_size()
                        for request in served.app[STREAMS]._open.values()
                        if request.transport is not None
                    ]
                    assert all(size < 4 * PIECE for size in buffered)
                await record.finish()
                body = await got
                assert body.endswith(record.log[-1].sse)
                assert body.count(b"\nid: ") == len(record.log)
            await until_none_follow(served)
        endings = sorted(line["ending"] for line in logs if line["event"] == "request")
        assert endings == ["complete", "unread"]
        lazy.close()


async def test_a_closing_server_ends_streams_at_once_and_resumably(tmp_path: Path) -> None:
    """The stream ends after a whole event, without an error; the next server goes on from there."""
    async with serving(tmp_path) as served:
        record = served.engine.add_run()
        await record.add_all([OUTPUT] * 3)
        responses = [await served.client.get(EVENTS) for _ in range(20)]
        for response in responses:
            await response.content.readuntil(record.log[-1].sse)
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(5):
            await served.runner.cleanup()
            rests = await asyncio.gather(*(response.read() for response in responses))
        assert rests == [b""] * 20
        assert asyncio.get_running_loop().time() - started < 2
        assert served.engine.following == 0
        engine = served.engine
    async with serving(tmp_path, engine=engine) as served:
        await record.finish()
        async with served.client.get(EVENTS, headers={"Last-Event-ID": "3"}) as response:
            assert await response.read() == b"retry: 1000\n\n" + record.log[3].sse


async def test_a_closing_server_does_not_wait_for_a_client_that_does_not_read(
    tmp_path: Path,
) -> None:
    """A stuck client costs the shutdown a second, not the half minute it has otherwise."""
    async with serving(tmp_path) as served:
        record = served.engine.add_run()
        await record.add_all([OUTPUT] * 20_000)
        lazy = a_lazy_socket(served)
        ask = f"GET {EVENTS} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(lazy, f"{ask}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
        async with asyncio.timeout(5):
            while not len(served.app[STREAMS]):  # noqa: ASYNC110 - there is no signal
                await asyncio.sleep(0.01)
            await served.runner.cleanup()
        lazy.close()


async def test_a_store_that_goes_away_ends_the_stream_resumably(served: Served) -> None:
    """The stream ends without `run_completed`: the client comes back by its last id."""
    record = served.engine.add_run()
    await record.add(type_=EventType.RUN_QUEUED)
    with capture_logs() as logs:
        async with served.client.get(EVENTS) as response, asyncio.timeout(5):
            await response.content.readuntil(b"}\n\n")
            served.engine.failure = UnavailableError("the database does not answer")
            async with record.changed:
                record.changed.notify_all()
            assert await response.read() == b""
    assert "error" not in {line["log_level"] for line in logs}


async def test_logs_that_break_off_do_not_look_complete(served: Served) -> None:
    """Text has no mark of its end, so what is missing shows as a broken connection."""
    record = served.engine.add_run()
    await record.add_all([OUTPUT] * 2000)
    whole = served.engine.events

    async def failing(run: object, *, after: int, limit: int) -> object:
        if after > 500:
            raise UnavailableError("the database does not answer")
        return await whole(record.id, after=after, limit=limit)

    served.engine.events = failing  # type: ignore[assignment,method-assign] # the double's own
    async with served.client.get("/api/v1/runs/1/logs") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_fault_inside_a_stream_is_logged_once_and_ends_it(served: Served) -> None:
    """No second answer is written into the first one."""
    record = served.engine.add_run()
    await record.add(type_=EventType.STEP_OUTPUT, step="build", text="no stream, no line")
    with capture_logs() as logs:
        async with served.client.get("/api/v1/runs/1/logs") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        await until_none_follow(served)
    assert [one["event"] for one in logs if one["log_level"] == "error"] == ["stream_failed"]


async def test_clients_that_come_and_go_leave_no_tasks(served: Served) -> None:
    """After a crowd of impatient clients nothing runs any more."""
    await served.engine.add_run().add(type_=EventType.RUN_QUEUED)
    before = len(asyncio.all_tasks())
    for _ in range(5):
        responses = await asyncio.gather(*(served.client.get(EVENTS) for _ in range(20)))
        for response in responses:
            response.close()
    await until_none_follow(served)
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - there is no signal
            await asyncio.sleep(0.01)

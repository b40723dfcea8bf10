"""Followers of a run's events: exact, live or late, whoever stored them."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from factories import a_run
from scripted_runner import connected, hello_events
from server import Server, a_server

from plue.domain.run import RunId, StoredEvent
from plue.errors import GoneError, NotFoundError
from plue.wire import frames


@pytest.fixture
async def server(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Server, None]:
    """Give a server on a fresh database."""
    async with a_server(postgres_dsn, tmp_path) as server:
        yield server


async def collect(server: Server, run: RunId, after: int = 0) -> list[StoredEvent]:
    """Return everything that a follower gets, to the end."""
    found: list[StoredEvent] = []
    async with asyncio.timeout(10):
        async for batch in server.engine.follow(run, after=after):
            found.extend(batch)
    return found


async def play(server: Server, runner: str = "default-a") -> RunId:
    """Take one queued run and finish it."""
    async with connected(server.url, *await server.runner(runner)) as scripted:
        await scripted.hello()
        await scripted.hear(frames.Welcome)
        assignment = await scripted.take()
        await scripted.events(assignment, hello_events())
        await scripted.hear(frames.Ack)
        await scripted.finish(assignment, 3)
        await scripted.hear(frames.Done)
        return RunId(assignment.run)


async def test_a_finished_runs_stream_is_the_same_bytes_as_the_live_one(server: Server) -> None:
    """Live, from another process and afterwards: one stream."""
    run = a_run()
    await server.engine.context.runs.insert(run)
    server.engine.context.wake_claims()
    live = asyncio.create_task(collect(server, run.id))
    await play(server)
    seen = [event.sse for event in await live]
    assert seen == [event.sse for event in await collect(server, run.id)]
    assert len(seen) == 8


async def test_a_follower_in_another_process_is_woken(
    server: Server, postgres_dsn: str, tmp_path: Path
) -> None:
    """What one server stores, a follower at another server gets without polling for long."""
    async with a_server(postgres_dsn, tmp_path, host="other") as other:
        run = a_run()
        await server.engine.context.runs.insert(run)
        server.engine.context.wake_claims()
        far = asyncio.create_task(collect(other, run.id))
        await play(server)
        assert list(range(1, 9)) == [event.n for event in await far]


@pytest.mark.parametrize("after", [0, 3, 7, 8])
async def test_a_follower_resumes_exactly_where_it_was(server: Server, after: int) -> None:
    """Events above the given number come, and no others."""
    run = a_run()
    await server.engine.context.runs.insert(run)
    server.engine.context.wake_claims()
    await play(server)
    assert list(range(after + 1, 9)) == [e.n for e in await collect(server, run.id, after)]


async def test_events_that_retention_dropped_are_gone_and_the_run_is_not(server: Server) -> None:
    """A dropped partition answers GoneError; the row, its steps and its end stay."""
    run = a_run()
    context = server.engine.context
    await context.runs.insert(run)
    await server.engine.cancel(run.id)
    assert await context.lifecycle.drop_logs(days=-1)
    with pytest.raises(GoneError):
        await collect(server, run.id)
    assert (await server.engine.details(run.id)).run.reason == "Cancelled"


async def test_a_day_with_an_active_run_is_not_dropped(server: Server) -> None:
    """Retention waits for runs that still write."""
    run = a_run()
    context = server.engine.context
    await context.runs.insert(run)
    await context.lifecycle.drop_logs(days=-1)
    assert len(await server.engine.events(run.id, after=0, limit=10)) == 2


async def test_a_run_that_is_not_there_is_not_found(server: Server) -> None:
    """Following nothing is an error, not an empty stream."""
    with pytest.raises(NotFoundError):
        await collect(server, RunId("00000000-0000-0000-0000-000000000000"))


async def test_a_follower_that_was_told_of_unnumbered_news_waits_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """News without a number cost one look into the store, not one after another for ever."""
    run, looks, looked = a_run(), 0, asyncio.Event()
    await server.engine.context.runs.insert(run)
    events = server.engine.context.events
    read = events.read

    async def counted(*args: Any, **kwargs: Any) -> list[StoredEvent]:
        nonlocal looks
        looks += 1
        looked.set()
        return await read(*args, **kwargs)

    monkeypatch.setattr(events, "read", counted)
    live = asyncio.create_task(collect(server, run.id))
    await asyncio.wait_for(looked.wait(), 5)
    before = looks
    server.engine.context.news_of(run.id)
    await asyncio.sleep(0.3)
    assert looks - before <= 3  # ours, and our own notification that comes back
    server.engine.context.wake_claims()
    await play(server)
    assert len(await live) == 8

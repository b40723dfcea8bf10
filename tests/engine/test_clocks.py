"""The store's clock may jump: by a correction, or because the machine slept. Leases must not."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from factories import a_run
from scripted_runner import connected, hello_events
from server import QUICK, Server, a_server

from plue.domain.run import RunId
from plue.wire import frames

LEASE, MARGIN = timedelta(seconds=2), timedelta(seconds=1.5)


class StoreClock:
    """A database whose ``now()`` is ours to move: a function of that name is found first."""

    def __init__(self, dsn: str) -> None:
        """Prepare the database; sessions that are opened later have the clock."""
        self.dsn = dsn
        with psycopg.connect(dsn, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute("CREATE SCHEMA clock")
            connection.execute("CREATE TABLE clock.ahead (by interval)")
            connection.execute("INSERT INTO clock.ahead VALUES ('0')")
            connection.execute(
                "CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS"
                " 'SELECT pg_catalog.now() + by FROM clock.ahead'"
            )
            statement = f'ALTER DATABASE "{name}" SET search_path = public, clock, pg_catalog'
            connection.execute(statement.encode())

    def jump(self, by: str) -> None:
        """Move the clock by an interval."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("UPDATE clock.ahead SET by = by + %s::interval", (by,))


@asynccontextmanager
async def a_clocked_server(
    dsn: str, folder: Path
) -> AsyncGenerator[tuple[Server, StoreClock], None]:
    """Give a server with short leases whose host cannot tell what its runners do."""
    clock = StoreClock(dsn)
    settings = replace(QUICK, lease=LEASE, lease_margin=MARGIN)
    async with a_server(dsn, folder, settings) as server:
        server.host.sees = "unreachable"
        yield server, clock


async def busy(server: Server) -> RunId:
    """Queue a run that may be tried again."""
    # The run's own times are the store's too: an hour is an hour of it.
    run = a_run(attempts=3, run_timeout=timedelta(hours=3))
    await server.engine.context.runs.insert(run)
    server.engine.context.wake_claims()
    return run.id


async def attempt_of(server: Server, run: RunId) -> int:
    """Return the run's present attempt."""
    return (await server.engine.details(run)).run.attempt


@pytest.mark.parametrize("by", ["1 hour", "-1 hour"])
async def test_a_jump_of_the_stores_clock_takes_no_run_from_its_runner(
    postgres_dsn: str, tmp_path: Path, by: str
) -> None:
    """A runner that renews keeps its attempt, whatever the clock does meanwhile."""
    async with (
        a_clocked_server(postgres_dsn, tmp_path) as (server, clock),
        connected(server.url, *await server.runner("default-a")) as runner,
    ):
        run = await busy(server)
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        await runner.events(assignment, hello_events()[:1])
        await runner.hear(frames.Ack)
        await asyncio.sleep(LEASE.total_seconds() * 1.2)  # from now on silence means something
        clock.jump(by)
        end = asyncio.get_running_loop().time() + (LEASE + MARGIN).total_seconds() * 1.3
        while asyncio.get_running_loop().time() < end:
            await runner.say(frames.Renew(sent=1.0))
            await runner.hear(frames.Renewed)
        assert await attempt_of(server, run) == 1


@pytest.mark.parametrize("by", ["1 hour", "-1 hour"])
async def test_a_silent_runner_is_lost_soon_after_a_jump(
    postgres_dsn: str, tmp_path: Path, by: str
) -> None:
    """A lease that was given before the jump is not an hour longer after it."""
    async with a_clocked_server(postgres_dsn, tmp_path) as (server, clock):
        async with connected(server.url, *await server.runner("default-a")) as runner:
            run = await busy(server)
            await runner.hello()
            await runner.hear(frames.Welcome)
            assignment = await runner.take()
            await runner.events(assignment, hello_events()[:1])
            await runner.hear(frames.Ack)
        await asyncio.sleep(LEASE.total_seconds() * 1.2)
        clock.jump(by)
        async with asyncio.timeout(LEASE.total_seconds() * 5):
            while await attempt_of(server, run) == 1:  # noqa: ASYNC110 - the store has no signal
                await asyncio.sleep(0.05)

"""A run that ends, or starts over, while its plan grows: nothing of it is forgotten."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest
from factories import a_run, a_step

from plue.domain.run import RunId, RunnerId
from plue.store.database import Database
from plue.store.events import EventStore, RunEnd
from plue.store.lifecycle import LifecycleStore
from plue.store.migrations import migrate
from plue.store.queue import ClaimKey, QueueStore
from plue.store.runners import RunnerStore
from plue.store.runs import RunStore
from plue.store.stages import NewStage, _parameters
from plue.wire.events import Reason, RunState
from plue.wire.stages import Extension, Placed

RUNNER = RunnerId("default-a")


@asynccontextmanager
async def a_running_run(dsn: str) -> AsyncIterator[tuple[Database, ClaimKey]]:
    """Give a database in which one run is claimed and accepted."""
    await migrate(dsn)
    database = await Database.open(dsn)
    try:
        await LifecycleStore(database).ensure_partitions()
        run = a_run(attempts=3)
        assert await RunStore(database).insert(run)
        runners, queue = RunnerStore(database), QueueStore(database)
        await runners.record_pool("default", host="paper", warm=1, maximum=1)
        await runners.insert([(RUNNER, "token")], pool="default", host="paper")
        await runners.hello(RUNNER, "token", gateway="g", lease=timedelta(seconds=60))
        (claim,) = await queue.claim("default", limit=1)
        await queue.accept([claim.key])
        yield database, claim.key
    finally:
        await database.close()


async def waits_for_a_lock(dsn: str) -> None:
    """Return when some statement of the database waits for another's row."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        async with asyncio.timeout(10):
            while True:
                found = await connection.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
                row = await found.fetchone()
                if row is not None and row[0]:
                    return
                await asyncio.sleep(0.01)


async def end(database: Database, key: ClaimKey) -> None:
    """End the run as the engine does when it is cancelled and its runner does not answer."""
    ends = [RunEnd(key.run, key.attempt, RunState.CANCELLED, Reason.CANCELLED, None, None, None)]
    assert await EventStore(database).end(ends)


async def start_over(database: Database, key: ClaimKey) -> None:
    """Give the run its next attempt, as when its runner was lost."""
    assert await LifecycleStore(database).next_attempt(key, Reason.RUNNER_LOST)


@pytest.mark.parametrize("act", [end, start_over])
async def test_steps_that_a_stage_adds_at_the_same_moment_end_too(
    postgres_dsn: str, act: Callable[[Database, ClaimKey], Awaitable[None]]
) -> None:
    """The stage is stored first, seen or not: none of the attempt's steps stays pending."""
    async with a_running_run(postgres_dsn) as (database, key):
        new = a_step("late")
        extension = Extension(stage=2, digest="d", steps=(Placed(at=1, step=new),))
        stage = NewStage(
            run=key.run,
            attempt=key.attempt,
            plan=a_run().plan,
            extension=extension,
            body={"attempt": 1, "stage": 2},
            why={},
            shifted={},
        )
        async with database.locked("record_stage", _parameters(stage)) as (rows, _):
            assert rows
            acting = asyncio.ensure_future(act(database, key))
            await waits_for_a_lock(postgres_dsn)
        await acting
        assert await states(postgres_dsn, key.run) == {"hello": "cancelled", "late": "cancelled"}


async def states(dsn: str, run: RunId) -> dict[str, str]:
    """Return the states of the first attempt's steps."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        found = await connection.execute(
            "SELECT name, state FROM workflow_steps WHERE run_id = %s AND attempt = 1", (run,)
        )
        return dict(await found.fetchall())

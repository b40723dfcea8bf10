"""A database that was restored from a copy: it is another one, and what was under way is old."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
from factories import a_run
from psycopg import sql

from plue.domain.run import RunId, RunnerId
from plue.store.database import Database
from plue.store.events import EventStore, RunEnd
from plue.store.identity import incarnation_of
from plue.store.lifecycle import LifecycleStore
from plue.store.migrations import migrate
from plue.store.queue import QueueStore
from plue.store.runners import RunnerStore
from plue.store.runs import RunStore
from plue.wire.events import Reason, RunState

RUNNERS = (RunnerId("default-a"), RunnerId("default-b"), RunnerId("default-c"))


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    """Give a database, and close it."""
    database = await Database.open(dsn, connections=2)
    try:
        yield database
    finally:
        await database.close()


async def _fill(dsn: str) -> tuple[RunId, list[RunId]]:
    """Leave an ended, a running and a queued run; return the first, and the others."""
    await migrate(dsn)
    async with opened(dsn) as database:
        await LifecycleStore(database).ensure_partitions()
        assert await incarnation_of(database) is not None
        runs = [a_run() for _ in range(3)]
        runners, queue = RunnerStore(database), QueueStore(database)
        await runners.record_pool("default", host="paper", warm=1, maximum=3)
        pairs = [(runner, "token") for runner in RUNNERS]
        await runners.insert(pairs, pool="default", host="paper")
        for runner in RUNNERS[:2]:
            await runners.hello(runner, "token", gateway="g", lease=timedelta(seconds=60))
        for run in runs[:2]:
            assert await RunStore(database).insert(run)
        claims = await queue.claim("default", limit=2)
        await queue.accept([claim.key for claim in claims])
        ended, running = (claim.key for claim in claims)
        over = RunEnd(
            ended.run, ended.attempt, RunState.CANCELLED, Reason.CANCELLED, None, None, None
        )
        assert await EventStore(database).end([over])
        assert await RunStore(database).insert(runs[2])
        return ended.run, [running.run, runs[2].id]


async def _restore(dsn: str) -> str:
    """Make the copy of a database; return its connection string."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    assert isinstance(name, str)
    copy = f"{name}_copy"
    with psycopg.connect(
        psycopg.conninfo.make_conninfo(dsn, dbname="postgres"), autocommit=True
    ) as own:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        own.execute(make.format(sql.Identifier(copy), sql.Identifier(name)))
    return psycopg.conninfo.make_conninfo(dsn, dbname=copy)


async def _ids(database: Database, table: sql.SQL, column: sql.SQL) -> set[object]:
    """Return the values of a column."""
    async with await psycopg.AsyncConnection.connect(database.dsn) as connection:
        rows = await connection.execute(sql.SQL("SELECT {} FROM {}").format(column, table))
        return {row[0] for row in await rows.fetchall()}


async def _is_another(database: Database, ended: RunId, under_way: list[RunId]) -> None:
    """Fail unless only what had ended is known, and no runner of then can be claimed."""
    runs, ids = sql.SQL("workflow_runs"), sql.SQL("id")
    assert {str(one) for one in await _ids(database, runs, ids)} == {str(ended)}
    told = await _ids(database, sql.SQL("workflow_logs"), sql.SQL("run_id"))
    assert not {str(one) for one in told} & {str(one) for one in under_way}
    states = await _ids(database, sql.SQL("runners"), sql.SQL("state"))
    assert states <= {"retired", "gone"}
    again = a_run(id=under_way[0])
    assert await RunStore(database).insert(again), "the cluster cannot give the run back"
    assert await QueueStore(database).claim("default", limit=9) == []


async def test_a_restored_copy_has_a_name_of_its_own_and_forgets_what_was_under_way(
    postgres_dsn: str,
) -> None:
    """Whoever opens it first renames it, once; ended runs stay, others come from the cluster."""
    ended, under_way = await _fill(postgres_dsn)
    copy = await _restore(postgres_dsn)
    async with opened(postgres_dsn) as old:
        name = await incarnation_of(old)
        assert len(await _ids(old, sql.SQL("workflow_runs"), sql.SQL("id"))) == 3
    try:
        async with opened(copy) as one, opened(copy) as other:
            first, second = await asyncio.gather(incarnation_of(one), incarnation_of(other))
            named = await incarnation_of(one)
            assert named != name
            assert named == await incarnation_of(other)
            assert named in {first, second}
            await _is_another(one, ended, under_way)
            assert await incarnation_of(one) == named, "it was renamed twice"
    finally:
        where = psycopg.conninfo.make_conninfo(postgres_dsn, dbname="postgres")
        with psycopg.connect(where, autocommit=True) as own:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            gone = str(psycopg.conninfo.conninfo_to_dict(copy)["dbname"])
            own.execute(drop.format(sql.Identifier(gone)))


async def test_a_volume_that_was_put_back_is_told_by_hand(postgres_dsn: str) -> None:
    """Nothing numbers it anew; the statement of the manual makes it another one."""
    ended, under_way = await _fill(postgres_dsn)
    async with opened(postgres_dsn) as database:
        name = await incarnation_of(database)
        assert await incarnation_of(database) == name
        await database.execute("UPDATE server_identity SET place = ''")
        assert await incarnation_of(database) != name
        await _is_another(database, ended, under_way)


async def test_an_ordinary_role_can_tell_where_its_database_is(postgres_dsn: str) -> None:
    """What is asked of Postgres needs no right that the owner of a database lacks."""
    await migrate(postgres_dsn)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as own:
        await own.execute(
            "DO $$ BEGIN CREATE ROLE plain; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        await own.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
    as_plain = psycopg.conninfo.make_conninfo(postgres_dsn, options="-c role=plain")
    async with opened(as_plain) as database:
        assert await incarnation_of(database) is not None

"""The run list's filters, alone and together, on a real database with a past."""

from itertools import product

from bench.history import RARE, fill

from plue.domain.run import RunFilter
from plue.store.database import Database
from plue.store.migrations import migrate
from plue.store.runs import RunStore
from plue.wire.events import RunState

WORKFLOWS = (None, RARE, "workflow-7", "nonesuch")
STATES = ((), (RunState.FAILED,), (RunState.FAILED, RunState.CANCELLED), (RunState.QUEUED,))
TRIGGERS = (None, "manual", "push")
NAMESPACES = (None, (), ("main",), ("team-1", "team-9", "nonesuch"))


async def test_filters_give_what_all_runs_filtered_by_hand_give(postgres_dsn: str) -> None:
    """Every combination, page by page, however often the same statement ran before."""
    await migrate(postgres_dsn)
    fill(postgres_dsn, 0, 600)
    database = await Database.open(postgres_dsn, connections=1)
    try:
        store = RunStore(database)
        everything = (await store.page(RunFilter(limit=1000))).runs
        assert len(everything) == 600
        for namespaces, workflow, states, trigger in product(
            NAMESPACES, WORKFLOWS, STATES, TRIGGERS
        ):
            expected = [
                run.number
                for run in everything
                if (namespaces is None or run.namespace in namespaces)
                and workflow in {None, run.workflow}
                and (not states or run.state in states)
                and trigger in {None, run.trigger}
            ]
            found, cursor = [], None
            while True:
                which = RunFilter(
                    workflow, states, trigger, before=cursor, limit=40, namespaces=namespaces
                )
                page = await store.page(which)
                found += [run.number for run in page.runs]
                cursor = page.next
                if cursor is None:
                    break
            assert expected == found, (namespaces, workflow, states, trigger)
    finally:
        await database.close()


async def test_a_state_and_a_trigger_are_found_by_an_index_of_both(postgres_dsn: str) -> None:
    """The planner is given what it needs to know that no run has both."""
    await migrate(postgres_dsn)
    fill(postgres_dsn, 0, 20_000)
    database = await Database.open(postgres_dsn, connections=1)
    try:
        # More often than a prepared statement is planned for its values.
        for _ in range(12):
            page = await RunStore(database).page(
                RunFilter(states=(RunState.FAILED,), trigger="manual")
            )
            assert page.runs == []
        async with database._pool.connection() as connection:
            await connection.execute("SELECT pg_stat_force_next_flush()")
            found = await connection.execute(
                "SELECT idx_scan FROM pg_stat_user_indexes"
                " WHERE indexrelname = 'workflow_runs_by_outcome'"
            )
            row = await found.fetchone()
    finally:
        await database.close()
    assert row is not None
    assert row["idx_scan"] >= 12


async def test_the_namespaces_that_have_runs_are_known(postgres_dsn: str) -> None:
    """Each once, by name."""
    await migrate(postgres_dsn)
    fill(postgres_dsn, 0, 4)
    database = await Database.open(postgres_dsn, connections=1)
    try:
        found = await RunStore(database).namespaces()
    finally:
        await database.close()
    assert sorted({*found}) == found
    assert len(found) == 3
    assert found[0] == "main"

"""What is kept, and for how long, on a real database."""

import psycopg

from plue.store.database import Database
from plue.store.lifecycle import LifecycleStore
from plue.store.migrations import migrate


async def test_old_days_are_dropped_also_when_the_database_knows_its_own_statistics(
    postgres_dsn: str,
) -> None:
    """Only partitions of the log are looked at, however the planner orders its conditions."""
    await migrate(postgres_dsn)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute(
            "SELECT ensure_log_partition((now() AT TIME ZONE 'UTC')::date - d)"
            " FROM generate_series(0, 28) AS d"
        )
        await connection.execute("VACUUM ANALYZE")
    database = await Database.open(postgres_dsn, connections=1)
    try:
        dropped = await LifecycleStore(database).drop_logs(days=20)
    finally:
        await database.close()
    assert len(dropped) == 8
    assert all(name.startswith("workflow_logs_2") for name in dropped)

"""The books of model calls: many at once, several processes, and processes that end halfway."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from plue.domain.budget import Amount, Budgets, Limit, Scope, Shortage
from plue.domain.run import RunId
from plue.errors import UnavailableError
from plue.store.database import Database
from plue.store.migrations import migrate
from plue.store.usage import Caller, Reservation, Spend, Tokens, UsageStore, Wanted

PATIENCE = 20.0
RUN = RunId(str(uuid.uuid4()))
MOST = Amount(Decimal("0.5"), 1000, 1, Decimal(90))
USED = Spend(Tokens(7, 3), Decimal("0.1"), "answered", total_ms=1500)


@asynccontextmanager
async def processes(dsn: str, count: int = 1) -> AsyncIterator[list[UsageStore]]:
    """Give the stores of so many processes."""
    await migrate(dsn)
    databases = [await Database.open(dsn, connections=4) for _ in range(count)]
    stores = [UsageStore(database) for database in databases]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()
        for database in databases:
            await database.close()


def wanted(step: str = "ask", run: RunId = RUN) -> Wanted:
    """Return a call of a step."""
    caller = Caller(run, 1, step, "default", "ci", b"", None)
    return Wanted(caller, 1, "client", "model", MOST)


async def asked(dsn: str, query: str) -> list[dict[str, Any]]:
    """Return the rows of a query."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return await (await cursor.execute(query)).fetchall()


async def counted(dsn: str) -> dict[str, tuple[Any, ...]]:
    """Return by scope what is counted in it: US dollars, tokens, calls, seconds."""
    rows = await asked(dsn, "SELECT * FROM model_budgets")
    assert len({row["scope"] for row in rows}) == len(rows)
    units = ("usd", "tokens", "calls", "seconds")
    return {row["scope"]: tuple(row[unit] for unit in units) for row in rows}


def everywhere(*amounts: Any) -> dict[str, tuple[Any, ...]]:
    """Return the counters of calls of one step."""
    return dict.fromkeys(["step", "run", "workflow", "day"], amounts)


async def reserve(store: UsageStore, budgets: Budgets) -> Reservation | Shortage:
    """Reserve a call."""
    async with asyncio.timeout(PATIENCE):
        return await store.reserve(wanted(), budgets)


async def test_calls_of_one_moment_share_transactions(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred calls that begin together take one turn at the rows, and one more when they end.

    Each is reserved whole all the same, and settled as what it used.
    """
    turns: list[str] = []
    locked, rows = Database.locked, Database.rows

    def noted_lock(self: Database, name: str, parameters: Any) -> Any:
        turns.append(name)
        return locked(self, name, parameters)

    async def noted_rows(self: Database, name: str, parameters: Any = None) -> Any:
        turns.append(name)
        return await rows(self, name, parameters)

    monkeypatch.setattr(Database, "locked", noted_lock)
    monkeypatch.setattr(Database, "rows", noted_rows)
    async with processes(postgres_dsn) as (store,):
        calls = await asyncio.gather(*(reserve(store, Budgets()) for _ in range(100)))
        assert await counted(postgres_dsn) == everywhere(Decimal(50), 100_000, 100, Decimal(9000))
        ids = [call.id for call in calls if isinstance(call, Reservation)]
        assert len(set(ids)) == 100
        assert all(await asyncio.gather(*(store.settle(one, USED) for one in ids)))
    assert turns == ["lock_budgets", "settle_calls"]
    assert await counted(postgres_dsn) == everywhere(Decimal(10), 1000, 100, Decimal(150))
    found = await asked(
        postgres_dsn,
        "SELECT count(*), state, input_tokens, output_tokens, cost_usd, reserved_usd, total_ms"
        " FROM llm_usage GROUP BY 2, 3, 4, 5, 6, 7",
    )
    assert [tuple(row.values()) for row in found] == [
        (100, "settled", 7, 3, Decimal("0.1"), Decimal("0.5"), 1500)
    ]


@pytest.mark.parametrize(
    "scope", [pytest.param(scope, id=scope.value) for scope in (Scope.STEP, Scope.DAY)]
)
async def test_processes_side_by_side_cannot_overspend(postgres_dsn: str, scope: Scope) -> None:
    """Of calls that three processes want at once, as many are reserved as fit, to the last one.

    While calls begin in one process and end in another, nobody waits for ever.
    """
    budgets = Budgets({scope: Limit(calls=71)})
    async with processes(postgres_dsn, 3) as stores:

        async def one(number: int) -> bool:
            found = await reserve(stores[number % 3], budgets)
            if isinstance(found, Shortage):
                return False
            return await stores[(number + 1) % 3].settle(found.id, USED)

        async with asyncio.timeout(PATIENCE):
            allowed = await asyncio.gather(*(one(number) for number in range(240)))
    assert sum(allowed) == 71
    assert await counted(postgres_dsn) == everywhere(Decimal("7.1"), 710, 71, Decimal("106.5"))


async def test_a_call_is_settled_once_whoever_comes(postgres_dsn: str) -> None:
    """Of the gateway and the sweeps of two others, all at once, one settles each call."""
    async with processes(postgres_dsn, 3) as (own, *others):
        calls = await asyncio.gather(*(reserve(own, Budgets()) for _ in range(60)))
        ids = [call.id for call in calls if isinstance(call, Reservation)]
        async with asyncio.timeout(PATIENCE):
            settled, _ = await asyncio.gather(
                asyncio.gather(*(own.settle(one, USED) for one in [*ids, *reversed(ids)])),
                asyncio.gather(
                    *(other.settle_abandoned(older=timedelta(seconds=-91)) for other in others)
                ),
            )
    rows = await asked(postgres_dsn, "SELECT * FROM llm_usage")
    assert {row["state"] for row in rows} == {"settled"}
    assert sum(settled) == sum(row["outcome"] == "answered" for row in rows)
    spent = sum(row["cost_usd"] for row in rows)
    assert (await counted(postgres_dsn))["day"][0] == spent


async def test_who_gives_up_meanwhile_leaves_nothing_reserved(postgres_dsn: str) -> None:
    """A caller that is ended while its reservation is on its way has it undone."""
    async with processes(postgres_dsn) as (store,):
        asking = [asyncio.create_task(reserve(store, Budgets())) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in asking[:2]:
            task.cancel()
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError] * 2 + [Reservation]
    rows = await asked(postgres_dsn, "SELECT state, outcome FROM llm_usage ORDER BY state")
    assert [(row["state"], row["outcome"]) for row in rows] == [
        ("reserved", None),
        *[("settled", "caller left")] * 2,
    ]
    assert await counted(postgres_dsn) == everywhere(Decimal("0.5"), 1000, 3, Decimal(90))


async def test_a_halted_process_holds_nobody_up_for_long(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the counters' locks and says no more: what it began is undone, and others go on.

    When it wakes up it is told so, and has reserved nothing.
    """
    monkeypatch.setattr("plue.store.database.LET_GO_AFTER", timedelta(seconds=0.3))
    async with processes(postgres_dsn, 2) as (halted, other):
        decided, may_go_on = asyncio.Event(), asyncio.Event()
        database = halted._database
        locked = database.locked

        @asynccontextmanager
        async def halting(name: str, parameters: Any) -> AsyncIterator[Any]:
            async with locked(name, parameters) as found:
                decided.set()
                await may_go_on.wait()
                yield found

        monkeypatch.setattr(database, "locked", halting)
        late = asyncio.create_task(reserve(halted, Budgets()))
        await asyncio.wait_for(decided.wait(), PATIENCE)
        assert isinstance(await reserve(other, Budgets()), Reservation)
        may_go_on.set()
        with pytest.raises(UnavailableError):
            await late
    assert await counted(postgres_dsn) == everywhere(Decimal("0.5"), 1000, 1, Decimal(90))


async def test_a_process_that_ends_between_lock_and_commit_has_reserved_nothing(
    postgres_dsn: str,
) -> None:
    """Its connection ends with it: the counters are as if it had never asked."""
    async with processes(postgres_dsn, 2) as (ending, other):
        assert isinstance(await reserve(other, Budgets()), Reservation)
        (day,) = await asked(postgres_dsn, _DAY)
        locks = {"scopes": ["day"], "names": [day["name"]]}
        nothing = {f"limit_{unit}": [None] for unit in ("usd", "tokens", "calls", "seconds")}

        async def end_halfway() -> None:
            locked = ending._database.locked("lock_budgets", {**locks, **nothing})
            async with locked:
                await asked(postgres_dsn, _END_WHO_HOLDS)
                assert isinstance(await reserve(other, Budgets()), Reservation)

        with pytest.raises(UnavailableError):
            await end_halfway()
    assert await counted(postgres_dsn) == everywhere(Decimal(1), 2000, 2, Decimal(180))


_DAY = "SELECT name FROM model_budgets WHERE scope = 'day'"
_END_WHO_HOLDS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND state = 'idle in transaction'
"""

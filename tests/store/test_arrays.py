"""Arrays in Postgres' binary form are what the driver would have sent."""

import psycopg
import pytest

from plue.store.arrays import Numbers, Texts


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="empty"),
        pytest.param([None], id="null"),
        pytest.param(["a", "", None, 'quoted "text" \\ {a,b}', "NULL", "grüße 🙂\n"], id="texts"),
    ],
)
async def test_texts_arrive_as_they_are(postgres_dsn: str, values: list[str | None]) -> None:
    """Quotes, braces, backslashes and nulls need no escaping."""
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        query = "SELECT %s::text[], pg_typeof(%s)::text"
        row = await (await connection.execute(query, (Texts(values), Texts(values)))).fetchone()
    assert (values, "text[]") == row


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="empty"),
        pytest.param([1, None, -5, 2**63 - 1, -(2**63)], id="bounds-and-null"),
    ],
)
async def test_numbers_arrive_as_they_are(postgres_dsn: str, values: list[int | None]) -> None:
    """The whole range of bigint and nulls."""
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        query = "SELECT %s::bigint[], pg_typeof(%s)::text"
        row = await (await connection.execute(query, (Numbers(values), Numbers(values)))).fetchone()
    assert (values, "bigint[]") == row

"""Every named statement is one that Postgres understands."""

import re

import psycopg

from plue.store.migrations import migrate
from plue.store.statements import SQL

_PARAMETER = re.compile(r"%\((\w+)\)[sb]")


async def test_every_statement_is_understood_by_postgres(postgres_dsn: str) -> None:
    """A statement may refuse empty data, but never for its syntax, its names or its types."""
    await migrate(postgres_dsn)
    refused = {}
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        for name, statement in SQL.items():
            try:
                await connection.execute(statement, dict.fromkeys(_PARAMETER.findall(statement)))
            except psycopg.IntegrityError:
                pass  # NULL where the table wants a value: understood, and rightly refused
            except psycopg.Error as error:
                refused[name] = str(error)
            await connection.rollback()
    assert refused == {}

"""Numbered scripts, applied in order under a lock; ``await migrate(dsn)`` is safe to repeat.

Plain SQL files and these few lines instead of a migration library: the scripts hold all there is
to hold (there are no models to compare), and importing alembic costs a second at every start.
Each script runs in one transaction together with its row in ``schema_migrations``; a script that
was applied must never change, and a test compares.
"""

import hashlib
from importlib import resources
from typing import Any, LiteralString

import psycopg
import structlog

from plue.errors import InternalError
from plue.store.database import translated

__all__ = ["migrate", "missing", "scripts"]

_log = structlog.get_logger(__name__)

_LOCK = 0x706C7565  # "plue": the advisory lock that all migrating processes take
_LOCK_TIMEOUT = "60s"


def scripts() -> list[tuple[int, str, LiteralString]]:
    """Return (number, name, text) of every script, in order."""
    found = []
    for file in resources.files(__package__).iterdir():
        if file.name.endswith(".sql"):
            number, name = file.name.removesuffix(".sql").split("_", 1)
            found.append((int(number), name, file.read_text("utf-8")))
    return sorted(found)


async def missing(dsn: str) -> list[str]:
    """Return the names of the scripts that the database does not have yet.

    Scripts that it has and this version does not know are no concern: within one version of the
    chart the older one works on the newer one's schema. Raises UnavailableError.
    """
    with translated():
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10)
        async with connection:
            found = await connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
            row = await found.fetchone()
            if row is None or not row[0]:
                return [name for _, name, _ in scripts()]
            rows = await connection.execute("SELECT number FROM schema_migrations")
            applied = {number for (number,) in await rows.fetchall()}
    return [name for number, name, _ in scripts() if number not in applied]


async def migrate(dsn: str, *, newer: bool = False) -> list[str]:
    """Bring the database to this version's schema; return the names of what was applied.

    With *newer*, scripts of a newer version that the database has already are let be.

    Raises UnavailableError when the database is away, InternalError when it holds a schema that
    this version does not know or a script that was changed after it was applied.
    """
    with translated():
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10)
        async with connection:
            await connection.execute(
                "SELECT set_config('lock_timeout', %s, false)", (_LOCK_TIMEOUT,)
            )
            await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            try:
                return await _apply(connection, newer=newer)
            finally:
                await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


async def _apply(connection: psycopg.AsyncConnection[Any], *, newer: bool) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY,"
        " name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    cursor = await connection.execute("SELECT number, sha256 FROM schema_migrations")
    applied = dict(await cursor.fetchall())
    known = scripts()
    unknown = sorted(applied.keys() - {number for number, _, _ in known})
    if unknown and not newer:
        raise InternalError(
            f"the database has migration {unknown[-1]}, which this version of Plue does not know",
            remedy="use the version of Plue that wrote it, or a newer one",
        )
    done = []
    for number, name, text in known:
        digest = hashlib.sha256(text.encode()).hexdigest()
        if number in applied:
            if applied[number] != digest:
                raise InternalError(f"migration {number} ({name}) was changed after it was applied")
            continue
        async with connection.transaction():
            await connection.execute(text)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
                (number, name, digest),
            )
        _log.info("migration_applied", number=number, name=name)
        done.append(name)
    return done

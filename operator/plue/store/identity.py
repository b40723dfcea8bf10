"""Which database this is: one that was emptied, or exchanged for another, has another name."""

from uuid import UUID

import psycopg

from plue.errors import InternalError
from plue.store.database import Database

__all__ = ["incarnation_of"]


async def incarnation_of(database: Database) -> UUID | None:
    """Return the database's name; None when it has no schema. Raises UnavailableError."""
    try:
        row = await database.row("store_incarnation")
    except InternalError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
            return None
        raise
    return None if row is None else row["incarnation"]

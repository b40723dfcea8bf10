"""Which database this is: one that was emptied, exchanged or restored has another name."""

from uuid import UUID

import psycopg
import structlog

from plue.errors import InternalError
from plue.store.database import Database

__all__ = ["incarnation_of"]

_log = structlog.get_logger(__name__)


async def incarnation_of(database: Database) -> UUID | None:
    """Return the database's name; None when it has no schema. Raises UnavailableError.

    A restored copy is given a name of its own by whoever asks first, and forgets the runs that had
    not ended when it was made.
    """
    try:
        row = await database.row("store_incarnation")
        settled = None
        if row is not None and row["place"] != row["here"]:
            settled = await database.row("settle_store", {"here": row["here"]})
            row = await database.row("store_incarnation")
    except InternalError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
            return None
        raise
    if settled is not None and settled["restored"]:
        _log.warning("store_was_restored", forgotten_runs=settled["forgotten"])
    return None if row is None else row["incarnation"]

"""The connection to Postgres: a pool, one listener a process, and errors in our own words.

A notification only wakes; a query decides. All notifications of a process leave through one
connection and are batched, because a notifying commit takes a lock of the whole instance.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, LiteralString, Self

import psycopg
import structlog
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from plue.ending import end_tasks
from plue.errors import ConflictError, InternalError, UnavailableError
from plue.store.statements import SQL

__all__ = ["Database", "Parameters", "Statements", "translated"]

_log = structlog.get_logger(__name__)

CHANNEL = "plue"
NOTIFY_EVERY = 0.02
"""Seconds between two notifications of one process; the first after idle goes at once."""

LET_GO_AFTER = timedelta(seconds=5)
"""For so long a process may hold a lock without a word. One that was halted, or whose machine is
gone, would keep everybody waiting who wants the same row; its transaction is undone instead."""

PLANNED_ANEW = frozenset({"list_runs", "list_runs_of_namespaces", "list_audit"})
"""Statements whose filters may be absent. A prepared one would soon be planned without looking at
them, and read the whole table for what an index has; planning costs less than a millisecond."""

Parameters = Mapping[str, Any]
Statements = Sequence[tuple[str, Parameters]]


_PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A database whose machine is gone says nothing: without these, TCP waits a quarter of an hour."""


@contextlib.contextmanager
def translated() -> Any:
    """Turn the driver's errors into ours; the original stays as the cause."""
    try:
        yield
    except psycopg.errors.DiskFull as error:
        raise UnavailableError(
            f"Postgres has no space left: {str(error).strip()}",
            remedy="free disk space where the database is; what waits goes on then",
        ) from error
    except psycopg.errors.IdleInTransactionSessionTimeout as error:
        raise UnavailableError(
            "this process was halted while it held a lock, and Postgres undid what it had begun"
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        raise UnavailableError(
            f"Postgres cannot be reached: {str(error).strip() or type(error).__name__}",
            remedy="check that the database runs and that the address is right",
        ) from error
    except psycopg.errors.UniqueViolation as error:
        raise ConflictError(f"it is there already: {str(error).strip()}") from error
    except psycopg.Error as error:
        raise InternalError(f"Postgres refused a statement: {str(error).strip()}") from error


class Database:
    """A pool of connections and the process's notifications."""

    def __init__(self, dsn: str, pool: AsyncConnectionPool[Any]) -> None:
        """Use an opened *pool*; call ``Database.open`` instead."""
        self.dsn = dsn
        self._pool = pool
        self._outbox: dict[str, int] = {}
        self._outbox_filled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.last_failure: float | None = None
        """Loop time at which the store was last seen to be away; None if never."""

    @classmethod
    async def open(cls, dsn: str, *, connections: int = 10) -> Self:
        """Connect to *dsn*. Raises UnavailableError when it cannot be reached in 10 s."""
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            dsn,
            min_size=min(2, connections),
            max_size=connections,
            open=False,
            timeout=10.0,
            kwargs={"autocommit": True, "row_factory": dict_row, **_PATIENCE},
            check=None,
            configure=_let_go,
        )
        with translated():
            await pool.open(wait=True, timeout=10.0)
        return cls(dsn, pool)

    async def close(self) -> None:
        """End the listener and all connections."""
        await end_tasks(self._tasks)
        await self._pool.close()

    # ── queries ──────────────────────────────────────────────────────────────────────────────────

    async def rows(self, name: str, parameters: Parameters | None = None) -> list[DictRow]:
        """Run one named statement as its own transaction; return its rows."""
        return (await self.transaction([(name, parameters or {})]))[0]

    async def row(self, name: str, parameters: Parameters | None = None) -> DictRow | None:
        """Run one named statement; return its first row, or None."""
        found = await self.rows(name, parameters)
        return found[0] if found else None

    async def transaction(self, statements: Statements) -> list[list[DictRow]]:
        """Run named statements in one transaction and one round trip; return the rows of each.

        A connection that broke is replaced and the statements run again: each of them is a
        conditional write or a read, so that a commit whose answer was lost does no harm.
        """
        try:
            with translated():
                return await self._transaction(statements)
        except UnavailableError:
            self.last_failure = asyncio.get_running_loop().time()
            raise

    async def _transaction(self, statements: Statements) -> list[list[DictRow]]:
        # After a restart of Postgres every pooled connection is broken, each found by using it.
        for _ in range(self._pool.max_size):
            async with self._pool.connection() as connection:
                try:
                    return await _run(connection, statements)
                except psycopg.OperationalError:
                    if not connection.broken:
                        raise
        async with self._pool.connection() as connection:
            return await _run(connection, statements)

    @contextlib.asynccontextmanager
    async def locked(
        self, name: str, parameters: Parameters
    ) -> AsyncGenerator[tuple[list[DictRow], "Transaction"], None]:
        """Open a transaction with a first statement that locks; what follows sees its rows.

        Two round trips: to the lock, and with what was sent last to the commit.
        """
        with translated():
            async with (
                self._pool.connection() as connection,
                connection.pipeline() as pipeline,
                connection.transaction(),
            ):
                transaction = Transaction(connection, pipeline)
                yield await transaction.rows(name, parameters), transaction

    async def execute(self, statement: LiteralString | bytes) -> None:
        """Run a statement that is not named: DDL of retention, put together with care."""
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(statement)

    # ── notifications ────────────────────────────────────────────────────────────────────────────

    def listen(self, heard: Callable[[dict[str, int]], None], *, lost: Callable[[], None]) -> None:
        """Call *heard* with what other processes say; *lost* after a gap in the listening.

        Keys are topics (``run:ID``, ``queue``, ``gateway:NAME``); values are numbers such as the
        run's last event. Our own notifications come back too, which is harmless.
        """
        self._tasks.append(asyncio.create_task(self._listen(heard, lost), name="listen"))
        self._tasks.append(asyncio.create_task(self._notify(), name="notify"))

    def tell(self, topic: str, number: int = 0) -> None:
        """Wake whoever listens for *topic*, soon; the highest number of a topic is kept."""
        self._outbox[topic] = max(number, self._outbox.get(topic, 0))
        self._outbox_filled.set()

    async def _notify(self) -> None:
        while True:
            await self._outbox_filled.wait()
            self._outbox_filled.clear()
            outbox, self._outbox = self._outbox, {}
            for payload in _payloads(outbox):
                # A lost notification costs the listener's slow poll, nothing more.
                with contextlib.suppress(UnavailableError):
                    await self._pg_notify(payload)
            await asyncio.sleep(NOTIFY_EVERY)

    async def _pg_notify(self, payload: str) -> None:
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))

    async def _listen(
        self, heard: Callable[[dict[str, int]], None], lost: Callable[[], None]
    ) -> None:
        while True:
            try:
                await self._listen_once(heard, lost)
            except (psycopg.Error, OSError, TimeoutError) as error:
                self.last_failure = asyncio.get_running_loop().time()
                _log.warning("listener_lost", error=str(error).strip())
            await asyncio.sleep(0.5)

    async def _listen_once(
        self, heard: Callable[[dict[str, int]], None], lost: Callable[[], None]
    ) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self.dsn, autocommit=True, application_name="plue-listen", **_PATIENCE
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            # Whatever was said while nobody listened was missed: look for yourselves.
            lost()
            while True:
                async for notification in connection.notifies(timeout=10.0):
                    heard(json.loads(notification.payload))
                # A dead socket is silent: ask something, so that it costs ten seconds at most.
                async with asyncio.timeout(5.0):
                    await connection.execute("SELECT 1")


async def _let_go(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have Postgres undo what this process began and then forgot."""
    idle = round(LET_GO_AFTER.total_seconds() * 1000)
    await connection.execute(f"SET idle_in_transaction_session_timeout = {idle}")


class Transaction:
    """Named statements inside one open transaction."""

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], pipeline: psycopg.AsyncPipeline
    ) -> None:
        """Use *connection*, which is inside a transaction and that *pipeline*."""
        self._connection, self._pipeline = connection, pipeline

    async def rows(self, name: str, parameters: Parameters) -> list[DictRow]:
        """Run one named statement that returns rows, and wait for them."""
        cursor = await _execute(self._connection, name, parameters)
        # Not only flushed: Postgres takes a connection for idle when all that was sent is done.
        await self._pipeline.sync()
        return await cursor.fetchall()

    async def send(self, name: str, parameters: Parameters) -> None:
        """Send one named statement; what it says comes with the commit."""
        await _execute(self._connection, name, parameters)


async def _execute(
    connection: psycopg.AsyncConnection[Any], name: str, parameters: Parameters
) -> psycopg.AsyncCursor[Any]:
    prepare = False if name in PLANNED_ANEW else None
    return await connection.execute(SQL[name], parameters, prepare=prepare)


async def _run(
    connection: psycopg.AsyncConnection[Any], statements: Statements
) -> list[list[DictRow]]:
    if len(statements) == 1:
        name, parameters = statements[0]
        cursor = await _execute(connection, name, parameters)
        return [await cursor.fetchall() if cursor.description else []]
    async with connection.pipeline(), connection.transaction():
        cursors = [await _execute(connection, n, p) for n, p in statements]
    return [await c.fetchall() if c.description else [] for c in cursors]


def _payloads(outbox: Mapping[str, int], limit: int = 7000) -> list[str]:
    """Put topics into as few payloads as fit; Postgres takes less than 8,000 bytes each."""
    payloads: list[str] = []
    part: dict[str, int] = {}
    size = 2
    for topic, number in outbox.items():
        length = len(topic) + 24
        if part and size + length > limit:
            payloads.append(json.dumps(part))
            part, size = {}, 2
        part[topic] = number
        size += length
    if part:
        payloads.append(json.dumps(part))
    return payloads


def seconds(duration: timedelta | None) -> str | None:
    """Return an interval as Postgres reads it; None stays None."""
    return None if duration is None else f"{duration.total_seconds()} s"

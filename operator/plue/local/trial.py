"""A small Postgres for trying Plue in a cluster: the embedded one, reached with a password.

No replica, no backup, no tuning: what it holds is as safe as its one volume. It saves a trial a
second image and an operator for databases; a team brings a database of its own.
"""

import asyncio
import signal
from pathlib import Path

import psycopg
import structlog
from psycopg import sql

from plue.local.postgres import EmbeddedPostgres

__all__ = ["DATABASE", "ROLE", "TrialPostgres", "serve_until_told"]

_log = structlog.get_logger(__name__)

ROLE = DATABASE = "plue"

_ACCESS = """# who may connect, written at every start
local all postgres trust
host plue plue all scram-sha-256
"""


class TrialPostgres:
    """A Postgres with one role and one database, from ``start`` to ``close``."""

    def __init__(self, data: Path, *, password: str, listen: str) -> None:
        """Keep it in *data*; *listen* is an address, or `*`; the port is 5432."""
        self._data = data
        self._password = password
        access = data / "access.conf"
        settings = {
            "listen_addresses": listen,
            "hba_file": str(access.absolute()),
            "max_connections": "200",
            "password_encryption": "scram-sha-256",
        }
        self._access = access
        self._server = EmbeddedPostgres(data, settings=settings)

    async def start(self) -> None:
        """Start it, and set the password. Raises UnavailableError."""
        self._data.mkdir(parents=True, exist_ok=True)
        self._access.write_text(_ACCESS)
        await self._server.start()
        await asyncio.to_thread(self._admit)

    def _admit(self) -> None:
        role, name = sql.Identifier(ROLE), sql.Identifier(DATABASE)
        with psycopg.connect(self._server.dsn("postgres"), autocommit=True) as connection:
            there = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (ROLE,))
            verb = sql.SQL("CREATE" if there.fetchone() is None else "ALTER")
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                    verb, role, sql.Literal(self._password)
                )
            )
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, role))
        with psycopg.connect(self._server.dsn(DATABASE), autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(role))

    async def close(self) -> None:
        """Stop it."""
        await self._server.close()


async def serve_until_told(server: TrialPostgres) -> None:
    """Serve until INT or TERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    _log.info("trial_postgres_started")
    await stop.wait()
    await server.close()

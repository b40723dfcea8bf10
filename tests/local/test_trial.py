"""The small Postgres for trials: reached over TCP, with its password only."""

import os
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from plue.local.trial import DATABASE, ROLE, TrialPostgres
from plue.store.migrations import migrate, scripts

ADDRESS = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 256}.5"
"""An address of loopback of this process's own: the port is always the same."""


async def test_only_the_password_opens_it_and_it_can_change(tmp_path: Path) -> None:
    """The role owns its database; another password, and another database, are refused."""
    for password in ("first", "second"):
        server = TrialPostgres(tmp_path / "data", password=password, listen=ADDRESS)
        await server.start()
        try:
            dsn = make_conninfo(
                host=ADDRESS, port=5432, user=ROLE, dbname=DATABASE, password=password
            )
            assert len(await migrate(dsn)) == (len(scripts()) if password == "first" else 0)
            for wrong in ({"password": "wrong"}, {"dbname": "postgres"}, {"user": "postgres"}):
                with pytest.raises(psycopg.OperationalError):
                    psycopg.connect(make_conninfo(dsn, **wrong), connect_timeout=5)
        finally:
            await server.close()

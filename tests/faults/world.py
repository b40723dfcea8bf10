"""One local server and all that belongs to it, as processes that can be found, ended and halted."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

__all__ = ["QUICK", "Died", "World"]

HERE = Path(__file__).resolve().parent
TREE = HERE / "tree"
START_SECONDS = 60.0
END_SECONDS = 75.0
PATIENCE = 30.0

QUICK: Mapping[str, float] = {
    "lease": 6.0,
    "lease_margin": 2.0,
    "grace": 1.0,
    "cancel_margin": 3.0,
    "poll": 0.5,
}
"""Seconds; see EngineSettings."""


class Died(Exception):  # noqa: N818 - it is what a test asked for
    """The server ended while it was started."""


@dataclass
class World:
    """A folder with a server in it; ``start`` and ``kill`` as often as one likes."""

    folder: Path
    proxy: str | None = None
    mutations: Sequence[str] = ()
    engine: Mapping[str, float] = field(default_factory=lambda: dict(QUICK))
    runners: int = 2
    max_runners: int = 6
    environment: Mapping[str, str] = field(default_factory=dict)
    runner_clock: Path | None = None
    """The file of a wall clock of the runners' own; see clock.c."""
    wrapper: Sequence[str] = ()
    """Words in front of the server's command."""
    heartbeat: float = 3.0
    unread: float = 30.0
    """Seconds after which a client that does not read is cut off."""
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    _evaluators: set[psutil.Process] = field(default_factory=set)
    port: int = field(default_factory=lambda: free_port())  # noqa: PLW0108 - it stands below
    """One for life: clients of another world must not come here."""

    @property
    def data(self) -> Path:
        """The server's folder."""
        return self.folder / "data"

    @property
    def journal(self) -> Path:
        """What steps wrote, whoever ran them."""
        return self.folder / "journal"

    def prepare(self) -> None:
        """Write what the wrapped processes read."""
        for name in ("armed", "fired"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.journal.touch()
        setup = {
            "engine": dict(self.engine),
            "proxy": self.proxy,
            "mutations": list(self.mutations),
            "heartbeat": self.heartbeat,
            "runner_clock": str(self.runner_clock) if self.runner_clock else None,
            "unread": self.unread,
        }
        (self.folder / "setup.json").write_text(json.dumps(setup))

    # ── marks ────────────────────────────────────────────────────────────────────────────────────

    def arm(self, mark: str, action: str = "kill") -> None:
        """Have the next process that reaches *mark* do *action*: kill, pause S, skip N …."""
        fresh = self.folder / f"{mark}.new"
        fresh.write_text(action)
        fresh.replace(self.folder / "armed" / mark)

    def disarm(self) -> None:
        """Let no mark do anything."""
        for path in (self.folder / "armed").iterdir():
            path.unlink(missing_ok=True)

    @property
    def fired(self) -> list[str]:
        """The marks that have fired, in no order; one entry a time."""
        return [path.name.partition(".")[0] for path in (self.folder / "fired").iterdir()]

    async def dead_have_died(self) -> None:
        """Wait until the processes that a mark killed have ended."""
        pids = [int(path.name.rpartition(".")[2]) for path in (self.folder / "fired").iterdir()]
        if self.process is not None and self.process.pid in pids:
            await self.process.wait()

    @property
    def reached(self) -> set[str]:
        """The marks that any process has reached."""
        with contextlib.suppress(FileNotFoundError):
            return set((self.folder / "hits").read_text().split())
        return set()

    # ── the server ───────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start the server and wait until it serves. Raises Died."""
        self.starts += 1
        words = [*self.wrapper, sys.executable, str(HERE / "entry.py"), "up"]
        words += ["--data", str(self.data), "--tree", str(TREE), "--runners", str(self.runners)]
        words += ["--port", str(self.port)]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PLUE_")}
        log = os.open(self.folder / "up.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={
                    **kept,
                    "FAULTS": str(self.folder),
                    "FAULTS_JOURNAL": str(self.journal),
                    "PLUE_MAX_RUNNERS": str(self.max_runners),
                    **self.environment,
                },
            )
        finally:
            os.close(log)
        async with asyncio.timeout(START_SECONDS):
            await self._served(self.process)

    async def _served(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"Ctrl-C"):
                return
        said = (self.folder / "up.log").read_text()[-2000:]
        raise Died(f"the server ended with {await process.wait()} before it served: {said}")

    @property
    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self.process is not None and self.process.returncode is None

    async def kill(self) -> None:
        """End the server without a chance to say goodbye."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def stop(self) -> int:
        """End the server as Ctrl-C does; return its exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        async with asyncio.timeout(END_SECONDS):
            return await self.process.wait()

    def address(self) -> tuple[str, str]:
        """Return (URL, token) as they are now. Raises OSError, ValueError while there is none."""
        record = json.loads((self.data / "server.json").read_text())
        return record["url"], record["token"]

    # ── processes ────────────────────────────────────────────────────────────────────────────────

    def runner_pids(self) -> dict[str, int]:
        """Return the runners that have a process, by id."""
        found = {}
        for record in (self.data / "runners").glob("*/process.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                found[record.parent.name] = int(json.loads(record.read_text())["pid"])
        return found

    def postgres_pid(self) -> int | None:
        """Return the postmaster."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = (self.data / "postgres18" / "postmaster.pid").read_text().splitlines()
            return int(lines[0])
        return None

    def postgres_pids(self) -> list[int]:
        """Return the postmaster and its children."""
        top = self.postgres_pid()
        if top is None:
            return []
        with contextlib.suppress(psutil.Error):
            return [top, *(child.pid for child in psutil.Process(top).children())]
        return []

    def evaluator_pid(self) -> int | None:
        """Return the evaluator of the server that runs now."""
        if self.process is None or not self.alive:
            return None
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any("authoring.sandbox.host" in word for word in child.cmdline()):
                        self._evaluators.add(child)
                        return child.pid
        return None

    def processes(self) -> list[psutil.Process]:
        """Return every process that belongs to this world, and executes."""
        return list(self._belonging())

    def _belonging(self) -> Iterator[psutil.Process]:
        mark = str(self.folder)
        # An evaluator has neither our variables nor our folder: those seen are looked for.
        for process in {*psutil.process_iter(), *self._evaluators}:
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                marked = process.environ().get("FAULTS") == mark
                seen = process in self._evaluators and process.is_running()
                if marked or seen or process.cwd().startswith(mark):
                    yield process

    async def sweep(self) -> None:
        """KILL everything of this world: the end of a test, whatever has happened in it."""
        for _ in range(20):
            left = self.processes()
            if not left:
                break
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            await asyncio.to_thread(psutil.wait_procs, left, 1.0)
        if self.process is not None:
            await self.process.wait()

    # ── the database ─────────────────────────────────────────────────────────────────────────────

    def query(self, statement: str, *parameters: Any) -> list[DictRow]:
        """Return rows of the server's database."""
        dsn = make_conninfo(
            host=str(self.data / "socket"), port=5432, user="postgres", dbname="plue"
        )
        with psycopg.connect(dsn, row_factory=dict_row, connect_timeout=10) as connection:
            return connection.execute(statement.encode(), parameters or None).fetchall()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes of which some may be gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

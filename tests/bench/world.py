"""The places that benchmarks measure in: one Postgres, real servers on it, a project with files.

Postgres is the embedded one with the settings that `plue up` gives it, fsync included. Servers
are processes of their own, so that what the measuring itself costs is not theirs.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import psycopg
from psycopg import sql

from bench.history import fill
from bench.usage import Part
from plue.local.postgres import EmbeddedPostgres
from plue.store.migrations import migrate

__all__ = ["Up", "World", "a_world", "plue_words"]

_READY_SECONDS = 120.0


def plue_words(*words: str) -> list[str]:
    """Return the command line of `plue WORDS` with this interpreter."""
    return [sys.executable, "-m", "plue.cli.main", *words]


@dataclass(frozen=True, slots=True)
class Up:
    """A running server: `plue up`, or the host of simulated runners."""

    url: str
    token: str
    pid: int
    dsn: str
    data: Path

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Give a client that knows the token and keeps its connections."""
        headers = {"Authorization": f"Bearer {self.token}"}
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            self.url, headers=headers, connector=connector, timeout=timeout
        ) as session:
            yield session

    async def idle(self, wanted: int = 1) -> None:
        """Wait until *wanted* runners are warm."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            while True:
                found = await connection.execute(
                    "SELECT count(*) FROM runners WHERE state = 'idle' AND gateway IS NOT NULL"
                )
                row = await found.fetchone()
                if row is not None and row[0] >= wanted:
                    return
                await asyncio.sleep(0.005)


class World:
    """What a benchmark is given. ``smoke`` makes everything tiny: it shows that it still runs."""

    def __init__(self, folder: Path, *, smoke: bool, tell: Callable[[str], None]) -> None:
        """Work below *folder*."""
        self.folder = folder
        self.smoke = smoke
        self.tell = tell
        self.postgres = EmbeddedPostgres(folder / "postgres", settings={"max_connections": "100"})
        self._filled = -1
        self._databases = 0

    def n(self, full: int, smoke: int) -> int:
        """Return how many to measure."""
        return smoke if self.smoke else full

    @property
    def postgres_part(self) -> Part:
        """Postgres with all its processes."""
        return Part(self.postgres.pid or 0, below=True)

    async def database(self, history: int | None = None) -> str:
        """Return the address of a database: a fresh one, or the one with at least *history* runs.

        The one with history grows from call to call and is never made smaller.
        """
        if history is None:
            self._databases += 1
            return await self._create(f"bench_{self._databases}")
        if self._filled < 0:
            await self._create("history")
        dsn = self.postgres.dsn("history")
        if history > self._filled:
            self.tell(f"making a history of {history:,} runs")
            await asyncio.to_thread(fill, dsn, max(0, self._filled), history)
            self._filled = history
        return dsn

    async def _create(self, name: str) -> str:
        address = self.postgres.dsn("postgres")
        async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        dsn = self.postgres.dsn(name)
        await migrate(dsn)
        return dsn

    async def forget_runners(self, dsn: str) -> None:
        """Count what an earlier server of this database left as gone: its hosts are not ours."""
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute(
                "UPDATE runners SET state = 'gone', gone_at = now(), gateway = NULL"
                " WHERE state <> 'gone'"
            )

    def project(self, name: str, workflow: str, *, files: int = 0) -> Path:
        """Make a git repository with *workflow* and *files* files of some KB; return its root.

        One of that name that is there already is returned as it is.
        """
        root = self.folder / name
        if root.exists():
            return root
        (root / ".plue" / "workflows").mkdir(parents=True)
        (root / ".plue" / "workflows" / "bench.py").write_text(workflow)
        for number in range(files):
            path = root / f"src/part{number % 40:02}/file{number:05}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"line of file {number}\n" * 200)
        for words in (["init", "-q"], ["add", "-A"]):
            subprocess.run(["git", "-C", str(root), *words], check=True)
        return root

    @contextlib.asynccontextmanager
    async def up(
        self, root: Path, *, dsn: str, runners: int = 2, **variables: str
    ) -> AsyncIterator[Up]:
        """Run `plue up` for the project at *root* on *dsn*."""
        data = Path(tempfile.mkdtemp(prefix="up-", dir=self.folder))
        await self.forget_runners(dsn)
        words = plue_words("up", "--data", str(data), "--tree", str(root), "--database", dsn)
        words += ["--runners", str(runners)]
        process = await asyncio.to_thread(_start, words, data, variables)
        try:
            told = await asyncio.to_thread(_record_of, process, data)
            yield Up(told["url"], told["token"], process.pid, dsn, data)
        finally:
            await asyncio.to_thread(_stop, process)

    def parts(self, up: Up) -> dict[str, Part]:
        """Return the parts of a server on our Postgres: itself, its evaluator, its runners."""
        evaluator = [
            p.pid for p in psutil.Process(up.pid).children() if "sandbox.host" in str(p.cmdline())
        ]
        return {
            "server": Part(up.pid),
            "runners": Part(up.pid, itself=False, below=True, but=evaluator),
            "postgres": self.postgres_part,
        }


def environment(**variables: str) -> dict[str, str]:
    """Return our environment without settings of Plue, and with ours to import from.

    Compiled code is kept, as where people install Plue: each start would compile it all again.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PLUE_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **variables}


def _start(words: list[str], data: Path, variables: dict[str, str]) -> "subprocess.Popen[bytes]":
    with (data / "output.txt").open("wb") as output:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment(**variables),
        )


def _record_of(process: "subprocess.Popen[bytes]", data: Path) -> Any:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((data / "server.json").read_text())
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise RuntimeError(f"the server did not start: {(data / 'output.txt').read_text()[-2000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Short: sockets' paths are. Not pytest's: `make bench` has none.
    folder = Path(tempfile.mkdtemp(prefix="plue-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def a_world(*, smoke: bool, tell: Callable[[str], None]) -> AsyncIterator[World]:
    """Give a world, with Postgres running, that leaves nothing behind."""
    with _folder() as folder:
        world = World(folder, smoke=smoke, tell=tell)
        await world.postgres.start()
        try:
            yield world
        finally:
            await world.postgres.close()

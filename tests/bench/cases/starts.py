"""How long it takes until something is there: commands, a server, a database."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.figures import Figure
from bench.world import World, environment, plue_words
from plue.local.postgres import EmbeddedPostgres

__all__ = ["cli_start", "postgres_start", "up_start"]

_WORKFLOW = """
from plue import manual, workflow

@workflow(triggers=[manual()])
def hello(ctx):
    ctx.run("hello", "echo hello")
"""


async def cli_start(world: World, _history: int | None) -> list[Figure]:
    """Run commands to their end."""
    root = world.project("commands", _WORKFLOW)
    count = world.n(15, 1)
    figures = [
        await _command("cli-start", "plue --help", ["--help"], root, count),
        _bare("cli-start", count),
    ]
    if world.smoke:
        return figures
    async with world.up(root, dsn=await world.database(), runners=0) as up:
        shown = ["run", "list"]
        folder = {"PLUE_DATA": str(up.data)}
        what = "plue run list, against a server"
        figures.append(await _command("cli-start", what, shown, root, count, **folder))
    private = {"PLUE_DATA": str(world.folder / "private")}
    await _command("cli-start", "", ["run", "list"], root, 1, **private)  # makes the database
    what = "plue run list, with a private server"
    figures.append(await _command("cli-start", what, ["run", "list"], root, 7, **private))
    return figures


async def _command(
    bench: str, what: str, words: Sequence[str], root: Path, count: int, **variables: str
) -> Figure:
    values, cpu = [], 0.0
    for _ in range(count):
        before = _children_cpu()
        begun = time.perf_counter()
        done = await asyncio.to_thread(
            subprocess.run,
            plue_words(*words),
            cwd=root,
            env=environment(**variables),
            capture_output=True,
            check=False,
        )
        values.append((time.perf_counter() - begun) * 1000)
        cpu += _children_cpu() - before
        if done.returncode != 0:
            raise RuntimeError(f"plue {' '.join(words)}: {done.stderr.decode()[-1000:]}")
    note = "CPU seconds are of one start" if what else None
    return Figure(bench=bench, what=what, values=values, cpu={"all": cpu / count}, note=note)


def _children_cpu() -> float:
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


def _bare(bench: str, count: int) -> Figure:
    values = []
    for _ in range(count):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import typer"], check=True, env=environment())
        values.append((time.perf_counter() - begun) * 1000)
    return Figure(bench=bench, what="reference: Python that imports typer", values=values)


async def up_start(world: World, _history: int | None) -> list[Figure]:
    """Start `plue up` with its own database until it says where it is."""
    root = world.project("up", _WORKFLOW)
    cold, warm = [], []
    cold_cpu = warm_cpu = 0.0
    for _ in range(world.n(5, 1)):
        data = Path(tempfile.mkdtemp(prefix="d", dir=world.folder))
        took, cpu = await asyncio.to_thread(_up_once, root, data)
        cold.append(took)
        cold_cpu += cpu
        for _ in range(world.n(2, 0)):
            took, cpu = await asyncio.to_thread(_up_once, root, data)
            warm.append(took)
            warm_cpu += cpu
    note = "CPU seconds are of one start and end, runners included"
    return [
        Figure(
            bench="up-start",
            what=what,
            values=values,
            cpu={"all": cpu / max(1, len(values))},
            note=note,
        )
        for what, values, cpu in (
            ("plue up, new data folder", cold, cold_cpu),
            ("plue up, existing data folder", warm, warm_cpu),
        )
        if values
    ]


def _up_once(root: Path, data: Path) -> tuple[float, float]:
    before, begun = _children_cpu(), time.perf_counter()
    process = subprocess.Popen(
        plue_words("up", "--data", str(data), "--tree", str(root), "--runners", "1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        text=True,
    )
    try:
        said = []
        for line in process.stdout or ():
            said.append(line)
            if line.startswith("Ctrl-C"):
                took = (time.perf_counter() - begun) * 1000
                break
        else:
            raise RuntimeError(f"plue up did not start: {''.join(said)}")
    finally:
        process.terminate()
        process.communicate()
    return took, _children_cpu() - before


async def postgres_start(world: World, _history: int | None) -> list[Figure]:
    """Start the embedded Postgres in a new folder, and again in an existing one."""
    new: list[float] = []
    existing: list[float] = []
    for _ in range(world.n(5, 1)):
        folder = Path(tempfile.mkdtemp(prefix="p", dir=world.folder))
        for values in (new, existing):
            server = EmbeddedPostgres(folder)
            begun = time.perf_counter()
            await server.start()
            values.append((time.perf_counter() - begun) * 1000)
            await server.close()
    return [
        Figure(bench="postgres-start", what="embedded Postgres, new folder", values=new),
        Figure(bench="postgres-start", what="embedded Postgres, existing folder", values=existing),
    ]

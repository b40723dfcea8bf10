"""From the request that makes a run to its first output at an SSE client, with warm runners."""

import asyncio
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import aiohttp

from bench.figures import Figure, Goal, percentile
from bench.following import follow, started
from bench.usage import metered
from bench.world import Up, World

__all__ = ["first_output", "first_output_on_a_copy"]

GOAL = Goal(p50=20, p99=60)

_WORKFLOW = """
from plue import manual, workflow

@workflow(triggers=[manual()])
def hello(ctx):
    ctx.run("hello", "echo hello")
    return ctx.success()
"""

_TREE_FILES = 2000


async def first_output(world: World, history: int | None) -> list[Figure]:
    """Make runs one at a time that work in an empty folder."""
    dsn = await world.database(history)
    figure = await _measured(world, dsn, 0, "run created → first output", world.n(150, 2))
    return [replace(figure, history=history)]


async def first_output_on_a_copy(world: World, _history: int | None) -> list[Figure]:
    """Make runs one at a time that work on a copy of a small and of a large tree."""
    dsn, figures = await world.database(), []
    for files, count in ((20, world.n(60, 2)), (world.n(_TREE_FILES, 40), world.n(20, 2))):
        what = f"run created → first output, on a copy of a tree of {files:,} files"
        figures.append(await _measured(world, dsn, files, what, count))
    root = world.folder / f"hello-{world.n(_TREE_FILES, 40)}"
    return [*figures[:-1], replace(figures[-1], reference=await asyncio.to_thread(_tar, root))]


async def _measured(world: World, dsn: str, files: int, what: str, count: int) -> Figure:
    root = world.project(f"hello-{files}", _WORKFLOW, files=files)
    workspace, warm = "tree" if files else "none", world.n(3, 1)
    async with world.up(root, dsn=dsn, runners=warm) as up, up.client() as client:
        await _one(up, client, workspace, warm)
        with metered(world.parts(up)) as usage:
            values = [await _one(up, client, workspace, warm) for _ in range(count)]
    return Figure(
        bench="first-output-on-a-copy" if files else "first-output",
        what=what,
        values=values,
        goal=GOAL,
        cpu=usage.cpu,
        memory=usage.memory,
        note="CPU includes making the next warm runner for each run",
    )


async def _one(up: Up, client: aiohttp.ClientSession, workspace: str, warm: int) -> float:
    """Return the milliseconds of one run."""
    await up.idle(warm)
    # The new runner's own start has used the processors until just now.
    await asyncio.sleep(0.05)
    begun = time.perf_counter()
    run = await started(client, "hello", workspace=workspace)
    took = None
    async for event in follow(client, run):
        if took is None and event["type"] == "step_output":
            took = (time.perf_counter() - begun) * 1000
    if took is None:
        raise RuntimeError(f"the run {run} printed nothing")
    return took


def _tar(root: Path) -> str:
    """Say what unpacking the tree costs at least: the files' making is the file system's."""
    archive, took = root.parent / "reference.tar", []
    subprocess.run(["tar", "-cf", archive, "-C", root, "."], check=True)
    for number in range(5):
        place = root.parent / f"reference-{number}"
        place.mkdir()
        begun = time.perf_counter()
        subprocess.run(["tar", "-xf", archive, "-C", place], check=True)
        took.append((time.perf_counter() - begun) * 1000)
        shutil.rmtree(place)
    return f"tar -xf of the same tree alone: p50 {percentile(took, 0.5):,.0f} ms"

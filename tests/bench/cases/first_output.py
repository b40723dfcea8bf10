"""From the request that makes a run to its first output at an SSE client, with warm runners."""

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import aiohttp

from bench.figures import Figure, Goal, percentile
from bench.following import follow, started
from bench.usage import metered
from bench.world import Up, World

__all__ = ["first_output"]

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
    """Make runs one at a time; the tree's size matters only where a run works on a copy of it."""
    dsn = await world.database(history)
    figures, warm = [], world.n(3, 1)
    for files, workspace, what in (
        (0, "none", "run created → first output"),
        (20, "tree", "the same, on a copy of a tree of 20 files"),
        (_TREE_FILES, "tree", f"the same, on a copy of a tree of {_TREE_FILES:,} files"),
    ):
        if files and world.smoke:
            continue
        root = world.project(f"hello-{files}-{history}", _WORKFLOW, files=files)
        async with world.up(root, dsn=dsn, runners=warm) as up, up.client() as client:
            await _one(up, client, workspace, warm)
            with metered(world.parts(up)) as usage:
                count = world.n(100 if not files else 40, 2)
                values = [await _one(up, client, workspace, warm) for _ in range(count)]
            reference = await asyncio.to_thread(_tar, root) if files == _TREE_FILES else None
            figures.append(
                Figure(
                    bench="first-output",
                    what=what,
                    values=values,
                    goal=GOAL,
                    reference=reference,
                    cpu=usage.cpu,
                    memory=usage.memory,
                    history=history,
                    note="CPU includes making the next warm runner for each run",
                )
            )
    return figures


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

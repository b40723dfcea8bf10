"""The gap between two steps of one run, by the steps' own clocks."""

import subprocess
import sys
from itertools import pairwise

from bench.figures import Figure, Goal, percentile
from bench.following import read_run, started
from bench.usage import metered
from bench.world import World

__all__ = ["step_gap"]

STEPS = 200

# The shell's own clock, read by nothing but itself: the first and last thing that a step does.
_WORKFLOW = """
from plue import manual, workflow

@workflow(triggers=[manual()])
def gaps(ctx):
    for number in range({steps}):
        ctx.run("step " + str(number), "echo $EPOCHREALTIME")
    return ctx.success()
"""


async def step_gap(world: World, _history: int | None) -> list[Figure]:
    """Run steps that only tell the time; a gap holds an end, a start and a shell's start."""
    steps = world.n(STEPS, 5)
    root = world.project("gaps", _WORKFLOW.format(steps=steps))
    gaps: list[float] = []
    async with world.up(root, dsn=await world.database(), runners=1) as up, up.client() as client:
        with metered(world.parts(up)) as usage:
            for _ in range(world.n(5, 1)):
                await up.idle()
                run = await started(client, "gaps")
                events = await read_run(client, run)
                times = [
                    float(event["body"]["text"])
                    for event in events
                    if event["type"] == "step_output"
                ]
                gaps += [(b - a) * 1000 for a, b in pairwise(times)]
    bare = _bare(steps)
    reference = f"subprocess.run of the same shell in a loop: p50 {percentile(bare, 0.5):.2f} ms"
    return [
        Figure(
            bench="step-gap",
            what="step to step gap inside a run",
            values=gaps,
            goal=Goal(p50=5),
            reference=f"{reference}, p99 {percentile(bare, 0.99):.2f} ms",
            cpu=usage.cpu,
            memory=usage.memory,
        )
    ]


def _bare(steps: int) -> list[float]:
    """Return the gaps of what the steps are at least: a shell after another, both pipes read."""
    # In a fresh process of the runner's size, not in ours.
    code = (
        "import subprocess\n"
        f"for _ in range({steps}):\n"
        "    done = subprocess.run(['bash', '-e', '-o', 'pipefail', '-c', 'echo $EPOCHREALTIME'],\n"
        "                          stdin=subprocess.DEVNULL, capture_output=True, check=True)\n"
        "    print(done.stdout.decode().strip())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    times = [float(line) for line in done.stdout.split()]
    return [(b - a) * 1000 for a, b in pairwise(times)]

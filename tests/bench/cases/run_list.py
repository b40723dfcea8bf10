"""The run list as its readers ask for it, at every size of the history."""

import time
from collections.abc import Sequence

from bench.figures import Figure, Goal
from bench.history import RARE
from bench.usage import metered
from bench.world import World

__all__ = ["run_list"]

_WORKFLOW = """
from plue import manual, workflow

@workflow(triggers=[manual()])
def hello(ctx):
    ctx.run("hello", "echo hello")
"""

_QUERIES = {
    "no filter": "",
    "a workflow": "workflow=workflow-7",
    "a rare workflow": f"workflow={RARE}",
    "a workflow that has no run": "workflow=nonesuch",
    "a state": "state=failed",
    "a rare state": "state=timed_out",
    "states that no run has": "state=queued&state=claimed&state=running",
    "a trigger": "trigger=schedule",
    "workflow and state": "workflow=workflow-7&state=timed_out",
    "workflow and trigger": "workflow=workflow-7&trigger=manual",
    "a rare workflow and a state": f"workflow={RARE}&state=cancelled",
    "workflow, state and trigger": "workflow=workflow-7&state=failed&trigger=schedule",
    "all three, none in common": "workflow=workflow-7&state=failed&trigger=manual",
    "state and trigger, none in common": "state=failed&trigger=manual",
    "two states and a trigger": "state=failed&state=timed_out&trigger=push",
    "two states and a trigger, none in common": "state=failed&state=timed_out&trigger=manual",
    "a namespace": "namespace=team-3",
    "half of all, and a workflow": "namespace=main&workflow=workflow-7",
    "half of all, and a rare state": "namespace=main&state=timed_out",
    "half of all, state and trigger, none in common": "namespace=main&state=failed&trigger=manual",
    "namespace and state, none in common": "namespace=team-29&state=failed",
    "namespace and trigger": "namespace=team-29&trigger=schedule",
    "namespace, workflow and state": "namespace=team-29&workflow=workflow-7&state=cancelled",
    "a namespace that has no run": "namespace=nonesuch&state=failed",
    "a namespace, deep": "namespace=team-29&cursor={middle}",
    "a page in the middle": "cursor={middle}",
    "workflow and state, deep": "workflow=workflow-7&state=failed&cursor={middle}",
}


async def run_list(world: World, history: int | None) -> list[Figure]:
    """Ask for pages of 50 with every filter, and with those together that share no index."""
    dsn = await world.database(history)
    root = world.project(f"list-{history}", _WORKFLOW)
    everything: list[float] = []
    slowest: tuple[float, str] = (0, "")
    async with world.up(root, dsn=dsn, runners=0) as up, up.client() as client:
        with metered(world.parts(up)) as usage:
            for what, query in _QUERIES.items():
                values = []
                for _ in range(world.n(40, 2)):
                    begun = time.perf_counter()
                    text = query.format(middle=(history or 0) // 2)
                    async with client.get(f"/api/v1/runs?{text}") as response:
                        await response.read()
                        response.raise_for_status()
                    values.append((time.perf_counter() - begun) * 1000)
                everything += values
                slowest = max(slowest, (_p95(values), what))
    usage.cpu.pop("runners")
    usage.memory.pop("runners")
    return [
        Figure(
            bench="run-list",
            what=f"run list, {len(_QUERIES)} filters",
            values=everything,
            goal=Goal(p95=100),
            cpu=usage.cpu,
            memory=usage.memory,
            history=history,
            note=f"slowest filter: {slowest[1]}, p95 {slowest[0]:.1f} ms",
        )
    ]


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]

"""From a step's end to the next stage's first step, by the steps' own clocks."""

from itertools import pairwise

from bench.figures import Figure
from bench.following import read_run, started
from bench.usage import metered
from bench.world import World

__all__ = ["stages"]

# The most that one branch may have; each is an evaluation, recorded and sent.
STAGES = 50

_WORKFLOW = """
from plue import manual, workflow

@workflow(triggers=[manual()])
def stages(ctx):
    {before}
    for number in range({stages}):
        if not ctx.run("step " + str(number), "echo $EPOCHREALTIME", continue_on_error=True).ok:
            break
    return ctx.success()
"""

_LONG = 'ctx.parallel([ctx.run("part " + str(p), "true", depends_on=[]) for p in range({steps})])'


async def stages(world: World, _history: int | None) -> list[Figure]:
    """Run loops that ask for each step's `.ok`; one in a plan of a few steps, one in a long one."""
    figures = []
    for steps in (0, world.n(150, 3)):
        count = world.n(STAGES, 3)
        before = _LONG.format(steps=steps) if steps else "pass"
        text = _WORKFLOW.format(before=before, stages=count)
        root = world.project(f"stages{steps}", text)
        gaps: list[float] = []
        async with world.up(root, dsn=await world.database(), runners=1) as up, up.client() as http:
            with metered(world.parts(up)) as usage:
                for _ in range(world.n(4, 1)):
                    await up.idle()
                    events = await read_run(http, await started(http, "stages"))
                    times = [
                        float(event["body"]["text"])
                        for event in events
                        if event["type"] == "step_output"
                    ]
                    gaps += [(b - a) * 1000 for a, b in pairwise(times)]
        figures.append(
            Figure(
                bench="stages",
                what=f"step end → next stage's step, plans of {steps + count} steps",
                values=gaps,
                cpu=usage.cpu,
                memory=usage.memory,
            )
        )
    return figures

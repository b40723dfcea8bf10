"""One evaluation of workflow code: a fresh child of the preloaded process, round trip included."""

import time

from bench.figures import Figure, Goal
from bench.usage import Part, metered
from bench.world import World
from plue.authoring.evaluator import Evaluator

__all__ = ["evaluation", "source"]

_GOALS = {10: Goal(p50=10), 200: Goal(p50=20)}


def source(steps: int, mark: int) -> str:
    """Return a workflow that is written out, as people do; *mark* makes it another revision."""
    lines = ["from plue import manual, workflow", "", "", "@workflow(triggers=[manual()])"]
    lines.append("def steps(ctx):")
    lines.append(f'    """Revision {mark}."""')
    for number in range(steps):
        lines.append(f'    s{number} = ctx.run("step {number}", "make part{number} MODE=fast")')
        if number % 5 == 4:
            lines.append(f'    ctx.run("check {number}", f"test {{s{number}.outputs.size}} -lt 9")')
    return "\n".join([*lines, "    return ctx.success()", ""])


async def evaluation(world: World, _history: int | None) -> list[Figure]:
    """Plan workflows of 10 and 200 steps, each text for the first time and again."""
    evaluator = Evaluator()
    await evaluator.start()
    figures = []
    try:
        pid = evaluator._link._process.pid if evaluator._link else 0
        for steps, goal in _GOALS.items():
            # Every sixth line is a check, so the workflow has a few more steps than it says.
            texts = [source(-(-steps * 5 // 6), mark) for mark in range(world.n(100, 2))]
            for again in (False, True):
                values = []
                with metered({"evaluator": Part(pid, below=True)}) as usage:
                    for text in texts if not again else texts[-1:] * world.n(300, 2):
                        begun = time.perf_counter()
                        files = {".plue/workflows/a.py": text}
                        planned = await evaluator.plan(files, "steps", inputs={}, event={})
                        values.append((time.perf_counter() - begun) * 1000)
                        if planned.plan is None or len(planned.plan.steps) != steps:
                            raise RuntimeError(f"not planned: {planned.diagnostics[:1]}")
                figures.append(
                    Figure(
                        bench="evaluation",
                        what=f"{steps} steps, {'cached code' if again else 'first time'}",
                        values=values,
                        goal=goal if again else None,
                        cpu=usage.cpu,
                        memory=usage.memory,
                    )
                )
    finally:
        await evaluator.close()
    return figures

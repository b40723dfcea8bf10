"""One evaluation of workflow code: a fresh child of the preloaded process, round trip included."""

import time

from pydantic import JsonValue

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
    """Plan workflows of 10 and 200 steps: for the first time, again, and their next stage."""
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
        figures.append(await _again(evaluator, world))
    finally:
        await evaluator.close()
    return figures


async def _again(evaluator: Evaluator, world: World) -> Figure:
    """Evaluate a plan of 200 steps once more, when all of them but the last have ended."""
    text = source(166, 0).replace(
        "    return ctx", '    ctx.run("end", "x") if s0.stdout == "a" else None\n    return ctx'
    )
    files = {".plue/workflows/a.py": text}
    first = (await evaluator.plan(files, "steps", inputs={}, event={})).plan
    if first is None or len(first.awaits) != 1:
        raise RuntimeError("the first stage does not end where it should")
    ended: dict[str, JsonValue] = {
        "ok": True,
        "state": "succeeded",
        "exit_code": 0,
        "outputs": {"size": "3"},
    }
    known = {step.name: {**ended, "stdout": "a"} for step in first.steps}
    values = []
    for _ in range(world.n(300, 2)):
        begun = time.perf_counter()
        planned = await evaluator.plan(
            files, "steps", inputs={}, event={},
            known=known, recorded=first.steps, stage=2, asked=first.awaits,
        )  # fmt: skip
        values.append((time.perf_counter() - begun) * 1000)
        if planned.plan is None or len(planned.plan.steps) != len(first.steps) + 1:
            raise RuntimeError(f"not planned: {planned.diagnostics[:1]}")
    return Figure(bench="evaluation", what="200 steps, next stage", values=values)

"""Finished one-step runs per second: everything that a run costs the server, runners simulated."""

import asyncio
import time

import procrastinate
from procrastinate import PsycopgConnector

from bench.figures import Figure, Goal
from bench.paper import a_stage
from bench.simulated import Runner, step_completed, step_output, step_started
from bench.usage import metered
from bench.world import World

__all__ = ["runs_per_second"]

_AT_ONCE = 50


class _OneStep:
    """A step that says hello."""

    def started(self, runner: Runner) -> None:
        # Alone: the first start of an attempt is stored before it happens.
        runner.events(step_started(1))

    def acked(self, runner: Runner, through: int) -> None:
        if through == 1:
            runner.events(step_output(2, "hello\n", 1), step_completed(3))
            runner.finish(3)


async def runs_per_second(world: World, history: int | None) -> list[Figure]:
    """Submit, claim, execute and end runs, each with a runner of its own that connects and goes."""
    count = world.n(5000, 20)
    dsn = await world.database(history)
    async with a_stage(world, dsn, _OneStep, warm=_AT_ONCE, maximum=3 * _AT_ONCE) as stage:
        await stage.up.idle(min(_AT_ONCE, count))
        with metered(stage.parts(world)) as usage:
            rate = count / await stage.run(count, at_once=20, seconds=600)
        submitting = count / stage.submitting
    jobs = await _procrastinate(await world.database(), world.n(3000, 20))
    return [
        Figure(
            bench="runs-per-second",
            what="finished one-step runs",
            unit="/s",
            rate=rate,
            n=count,
            goal=Goal(at_least=500),
            reference=f"procrastinate {procrastinate.__version__}, a job that does nothing,"
            f" deferred and done, {_AT_ONCE} at once: {jobs:.0f}/s",
            cpu=usage.cpu,
            memory=usage.memory,
            history=history,
            note="from the first submission to the last end, with making, connecting and ending a"
            f" simulated runner for each; submitting alone went at {submitting:,.0f}/s",
        )
    ]


async def _procrastinate(dsn: str, count: int) -> float:
    """Return the rate of a queue on Postgres that hands out jobs with SKIP LOCKED."""
    app = procrastinate.App(connector=PsycopgConnector(conninfo=dsn))

    @app.task(name="nothing", pass_context=False)
    async def nothing() -> None:
        pass

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        begun, left = time.perf_counter(), iter(range(count))

        async def defer() -> None:
            for _ in left:
                await nothing.defer_async()

        await asyncio.gather(*(defer() for _ in range(20)))
        await app.run_worker_async(
            wait=False, concurrency=_AT_ONCE, install_signal_handlers=False, listen_notify=False
        )
        return count / (time.perf_counter() - begun)

"""What followers see: how old a line is when it arrives, and how many may follow one process."""

import asyncio
import sys
import time

from bench.bare_sse import bare_latencies
from bench.figures import Figure, Goal, percentile
from bench.following import started
from bench.paper import Stage, a_stage
from bench.simulated import Runner, step_completed, step_output, step_started
from bench.sse import Follower, follower
from bench.usage import Usage, metered
from bench.world import World

__all__ = ["event_latency", "subscribers"]

_RUNS, _CLIENTS, _LINES = 20, 100, 1000

_CHATTY = """
from plue import manual, workflow

PRINT = '''exec {python} -u -c "
import time
begun, n = time.time(), 0
while n < {total}:
    n += 1
    time.sleep(max(0, begun + n / {rate} - time.time()))
    print(f'@{{time.time():.6f}}@')
"'''

@workflow(triggers=[manual()])
def chatty(ctx):
    ctx.run("print", PRINT)
    return ctx.success()
"""


async def event_latency(world: World, history: int | None) -> list[Figure]:
    """Let real runners' steps print the time, and compare when a client has the line."""
    runs, seconds = world.n(_RUNS, 1), world.n(20, 1)
    rate = _LINES // _RUNS
    clients = world.n(_CLIENTS, 2)
    source = _CHATTY.format(total=rate * seconds, rate=rate, python=sys.executable)
    root = world.project(f"chatty-{history}", source)
    dsn = await world.database(history)
    async with (
        world.up(root, dsn=dsn, runners=runs, PLUE_MAX_RUNNERS=str(runs)) as up,
        up.client() as client,
    ):
        await up.idle(runs)
        with metered(world.parts(up)) as usage:
            names = [await started(client, "chatty") for _ in range(runs)]
            followers = [
                await follower(up.url, f"/api/v1/runs/{names[i % runs]}/events", up.token)
                for i in range(clients)
            ]
            async with asyncio.timeout(seconds + 120):
                await asyncio.gather(*(f.over for f in followers))
    each = [f.latencies for f in followers]
    if {len(values) for values in each} != {rate * seconds}:
        raise RuntimeError(f"lines at clients: {sorted({len(v) for v in each})}")
    # The first seconds have the starts of the steps' interpreters in them, twenty at once.
    values = [v for latencies in each for v in latencies[3 * rate if not world.smoke else 0 :]]
    return [
        Figure(
            bench="event-latency",
            what=f"runner's write → SSE client, {rate * runs:,} lines/s, {runs} runs,"
            f" {clients} clients",
            values=values,
            goal=Goal(p50=50, p99=200),
            cpu=usage.cpu,
            memory=usage.memory,
            history=history,
        )
    ]


class _Clock:
    """Prints the time now and then, perhaps with much behind it."""

    def __init__(self, every: float, times: int, padding: int = 0) -> None:
        self.every, self.times = every, times
        self.run: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.begin = asyncio.Event()
        self._padding = "x" * padding
        self._task: asyncio.Task[None] | None = None

    def started(self, runner: Runner) -> None:
        runner.events(step_started(1))

    def acked(self, runner: Runner, through: int) -> None:
        if through == 1 and self._task is None:
            self.run.set_result(runner.run.decode())
            self._task = asyncio.create_task(self._print(runner))

    async def _print(self, runner: Runner) -> None:
        await self.begin.wait()
        last = 1 + self.times
        for n in range(2, last + 1):
            runner.events(step_output(n, f"@{time.time():.6f}@{self._padding}\n", n - 1))
            await asyncio.sleep(self.every)
        runner.events(step_completed(last + 1))
        runner.finish(last + 1)


_EVERY = 0.25
_BULK, _BULK_EVERY = 60_000, 0.025


async def subscribers(world: World, _history: int | None) -> list[Figure]:
    """Follow one run with 2,000 clients; then again, beside some that do not read."""
    count, times = world.n(2000, 10), world.n(60, 6)
    goal = Goal(p99=1000)
    bare, bare_cpu = await bare_latencies(count, times, _EVERY)
    figures = []
    for slow, what in (
        (0, f"{count:,} SSE subscribers of one process, an event every {_EVERY:g} s"),
        (world.n(20, 1), "the same, beside clients of another run that do not read"),
    )[world.n(0, 1) :]:
        crowd, usage, note = await _crowd(world, count, times, slow)
        figures.append(
            Figure(
                bench="subscribers",
                what=what,
                values=[value for one in crowd for value in one.latencies],
                goal=goal,
                reference=f"bare aiohttp, as many and as often: p50 {percentile(bare, 0.5):.0f} ms,"
                f" p99 {percentile(bare, 0.99):.0f} ms, {bare_cpu:.1f} CPU s",
                cpu=usage.cpu,
                memory=usage.memory,
                note=note,
            )
        )
    return figures


async def _crowd(
    world: World, count: int, times: int, slow: int
) -> tuple[list[Follower], Usage, str | None]:
    """Have *count* clients follow a clock, and *slow* ones not read another that prints much."""
    clock = _Clock(_EVERY, times)
    bulk = _Clock(_BULK_EVERY, int(times * _EVERY / _BULK_EVERY), _BULK) if slow else None
    clocks = [clock] if bulk is None else [clock, bulk]
    waiting, together = list(clocks), len(clocks)
    dsn = await world.database()
    async with a_stage(world, dsn, waiting.pop, warm=together, maximum=together) as stage:
        await stage.up.idle(together)
        running = asyncio.create_task(
            stage.run(together, at_once=together, seconds=times * _EVERY + 240)
        )
        run = await clock.run
        crowd = [await _follow(stage, run) for _ in range(count)]
        silent = [await _follow(stage, await bulk.run, reads=False) for _ in range(slow) if bulk]
        async with asyncio.timeout(120):
            await asyncio.gather(*(one.begun.wait() for one in crowd))
        with metered(stage.parts(world)) as usage:
            for one in clocks:
                one.begin.set()
            async with asyncio.timeout(times * _EVERY + 120):
                await asyncio.gather(*(one.over for one in crowd))
        note = await _resumed(stage, await bulk.run, silent, bulk.times) if bulk else None
        await running
    if {len(one.latencies) for one in crowd} != {times}:
        raise RuntimeError(f"events at clients: {sorted({len(one.latencies) for one in crowd})}")
    return crowd, usage, note


async def _follow(stage: Stage, run: str, *, reads: bool = True, after: int = 0) -> Follower:
    up = stage.up
    path = f"/api/v1/runs/{run}/events"
    return await follower(up.url, path, up.token, reads=reads, after=after)


async def _resumed(stage: Stage, run: str, silent: list[Follower], outputs: int) -> str:
    """Let the silent ones read what is left for them and come back; say what they got."""
    cut = 0
    for one in silent:
        if one.transport is not None:
            one.transport.resume_reading()
        async with asyncio.timeout(60):
            await one.over
        ids = one.ids
        if not one.completed:
            cut += 1
            again = await _follow(stage, run, after=ids[-1] if ids else 0)
            async with asyncio.timeout(60):
                await again.over
            ids += again.ids
        if ids != list(range(1, ids[-1] + 1)) or len(ids) < outputs:
            raise RuntimeError(f"a client that came back has gaps: {len(ids)} events to {ids[-1]}")
    return f"{cut} of {len(silent)} silent clients were cut off; each resumed without a gap"

"""What the model proxy adds to a stream of tokens, against asking the same model directly.

Direct and proxied calls alternate in one run, so that both see the same machine. A figure's value
is one token's age when it arrives through the proxy, less the median age of those that came
directly; the reference tells how old those are.
"""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import aiohttp

from bench.figures import Figure, Goal, percentile
from bench.paper import Stage, a_stage
from bench.simulated import Runner, step_completed, step_started
from bench.usage import metered
from bench.world import World, environment
from plue.wire.model_access import StepClaim, step_token

__all__ = ["model_proxy"]

_SAID = re.compile(rb"@(\d+\.\d+)@")
_EVERY = 0.02
_CROWD = 100
_BODY = {
    "model": "anthropic/claude-sonnet",
    "max_tokens": 1000,
    "stream": True,
    "messages": [{"role": "user", "content": "What time is it? " * 200}],
}


class _Asking:
    """A runner whose step runs for as long as somebody measures with its token."""

    def __init__(self) -> None:
        self.token: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._runner: Runner | None = None

    def started(self, runner: Runner) -> None:
        runner.events(step_started(1))

    def acked(self, runner: Runner, through: int) -> None:
        if through == 1 and self._runner is None:
            self._runner = runner
            claim = StepClaim(run=runner.run.decode(), attempt=runner.attempt, step="hello")
            self.token.set_result(step_token(claim, runner.token))

    def end(self) -> None:
        if self._runner is not None:
            self._runner.events(step_completed(2))
            self._runner.finish(2)


@dataclass
class _Heard:
    """What one way gave: the ages of its tokens, and how long the first ones took, in ms."""

    ages: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


async def model_proxy(world: World, _history: int | None) -> list[Figure]:
    """Ask one after the other, then a hundred at a time."""
    events = world.n(200, 10)
    asking = _Asking()
    dsn = await world.database()
    async with (
        _talker(events) as model,
        a_stage(world, dsn, lambda: asking, warm=1, maximum=1, models=model) as stage,
    ):
        await stage.up.idle()
        running = asyncio.create_task(stage.run(1, at_once=1, seconds=600))
        proxied = f"{stage.gateway}/runner/v1/llm", await asking.token
        try:
            figures = [
                figure
                for streams in (1, world.n(_CROWD, 3))
                for figure in await _measured(world, stage, (model, "key"), proxied, streams)
            ]
        finally:
            asking.end()
            await running
    return figures


async def _measured(
    world: World, stage: Stage, direct: tuple[str, str], proxied: tuple[str, str], streams: int
) -> list[Figure]:
    bare, ours = _Heard(), _Heard()
    rounds = world.n(5, 1) if streams == 1 else world.n(2, 1)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        # Connections, prepared statements and the tables of prices are there from then on.
        await asyncio.gather(*(_stream(http, *proxied, _Heard()) for _ in range(streams)))
        with metered(stage.parts(world)) as usage:
            for _ in range(rounds):
                await asyncio.gather(*(_stream(http, *direct, bare) for _ in range(streams)))
                await asyncio.gather(*(_stream(http, *proxied, ours) for _ in range(streams)))
    what = "one stream" if streams == 1 else f"{streams} streams at once"
    goal = Goal(p50=2) if streams == 1 else None
    ages = ("a token event", bare.ages, ours.ages, goal)
    first = ("the first token", bare.first, ours.first, None)
    return [
        Figure(
            bench="model-proxy",
            what=f"added by the proxy to {name}, {what}",
            values=[value - percentile(directly, 0.5) for value in through],
            goal=bound,
            reference=f"asked directly: p50 {percentile(directly, 0.5):.2f} ms,"
            f" p99 {percentile(directly, 0.99):.2f} ms",
            cpu=usage.cpu,
            memory=usage.memory,
            note=f"an event every {_EVERY * 1000:g} ms a stream",
        )
        for name, directly, through, bound in (ages, first)
    ]


async def _stream(http: aiohttp.ClientSession, url: str, token: str, heard: _Heard) -> None:
    """Ask once and note when each token came."""
    asked = time.time()
    found: list[float] = []
    rest = b""
    headers = {"x-api-key": token, "anthropic-version": "2026-10-21"}
    async with http.post(f"{url}/v1/messages", json=_BODY, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {await answer.text()}")
        async for chunk in answer.content.iter_any():
            now = time.time()
            *whole, rest = (rest + chunk).split(b"\n\n")
            said: Sequence[bytes] = _SAID.findall(b"".join(whole))
            if said and not found:
                heard.first.append((now - asked) * 1000)
            found += [(now - float(one)) * 1000 for one in said]
    heard.ages += found


@contextlib.asynccontextmanager
async def _talker(events: int) -> AsyncIterator[str]:
    """Run the bench's own model; give its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.talker", str(events), str(_EVERY)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

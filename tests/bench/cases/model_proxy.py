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
_CROWDS = ((1, 0.02, 200), (10, 0.1, 50), (100, 0.1, 50))
"""Streams at once, seconds between two tokens of each, tokens of each. Ten a second is what an eye
can follow, and a thousand a second in all is what two cores can carry with those who measure."""

_QUESTION = [{"role": "user", "content": "What time is it? " * 200}]


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
    """Ask one after the other, then ten and a hundred at a time."""
    asking = _Asking()
    dsn = await world.database()
    async with (
        _talker() as model,
        a_stage(world, dsn, lambda: asking, warm=1, maximum=1, models=model) as stage,
    ):
        await stage.up.idle()
        running = asyncio.create_task(stage.run(1, at_once=1, seconds=600))
        proxied = f"{stage.gateway}/runner/v1/llm", await asking.token
        try:
            figures = [
                figure
                for crowd in (_CROWDS if not world.smoke else _CROWDS[:2])
                for figure in await _measured(world, stage, (model, "key"), proxied, crowd)
            ]
        finally:
            asking.end()
            await running
    return figures


async def _measured(
    world: World,
    stage: Stage,
    direct: tuple[str, str],
    proxied: tuple[str, str],
    crowd: tuple[int, float, int],
) -> list[Figure]:
    streams, every, events = crowd
    bare, ours = _Heard(), _Heard()
    events = world.n(events, 5)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:

        async def ask(way: tuple[str, str], heard: _Heard, events: int) -> None:
            # Not in step: streams that begin together would speak together all the time.
            asks = (
                _stream(http, *way, heard, after=n * every / streams, every=every, events=events)
                for n in range(streams)
            )
            await asyncio.gather(*asks)

        # Connections, prepared statements and the tables of prices are there from then on.
        await ask(proxied, _Heard(), 2)
        with metered(stage.parts(world)) as usage:
            for _ in range(world.n(2, 1)):
                await ask(direct, bare, events)
                await ask(proxied, ours, events)
    what = "one stream" if streams == 1 else f"{streams} streams at once"
    ages = ("a token event", bare.ages, ours.ages, Goal(p50=2))
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
            note=f"an event every {every * 1000:g} ms a stream",
        )
        for name, directly, through, bound in (ages, first)
    ]


async def _stream(
    http: aiohttp.ClientSession,
    url: str,
    token: str,
    heard: _Heard,
    *,
    after: float,
    every: float,
    events: int,
) -> None:
    """Ask once and note when each token came."""
    await asyncio.sleep(after)
    body = {
        "model": "anthropic/claude-sonnet",
        "max_tokens": events,
        "stop_sequences": [f"{every}"],
        "stream": True,
        "messages": _QUESTION,
    }
    asked = time.time()
    found: list[float] = []
    rest = b""
    headers = {"x-api-key": token, "anthropic-version": "2026-10-21"}
    async with http.post(f"{url}/v1/messages", json=body, headers=headers) as answer:
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
async def _talker() -> AsyncIterator[str]:
    """Run the bench's own model; give its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.talker"),
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

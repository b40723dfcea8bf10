"""The server of simulated runners, from the side of whoever plays them."""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg

from bench.simulated import Runner, Script, connect
from bench.usage import Part
from bench.world import Up, World, environment

__all__ = ["Stage", "a_stage"]


_ACTIVE = "SELECT count(*) FROM workflow_runs WHERE state IN ('queued', 'claimed', 'running')"
_ENDED = """SELECT count(*), count(*) FILTER (WHERE state = 'succeeded') FROM workflow_runs
             WHERE number > %s AND ended_at IS NOT NULL"""


async def _row(
    store: psycopg.AsyncConnection[Any], query: LiteralString, *values: int
) -> tuple[int, ...]:
    return tuple(await (await store.execute(query, values)).fetchone() or ())


class Stage:
    """The server, and the runners that are played on it."""

    def __init__(
        self,
        up: Up,
        gateway: str,
        process: asyncio.subprocess.Process,
        script: Callable[[], Script],
    ) -> None:
        self.up = up
        self._script = script
        self.playing: set[Runner] = set()
        self.submitting = 0.0
        """The seconds that submitting took."""
        self.gateway = gateway
        self._process = process
        self._submitted = asyncio.Event()
        self._gone: list[str] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told: Mapping[str, Any] = json.loads(line)
            if "runner" in told:
                work = self._play(told["runner"], told["token"], self._script())
                task = asyncio.create_task(work)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif "submitted" in told:
                self.submitting = told["seconds"]
                self._submitted.set()

    async def _play(self, runner: str, token: str, script: Script) -> None:
        self.playing.add(await connect(self.gateway, runner, token, script, self._ended))

    def _ended(self, runner: Runner) -> None:
        self.playing.discard(runner)
        if not self._gone:
            # Many at once: the host learns of what ended within a millisecond together.
            asyncio.get_running_loop().call_later(0.001, self._report)
        self._gone.append(runner.runner)

    def _report(self) -> None:
        gone, self._gone = self._gone, []
        self.tell(gone=gone)

    def tell(self, **line: object) -> None:
        """Tell the host something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def run(self, count: int, *, at_once: int, seconds: float = 300) -> float:
        """Submit runs and wait until the store has all their ends; return the seconds it took.

        Not the runners' `done` is counted: one that is told to go in its place has ended as well.
        Raises TimeoutError, and RuntimeError when a run did not succeed.
        """
        async with await psycopg.AsyncConnection.connect(self.up.dsn, autocommit=True) as store:
            (newest,) = await _row(store, "SELECT coalesce(max(number), 0) FROM workflow_runs")
            begun = time.perf_counter()
            self.tell(submit=count, at_once=at_once)
            async with asyncio.timeout(seconds):
                await self._submitted.wait()
                while (await _row(store, _ACTIVE))[0]:  # noqa: ASYNC110 - the store's own word
                    await asyncio.sleep(0.1)
            took = time.perf_counter() - begun
            ended = await _row(store, _ENDED, newest)
        if ended != (count, count):
            raise RuntimeError(f"(ended, succeeded) are {ended}, not {count} each")
        return took

    async def close(self) -> None:
        """End the server."""
        self._listening.cancel()
        await asyncio.gather(self._listening, *self._tasks, return_exceptions=True)
        for runner in list(self.playing):
            runner.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(30):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def parts(self, world: World) -> dict[str, Part]:
        """Return the parts of the server, and us."""
        return {
            "server": Part(self._process.pid),
            "postgres": world.postgres_part,
            "load": Part(psutil.Process().pid),
        }


@contextlib.asynccontextmanager
async def a_stage(
    world: World,
    dsn: str,
    script: Callable[[], Script],
    *,
    warm: int,
    maximum: int,
    models: str | None = None,
) -> AsyncIterator[Stage]:
    """Run the server on *dsn*; its pool keeps *warm* runners and makes at most *maximum*.

    *script* gives what each of them does; *models* is where a model answers.
    """
    folder = Path(tempfile.mkdtemp(prefix="stage-", dir=world.folder))
    await world.forget_runners(dsn)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.host", dsn, str(folder), str(warm), str(maximum)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(BENCH_MODELS=models or ""),
        limit=1 << 20,
    )
    assert process.stdout is not None
    told = json.loads(await process.stdout.readline() or b"{}")
    if "gateway" not in told:
        raise RuntimeError(f"the host did not start: exit code {await process.wait()}")
    up = Up(told["api"], told["token"], process.pid, dsn, folder)
    stage = Stage(up, told["gateway"], process, script)
    try:
        yield stage
    finally:
        await stage.close()

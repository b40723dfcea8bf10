"""The server of simulated runners, from the side of whoever plays them."""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.simulated import Runner, Script, connect
from bench.usage import Part
from bench.world import Up, World, environment

__all__ = ["Stage", "a_stage"]


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
        self.finished = 0
        self.submitted: dict[str, Any] = {}
        self._gateway = gateway
        self._process = process
        self._changed = asyncio.Event()
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
                self.submitted = dict(told)
                self._changed.set()

    async def _play(self, runner: str, token: str, script: Script) -> None:
        self.playing.add(await connect(self._gateway, runner, token, script, self._ended))

    def _ended(self, runner: Runner) -> None:
        self.playing.discard(runner)
        self.finished += runner.done
        if not self._gone:
            # Many at once: the host learns of what ended within a millisecond together.
            asyncio.get_running_loop().call_later(0.001, self._report)
        self._gone.append(runner.runner)
        self._changed.set()

    def _report(self) -> None:
        gone, self._gone = self._gone, []
        self.tell(gone=gone)

    def tell(self, **line: object) -> None:
        """Tell the host something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def until(self, reached: Callable[[], bool], seconds: float = 300) -> None:
        """Wait until *reached*, looked at whenever something ended. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

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
    world: World, dsn: str, script: Callable[[], Script], *, warm: int, maximum: int
) -> AsyncIterator[Stage]:
    """Run the server on *dsn*; its pool keeps *warm* runners and makes at most *maximum*.

    *script* gives what each of them does.
    """
    folder = Path(tempfile.mkdtemp(prefix="stage-", dir=world.folder))
    await world.forget_runners(dsn)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.host", dsn, str(folder), str(warm), str(maximum)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
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

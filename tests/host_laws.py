"""What every host of runners does, told by `engine.ports.Host`: one suite for all of them.

A module of tests takes the suite by inheriting from ``HostLaws`` and giving a ``hosted`` fixture.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import psutil

from plue.domain.run import RunnerId
from plue.engine.ports import Host, NewRunner, SeenRunner
from plue.wire.events import Reason

__all__ = ["HostLaws", "Hosted"]

_PATIENCE = 30.0
_GRACE = timedelta(seconds=5)


@dataclass
class Hosted:
    """A host that has just begun, and how another takes its place, as after its server's death."""

    host: Host
    successor: Callable[[], Awaitable[Host]]
    pool: str = "default"
    changes: int = 0
    made: list[RunnerId] = field(default_factory=list)

    async def create(self) -> NewRunner:
        """Create a runner with an id of its own, and wait until its process is there."""
        runner = NewRunner(RunnerId(f"{self.pool}-{uuid4().hex[:10]}"), self.pool, "t0ken")
        self.made.append(runner.id)
        self.host.on_change = self._changed
        await self.host.create(runner)
        await _until(lambda: bool(processes_of(runner.id)))
        return runner

    async def seen(self, runner: RunnerId, state: str) -> SeenRunner:
        """Return how the host sees *runner*, as soon as that is *state*."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                for one in await self.host.observe():
                    if (one.id, one.state) == (runner, state):
                        return one
                await asyncio.sleep(0.05)

    def _changed(self) -> None:
        self.changes += 1


def processes_of(runner: RunnerId) -> list[psutil.Process]:
    """Return the processes that execute as *runner*."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if runner in words and "plue_runner" in words:
            found.append(process)
    return [one for one in found if one.info["status"] != psutil.STATUS_ZOMBIE]


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not true():  # noqa: ASYNC110 - it is about processes that tell nobody
            await asyncio.sleep(0.05)


class HostLaws:
    """The laws; each test's docstring is one."""

    async def test_a_runner_is_present_from_its_creation_on(self, hosted: Hosted) -> None:
        """What was created is listed at once, before anything else was heard of it."""
        runner = NewRunner(RunnerId(f"{hosted.pool}-{uuid4().hex[:10]}"), hosted.pool, "t0ken")
        hosted.made.append(runner.id)
        await hosted.host.create(runner)
        assert (runner.id, "present") in [(s.id, s.state) for s in await hosted.host.observe()]

    async def test_one_id_is_started_once(self, hosted: Hosted) -> None:
        """Whoever repeats a creation, the same host or the one after it, starts nothing."""
        runner = await hosted.create()
        await hosted.host.create(runner)
        later = await hosted.successor()
        await later.create(runner)
        await hosted.seen(runner.id, "present")
        assert len(processes_of(runner.id)) == 1

    async def test_a_removed_runner_has_ended_when_it_is_gone(self, hosted: Hosted) -> None:
        """Gone is said when nothing executes, without a reason: it was wanted; repeats are free."""
        runner = await hosted.create()
        await hosted.host.remove(runner.id, grace=_GRACE)
        await hosted.host.remove(runner.id, grace=_GRACE)
        seen = await hosted.seen(runner.id, "gone")
        assert not processes_of(runner.id)
        assert seen.reason is None
        assert hosted.changes
        await hosted.host.remove(runner.id, grace=_GRACE)
        await hosted.host.remove(RunnerId(f"{hosted.pool}-never"), grace=_GRACE)

    async def test_a_killed_runner_is_gone_with_a_reason(self, hosted: Hosted) -> None:
        """Its end is noticed by itself, told to whoever listens, and explained."""
        runner = await hosted.create()
        await hosted.seen(runner.id, "present")
        hosted.changes = 0
        for process in processes_of(runner.id):
            process.kill()
        seen = await hosted.seen(runner.id, "gone")
        assert seen.reason is Reason.RUNNER_LOST
        assert seen.message
        assert hosted.changes

    async def test_a_successor_sees_the_living_and_the_dead(self, hosted: Hosted) -> None:
        """Nothing is kept in memory alone: the next host knows what this one made."""
        living, dying = await hosted.create(), await hosted.create()
        for process in processes_of(dying.id):
            process.kill()
        hosted.host = await hosted.successor()
        await hosted.seen(living.id, "present")
        await hosted.seen(dying.id, "gone")
        await hosted.host.remove(living.id, grace=_GRACE)
        await hosted.seen(living.id, "gone")
        assert not processes_of(living.id)

    async def test_who_was_never_made_is_unknown(self, hosted: Hosted) -> None:
        """It is looked for, and said for sure."""
        never = RunnerId(f"{hosted.pool}-never")
        assert never not in [seen.id for seen in await hosted.host.observe()]
        assert list(await hosted.host.unknown([never])) == [never]

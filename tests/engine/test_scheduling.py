"""Schedules on a real store: they follow the tree, and each time makes one run, whoever fires."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from server import Server, a_server

from plue.authoring.results import Description
from plue.domain.run import RunFilter, RunView
from plue.engine.scheduling import Scheduler
from plue.local.tree import Tree
from plue.store.blobs import Blobs

SOURCE = """from plue import schedule, workflow

@workflow(triggers=[schedule("{cron}")])
def {name}(ctx):
    ctx.run("a", f"echo {{ctx.event.schedule.time}}")
"""


class Clockwork:
    """A tree, and two engines on one store that both fire its schedules."""

    def __init__(self, dsn: str, root: Path, servers: list[Server]) -> None:
        self.dsn = dsn
        self.root = root
        self.folder = root / ".plue" / "workflows"
        self.folder.mkdir(parents=True)
        self._engines = [server.engine for server in servers]
        self.schedulers = [self._scheduler(number) for number in range(len(servers))]

    def _scheduler(self, number: int) -> Scheduler:
        engine = self._engines[number]
        tree = Tree(self.root, blobs=Blobs(self.root.parent / f"blobs{number}"))

        async def describe() -> Description:
            return await engine.describe(await tree.files())

        return Scheduler(engine.context, tree, describe=describe, submit=engine.submit)

    def write(self, name: str, cron: str = "0 4 * * *") -> None:
        """Declare a workflow that runs by the clock."""
        (self.folder / f"{name}.py").write_text(SOURCE.format(name=name, cron=cron))

    async def look(self) -> None:
        """Let both see the tree."""
        await asyncio.gather(*(scheduler.look() for scheduler in self.schedulers))

    async def fire(self) -> None:
        """Let both fire at once."""
        await asyncio.gather(*(scheduler.fire() for scheduler in self.schedulers))

    async def rows(self) -> list[tuple[str, str, bool, bool]]:
        """Return (workflow, cron, whether the next time is ahead, whether it has run)."""
        statement = (
            "SELECT workflow, cron, next_at > now(), last_run IS NOT NULL"
            " FROM schedules ORDER BY 1, 2"
        )
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            cursor = await connection.execute(statement)
            return await cursor.fetchall()

    async def set_due(self, ago: str) -> None:
        """Let every schedule's time have come *ago*."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            await connection.execute(
                "UPDATE schedules SET next_at = date_trunc('minute', now()) - %s::interval", (ago,)
            )

    async def next_at(self) -> datetime:
        """Return when the one schedule fires."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            row = await (await connection.execute("SELECT next_at FROM schedules")).fetchone()
            assert row is not None
            at: datetime = row[0]
            return at

    async def set_next(self, at: datetime) -> None:
        """Let the one schedule fire at *at*."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            await connection.execute("UPDATE schedules SET next_at = %s", (at,))

    async def runs(self) -> list[RunView]:
        """Return all runs."""
        return list((await self._engines[0].runs(RunFilter())).runs)


@pytest.fixture
async def clockwork(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Clockwork, None]:
    """Start two engines on one database."""
    async with AsyncExitStack() as stack:
        servers = []
        for number in range(2):
            server = await stack.enter_async_context(a_server(postgres_dsn, tmp_path / str(number)))
            stack.push_async_callback(server.engine._evaluator.close)
            servers.append(server)
        yield Clockwork(postgres_dsn, tmp_path / "project", servers)


async def test_schedules_follow_the_tree(clockwork: Clockwork) -> None:
    """They come and go with the files; a change of the expression is another schedule."""
    clockwork.write("a")
    clockwork.write("b")
    await clockwork.look()
    assert [row[:3] for row in await clockwork.rows()] == [
        ("a", "0 4 * * *", True),
        ("b", "0 4 * * *", True),
    ]
    (clockwork.folder / "a.py").unlink()
    clockwork.write("b", "0 5 * * *")
    await clockwork.look()
    assert [row[:2] for row in await clockwork.rows()] == [("b", "0 5 * * *")]


async def test_two_engines_make_one_run(clockwork: Clockwork) -> None:
    """Both fire at the same moment: one run, with its time in the event, and a next time."""
    clockwork.write("nightly")
    await clockwork.look()
    await clockwork.set_due("1 minute")
    await clockwork.fire()
    await clockwork.fire()
    (run,) = await clockwork.runs()
    assert (run.workflow, run.trigger) == ("nightly", "schedule")
    assert [row[2:] for row in await clockwork.rows()] == [(True, True)]


async def test_a_crash_before_the_schedule_moved_on_repeats_nothing(clockwork: Clockwork) -> None:
    """The same time again finds the run that it made."""
    clockwork.write("nightly")
    await clockwork.look()
    await clockwork.set_due("1 minute")
    at = await clockwork.next_at()
    await clockwork.schedulers[0].fire()
    await clockwork.set_next(at)  # as if the first had died before it moved the schedule on
    await clockwork.schedulers[1].fire()
    assert len(await clockwork.runs()) == 1
    assert [row[2:] for row in await clockwork.rows()] == [(True, True)]


async def test_what_was_missed_is_not_made_up_for(clockwork: Clockwork) -> None:
    """A server that was off for a night moves on without a run."""
    clockwork.write("nightly")
    await clockwork.look()
    await clockwork.set_due("10 hours")
    await clockwork.fire()
    assert await clockwork.runs() == []
    assert [row[2:] for row in await clockwork.rows()] == [(True, False)]


async def test_a_broken_file_keeps_its_schedules(clockwork: Clockwork) -> None:
    """A mistake while editing must not forget when to run next; its time then makes no run."""
    clockwork.write("nightly")
    await clockwork.look()
    (clockwork.folder / "nightly.py").write_text("def nightly(:\n")
    await clockwork.look()
    assert len(await clockwork.rows()) == 1
    await clockwork.set_due("1 minute")
    await clockwork.fire()
    assert await clockwork.runs() == []
    assert [row[2:] for row in await clockwork.rows()] == [(True, False)]

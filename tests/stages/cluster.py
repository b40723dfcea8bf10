"""A server of real parts on one folder: engine, gateway, evaluator and runner processes."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from plue.authoring.evaluator import Evaluator
from plue.domain.run import RunDetails, RunId, RunView, StoredEvent, Submission
from plue.engine.service import Engine
from plue.engine.settings import EngineSettings, PoolSettings
from plue.gateway.app import Gateway
from plue.local.listening import gateway_socket, port_of
from plue.local.processes import ProcessHost, runner_environment
from plue.local.server import runner_command
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.migrations import migrate
from plue.wire.events import Reason

__all__ = ["FILE", "House", "a_house", "workflow_of"]

FILE = ".plue/workflows/ci.py"
PATIENCE = 60.0

SETTINGS = EngineSettings(
    pools=(PoolSettings(warm=1, maximum=2),),
    accept_timeout=timedelta(seconds=20),  # two cores, and others at work on them
    grace=timedelta(seconds=1),
)


def workflow_of(body: str, options: str = "triggers=[manual()]") -> str:
    """Return a file with one workflow `ci`; its body begins in line 4."""
    lines = "\n".join(f"    {line}" if line else "" for line in body.strip("\n").split("\n"))
    head = "from plue import workflow, manual, optional, schema"
    return f"{head}\n@workflow({options})\ndef ci(ctx):\n{lines}\n"


@dataclass
class House:
    """The parts of one server."""

    engine: Engine
    evaluator: Evaluator

    async def submit(
        self, body: str, *, options: str = "triggers=[manual()]", **given: Any
    ) -> RunId:
        """Queue a run of a workflow's body."""
        files: Mapping[str, str] = {FILE: workflow_of(body, options)}
        return await self.engine.submit(Submission(workflow="ci", files=files, **given))

    async def ended(self, run: RunId) -> RunDetails:
        """Return the run when it has ended."""
        await self.events(run)
        return await self.engine.details(run)

    async def waits_for(self, run: RunId, reason: Reason) -> RunView:
        """Return the run once it says that it waits for this."""
        async with asyncio.timeout(PATIENCE):
            # A column of the store has no event to wait for.
            while (  # noqa: ASYNC110
                view := (await self.engine.details(run)).run
            ).waiting_reason is not reason:
                await asyncio.sleep(0.02)
        return view

    async def events(self, run: RunId) -> list[StoredEvent]:
        """Return all events of a run, once it has ended."""
        found: list[StoredEvent] = []

        async def read() -> None:
            async for batch in self.engine.follow(run, after=0):
                found.extend(batch)

        await asyncio.wait_for(read(), PATIENCE)
        return found


@asynccontextmanager
async def a_house(
    dsn: str, folder: Path, *, settings: EngineSettings = SETTINGS, runners: bool = True
) -> AsyncGenerator[House, None]:
    """Start a server on *dsn*; without *runners* it only takes part in deciding."""
    await migrate(dsn)
    database = await Database.open(dsn, connections=8)
    evaluator = Evaluator()
    await evaluator.start()
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a test's own folder
    bound = gateway_socket("")
    address, known_by = f"http://127.0.0.1:{port_of(bound)}", folder / "gateway"
    known_by.write_text(address)
    host = ProcessHost(
        folder / "runners",
        command=runner_command(address, known_by),
        environment=runner_environment(os.environ),
    )
    if runners:
        await host.start()
    engine = Engine(
        database=database,
        evaluator=evaluator,
        blobs=Blobs(folder / "blobs"),
        hosts=[host] if runners else [],
        settings=settings,
    )
    gateway = Gateway(engine=engine)
    site = web.AppRunner(gateway.app, shutdown_timeout=0.5)
    await site.setup()
    await web.SockSite(site, bound).start()
    await engine.start()
    try:
        yield House(engine, evaluator)
    finally:
        await gateway.close()
        await site.cleanup()
        await engine.close()
        if runners:
            await host.close(grace=timedelta(0))
        await evaluator.close()
        await database.close()

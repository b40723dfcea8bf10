"""An engine with its gateway on a real database and a real loopback socket."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from aiohttp import web

from plue.authoring.evaluator import Evaluator
from plue.domain.run import RunId, RunnerId, StoredEvent
from plue.engine.ports import NewRunner, SeenRunner
from plue.engine.service import Engine
from plue.engine.settings import EngineSettings, PoolSettings
from plue.gateway.app import Gateway
from plue.gateway.llm.settings import Models
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.migrations import migrate
from plue.wire.events import EventType

__all__ = ["QUICK", "PaperHost", "Server", "a_server"]

QUICK = EngineSettings(
    pools=(
        PoolSettings(host="nobody", warm=0, maximum=100),
    ),  # no pool pass: runners are the tests' own
    lease=timedelta(seconds=30),
    accept_timeout=timedelta(seconds=2),
    poll=timedelta(seconds=0.2),
)
PATIENCE = 5.0


@dataclass
class PaperHost:
    """A host whose runners are the test's own scripted ones: it only keeps the books."""

    kind: str = "process"
    refill_after: float = 0.0
    created: dict[RunnerId, NewRunner] = field(default_factory=dict)
    gone: set[RunnerId] = field(default_factory=set)
    removed: list[RunnerId] = field(default_factory=list)
    sees: Literal["present", "unreachable"] = "present"
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def on_change(self) -> None:
        """Replaced by the engine."""

    async def create(self, runner: NewRunner) -> None:
        self.created[runner.id] = runner
        self.arrived.set()

    async def observe(self) -> Sequence[SeenRunner]:
        return [SeenRunner(r, "gone" if r in self.gone else self.sees) for r in self.created]

    async def unknown(self, runners: Sequence[RunnerId]) -> Sequence[RunnerId]:
        return runners

    async def remove(self, runner: RunnerId, *, grace: timedelta) -> None:
        self.removed.append(runner)
        self.lose(runner)

    def lose(self, runner: str) -> None:
        """Let a runner be seen gone."""
        self.gone.add(RunnerId(runner))
        self.on_change()


@dataclass
class Server:
    """The parts of one server, as a test needs them."""

    engine: Engine
    gateway: Gateway
    host: PaperHost
    url: str

    async def runner(self, name: str = "default-a", token: str = "secret") -> tuple[str, str]:
        """Insert the row of a runner that the test will play; return (id, token)."""
        await self.engine.context.runners.insert(
            [(RunnerId(name), token)], pool="default", host=self.host.kind
        )
        self.host.created[RunnerId(name)] = NewRunner(RunnerId(name), "default", token)
        return name, token

    async def events(self, run: RunId, until: EventType | None = None) -> list[StoredEvent]:
        """Return the run's events up to *until*, or to the end of the run."""
        found: list[StoredEvent] = []

        async def read() -> None:
            async for batch in self.engine.follow(run, after=0):
                found.extend(batch)
                if until in {event.type for event in batch}:
                    return

        await asyncio.wait_for(read(), PATIENCE)
        return found


@asynccontextmanager
async def a_server(
    dsn: str,
    folder: Path,
    settings: EngineSettings = QUICK,
    host: str = "process",
    models: Models | None = None,
) -> AsyncGenerator[Server, None]:
    """Start an engine and its gateway on *dsn*."""
    await migrate(dsn)
    database = await Database.open(dsn, connections=8)
    books = PaperHost(kind=host)
    evaluator = Evaluator()
    engine = Engine(
        database=database,
        evaluator=evaluator,
        blobs=Blobs(folder / "blobs"),
        hosts=[books],
        settings=settings,
    )
    await engine.start()
    gateway = Gateway(engine=engine, models=models)
    runner = web.AppRunner(gateway.app, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield Server(engine, gateway, books, f"http://127.0.0.1:{port}")
    finally:
        await gateway.close()
        await runner.cleanup()
        await engine.close()
        await evaluator.close()
        await database.close()

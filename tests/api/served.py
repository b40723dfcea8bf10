"""The API on a real loopback socket, with a client that knows its token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from api.memory_engine import START, MemoryEngine, MemoryTree

from plue.api.access import LocalAccess
from plue.api.app import make_api
from plue.api.keys import ApiLimits
from plue.api.models import Health, ServerInfo
from plue.engine.service import Engine
from plue.store.archives import Archives
from plue.store.blobs import Blobs

TOKEN = "secret-of-this-server"


@dataclass
class Served:
    """A running server and what is behind it."""

    engine: MemoryEngine
    tree: MemoryTree
    blobs: Blobs
    app: web.Application
    runner: web.AppRunner
    client: aiohttp.ClientSession
    url: str
    port: int
    health: Health


def an_api(
    folder: Path,
    engine: Engine,
    *,
    limits: ApiLimits | None = None,
    tree: MemoryTree | None = None,
    health: Health | None = None,
    metrics: bool = True,
) -> tuple[web.Application, Blobs]:
    """Return the application and its blobs."""
    health = health or Health(ok=True)

    async def ready() -> Health:
        return health

    blobs = Blobs(folder / "blobs")

    async def numbers() -> tuple[bytes, str]:
        return b"plue_runs_total 1\n", "text/plain; version=0.0.4; charset=utf-8"

    app = make_api(
        engine=engine,
        archives=Archives(blobs),
        access=LocalAccess(TOKEN),
        info=ServerInfo(version="0.1.0", mode="local", root=str(folder), started_at=START),
        metrics=numbers if metrics else None,
        ready=ready,
        local_tree=tree,
        limits=limits,
    )
    return app, blobs


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    engine: MemoryEngine | None = None,
    limits: ApiLimits | None = None,
    with_tree: bool = True,
    metrics: bool = True,
) -> AsyncIterator[Served]:
    """Serve the API on a free port."""
    engine = engine or MemoryEngine()
    tree, health = MemoryTree(folder), Health(ok=True, checks={"store": "ok"})
    app, blobs = an_api(
        folder,
        engine,
        limits=limits,
        tree=tree if with_tree else None,
        health=health,
        metrics=metrics,
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as client:
        yield Served(engine, tree, blobs, app, runner, client, url, port, health)
    await runner.cleanup()

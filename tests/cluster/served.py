"""Our API over a real API server and a real database; the runs are a list of the test's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from api.memory_engine import START, MemoryEngine
from cluster.people import People, verbs

from plue.api.app import make_api
from plue.api.models import Health, ServerInfo
from plue.api.oidc import BrowserLogin
from plue.api.sessions import Sessions, TrustedProxy
from plue.domain.run import Submission
from plue.kube.access import ClusterAccess
from plue.kube.client import ApiClient
from plue.store.access import AccessStore
from plue.store.archives import Archives
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.migrations import migrate

__all__ = ["READS", "WORKS", "Served", "listening", "serving"]

READS = verbs("get", "list")
WORKS = verbs("get", "list", "create", "patch")


@dataclass
class Served:
    """Our API, and what is behind it."""

    engine: MemoryEngine
    people: People
    client: aiohttp.ClientSession
    store: AccessStore
    url: str

    async def ask(self, token: str, path: str, method: str = "GET", **more: Any) -> tuple[int, Any]:
        """Return status and JSON of an answer."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.client.request(method, f"/api/v1{path}", headers=headers, **more) as answer:
            text = await answer.read()
            return answer.status, await answer.json(content_type=None) if text else None

    async def names(self, token: str, query: str = "") -> list[str]:
        """Return the namespaces of the runs that a list shows."""
        status, page = await self.ask(token, f"/runs{query}")
        assert status == 200, page
        return sorted({run["namespace"] for run in page["runs"]})

    def run(self, namespace: str) -> str:
        """Add a run; return its id."""
        return self.engine.add_run(Submission(workflow="ci", files={}, namespace=namespace)).id


@asynccontextmanager
async def listening(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """Serve *app* on a port, a free one if none is given."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def serving(
    api: ApiClient,
    folder: Path,
    dsn: str,
    *,
    login: BrowserLogin | None = None,
    proxy: TrustedProxy | None = None,
    port: int = 0,
) -> AsyncIterator[Served]:
    """Serve our API with the access of a cluster."""

    async def ready() -> Health:
        return Health(ok=True)

    async def numbers() -> tuple[bytes, str]:
        return b"plue_runs_total 1\n", "text/plain"

    await migrate(dsn)
    database = await Database.open(dsn, connections=4)
    store = AccessStore(database)
    engine = MemoryEngine(heartbeat=0.1)
    sessions = None if login is None else Sessions(store, login)
    app = make_api(
        engine=engine,
        archives=Archives(Blobs(folder)),
        access=ClusterAccess(api, store, sessions=sessions, proxy=proxy),
        info=ServerInfo(version="0", mode="cluster", started_at=START),
        metrics=numbers,
        ready=ready,
        local_tree=None,
        audit=store,
    )
    async with listening(app, port) as url, aiohttp.ClientSession(url) as client:
        yield Served(engine, People(api), client, store, url)
    await database.close()

"""What every server process of a cluster stands on: a schema, a store, an evaluator, an engine.

The processes differ in what they put on it: the operator adds resources and pods, the gateway the
runners' sessions, the API the users' side. Each may run several times.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import structlog
from aiohttp import web

from plue.api.models import Health
from plue.authoring.evaluator import Evaluator
from plue.ending import end_tasks
from plue.engine.ports import Host
from plue.engine.service import Engine
from plue.engine.settings import EngineSettings
from plue.errors import PlueError, UnavailableError
from plue.garbage import spare_what_is_there
from plue.gateway.llm.configuration import models_with, read_file, settings_of
from plue.gateway.llm.settings import Models
from plue.kube.client import ApiClient
from plue.kube.evaluating import RemoteEvaluator
from plue.kube.login import Login
from plue.kube.secrets import ClusterSecrets
from plue.kube.settings import OperatorOptions, address_of, reach_of
from plue.kube.signals import end_at_signals
from plue.store.archives import SharedArchives
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.identity import incarnation_of
from plue.store.migrations import migrate, missing

__all__ = ["Foundation", "Server", "health_of", "migrate_patiently", "run_server"]

_log = structlog.get_logger(__name__)

_HTTP_END_WITHIN = 2.0
_CACHE_BYTES = 5 * 1024**3
"""Of all caches together: each gateway keeps its own on its node's disk, and loses them with it."""
_SCHEMA_WITHIN = timedelta(minutes=5)
_SCHEMA_EVERY = 1.0
_IDENTITY_EVERY = 5.0
"""Seconds between two looks at whether the database is still the same one."""


class Server(Protocol):
    """One process between ``start`` and ``close``."""

    async def start(self) -> None:
        """Start all parts. Raises PlueError; nothing stays then."""

    async def run(self, stop: asyncio.Event) -> None:
        """Return at *stop*, or when a part has ended that must not."""

    async def close(self) -> None:
        """End cleanly."""


class Foundation:
    """The parts that all server processes share; they end in the opposite order."""

    def __init__(
        self, options: OperatorOptions, login: Login, *, look_every: float = _IDENTITY_EVERY
    ) -> None:
        """Prepare a process for the cluster of *login*; *look_every* is in seconds."""
        self.options = options
        self.parts = contextlib.AsyncExitStack()
        self.store_is_another = asyncio.Event()
        """Set when the database was emptied or exchanged. What this process knows is of the old
        one: it must end, and the next one fills the new database from the cluster."""
        self._login = login
        self._look_every = look_every
        self._api: ApiClient | None = None

    async def open_api(self) -> ApiClient:
        """Return a client of the cluster's API server."""
        self._api = ApiClient(self._login)
        self.parts.push_async_callback(self._api.close)
        return self._api

    async def open_engine(
        self, *, hosts: Sequence[Host] = (), passes: Collection[str] | None = None
    ) -> Engine:
        """Return an engine on the options' database, not started; *passes* are those it runs.

        Secrets are read by the API's client, if there is one.
        """
        options = self.options
        dsn = options.database.get_secret_value()
        await _prepare_schema(dsn, migrating=options.migrate, alone=options.alone)
        database = await Database.open(dsn)
        self.parts.push_async_callback(database.close)
        watching = asyncio.create_task(
            self._watch_store(database, await incarnation_of(database)), name="store-identity"
        )
        self.parts.push_async_callback(end_tasks, [watching])
        evaluator = _evaluator(options)
        self.parts.push_async_callback(evaluator.close)
        await evaluator.start()
        blobs = Blobs(options.data / "blobs")
        return Engine(
            database=database,
            evaluator=evaluator,
            blobs=blobs,
            archives=SharedArchives(blobs, database),
            hosts=hosts,
            secrets=None if self._api is None else ClusterSecrets(self._api),
            settings=EngineSettings(
                pools=(),
                egress_port=address_of(options.egress_listen)[1],
                all_cache_bytes=_CACHE_BYTES,
            ),
            passes=passes,
        )

    async def _watch_store(self, database: Database, served: UUID | None) -> None:
        while not self.store_is_another.is_set():
            with contextlib.suppress(PlueError):
                found = await incarnation_of(database)
                if found != served:
                    _log.error("store_is_another", served=str(served), found=str(found))
                    self.store_is_another.set()
            await asyncio.sleep(self._look_every)

    async def until(self, *events: asyncio.Event) -> None:
        """Return at the first of *events*, or when the database is another one."""
        tasks = [asyncio.create_task(_set(e)) for e in (self.store_is_another, *events)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(tasks)

    async def open_models(self) -> Models:
        """Return who answers for models: the provider whose key the environment has or names."""
        file = read_file(self.options.models)
        settings = settings_of(file, self.options.budgets)
        found = await models_with(settings, os.environ, self.parts, base_url=file.base_url)
        _log.info("models", clients=sorted(settings.clients), provider=found.provider is not None)
        return found

    async def serve(self, app: web.Application, listen: str) -> None:
        """Serve *app* at ``host:port`` from now on."""
        host, port = address_of(listen)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_HTTP_END_WITHIN)
        await runner.setup()
        self.parts.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, host, port).start()

    async def serve_health(
        self,
        ready: Callable[[], Awaitable[Health]],
        metrics: Callable[[], Awaitable[tuple[bytes, str]]],
    ) -> None:
        """Serve `/healthz`, `/readyz` and `/metrics` on a port that no runner or user reaches."""

        async def healthz(_: web.Request) -> web.Response:
            # It answers: the loop turns. What is wrong elsewhere a restart would not mend.
            return web.json_response({"ok": True})

        async def readyz(_: web.Request) -> web.Response:
            health = await ready()
            return web.json_response(health.model_dump(), status=200 if health.ok else 503)

        async def show_metrics(_: web.Request) -> web.Response:
            text, kind = await metrics()
            return web.Response(body=text, headers={"Content-Type": kind})

        app = web.Application()
        app.router.add_get("/healthz", healthz)
        app.router.add_get("/readyz", readyz)
        app.router.add_get("/metrics", show_metrics)
        await self.serve(app, self.options.health_listen)


async def _set(event: asyncio.Event) -> None:
    await event.wait()


def _evaluator(options: OperatorOptions) -> Evaluator:
    if options.evaluator_url is None:
        return Evaluator(reach=reach_of(options))
    return RemoteEvaluator(options.evaluator_url, token=options.evaluator_token.get_secret_value())


async def _prepare_schema(dsn: str, *, migrating: bool, alone: bool) -> None:
    """Bring the schema to this version, or wait until somebody has. Raises UnavailableError.

    One process of several is patient: its database may be on its way beside it.
    """
    if migrating:
        patience = _SCHEMA_WITHIN.total_seconds() if alone else 0
        if applied := await migrate_patiently(dsn, seconds=patience):
            _log.info("migrated", scripts=applied)
        return
    end = asyncio.get_running_loop().time() + _SCHEMA_WITHIN.total_seconds()
    while True:
        try:
            waits_for = ", ".join(await missing(dsn))
        except UnavailableError as error:
            waits_for = error.message
        if not waits_for:
            return
        if asyncio.get_running_loop().time() > end:
            raise UnavailableError(
                f"the database is not at this version's schema: {waits_for}",
                remedy="look at the job or container that runs `plue migrate`",
            )
        _log.info("waiting_for_schema", missing=waits_for)
        await asyncio.sleep(_SCHEMA_EVERY)


async def migrate_patiently(dsn: str, *, seconds: float) -> list[str]:
    """Migrate as soon as the database answers; a newer schema is let be.

    Raises UnavailableError when it did not answer within *seconds*.
    """
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await migrate(dsn, newer=True)
        except UnavailableError as error:
            if asyncio.get_running_loop().time() > end:
                raise
            _log.info("waiting_for_database", error=error.message)
        await asyncio.sleep(_SCHEMA_EVERY)


async def health_of(engine: Engine) -> Health:
    """Return whether the store answers."""
    try:
        await engine.ping()
    except PlueError as error:
        return Health(ok=False, checks={"database": error.message})
    return Health(ok=True, checks={"database": "ok"})


def run_server(server: Server) -> int:
    """Run *server* until it is told to end; return the exit code. Raises PlueError."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    return asyncio.run(_live(server))


async def _live(server: Server) -> int:
    stop = end_at_signals()
    if await _start(server, stop):
        spare_what_is_there()
        await server.run(stop)
    await server.close()
    if not stop.is_set():
        _log.error("server_ended", remedy="the process ends, so that it is started anew")
        return 1
    return 0


async def _start(server: Server, stop: asyncio.Event) -> bool:
    """Start it unless *stop* comes first: a start may wait for minutes, as for a database."""
    starting = asyncio.create_task(server.start(), name="start")
    stopping = asyncio.create_task(_set(stop))
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            return True
        return False
    finally:
        await end_tasks([starting, stopping])

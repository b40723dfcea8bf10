"""A local server put together: Postgres, engine, gateway, runners and API on one data folder.

Its parts start in the order in which they need each other and end in the opposite one; what was
started is ended also when a later part fails. Ending cleanly means: runs that are still active
are cancelled with a message and waited for, for a bounded time; then runners and database go.
"""

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket

import psycopg
import structlog
from aiohttp import web
from psycopg.conninfo import conninfo_to_dict

from plue import __version__
from plue.api.access import LocalAccess
from plue.api.app import make_api
from plue.api.models import Health, ServerInfo
from plue.authoring.evaluator import Evaluator
from plue.domain.run import RunFilter, RunId, RunnerId
from plue.engine.service import Engine
from plue.engine.settings import EngineSettings, PoolSettings
from plue.errors import PlueError, UnavailableError, UsageError
from plue.gateway.app import Gateway
from plue.local.instance import GATEWAY_FILE, Running, own_mark, write_private
from plue.local.listening import api_socket, gateway_socket, port_of
from plue.local.models import open_models
from plue.local.postgres import EmbeddedPostgres
from plue.local.processes import ProcessHost, RunnerCommand, runner_environment
from plue.local.secrets import LocalSecrets
from plue.local.tree import Tree
from plue.local.watching import Seen
from plue.settings import Settings
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.migrations import migrate
from plue.wire.events import RunState

__all__ = ["LocalServer", "ServerOptions"]

_log = structlog.get_logger(__name__)

_ACTIVE = tuple(state for state in RunState if not state.is_end)
_RUNS_END_WITHIN = timedelta(seconds=40)  # grace, the engine's margin, and the clean-up of steps
_HTTP_END_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server is started with; *private* servers belong to the commands that use them."""

    root: Path
    data: Path
    settings: Settings
    private: bool = False


class LocalServer:
    """All parts of one local server, between ``start`` and ``close``."""

    def __init__(self, options: ServerOptions, *, tell: Callable[[str], None]) -> None:
        """Prepare a server; *tell* gets a line for people when something takes its time."""
        self._options = options
        self._tell = tell
        self._parts = contextlib.AsyncExitStack()
        self._engine: Engine | None = None
        self._host: ProcessHost | None = None
        self._tree: Tree | None = None
        self._token = secrets.token_urlsafe(32)
        self.url = ""

    @property
    def login_url(self) -> str:
        """The address for a browser: it gives the browser its cookie."""
        return f"{self.url}/login?token={self._token}"

    async def start(self) -> Running:
        """Start all parts and say where the server is. Raises PlueError; nothing stays then."""
        try:
            return await self._start()
        except BaseException:
            await self._parts.aclose()
            raise

    async def close(self, *, hurry: asyncio.Event) -> None:
        """End cleanly; as soon as *hurry* is set, without waiting for runs any more."""
        Running.forget(self._options.data)
        if self._engine is not None:
            await _unless(hurry, self._end_runs(self._engine))
        if hurry.is_set() and self._host is not None:
            await self._host.close(grace=timedelta(0))
        await self._parts.aclose()

    async def look(self) -> Seen:
        """Return the project as it is now. Raises PlueError."""
        if self._engine is None or self._tree is None:
            raise UnavailableError("the server has not started yet")
        sources = await self._tree.sources()
        return Seen(sources, await self._engine.describe())

    # ── starting ─────────────────────────────────────────────────────────────────────────────────

    async def _start(self) -> Running:
        options, settings = self._options, self._options.settings
        # Sockets first: a port that is taken should not cost a database start.
        api, gateway = self._sockets()
        dsn = await self._database_address()
        if applied := await migrate(dsn):
            _log.info("migrated", scripts=applied)
        database = await Database.open(dsn)
        self._parts.push_async_callback(database.close)
        evaluator = Evaluator()
        await evaluator.start()
        self._parts.push_async_callback(evaluator.close)
        blobs = Blobs(options.data / "blobs")
        blobs.clear()
        tree = self._tree = Tree(options.root, blobs=blobs)
        host = await self._make_host(port_of(gateway))
        engine = Engine(
            database=database,
            evaluator=evaluator,
            repository=tree,
            blobs=blobs,
            hosts=[host],
            secrets=LocalSecrets(options.root, os.environ),
            settings=_engine_settings(settings, private=options.private),
        )
        await self._open_gateway(engine, gateway)
        await engine.start()
        self._parts.push_async_callback(engine.close)
        self._engine = engine
        await self._open_api(engine, tree, api)
        return self._announce()

    def _sockets(self) -> tuple[socket, socket]:
        options = self._options
        api = api_socket(options.settings.port, private=options.private)
        self._parts.callback(api.close)
        remembered = options.data / GATEWAY_FILE
        gateway = gateway_socket(remembered.read_text() if remembered.exists() else "")
        self._parts.callback(gateway.close)
        write_private(remembered, f"http://127.0.0.1:{port_of(gateway)}\n")
        self.url = f"http://127.0.0.1:{port_of(api)}"
        return api, gateway

    async def _database_address(self) -> str:
        given = self._options.settings.database
        if given is not None:
            return _checked_address(given.get_secret_value())
        postgres = EmbeddedPostgres(self._options.data)
        self._tell("starting the database" if postgres.exists else "making a new database")
        await postgres.start()
        self._parts.push_async_callback(postgres.close)
        return postgres.dsn()

    async def _make_host(self, port: int) -> ProcessHost:
        data = self._options.data
        host = ProcessHost(
            data / "runners",
            command=runner_command(f"http://127.0.0.1:{port}", data / GATEWAY_FILE),
            environment=runner_environment(os.environ),
        )
        await host.start()
        self._parts.push_async_callback(host.close)
        self._host = host
        return host

    async def _open_gateway(self, engine: Engine, bound: socket) -> None:
        models = await open_models(self._options.settings, self._parts)
        gateway = Gateway(engine=engine, models=models)
        # Pushed first, so called last: sessions are closed before the site waits for them.
        await self._serve(gateway.app, bound)
        self._parts.push_async_callback(gateway.close)

    async def _open_api(self, engine: Engine, tree: Tree, bound: socket) -> None:
        info = ServerInfo(
            version=__version__,
            mode="local",
            root=str(self._options.root),
            started_at=datetime.now(UTC),
        )
        api = make_api(
            engine=engine,
            archives=engine.archives,
            access=LocalAccess(self._token),
            info=info,
            metrics=engine.metrics,
            ready=_health_of(engine),
            local_tree=tree,
        )
        await self._serve(api, bound)

    async def _serve(self, app: web.Application, bound: socket) -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_HTTP_END_WITHIN)
        await runner.setup()
        self._parts.push_async_callback(runner.cleanup)
        await web.SockSite(runner, bound).start()

    def _announce(self) -> Running:
        mark = own_mark()
        running = Running(
            url=self.url,
            token=self._token,
            pid=mark.pid,
            started=mark.started,
            root=str(self._options.root),
            private=self._options.private,
            version=__version__,
        )
        running.record(self._options.data)
        _log.info("server_started", url=self.url, pid=mark.pid, private=running.private)
        return running

    # ── ending ───────────────────────────────────────────────────────────────────────────────────

    async def _end_runs(self, engine: Engine) -> None:
        """Cancel what is active and wait for it, for a bounded time."""
        try:
            active = await _active(engine)
            if active:
                self._tell(f"cancelling {len(active)} active run{'s' * (len(active) != 1)}")
            async with asyncio.timeout(_RUNS_END_WITHIN.total_seconds()):
                while active:
                    for run in active:
                        await engine.cancel(run, reason="the server was stopped")
                    await asyncio.gather(*(_ended(engine, run) for run in active))
                    active = await _active(engine)
        except TimeoutError:
            _log.warning("runs_left_active", seconds=_RUNS_END_WITHIN.total_seconds())
        except PlueError as error:
            # Without the store nothing can be recorded; the next server takes the runs up.
            _log.warning("runs_not_cancelled", error=error.message)


def _checked_address(dsn: str) -> str:
    """Return *dsn* when it can be read. Raises UsageError; its text is not shown: passwords."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise UsageError(
            f"--database (or PLUE_DATABASE) is no address of a database: {str(error).strip()}",
            field="database",
            remedy="write postgresql://USER:PASSWORD@HOST:PORT/NAME, or host=… dbname=…",
        ) from error
    return dsn


def runner_command(gateway: str, gateway_file: Path) -> RunnerCommand:
    """Return what starts a runner: the token comes over its standard input."""

    def command(runner: RunnerId, home: Path) -> list[str]:
        words = [sys.executable, "-m", "plue_runner", "--gateway", gateway, "--runner", runner]
        return [*words, "--home", str(home), "--gateway-file", str(gateway_file)]

    return command


def _engine_settings(settings: Settings, *, private: bool) -> EngineSettings:
    most = max(settings.max_runners, settings.runners)
    return EngineSettings(
        pools=(PoolSettings(warm=settings.runners, maximum=most),),
        log_days=settings.log_days,
        run_days=settings.run_days,
        # A private server lives as long as one command: nobody would expect other runs from it.
        fire_schedules=not private,
    )


def _health_of(engine: Engine) -> Callable[[], Awaitable[Health]]:
    async def health() -> Health:
        try:
            await engine.ping()
        except UnavailableError as error:
            return Health(ok=False, checks={"database": error.message})
        return Health(ok=True, checks={"database": "ok"})

    return health


async def _active(engine: Engine) -> list[RunId]:
    page = await engine.runs(RunFilter(states=_ACTIVE, limit=200))
    return [run.id for run in page.runs]


async def _ended(engine: Engine, run: RunId) -> None:
    after = (await engine.details(run)).run.last_event
    async for _ in engine.follow(run, after=after):
        pass


async def _unless(stop: asyncio.Event, work: Awaitable[None]) -> None:
    """Wait for *work*, but only until *stop* is set."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for one in (task, stopped):
        one.cancel()
    await asyncio.gather(task, stopped, return_exceptions=True)

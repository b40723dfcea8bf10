"""A server whose runners are simulated: the real engine, gateway and API, and a host of paper.

`python -m bench.host DSN FOLDER WARM MAXIMUM` speaks JSON lines. It says where it is, and then
which runner it would have started; it is told which runner is gone, and to submit runs.
"""

import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from plue.api.access import LocalAccess
from plue.api.app import make_api
from plue.api.keys import ApiLimits
from plue.api.models import Health, ServerInfo
from plue.authoring.evaluator import Evaluator
from plue.domain.run import RunnerId, Submission
from plue.engine.ports import NewRunner, SeenRunner
from plue.engine.service import Engine
from plue.engine.settings import EngineSettings, PoolSettings
from plue.garbage import spare_what_is_there
from plue.gateway.app import Gateway
from plue.gateway.llm.providers import AnthropicProvider, credentials_from
from plue.gateway.llm.settings import Models, ModelSettings
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.migrations import migrate

TOKEN = "a token of the benchmark"

UNREAD = timedelta(seconds=5)
"""How long a stream may be left unread; the server's own default is longer."""

WORKFLOW = """
from plue import manual, workflow

@workflow(triggers=[manual()])
def simulated(ctx):
    ctx.run("hello", "echo hello")
    return ctx.success()
"""


def _say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class PaperHost:
    """Asks whoever measures to play the runners."""

    kind = "process"
    refill_after = 0.0

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._present: set[RunnerId] = set()
        self._gone: dict[RunnerId, None] = {}

    async def create(self, runner: NewRunner) -> None:
        """Say which runner is to be played."""
        self._present.add(runner.id)
        _say(runner=runner.id, token=runner.token)

    async def observe(self) -> Sequence[SeenRunner]:
        """Return what is known, as the process host does: the last ones that went included."""
        present = [SeenRunner(runner, "present") for runner in self._present]
        return [*present, *(SeenRunner(runner, "gone") for runner in self._gone)]

    async def unknown(self, runners: Sequence[RunnerId]) -> Sequence[RunnerId]:
        """Return them: what this host does not list it does not have."""
        return runners

    async def remove(self, runner: RunnerId, *, grace: timedelta) -> None:
        """Count the runner as gone."""
        self.lose(runner)

    def lose(self, runner: RunnerId) -> None:
        """Let a runner be seen gone."""
        self._present.discard(runner)
        self._gone[runner] = None
        while len(self._gone) > 1000:
            del self._gone[next(iter(self._gone))]
        self.on_change()


def _models(http: aiohttp.ClientSession, url: str) -> Models:
    """Return who answers for models: whoever is at *url*, or nobody."""
    credentials = credentials_from({"ANTHROPIC_API_KEY": "key"})
    if not url or credentials is None:
        return Models()
    return Models(ModelSettings(), AnthropicProvider(http, credentials, url))


async def _submit(engine: Engine, count: int, at_once: int) -> None:
    """Submit runs as clients would, *at_once* at a time, and say how long it took."""
    begun, left = time.perf_counter(), iter(range(count))
    files = {".plue/workflows/simulated.py": WORKFLOW}

    async def submit() -> None:
        for _ in left:
            await engine.submit(Submission(workflow="simulated", files=files))

    await asyncio.gather(*(submit() for _ in range(at_once)))
    _say(submitted=count, seconds=time.perf_counter() - begun)


async def _obey(engine: Engine, host: PaperHost) -> None:
    """Do what the lines of standard input say, until it ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = []
    while line := await reader.readline():
        told: Mapping[str, Any] = json.loads(line)
        for runner in told.get("gone", ()):
            host.lose(RunnerId(runner))
        if "submit" in told:
            tasks.append(asyncio.create_task(_submit(engine, told["submit"], told["at_once"])))
    await asyncio.gather(*tasks)


async def _serve(dsn: str, folder: Path, warm: int, maximum: int) -> None:
    await migrate(dsn)
    database = await Database.open(dsn)
    evaluator = Evaluator()
    await evaluator.start()
    blobs, host = Blobs(folder / "blobs"), PaperHost()
    engine = Engine(
        database=database,
        evaluator=evaluator,
        blobs=blobs,
        hosts=[host],
        settings=EngineSettings(pools=(PoolSettings(warm=warm, maximum=maximum),)),
    )

    async def ready() -> Health:
        return Health(ok=True)

    info = ServerInfo(version="0", mode="local", root="/", started_at=datetime.now(UTC))
    api = make_api(
        engine=engine,
        archives=engine.archives,
        access=LocalAccess(TOKEN),
        info=info,
        metrics=engine.metrics,
        ready=ready,
        local_tree=None,
        limits=ApiLimits(unread=UNREAD),
    )
    http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    models = _models(http, os.environ.get("BENCH_MODELS", ""))
    gateway = Gateway(engine=engine, models=models)
    servers, urls = [], []
    for app in (gateway.app, api):
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        servers.append(runner)
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    # Before the engine begins to ask for runners.
    _say(gateway=urls[0], api=urls[1], token=TOKEN)
    await engine.start()
    spare_what_is_there()
    try:
        await _obey(engine, host)
    finally:
        await gateway.close()
        await http.close()
        for server in servers:
            await server.cleanup()
        await engine.close()
        await evaluator.close()
        await database.close()


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address, place, reserve, most = sys.argv[1:]
    asyncio.run(_serve(address, Path(place), int(reserve), int(most)))

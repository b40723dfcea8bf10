"""The processes of a cluster apart: each with its passes, together what one does alone.

Their engines stand in one process here, on connections of their own: they know of each other only
by the database. The runners and the evaluator's server are real processes and sockets.
"""

import asyncio
import contextlib
import io
import os
import secrets
import ssl
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from aiohttp import web
from stages.cluster import FILE, SETTINGS, workflow_of

from plue.authoring.evaluator import Evaluator
from plue.domain.run import RunId, Submission
from plue.engine.ports import Host
from plue.engine.service import Engine
from plue.errors import UnavailableError
from plue.gateway.app import Gateway
from plue.kube.evaluating import RemoteEvaluator, evaluator_app
from plue.kube.foundation import Foundation, migrate_patiently
from plue.kube.login import Login
from plue.kube.servers import API_PASSES, GATEWAY_PASSES
from plue.kube.settings import OperatorOptions
from plue.local.listening import gateway_socket, port_of
from plue.local.processes import ProcessHost, runner_environment
from plue.local.server import runner_command
from plue.store.archives import SharedArchives
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.migrations import migrate, missing, scripts
from plue.wire.events import RunState
from plue.wire.frames import Workspace

SETTINGS_APART = replace(SETTINGS, pools=())
TOKEN = "a-token-of-this-test"
FILES = {FILE: workflow_of('ctx.run("one", "echo one")')}


@pytest.fixture
async def evaluator_url() -> AsyncGenerator[str, None]:
    """Give the address of an evaluator's server."""
    evaluator = Evaluator()
    await evaluator.start()
    runner = web.AppRunner(evaluator_app(evaluator, token=TOKEN))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
    await evaluator.close()


@contextlib.asynccontextmanager
async def asking(url: str, token: str = TOKEN) -> AsyncGenerator[RemoteEvaluator, None]:
    """Give the engine's side of an evaluator's server."""
    remote = RemoteEvaluator(url, token=token)
    await remote.start()
    try:
        yield remote
    finally:
        await remote.close()


async def test_an_evaluation_there_is_one_at_home(evaluator_url: str) -> None:
    """Descriptions, plans and diagnostics are the same across the network."""
    home = Evaluator()
    await home.start()
    broken = {FILE: workflow_of('ctx.run("one", no_such_name)')}
    async with asking(evaluator_url) as remote:
        for files in (FILES, broken):
            assert await home.describe(files) == await remote.describe(files)
            planned = await home.plan(files, "ci", inputs={}, event={})
            assert planned == await remote.plan(files, "ci", inputs={}, event={})
    await home.close()


async def test_who_does_not_know_the_token_is_not_answered(evaluator_url: str) -> None:
    """A wrong token is an error that names the setting, and says what to do."""
    async with asking(evaluator_url, "another") as remote:
        with pytest.raises(UnavailableError, match="token") as caught:
            await remote.describe(FILES)
    assert "PLUE_EVALUATOR_TOKEN" in str(caught.value.remedy)


async def test_an_evaluator_that_is_away_is_waited_for() -> None:
    """Nobody there means: try later. It is not what is wrong with a workflow."""
    async with asking("http://127.0.0.1:9") as remote:
        with pytest.raises(UnavailableError, match="does not answer"):
            await remote.describe(FILES)


@dataclass
class Process:
    """The engine of one process, and its gateway where it has one."""

    engine: Engine
    gateway: Gateway | None = None


@contextlib.asynccontextmanager
async def process(
    dsn: str,
    folder: Path,
    url: str,
    *,
    hosts: Sequence[Host] = (),
    passes: frozenset[str] | None = None,
    serving: bool = False,
) -> AsyncGenerator[tuple[Process, str], None]:
    """Start what one process would have; gives it and the address that runners reach it at."""
    database = await Database.open(dsn, connections=4)
    async with asking(url) as evaluator:
        blobs = Blobs(folder / secrets.token_hex(4))  # of its own
        engine = Engine(
            database=database,
            evaluator=evaluator,
            blobs=blobs,
            archives=SharedArchives(blobs, database),
            hosts=hosts,
            settings=SETTINGS if hosts else SETTINGS_APART,
            passes=passes,
        )
        gateway, address, site = None, "", None
        if serving:
            gateway = Gateway(engine=engine)
            bound = gateway_socket("")
            address = f"http://127.0.0.1:{port_of(bound)}"
            site = web.AppRunner(gateway.app, shutdown_timeout=0.5)
            await site.setup()
            await web.SockSite(site, bound).start()
        await engine.start()
        try:
            yield Process(engine, gateway), address
        finally:
            if gateway is not None and site is not None:
                await gateway.close()
                await site.cleanup()
            await engine.close()
            await database.close()


async def test_runs_run_through_processes_apart(
    postgres_dsn: str, tmp_path: Path, evaluator_url: str
) -> None:
    """Submitted at the API, claimed anywhere, run at a gateway, seen ended at the operator."""
    await migrate(postgres_dsn)
    known_by = tmp_path / "gateway"
    async with contextlib.AsyncExitStack() as stack:
        _, address = await stack.enter_async_context(
            process(postgres_dsn, tmp_path, evaluator_url, passes=GATEWAY_PASSES, serving=True)
        )
        known_by.write_text(address)
        host = ProcessHost(
            tmp_path / "runners",
            command=runner_command(address, known_by),
            environment=runner_environment(os.environ),
        )
        await host.start()
        stack.push_async_callback(host.close, grace=timedelta(0))
        operator, _ = await stack.enter_async_context(
            process(postgres_dsn, tmp_path, evaluator_url, hosts=[host])
        )
        api, _ = await stack.enter_async_context(
            process(postgres_dsn, tmp_path, evaluator_url, passes=API_PASSES)
        )
        # More than the pool has: the operator's process must refill it.
        runs = [await api.engine.submit(Submission(workflow="ci", files=FILES)) for _ in range(4)]
        for run in runs:
            assert await _ended(operator.engine, run) is RunState.SUCCEEDED
        grows = {
            FILE: workflow_of('if ctx.run("one", "echo 1").stdout:\n    ctx.run("two", "true")')
        }
        run = await operator.engine.submit(Submission(workflow="ci", files=grows))
        assert await _ended(api.engine, run) is RunState.SUCCEEDED
        assert [s.name for s in (await api.engine.details(run)).steps] == ["one", "two"]
        # A tree that the API was given is worked on by a runner of the gateway.
        blob, _ = await api.engine.archives.put(_archive("greeting", b"hello"))
        reads = {FILE: workflow_of('ctx.run("one", "grep -x hello greeting")')}
        tree = Workspace(kind="blob", blob=blob)
        run = await api.engine.submit(Submission(workflow="ci", files=reads, workspace=tree))
        assert await _ended(operator.engine, run) is RunState.SUCCEEDED


async def _archive(name: str, content: bytes) -> AsyncIterator[bytes]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    yield packed.getvalue()


async def _ended(engine: Engine, run: RunId) -> RunState:
    async with asyncio.timeout(60):
        async for _ in engine.follow(run, after=0):
            pass
    return (await engine.details(run)).run.state


async def test_a_schema_is_waited_for_and_a_newer_one_let_be(postgres_dsn: str) -> None:
    """Whoever does not migrate sees what is missing; an older version works on a newer schema."""
    assert len(await missing(postgres_dsn)) == len(scripts())
    assert await migrate_patiently(postgres_dsn, seconds=0) == [name for _, name, _ in scripts()]
    assert await missing(postgres_dsn) == []
    database = await Database.open(postgres_dsn)
    await database.execute(
        "INSERT INTO schema_migrations (number, name, sha256) VALUES (9999, 'newer', 'x')"
    )
    await database.close()
    assert await migrate_patiently(postgres_dsn, seconds=0) == []
    assert await missing(postgres_dsn) == []


async def test_a_process_ends_when_its_database_is_another(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """A database that was emptied, and filled anew, is noticed by whoever served the old one."""
    options = OperatorOptions.load(
        database=postgres_dsn, data=tmp_path, gateway_url="http://127.0.0.1:8701"
    )
    login = Login("https://127.0.0.1:9", ssl.create_default_context(), lambda: None, "default")
    base = Foundation(options, login, look_every=0.05)
    async with base.parts:
        await base.open_engine()
        ended = asyncio.create_task(base.until())
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as own:
            assert not ended.done()
            await own.execute("DROP SCHEMA public CASCADE")
            await own.execute("CREATE SCHEMA public")
        async with asyncio.timeout(10):
            await ended
    assert len(await migrate(postgres_dsn)) == len(scripts())

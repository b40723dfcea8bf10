"""A real gateway, real runners and a scripted model: everything but the model is the product."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from factories import a_run
from psycopg.rows import dict_row
from server import QUICK, Server, a_server

from plue.dev.model_server import ModelServer
from plue.dev.script import Script
from plue.domain.run import RunId, StepView, StoredEvent
from plue.gateway.llm.providers import AnthropicProvider, credentials_from
from plue.gateway.llm.settings import Models, ModelSettings
from plue.wire.events import EventType
from plue.wire.frames import Workspace
from plue.wire.plan import Prompt, Step, Template

ROOT = Path(__file__).parents[2]
KEY = "sk-key-that-no-sandbox-sees"
PATIENCE = 30.0
FILE = ".plue/prompts/task.prompt.md"


@pytest.fixture(scope="session")
def zygote() -> Iterator[Callable[[list[str], str], int]]:
    """Give what starts runners that have their imports already."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "zygote.py")],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runner_image'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def start(argv: list[str], token: str) -> int:
        stdin.write(json.dumps({"argv": argv, "token": token}) + "\n")
        stdin.flush()
        return int(stdout.readline())

    yield start
    stdin.close()
    process.wait(10)
    stdout.close()


@dataclass
class Bench:
    """One server with a scripted model, and what runs on it."""

    server: Server
    models: ModelServer
    dsn: str
    folder: Path
    start: Callable[[list[str], str], int]
    pids: list[int] = field(default_factory=list)

    async def begin(self, *steps: Step, files: dict[str, str] | None = None, **run: Any) -> RunId:
        """Queue a run of *steps* with *files* as its workspace, and give it a runner."""
        tree = self.folder / "tree"
        for name, text in (files or {}).items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        tree.mkdir(exist_ok=True)
        run.setdefault("workspace", Workspace(kind="in_place", path=str(tree)))
        made = a_run(*steps, **run)
        await self.server.engine.context.runs.insert(made)
        self.server.engine.context.wake_claims()
        await self.runner()
        return made.id

    async def runner(self) -> int:
        """Start a real runner."""
        name, token = await self.server.runner(f"default-{len(self.pids)}x{os.getpid()}")
        home = self.folder / f"home{len(self.pids)}"
        argv = ["--gateway", self.server.url, "--runner", name, "--home", str(home)]
        pid = await asyncio.to_thread(self.start, argv, token)
        self.pids.append(pid)
        return pid

    async def until(self, run: RunId, kind: EventType, count: int = 1) -> list[StoredEvent]:
        """Return the run's events as soon as it has *count* of *kind*."""
        found: list[StoredEvent] = []
        async with asyncio.timeout(PATIENCE):
            async for batch in self.server.engine.follow(run, after=0):
                found += batch
                if sum(event.type is kind for event in found) >= count:
                    break
        return found

    async def end(self, run: RunId) -> tuple[list[StoredEvent], dict[str, StepView]]:
        """Return all events of the run, and its steps by name, when it has ended."""
        events = await self.until(run, EventType.RUN_COMPLETED)
        details = await self.server.engine.details(run)
        return events, {step.name: step for step in details.steps}

    async def usage(self) -> list[dict[str, Any]]:
        """Return the usage rows, as soon as every call is settled."""
        query = "SELECT * FROM llm_usage ORDER BY created_at"
        async with (
            asyncio.timeout(PATIENCE),
            await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection,
        ):
            while True:
                cursor = connection.cursor(row_factory=dict_row)
                rows = await (await cursor.execute(query)).fetchall()
                if rows and all(row["state"] == "settled" for row in rows):
                    return rows
                await asyncio.sleep(0.01)


MakeBench = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def bench(postgres_dsn: str, tmp_path: Path, zygote: Callable[[list[str], str], int]) -> MakeBench:
    """Give what starts a server whose model follows a script."""

    @asynccontextmanager
    async def make(script: str, **settings: Any) -> AsyncIterator[Bench]:
        async with (
            ModelServer(Script.parse(script), key=KEY) as models,
            aiohttp.ClientSession() as http,
        ):
            credentials = credentials_from({"ANTHROPIC_API_KEY": KEY})
            assert credentials is not None
            provider = AnthropicProvider(http, credentials, models.url)
            chosen = Models(ModelSettings(**settings), provider)
            async with a_server(postgres_dsn, tmp_path, QUICK, models=chosen) as server:
                made = Bench(server, models, postgres_dsn, tmp_path, zygote)
                try:
                    yield made
                finally:
                    for pid in made.pids:
                        with suppress(ProcessLookupError):
                            os.killpg(pid, signal.SIGKILL)

    return make


def ask(
    name: str = "ask",
    text: str = "Do it.",
    *,
    kind: str = "llm",
    output: dict[str, Any] | None = None,
    tools: tuple[str, ...] = (),
    max_turns: int | None = None,
    **fields: Any,
) -> Step:
    """Return a step that asks a model."""
    prompt = Prompt(
        kind=kind,  # type: ignore[arg-type] # tests name real ones
        prompt="Task",
        digest="0" * 64,
        template=FILE,
        sources={FILE: Template(text=text)},
        tools=tools,
        max_turns=max_turns,
        shown="Task()",
    )
    return Step(name=name, action=prompt, output_schema=output, **fields)


def an_output(**properties: str) -> dict[str, Any]:
    """Return the schema of an object with these fields of these types."""
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }

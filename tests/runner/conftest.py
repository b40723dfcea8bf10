"""A scripted gateway and real runner processes for the runner's tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from runner.scripted import Process, ScriptedGateway

Run = Callable[..., Awaitable[ScriptedGateway]]
Start = Callable[..., Awaitable[Process]]


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the variables with which a process compiles what it imports only once a session."""
    folder = tmp_path_factory.mktemp("bytecode")
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder)}


@pytest.fixture
async def start(tmp_path: Path, bytecode: dict[str, str]) -> AsyncIterator[Start]:
    """Give a function that starts a runner; all are killed in the end."""
    started: list[Process] = []

    async def begin(*arguments: str, **environment: str) -> Process:
        home = tmp_path / f"home{len(started)}"
        process = await Process.started(home, *arguments, **bytecode, **environment)
        started.append(process)
        return process

    yield begin
    for process in started:
        await process.end()


@pytest.fixture
async def run(start: Start) -> Run:
    """Give a function that lets a runner execute what a gateway has, and returns the gateway."""

    async def execute(gateway: ScriptedGateway, expected: int = 0) -> ScriptedGateway:
        async with gateway.serving():
            process = await start("--gateway", gateway.base)
            assert expected == await process.exit()
        assert gateway.breaches == []
        return gateway

    return execute

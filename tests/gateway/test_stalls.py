"""One runner that takes nothing, or one write that goes wrong, is nobody else's trouble."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from factories import a_run
from scripted_runner import Closed, connected, hello_events
from server import Server, a_server

from plue.domain.run import RunnerId
from plue.wire import frames
from plue.wire.frames import Holding

HUGE = "x" * (7 << 20)
"""A text that no socket's buffers hold."""


@pytest.fixture
async def server(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Server, None]:
    """Give a server on a fresh database."""
    async with a_server(postgres_dsn, tmp_path) as server:
        yield server


async def test_a_runner_that_does_not_read_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits longer for it than for one frame: not for its goodbye either."""
    monkeypatch.setattr("plue.gateway.session.SEND_SECONDS", 0.3)
    async with connected(server.url, *await server.runner("default-a")) as stalled:
        await stalled.hello()
        await stalled.hear(frames.Welcome)
        stalled.stall()
        session = server.gateway._sessions[RunnerId("default-a")]
        async with asyncio.timeout(12):  # far less than the heartbeat would take
            await session.send(frames.Retire(message=HUGE))
            while server.gateway._sessions:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)


async def test_a_runner_that_does_not_read_delays_no_other(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pass has to tell several runners it tells them beside each other."""
    monkeypatch.setattr("plue.gateway.session.SEND_SECONDS", 4.0)
    async with (
        connected(server.url, *await server.runner("default-a")) as stalled,
        connected(server.url, *await server.runner("default-b")) as other,
    ):
        for runner in (stalled, other):
            await runner.hello()
            await runner.hear(frames.Welcome)
        stalled.stall()
        sessions = server.gateway._sessions
        filling = asyncio.create_task(
            sessions[RunnerId("default-a")].send(frames.Retire(message=HUGE))
        )
        await asyncio.sleep(0)
        for name in ("default-a", "default-b"):
            sessions[RunnerId(name)].renew_requested.append(1.0)
        async with asyncio.timeout(3):
            await other.hear(frames.Renewed)
        filling.cancel()


async def test_a_fault_while_recording_costs_one_reconnect(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with a transaction, the recorder lives, and the runner says it again."""
    context = server.engine.context
    record, faults = context.events.record, [RuntimeError("a fault of ours")]

    async def faulty(*args: Any, **more: Any) -> Any:
        if faults:
            raise faults.pop()
        return await record(*args, **more)

    run = a_run()
    await context.runs.insert(run)
    identity = await server.runner("default-a")
    async with connected(server.url, *identity) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        context.wake_claims()
        assignment = await runner.take()
        monkeypatch.setattr(context.events, "record", faulty)
        await runner.events(assignment, hello_events())
        with pytest.raises(Closed):
            await runner.hear(frames.Ack)
    async with connected(server.url, *identity) as again:
        await again.hello(Holding(run=assignment.run, attempt=1, started=True))
        welcome = await again.hear(frames.Welcome)
        assert welcome.holding is not None
        assert welcome.holding.acked == 0
        await again.events(assignment, hello_events())
        assert (await again.hear(frames.Ack)).through == 3

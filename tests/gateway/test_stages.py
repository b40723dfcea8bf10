"""The plan's next stage on its way to a runner, and what becomes of stages with an attempt."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from authoring.sandboxed import FILE, workflow_of
from scripted_runner import Closed, ScriptedRunner, connected, event
from server import Server, a_server

from plue.domain.run import RunId, Submission
from plue.wire import frames
from plue.wire.events import EventType, RunnerEvent, RunState

BODY = """
b = ctx.run("b", "x")
if b.stdout == "yes":
    c = ctx.run("c", "x", continue_on_error=True)
    if c.ok:
        ctx.run("d", "x")
"""


@pytest.fixture
async def server(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Server, None]:
    """Give a server on a fresh database."""
    async with a_server(postgres_dsn, tmp_path) as server:
        yield server


async def queue(server: Server, options: str = "triggers=[push()]") -> RunId:
    """Queue a run whose code asks for values."""
    files = {FILE: workflow_of(BODY, options)}
    return await server.engine.submit(Submission(workflow="ci", files=files))


async def take(runner: ScriptedRunner) -> frames.Assignment:
    """Say hello and take the run."""
    await runner.hello()
    await runner.hear(frames.Welcome)
    return await runner.take()


def step(n: int, name: str, value: str | None = None) -> list[RunnerEvent]:
    """Return the events of a step that succeeds, with what it printed if it is asked for."""
    done = {"state": "succeeded", "exit_code": 0, "tries": 1}
    found = [
        event(n, EventType.STEP_STARTED, name, **{"try": 1}),
        event(n + 1, EventType.STEP_COMPLETED, name, **done),
    ]
    if value is not None:
        sent = [{"field": "stdout", "value": value}]
        found.append(event(n + 2, EventType.STEP_VALUES, name, values=sent))
    return found


async def test_a_stage_reaches_its_runner_and_is_told_again_after_a_cut(server: Server) -> None:
    """`extend` comes once a value is known; `hello` says which stage is held, the rest follows."""
    run = await queue(server)
    identity = await server.runner()
    async with connected(server.url, *identity) as runner:
        assignment = await take(runner)
        assert [(a.ref, a.field) for a in assignment.plan.awaits] == [("b", "stdout")]
        await runner.events(assignment, step(1, "b", "yes"))
        await runner.hear(frames.Ack)
        second = (await runner.hear(frames.Extend)).extension
        assert (second.stage, [p.step.name for p in second.steps]) == (2, ["c"])
        await runner.events(assignment, step(4, "c"))
        await runner.hear(frames.Ack)
        third = (await runner.hear(frames.Extend)).extension
        assert (third.stage, [p.step.name for p in third.steps]) == (3, ["d"])
        assert third.end is not None
    held = frames.Holding(run=assignment.run, attempt=1, acked=5, started=True, stage=2)
    async with connected(server.url, *identity) as again:
        await again.hello(held)
        await again.hear(frames.Welcome)
        assert (await again.hear(frames.Extend)).extension == third
        await again.events(assignment, step(6, "d"))
        await again.hear(frames.Ack)
        await again.finish(assignment, 7)
        await again.hear(frames.Done)
    plans = [
        json.loads(e.body) for e in await server.events(run) if e.type is EventType.PLAN_EXTENDED
    ]
    assert [p["stage"] for p in plans] == [1, 2, 3]
    assert plans[0]["awaits"] == [{"value": "b.stdout", "file": FILE, "line": 5}]
    assert plans[1]["steps"][0]["at"] == 1
    why = [(a["value"], a["is"], a["line"]) for a in plans[2]["steps"][0]["why"]]
    assert why == [("c.ok", "True", 7)]


async def test_nobody_may_send_what_was_not_asked_for(server: Server) -> None:
    """A value that the code does not wait for is out of place, and is not kept."""
    run = await queue(server)
    async with connected(server.url, *await server.runner()) as runner:
        assignment = await take(runner)
        sent = [{"field": "stderr", "value": "x"}]
        await runner.events(assignment, [event(1, EventType.STEP_VALUES, "b", values=sent)])
        with pytest.raises(Closed):
            await runner.hear(frames.Ack)
    assert (await server.engine.grown(run)).results.values == []


async def test_a_new_attempt_starts_at_stage_1_with_nothing_known(server: Server) -> None:
    """The lost attempt's stages and values stay its own (20)."""
    run = await queue(server, "triggers=[push()], attempts=2")
    async with connected(server.url, *await server.runner()) as runner:
        assignment = await take(runner)
        await runner.events(assignment, step(1, "b", "yes"))
        await runner.hear(frames.Ack)
        await runner.hear(frames.Extend)
    server.host.lose(runner.runner)
    async with connected(server.url, *await server.runner("default-b")) as other:
        assignment = await take(other)
        assert (assignment.attempt, assignment.plan.stage) == (2, 1)
        details = await server.engine.details(run)
        assert [s.name for s in details.steps] == ["b"]
        assert [s.number for s in details.stages] == [1]
        await other.events(assignment, step(1, "b", "no"))
        await other.hear(frames.Ack)
        last = (await other.hear(frames.Extend)).extension
        assert (last.stage, last.steps) == (2, ())
        await other.finish(assignment, 3)
        await other.hear(frames.Done)
    plans = [
        (body["attempt"], body["stage"])
        for e in await server.events(run)
        if e.type is EventType.PLAN_EXTENDED
        for body in (json.loads(e.body),)
    ]
    assert plans == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert (await server.engine.details(run)).run.state is RunState.SUCCEEDED


async def test_a_stage_of_an_attempt_that_is_over_is_not_recorded(server: Server) -> None:
    """An evaluation that comes too late finds the run ended, and changes nothing."""
    run = await queue(server)
    async with connected(server.url, *await server.runner()) as runner:
        assignment = await take(runner)
        await server.engine.cancel(run)
        await runner.hear(frames.Cancel)
        await runner.events(assignment, step(1, "b", "yes"))
        await runner.hear(frames.Ack)
        await runner.finish(assignment, 3, state=RunState.CANCELLED, reason="Cancelled")
        await runner.hear(frames.Done)
    events = await server.events(run)
    assert [e.type for e in events].count(EventType.PLAN_EXTENDED) == 1

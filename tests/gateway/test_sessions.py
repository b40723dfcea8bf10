"""The way of one run between engine, gateway and a runner, and every way in which it can break."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from factories import a_run, a_step
from scripted_runner import Closed, connected, event, hello_events
from server import QUICK, Server, a_server

from plue.domain.run import RunId
from plue.wire import frames
from plue.wire.events import EventType, Reason, RunState, StepState


@pytest.fixture
async def server(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Server, None]:
    """Give a server on a fresh database."""
    async with a_server(postgres_dsn, tmp_path) as server:
        yield server


async def queue(server: Server, **fields: object) -> RunId:
    """Queue a run of one step."""
    run = a_run(**fields)
    assert await server.engine.context.runs.insert(run)
    server.engine.context.wake_claims()
    return run.id


async def ended(server: Server, run: RunId) -> tuple[RunState, Reason | None]:
    """Return how the run ended."""
    await server.events(run)
    view = (await server.engine.details(run)).run
    return view.state, view.reason


async def test_a_run_goes_from_the_queue_to_its_end(server: Server) -> None:
    """A claimed run is started, its events are numbered in order, and its end is the last."""
    run = await queue(server)
    async with connected(server.url, *await server.runner()) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        await runner.events(assignment, hello_events())
        assert (await runner.hear(frames.Ack)).through == 3
        await runner.finish(assignment, 3, outputs={"version": "1.2"})
        await runner.hear(frames.Done)

    events = await server.events(run)
    assert [e.type for e in events] == [
        EventType.RUN_QUEUED,
        EventType.PLAN_EXTENDED,
        EventType.RUN_CLAIMED,
        EventType.RUN_STARTED,
        EventType.STEP_STARTED,
        EventType.STEP_OUTPUT,
        EventType.STEP_COMPLETED,
        EventType.RUN_COMPLETED,
    ]
    assert list(range(1, 9)) == [e.n for e in events]
    details = await server.engine.details(run)
    assert (details.run.state, details.run.reason) == (RunState.SUCCEEDED, Reason.SUCCEEDED)
    assert details.outputs == {"version": "1.2"}
    assert (
        details.steps[0].state,
        details.steps[0].exit_code,
        details.steps[0].tries,
    ) == (StepState.SUCCEEDED, 0, 1)


async def test_what_comes_twice_is_stored_once(server: Server) -> None:
    """Doubled `accepted`, events and `finished` change nothing and are answered again."""
    run = await queue(server)
    async with connected(server.url, *await server.runner()) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        await runner.say(frames.Accepted(run=assignment.run, attempt=1))
        await runner.hear(frames.Start)
        await runner.events(assignment, hello_events())
        await runner.events(assignment, hello_events())
        await runner.hear(frames.Ack)
        await runner.finish(assignment, 3)
        await runner.hear(frames.Done)
        await runner.finish(assignment, 3)
        await runner.hear(frames.Done)
    assert len(await server.events(run)) == 8


async def test_a_cut_session_resumes_where_the_store_is(server: Server) -> None:
    """After a reconnect `welcome` names the last stored event, and the rest follows it."""
    run = await queue(server)
    identity = await server.runner()
    async with connected(server.url, *identity) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        await runner.events(assignment, hello_events()[:2])
        await runner.hear(frames.Ack)
    async with connected(server.url, *identity) as again:
        await again.hello(frames.Holding(run=assignment.run, attempt=1, acked=0, started=True))
        welcome = await again.hear(frames.Welcome)
        assert welcome.holding == frames.Holding(
            run=assignment.run, attempt=1, acked=2, started=True
        )
        await again.events(assignment, hello_events())
        assert (await again.hear(frames.Ack)).through == 3
        await again.finish(assignment, 3)
        await again.hear(frames.Done)
    assert list(range(1, 9)) == [e.n for e in await server.events(run)]


async def test_known_events_are_acknowledged_again(server: Server) -> None:
    """Who sends what is stored does not know it, and may wait for nothing else."""
    run = await queue(server)
    async with connected(server.url, *await server.runner()) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        await runner.events(assignment, hello_events()[:1])
        assert (await runner.hear(frames.Ack)).through == 1
        await runner.events(assignment, hello_events()[:1])
        assert (await runner.hear(frames.Ack)).through == 1
        await runner.events(assignment, hello_events())
        assert (await runner.hear(frames.Ack)).through == 3
        await runner.finish(assignment, 3)
        await runner.hear(frames.Done)
    assert list(range(1, 9)) == [e.n for e in await server.events(run)]


async def test_a_newer_session_revokes_the_older(server: Server) -> None:
    """Two sockets of one runner: the older is closed, the newer goes on."""
    identity = await server.runner()
    async with connected(server.url, *identity) as old, connected(server.url, *identity) as new:
        await old.hello()
        first = await old.hear(frames.Welcome)
        await new.hello()
        second = await new.hear(frames.Welcome)
        assert second.epoch > first.epoch
        with pytest.raises(Closed):
            await old.hear(frames.Assign)
        await queue(server)
        await new.take()


async def test_a_claim_that_is_not_accepted_returns_to_the_queue(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """No `accepted` in time: same attempt, another runner, and the first can never start it."""
    quick = replace(QUICK, accept_timeout=timedelta(seconds=0.3))
    async with a_server(postgres_dsn, tmp_path, quick) as server:
        run = await queue(server)
        async with connected(server.url, *await server.runner("default-deaf")) as deaf:
            await deaf.hello()
            await deaf.hear(frames.Welcome)
            late = (await deaf.hear(frames.Assign)).assignment
            await deaf.hear(frames.Fenced)
            await deaf.say(frames.Accepted(run=late.run, attempt=late.attempt))
            await deaf.hear(frames.Fenced)
            async with connected(server.url, *await server.runner("default-b")) as runner:
                await runner.hello()
                await runner.hear(frames.Welcome)
                assignment = await runner.take()
                assert (run, 1) == (assignment.run, assignment.attempt)


@pytest.mark.parametrize(
    ("step_started", "attempts", "expected"),
    [
        pytest.param(False, 1, 2, id="nothing-had-started-is-tried-again"),
        pytest.param(True, 1, Reason.RUNNER_LOST, id="a-started-step-ends-the-run"),
        pytest.param(True, 2, 2, id="unless-the-workflow-allows-attempts"),
    ],
)
async def test_a_lost_runner(
    server: Server,
    step_started: bool,
    attempts: int,
    expected: int | Reason,
) -> None:
    """A runner that is gone costs its run as much as had begun."""
    run = await queue(server, attempts=attempts)
    async with connected(server.url, *await server.runner("default-a")) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        if step_started:
            await runner.events(assignment, hello_events()[:1])
            await runner.hear(frames.Ack)
    server.host.lose("default-a")
    if isinstance(expected, Reason):
        assert (RunState.FAILED, expected) == await ended(server, run)
        return
    async with connected(server.url, *await server.runner("default-b")) as second:
        await second.hello()
        await second.hear(frames.Welcome)
        assert expected == (await second.take()).attempt


async def test_frames_of_a_lost_attempt_are_fenced(server: Server) -> None:
    """A runner that was given up stays out, however late it speaks."""
    run = await queue(server, attempts=2)
    identity = await server.runner("default-a")
    async with connected(server.url, *identity) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        await runner.events(assignment, hello_events()[:1])
        await runner.hear(frames.Ack)
        server.host.lose("default-a")
        async with connected(server.url, *await server.runner("default-b")) as second:
            await second.hello()
            await second.hear(frames.Welcome)
            again = await second.take()
            await runner.events(assignment, hello_events()[1:])
            await runner.hear(frames.Fenced)
            await second.events(again, hello_events())
            await second.hear(frames.Ack)
            await second.finish(again, 3)
            await second.hear(frames.Done)
    events = await server.events(run)
    assert list(range(1, len(events) + 1)) == [e.n for e in events]
    assert sum(e.type is EventType.STEP_OUTPUT for e in events) == 1


async def test_cancel_reaches_the_runner_and_ends_the_run(server: Server) -> None:
    """A running run is ended by its runner, and says who asked."""
    run = await queue(server)
    async with connected(server.url, *await server.runner()) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        await server.engine.cancel(run, reason="not needed")
        cancel = await runner.hear(frames.Cancel)
        await runner.finish(
            assignment, 0, state=RunState.CANCELLED, reason=cancel.reason, message=cancel.message
        )
        await runner.hear(frames.Done)
    assert await ended(server, run) == (RunState.CANCELLED, Reason.CANCELLED)


async def test_cancel_of_a_queued_run_ends_it_at_once(server: Server) -> None:
    """What no runner has begun needs no runner to end."""
    run = await queue(server)
    await server.engine.cancel(run)
    assert await ended(server, run) == (RunState.CANCELLED, Reason.CANCELLED)


async def test_cancel_ends_a_run_whose_runner_does_not_answer(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """Cancel always ends: past grace and margin the engine ends the run itself."""
    quick = replace(QUICK, grace=timedelta(seconds=0.1), cancel_margin=timedelta(seconds=0.1))
    async with a_server(postgres_dsn, tmp_path, quick) as server:
        run = await queue(server, cleanup_timeout=timedelta(seconds=0.1))
        async with connected(server.url, *await server.runner()) as runner:
            await runner.hello()
            await runner.hear(frames.Welcome)
            await runner.take()
            await server.engine.cancel(run)
            await runner.hear(frames.Cancel)
            assert await ended(server, run) == (RunState.CANCELLED, Reason.CANCELLED)
            await runner.hear(frames.Fenced)


async def test_a_run_past_its_timeout_is_timed_out_by_its_runner(server: Server) -> None:
    """The server's clock asks for the end; the runner ends it as timed out."""
    run = await queue(server, run_timeout=timedelta(milliseconds=50))
    async with connected(server.url, *await server.runner()) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        cancel = await runner.hear(frames.Cancel)
        assert (cancel.state, cancel.reason) == ("timed_out", Reason.RUN_TIMEOUT)
        await runner.finish(assignment, 0, state=RunState.TIMED_OUT, reason=cancel.reason)
        await runner.hear(frames.Done)
    assert await ended(server, run) == (RunState.TIMED_OUT, Reason.RUN_TIMEOUT)


async def test_a_run_that_waits_too_long_ends_with_queue_timeout(server: Server) -> None:
    """Nobody takes it: the queue's deadline ends it."""
    run = await queue(server, queue_timeout=timedelta(milliseconds=50))
    assert await ended(server, run) == (RunState.TIMED_OUT, Reason.QUEUE_TIMEOUT)


async def test_priority_goes_first_then_age(server: Server) -> None:
    """One runner after another gets the most urgent, and among equals the oldest run."""
    low = await queue(server)
    high = await queue(server, priority=5)
    older = await queue(server)
    order = []
    for name in ("default-a", "default-b", "default-c"):
        async with connected(server.url, *await server.runner(name)) as runner:
            await runner.hello()
            await runner.hear(frames.Welcome)
            order.append((await runner.take()).run)
    assert [high, low, older] == order


async def test_a_wrong_token_is_refused(server: Server) -> None:
    """Only the runner that was made may speak for itself."""
    name, _ = await server.runner()
    async with connected(server.url, name, "guessed") as runner:
        await runner.hello()
        with pytest.raises(Closed):
            await runner.hear(frames.Welcome)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([event(2, EventType.STEP_OUTPUT)], id="a-number-is-missing"),
        pytest.param([event(1, EventType.STEP_OUTPUT, "other")], id="no-such-step"),
        pytest.param([event(1, EventType.RUN_COMPLETED, None)], id="the-engines-own-event"),
    ],
)
async def test_what_a_runner_cannot_say_closes_its_session(server: Server, wrong: list) -> None:  # type: ignore[type-arg]
    """A frame out of its place is not stored, and costs the sender its session only."""
    await queue(server)
    identity = await server.runner()
    async with connected(server.url, *identity) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        await runner.events(assignment, wrong)
        with pytest.raises(Closed):
            await runner.hear(frames.Ack)
    async with connected(server.url, *identity) as again:
        await again.hello(frames.Holding(run=assignment.run, attempt=1, started=True))
        assert (await again.hear(frames.Welcome)).holding.acked == 0  # type: ignore[union-attr]


async def test_two_engines_claim_each_run_once(postgres_dsn: str, tmp_path: Path) -> None:
    """Engines on one database share the queue: no run is given out twice."""
    async with (
        a_server(postgres_dsn, tmp_path) as one,
        a_server(postgres_dsn, tmp_path, host="other") as two,
    ):
        runs = [await queue(one if i % 2 else two) for i in range(20)]
        taken: list[str] = []

        async def play(server: Server, name: str) -> None:
            async with connected(server.url, *await server.runner(name)) as runner:
                await runner.hello()
                await runner.hear(frames.Welcome)
                assignment = await runner.take()
                taken.append(assignment.run)
                await runner.events(assignment, hello_events())
                await runner.hear(frames.Ack)
                await runner.finish(assignment, 3)
                await runner.hear(frames.Done)

        await asyncio.gather(*(play(one if i % 3 else two, f"default-{i}") for i in range(20)))
        assert sorted(runs) == sorted(taken)
        for run in runs:
            assert len(await two.events(run)) == 8


async def test_steps_that_never_ran_are_cancelled_with_the_run(server: Server) -> None:
    """An ended run has no step that still seems to go on."""
    run = a_run(a_step("one"), a_step("two", needs=("one",)))
    await server.engine.context.runs.insert(run)
    await server.engine.cancel(run.id)
    details = await server.engine.details(run.id)
    assert {StepState.CANCELLED} == {step.state for step in details.steps}

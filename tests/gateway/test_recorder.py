"""One writer for many runners: each has its turn, however much another has to say."""

from pathlib import Path

from factories import a_run
from scripted_runner import connected, event
from server import Server, a_server

from plue.domain.run import RunId, RunnerId
from plue.store.queue import ClaimKey
from plue.wire import frames
from plue.wire.events import EventType


async def _key(server: Server, name: str, *, accepted: bool) -> ClaimKey:
    """Have a run claimed by a runner of that name, and perhaps started; return its claim."""
    assert await server.engine.context.runs.insert(a_run())
    async with connected(server.url, *await server.runner(name)) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        if accepted:
            assignment = await runner.take()
        else:
            assignment = (await runner.hear(frames.Assign)).assignment
    return ClaimKey(RunId(assignment.run), assignment.attempt, RunnerId(name))


async def test_a_chatty_run_holds_up_neither_starts_nor_lines_of_others(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """What waits of one attempt is stored in turns with what others send meanwhile."""
    async with a_server(postgres_dsn, tmp_path) as server:
        chatty = await _key(server, "default-chatty", accepted=True)
        quiet = await _key(server, "default-quiet", accepted=False)
        recorder = server.gateway._recorder
        megabytes = [
            recorder.append(chatty, [event(n, EventType.STEP_OUTPUT, text="x" * 1_000_000)])
            for n in range(1, 41)
        ]
        await recorder.accept(quiet)
        assert not megabytes[-1].done()
        await recorder.append(quiet, [event(1, EventType.STEP_OUTPUT, text="hello\n")])
        assert not megabytes[-1].done()
        for stored in megabytes:
            await stored
        last = await server.engine.context.events.place(chatty.run)
        # Queued, planned, claimed and started are the engine's.
        assert last.last == 4 + 40

"""How single steps run, with real processes."""

from plue.wire.events import EventType, Reason, RunState
from runner.conftest import Run
from runner.scripted import ScriptedGateway, an_assignment, sh


async def test_run_executes_steps_in_order_and_finishes(run: Run) -> None:
    """A run of two steps gives start, output and completion of each, in order, and an end."""
    first = sh("one", "echo hello")
    second = sh("two", "echo there >&2", needs=("one",))
    gateway = await run(ScriptedGateway(an_assignment(first, second)))
    assert gateway.finished is not None
    assert (RunState.SUCCEEDED, Reason.SUCCEEDED) == (
        gateway.finished.state,
        gateway.finished.reason,
    )
    assert [
        (EventType.STEP_STARTED, "one"),
        (EventType.STEP_OUTPUT, "one"),
        (EventType.STEP_COMPLETED, "one"),
        (EventType.STEP_STARTED, "two"),
        (EventType.STEP_OUTPUT, "two"),
        (EventType.STEP_COMPLETED, "two"),
    ] == [(e.type, e.step) for e in gateway.events]
    assert "hello\n" == gateway.text("one", "stdout")
    assert "there\n" == gateway.text("two", "stderr")

"""Stages with every part real: evaluator, engine, gateway, Postgres and runner processes."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from stages.cluster import House, a_house

from plue.wire.events import EventType, Reason, RunState, StepState


@pytest.fixture
async def house(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[House, None]:
    """Give a server with runners."""
    async with a_house(postgres_dsn, tmp_path) as house:
        yield house


async def test_a_decision_over_a_live_result(house: House) -> None:
    """`if handle.ok` is decided by what the step did, and the run goes on accordingly."""
    run = await house.submit(
        'h = ctx.run("try", "exit 3", continue_on_error=True)\n'
        'if h.ok:\n    ctx.run("good", "true")\n'
        'else:\n    ctx.run("bad", f"echo {h.exit_code}")\n'
    )
    details = await house.ended(run)
    assert (details.run.state, details.run.reason) == (RunState.SUCCEEDED, Reason.SUCCEEDED)
    assert [s.name for s in details.steps] == ["try", "bad"]
    assert details.steps[1].state is StepState.SUCCEEDED
    assert [answer.text for answer in details.steps[1].why] == ["try.ok == False, ci.py:5"]
    kinds = [e.type for e in await house.events(run)]
    assert kinds.count(EventType.PLAN_EXTENDED) == 2

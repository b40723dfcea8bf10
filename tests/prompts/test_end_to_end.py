"""Prompts with every part real: planned, recorded, run in a process, asked for in a later stage."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from prompts.written import files_of
from stages.cluster import House, a_house

from plue.domain.run import Submission
from plue.wire.events import Reason, RunState, StepState

AGENT = """---
type: agent
inputs:
  n: integer
---
{{ 1 / n }}
"""
SOURCE = """from plue import workflow, manual
from plue.prompts import Fix
@workflow(triggers=[manual()])
def ci(ctx):
    fix = Fix(n=0, continue_on_error=True)
    if fix.status == "failed" and fix.turns < 1:
        ctx.run("after", f"echo {fix.status}, {fix.turns} turns{fix.summary}.")
"""


@pytest.fixture
async def house(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[House, None]:
    """Give a server with runners."""
    async with a_house(postgres_dsn, tmp_path) as house:
        yield house


async def test_a_prompt_that_cannot_be_rendered_is_a_failure_of_its_step(house: House) -> None:
    """The runner renders with the values; what an agent says of itself is there all the same."""
    files = files_of({"fix": AGENT}, SOURCE)
    run = await house.engine.submit(Submission(workflow="ci", files=files))
    details = await house.ended(run)
    assert (details.run.state, details.run.reason) == (RunState.SUCCEEDED, Reason.SUCCEEDED)
    fix, after = details.steps
    assert (fix.name, fix.kind, fix.state, fix.reason) == (
        "fix", "agent", StepState.FAILED, Reason.PROMPT_FAILED,
    )  # fmt: skip
    assert "fix.prompt.md:6: division by zero" in str(fix.message)
    assert after.state is StepState.SUCCEEDED
    told = [answer.text for answer in after.why]
    assert told == ["fix.status == 'failed', ci.py:6", "fix.turns == 0, ci.py:6"]
    said = [e.body for e in await house.events(run) if e.type == "step_output"]
    assert any("failed, 0 turns." in body for body in said)
    again = await house.ended(await house.engine.rerun(run))
    assert [step.name for step in again.steps] == ["fix", "after"]

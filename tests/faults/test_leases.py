"""A runner that is cut off or halted, and what it goes on executing meanwhile."""

import asyncio
import signal

import pytest
from faults.conftest import Open
from faults.world import signal_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_a_halted_runners_steps_end_before_the_next_attempt_begins(fault_round: Open) -> None:
    """A runner that is halted cannot kill its steps when its lease ends; its host does."""
    async with fault_round() as r:
        run = await r.clients.submit("long", "halted", ticks=250)
        r.clients.follow(run)
        await r.executes(run)
        pid = r.world.runner_pids()[r.runner_of(run)]
        signal_all([pid], signal.SIGSTOP)
        await r.executes(run, attempt=2)
        # Long enough for the first attempt's step to say something, if it still could.
        await asyncio.sleep(1)
        signal_all([pid], signal.SIGCONT)
        await r.clients.cancel(run, now=True)
        assert not (await r.finish()).violations

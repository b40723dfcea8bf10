"""Each law notices the fault that it is there for: Plue broken on purpose is caught."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest
from faults.conftest import Open
from faults.rounds import Round
from faults.world import World, signal_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def executing(r: Round, ticks: int = 40) -> str:
    """Give a run that is executed."""
    run = await r.one("long", {"ticks": ticks})
    await r.executes(run)
    return run


async def the_server_dies_before_it_has_stored(r: Round) -> None:
    """Hold the database up, wait for an acknowledgement all the same, and end the server."""
    run = await executing(r)
    signal_all(r.world.postgres_pids(), signal.SIGSTOP)
    before = r.proxy.record.acked[run, 1]
    async with asyncio.timeout(20):
        while r.proxy.record.acked[run, 1] < before + 3:  # noqa: ASYNC110 - others count it
            await asyncio.sleep(0.02)
    await r.world.kill()
    signal_all(r.world.postgres_pids(), signal.SIGCONT)
    await r.world.start()


async def a_run_is_started(r: Round) -> None:
    """Nothing goes wrong but what is broken."""
    run = await r.one("long", {"ticks": 5})
    async with asyncio.timeout(20):
        while (run, 1) not in r.proxy.record.started:  # noqa: ASYNC110 - others count it
            await asyncio.sleep(0.02)


async def clients_come_back(r: Round) -> None:
    """Break the clients' connections while events come."""
    await executing(r)
    async with asyncio.timeout(20):
        while not r.clients.cut_some(1.0):  # noqa: ASYNC110 - a connection of others
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)


async def the_runner_comes_back(r: Round) -> None:
    """Break the runner's connection while it executes."""
    await executing(r)
    r.proxy.cut()
    await asyncio.sleep(1.5)


async def a_halted_runner_is_given_up(r: Round) -> None:
    """Halt a runner for longer than its lease while its step goes on."""
    run = await executing(r, ticks=300)
    pid = r.world.runner_pids()[r.runner_of(run)]
    signal_all([pid], signal.SIGSTOP)
    await r.executes(run, attempt=2)
    await asyncio.sleep(1)
    await r.clients.cancel(run, now=True)


@pytest.mark.parametrize(
    ("mutation", "happens", "law"),
    [
        pytest.param(
            "acknowledge_before_storing",
            the_server_dies_before_it_has_stored,
            "what was acknowledged is stored",
            id="acknowledged-before-it-was-stored",
        ),
        pytest.param(
            "start_before_accepted_is_recorded",
            a_run_is_started,
            "only the recorded runner was started",
            id="started-before-accepted-was-recorded",
        ),
        pytest.param(
            "resume_one_event_too_early",
            clients_come_back,
            "followers saw each event once",
            id="an-event-twice-after-a-reconnect",
        ),
        pytest.param(
            "resume_one_event_too_late",
            clients_come_back,
            "followers saw each event once",
            id="an-event-missing-after-a-reconnect",
        ),
        pytest.param(
            "begin_again_after_reconnect",
            the_runner_comes_back,
            "no step began twice",
            id="a-step-again-after-a-reconnect",
        ),
        pytest.param(
            "let_silent_runners_be",
            a_halted_runner_is_given_up,
            "no two attempts at once",
            id="a-next-attempt-beside-a-halted-runner",
        ),
    ],
)
async def test_a_broken_build_is_caught(
    world: World,
    fault_round: Open,
    mutation: str,
    happens: Callable[[Round], Awaitable[None]],
    law: str,
) -> None:
    """The law that the fault breaks says so."""
    world.mutations = [mutation]
    async with fault_round() as r:
        await happens(r)
        await r.heal()
        violations = (await r.finish(within=12)).violations
    assert [v for v in violations if v.startswith(law)], violations


@pytest.mark.parametrize(
    "happens", [clients_come_back, the_runner_comes_back, a_halted_runner_is_given_up]
)
async def test_a_sound_build_is_not(
    fault_round: Open, happens: Callable[[Round], Awaitable[None]]
) -> None:
    """The same faults break no law of a build that is not broken."""
    async with fault_round() as r:
        await happens(r)
        await r.heal()
        assert not (await r.finish()).violations

"""What goes wrong in a round: faults of every part, at moments that the seed decides."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import psycopg
from faults.proxy import Weather
from faults.rounds import MIX, MIX_INPUTS, Round
from faults.world import QUICK, Died, signal_all

__all__ = ["crash_at_marks", "random_faults"]


async def kill_server(r: Round) -> None:
    """KILL the server, and start it again a little later."""
    await r.world.kill()
    r.kills["server"] += 1
    await asyncio.sleep(r.chance.choice((0, 0, 0.5, 1.5)))
    await r.world.start()


async def stop_server_for_a_while(r: Round) -> None:
    """Halt the server and let it go on: its late writes must do no harm."""
    if r.world.process is None:
        return
    r.kills["server halted"] += 1
    signal_all([r.world.process.pid], signal.SIGSTOP)
    await asyncio.sleep(r.chance.choice((0.3, 1.0, 3.0)))
    signal_all([r.world.process.pid], signal.SIGCONT)


async def kill_runner(r: Round) -> None:
    """KILL a runner; its steps live on until somebody ends them."""
    runners = r.world.runner_pids()
    if runners:
        name = r.chance.choice(sorted(runners))
        r.note(f"  runner {name} killed")
        signal_all([runners[name]], signal.SIGKILL)
        r.kills["runner"] += 1


async def halt_runner(r: Round) -> None:
    """Halt a runner, perhaps for longer than its lease, while its steps go on."""
    runners = r.world.runner_pids()
    if runners:
        name = r.chance.choice(sorted(runners))
        seconds = r.chance.choice((0.5, 2.0, 5.0, 10.0, 10.0))
        r.note(f"  runner {name} halted for {seconds} s")
        signal_all([runners[name]], signal.SIGSTOP)
        r.kills["runner halted"] += 1
        asyncio.get_running_loop().call_later(seconds, signal_all, [runners[name]], signal.SIGCONT)


async def kill_evaluator(r: Round) -> None:
    """KILL the evaluator while something is to be evaluated."""
    r.submit(*r.chance.choice(MIX))
    pid = r.world.evaluator_pid()
    if pid is not None:
        signal_all([pid], signal.SIGKILL)
        r.kills["evaluator"] += 1


async def halt_evaluator(r: Round) -> None:
    """Halt the evaluator, which keeps its socket and answers nobody."""
    r.submit(*r.chance.choice(MIX))
    pid = r.world.evaluator_pid()
    if pid is not None:
        signal_all([pid], signal.SIGSTOP)
        r.kills["evaluator halted"] += 1


async def kill_postgres(r: Round) -> None:
    """KILL the database's main process; the server starts it again."""
    pid = r.world.postgres_pid()
    if pid is not None:
        signal_all([pid], signal.SIGKILL)
        r.kills["postgres"] += 1


async def kill_backend(r: Round) -> None:
    """KILL one process of the database, which makes it recover from a crash."""
    pids = r.world.postgres_pids()[1:]
    if pids:
        signal_all([r.chance.choice(pids)], signal.SIGKILL)
        r.kills["postgres backend"] += 1


async def halt_postgres(r: Round) -> None:
    """Halt the whole database: connections stand, and nobody answers."""
    pids = r.world.postgres_pids()
    signal_all(pids, signal.SIGSTOP)
    r.kills["postgres halted"] += 1
    await asyncio.sleep(r.chance.choice((0.5, 2.0, 4.0)))
    signal_all(pids, signal.SIGCONT)


async def end_connections(r: Round) -> None:
    """Break all connections to the database, the listener's among them."""
    with contextlib.suppress(psycopg.Error):
        await asyncio.to_thread(
            r.world.query,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = 'plue' AND pid <> pg_backend_pid()",
        )
        r.kills["connections"] += 1


async def cut_network(r: Round) -> None:
    """Break some or all connections of runners."""
    share = r.chance.choice((0.4, 1.0))
    if r.proxy.cut(lambda _: r.chance.random() < share):
        r.kills["network"] += 1


async def bad_network(r: Round) -> None:
    """Delay, double and exchange frames for a while."""
    r.proxy.weather = Weather(
        delay=r.chance.choice((0.0, 0.1, 0.6)),
        double=r.chance.choice((0.0, 0.3, 0.6)),
        swap=r.chance.choice((0.0, 0.0, 0.2)),
    )
    r.note(f"  {r.proxy.weather}")
    r.kills["bad network"] += 1
    await asyncio.sleep(r.chance.uniform(0.5, 3))
    r.proxy.weather = Weather()


async def half_open(r: Round) -> None:
    """Have some connections stand and swallow what is sent, perhaps for longer than a lease."""
    lines = list(r.proxy.lines)
    lines = r.chance.sample(lines, (len(lines) + 1) // 2)
    weather = r.chance.choice(
        (
            Weather(swallow_up=True, swallow_down=True),
            Weather(swallow_up=True),
            Weather(swallow_down=True),
        )
    )
    for line in lines:
        line.weather = weather
    r.note(f"  {len(lines)} connections: {weather}")
    r.kills["half open"] += len(lines)


async def no_network(r: Round) -> None:
    """No runner can connect for a while, perhaps for longer than a lease."""
    r.proxy.refusing = True
    r.proxy.cut()
    r.kills["network away"] += 1
    await asyncio.sleep(r.chance.choice((0.5, 3.0, 9.0)))
    r.proxy.refusing = False


async def cut_clients(r: Round) -> None:
    """Break the connections of clients that follow runs."""
    if r.clients.cut_some(0.7):
        r.kills["clients"] += 1


async def more_load(r: Round) -> None:
    """Make another run."""
    r.submit(*r.chance.choice(MIX))


FAULTS: tuple[tuple[int, Callable[[Round], Awaitable[None]]], ...] = (
    (3, kill_server),
    (2, stop_server_for_a_while),
    (3, kill_runner),
    (3, halt_runner),
    (2, kill_evaluator),
    (1, halt_evaluator),
    (2, kill_postgres),
    (1, kill_backend),
    (1, halt_postgres),
    (1, end_connections),
    (3, cut_network),
    (3, bad_network),
    (3, half_open),
    (1, no_network),
    (3, cut_clients),
    (4, more_load),
)


async def random_faults(r: Round, *, seconds: float = 12.0, at_once: int = 2) -> None:
    """Do faults for some seconds, at most *at_once* beside each other."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await r.load(8)

    async def one_after_another() -> None:
        while loop.time() < end:
            await asyncio.sleep(r.chance.uniform(0.05, 1.2))
            fault = r.chance.choices([f for _, f in FAULTS], [w for w, _ in FAULTS])[0]
            async with lock if fault in (kill_server, stop_server_for_a_while) else free:
                r.note(fault.__name__.replace("_", " "))
                with contextlib.suppress(Died):
                    await fault(r)

    lock, free = asyncio.Lock(), contextlib.nullcontext()
    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    signal_all([p.pid for p in r.world.processes()], signal.SIGCONT)


async def cancelled_in_time(r: Round) -> None:
    """Have a run cancelled while it is executed."""
    run = await r.one("long", {"ticks": 60})
    await r.executes(run)
    await r.clients.cancel(run)


async def lost_in_time(r: Round) -> None:
    """Have a runner die while it executes."""
    run = await r.one("long", {"ticks": 20})
    await r.executes(run)
    pid = r.world.runner_pids().get(r.runner_of(run))
    if pid is not None:
        signal_all([pid], signal.SIGKILL)
        r.kills["runner"] += 1


async def lease_in_time(r: Round) -> None:
    """Have a runner lose its gateway for longer than its lease while it executes."""
    run = await r.one("long", {"ticks": 30})
    await r.executes(run)
    for line in r.proxy.lines:
        if line.runner == r.runner_of(run):
            line.weather = Weather(swallow_up=True, swallow_down=True)
    r.proxy.refusing = True
    r.kills["network away"] += 1
    try:
        await asyncio.sleep(QUICK["lease"] + 3)
    finally:
        r.proxy.refusing = False


async def unaccepted_in_time(r: Round) -> None:
    """Have a claim whose `assign` never arrives.

    Again until it is so: the runner that is claimed may have connected after we looked.
    """
    while True:
        for line in r.proxy.lines:
            line.weather = Weather(swallow_down=True)
        r.kills["half open"] += 1
        await r.one("short", {})
        await asyncio.sleep(5)


async def new_archive(r: Round) -> None:
    """Have an archive written: a tree that has not changed is copied once only."""
    await r.clients.upload(r.chance.randbytes(1000))


async def ordinary(r: Round) -> None:
    """Have something of every kind happen."""
    for workflow in (
        "short",
        "staged",
        "chatty",
        r.chance.choice(("retrying", "failing", "parallel")),
    ):
        await r.one(workflow, dict(MIX_INPUTS[workflow]))


DRIVERS: Mapping[str, Callable[[Round], Awaitable[None]]] = {
    "BLOB_WRITTEN": new_archive,
    "CANCEL_RECORDED": cancelled_in_time,
    "CANCEL_PUSHED": cancelled_in_time,
    "R_CANCEL": cancelled_in_time,
    "LOSS_DECIDED": lost_in_time,
    "NEXT_ATTEMPT": lost_in_time,
    "RUNNER_SEEN_GONE": lost_in_time,
    "RUNNER_GONE": lost_in_time,
    "BURIED": lost_in_time,
    "SESSION_CLOSED": lost_in_time,
    "RUNNER_INSERTED": lost_in_time,
    "HOME_MADE": lost_in_time,
    "SPAWNED": lost_in_time,
    "SPAWN_RECORDED": lost_in_time,
    "R_LEASE": lease_in_time,
    "UNACCEPTED_RETURNED": unaccepted_in_time,
}
"""What makes a mark likely to be reached; all others are, by ordinary runs."""


async def crash_at_marks(
    r: Round, groups: Iterable[Sequence[str]], *, patience: float = 40.0
) -> list[str]:
    """End a process at each mark of each group, one group after the other; return who never came.

    The marks of a group are of different processes, so that one does not hide another.
    """
    missed = []
    for group in groups:
        for mark in group:
            r.world.arm(mark)
        r.note(f"armed {' and '.join(group)}")
        drivers = {DRIVERS.get(mark, ordinary) for mark in group}
        tasks = [asyncio.ensure_future(driver(r)) for driver in sorted(drivers, key=str)]
        left = await _fire(r, group, patience)
        missed += left
        r.kills["mark"] += len(group) - len(left)
        r.world.disarm()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        r.proxy.heal()
    return missed


async def _fire(r: Round, group: Sequence[str], patience: float) -> list[str]:
    """Keep the server alive until all marks of *group* have fired; return those that did not."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while loop.time() < end:
        await asyncio.sleep(0.02)
        left = [mark for mark in group if mark not in r.world.fired]
        if not r.world.alive or not left:
            await _revived(r)
        if not left:
            break
    return [mark for mark in group if mark not in r.world.fired]


async def _revived(r: Round) -> None:
    """Start the server again when the mark has ended it, until it stays."""
    await r.world.dead_have_died()
    while not r.world.alive:
        with contextlib.suppress(Died):
            await r.world.start()

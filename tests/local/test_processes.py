"""The process host: real processes, adopted, ended and swept."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from plue.domain.run import RunnerId
from plue.engine.ports import NewRunner, SeenRunner
from plue.errors import UnavailableError
from plue.local.pidfd import ProcessMark, end_of_marked, ended_within
from plue.local.processes import ProcessHost, runner_environment
from plue.wire.events import Reason

_DUMMY = Path(__file__).parent / "dummy_runner.py"
_PATIENCE = timedelta(seconds=20)
_LONG = timedelta(seconds=60)

MakeHost = Callable[[str], ProcessHost]


@pytest.fixture
async def make_host(tmp_path: Path) -> AsyncIterator[MakeHost]:
    """Give a maker of hosts over one folder, whose runners behave as it is told."""
    hosts = []

    def make(behaviour: str) -> ProcessHost:
        environment = runner_environment({**os.environ, "PLUE_DATABASE": "secret"})
        host = ProcessHost(
            tmp_path / "runners",
            command=lambda _, home: [sys.executable, str(_DUMMY), behaviour, str(home)],
            environment=environment,
        )
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        await host.close(grace=timedelta(0))


def _new(name: str = "default-a") -> NewRunner:
    return NewRunner(id=RunnerId(name), pool="default", token="t0ken")


async def _report(tmp_path: Path, name: str = "default-a") -> list[str]:
    path = tmp_path / f"{name}.report"
    async with asyncio.timeout(_PATIENCE.total_seconds()):
        while not path.exists():  # noqa: ASYNC110 - it is another process that reports
            await asyncio.sleep(0.01)
    return path.read_text().splitlines()


async def _gone(host: ProcessHost, name: str = "default-a") -> SeenRunner:
    changed = asyncio.Event()
    host.on_change = changed.set
    async with asyncio.timeout(_PATIENCE.total_seconds()):
        while True:
            for seen in await host.observe():
                if seen.id == name and seen.state == "gone":
                    return seen
            await changed.wait()
            changed.clear()


async def test_a_runner_gets_its_token_and_nothing_secret(
    make_host: MakeHost, tmp_path: Path
) -> None:
    """The token comes over stdin, the cookie by environment, our settings not at all."""
    host = make_host("plain")
    await host.start()
    await host.create(_new())
    home = tmp_path / "runners" / "default-a"
    outer = os.environ.get("PLUE_RUNNER_ID")
    cookie = f"{outer}:default-a" if outer else "default-a"
    assert ["t0ken", cookie, "False", str(home)] == await _report(tmp_path)
    assert [SeenRunner(id=RunnerId("default-a"), state="present")] == await host.observe()


async def test_create_twice_starts_once(make_host: MakeHost, tmp_path: Path) -> None:
    """A repeated create is the first one's echo."""
    host = make_host("plain")
    await host.create(_new())
    record = (tmp_path / "runners" / "default-a" / "process.json").read_text()
    await host.create(_new())
    assert record == (tmp_path / "runners" / "default-a" / "process.json").read_text()
    assert len(await host.observe()) == 1


async def test_a_runner_that_ends_is_gone_with_its_home(
    make_host: MakeHost, tmp_path: Path
) -> None:
    """A runner's own end needs no words; its home is removed."""
    host = make_host("short")
    await host.create(_new())
    assert SeenRunner(id=RunnerId("default-a"), state="gone") == await _gone(host)
    assert not (tmp_path / "runners" / "default-a").exists()


async def test_a_failing_runner_says_how_it_ended(make_host: MakeHost) -> None:
    """Exit code and last words reach the engine."""
    host = make_host("broken")
    await host.create(_new())
    seen = await _gone(host)
    assert seen.reason is Reason.RUNNER_LOST
    assert "exit code 3; its last words: no gateway in sight" in (seen.message or "")


async def test_gone_is_said_when_all_that_it_started_has_ended(
    make_host: MakeHost, tmp_path: Path
) -> None:
    """Daemons of a killed runner are killed, those with an emptied environment too."""
    host = make_host("parent")
    await host.create(_new())
    children = [int(line) for line in (await _report(tmp_path))[4:]]
    assert len(children) == 2
    marks = [ProcessMark.of(child) for child in children]
    record = psutil.Process(marks[0].pid)
    assert record.is_running()
    os.kill(_pid_of(host), signal.SIGKILL)
    seen = await _gone(host)
    assert "SIGKILL" in (seen.message or "")
    for mark in marks:
        await asyncio.wait_for(end_of_marked(mark), 5)


def _pid_of(host: ProcessHost, name: str = "default-a") -> int:
    mark = host._runners[RunnerId(name)].mark
    assert mark is not None
    return mark.pid


def _forget(host: ProcessHost) -> None:
    """Reap what a host of this process started: after a real server's death, init does."""
    for runner in host._runners.values():
        assert runner.child is not None
        runner.child.wait(20)
    host._runners.clear()


async def test_remove_lets_the_runner_end_by_itself(make_host: MakeHost, tmp_path: Path) -> None:
    """TERM comes first, and a runner that follows it is not killed."""
    host = make_host("plain")
    await host.create(_new())
    await _report(tmp_path)
    await host.remove(RunnerId("default-a"), grace=_LONG)
    assert SeenRunner(id=RunnerId("default-a"), state="gone") == await _gone(host)
    assert (tmp_path / "termed").read_text() == "default-a"


async def test_remove_kills_after_the_grace_time(make_host: MakeHost, tmp_path: Path) -> None:
    """A runner that ignores TERM is gone soon after the grace time."""
    host = make_host("stubborn")
    await host.create(_new())
    await _report(tmp_path)
    await host.remove(RunnerId("default-a"), grace=timedelta(milliseconds=50))
    assert (await _gone(host)).state == "gone"


async def test_a_second_remove_without_grace_ends_the_waiting(
    make_host: MakeHost, tmp_path: Path
) -> None:
    """Whoever loses patience need not wait for the first grace time."""
    host = make_host("stubborn")
    await host.create(_new())
    await _report(tmp_path)
    await host.remove(RunnerId("default-a"), grace=_LONG)
    await host.remove(RunnerId("default-a"), grace=timedelta(0))
    assert (await _gone(host)).state == "gone"


async def test_a_new_server_watches_living_runners_on(make_host: MakeHost, tmp_path: Path) -> None:
    """A runner outlives its server's watch and is the next server's."""
    first = make_host("plain")
    await first.create(_new())
    await _report(tmp_path)
    pid = _pid_of(first)
    first.detach()
    second = make_host("plain")
    await second.start()
    assert [SeenRunner(id=RunnerId("default-a"), state="present")] == await second.observe()
    assert _pid_of(second) == pid
    await second.remove(RunnerId("default-a"), grace=_LONG)
    assert (await _gone(second)).reason is None
    _forget(first)


async def test_a_new_server_sweeps_what_a_dead_runner_left(
    make_host: MakeHost, tmp_path: Path
) -> None:
    """A runner that died unwatched is gone, but only after its children."""
    first = make_host("parent")
    await first.create(_new())
    children = [int(line) for line in (await _report(tmp_path))[4:]]
    marks = [ProcessMark.of(child) for child in children]
    pid = _pid_of(first)
    first.detach()
    os.kill(pid, signal.SIGKILL)
    assert await ended_within(pid, _PATIENCE)
    second = make_host("parent")
    await second.start()
    seen = await _gone(second)
    assert "while no server watched" in (seen.message or "")
    for mark in marks:
        await asyncio.wait_for(end_of_marked(mark), 5)
    _forget(first)


async def test_a_new_server_knows_who_has_gone(make_host: MakeHost) -> None:
    """What a server ended is gone for the next one at once, with the reason."""
    first = make_host("broken")
    await first.create(_new())
    expected = await _gone(first)
    second = make_host("plain")
    await second.start()
    assert [expected] == await second.observe()
    await second.create(_new())
    assert [expected] == await second.observe()


async def test_a_reused_pid_is_not_the_runner(make_host: MakeHost, tmp_path: Path) -> None:
    """A record whose start time does not fit names nobody, and nobody is harmed."""
    home = tmp_path / "runners" / "default-a"
    home.mkdir(parents=True)
    (home / "process.json").write_text(f'{{"pid": {os.getpid()}, "started": 1.0}}')
    host = make_host("plain")
    await host.start()
    assert (await _gone(host)).state == "gone"
    assert not home.exists()


async def test_a_command_that_cannot_start_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """A runner that cannot be started leaves nothing behind."""
    host = ProcessHost(
        tmp_path / "runners", command=lambda _, __: ["/no/such/program"], environment={}
    )
    with pytest.raises(UnavailableError, match="could not be started"):
        await host.create(_new())
    assert await host.observe() == []
    assert not (tmp_path / "runners" / "default-a").exists()


def test_environment_drops_our_settings_and_keeps_the_users() -> None:
    """Plue's variables are not a step's business; a relative PYTHONPATH would lose its meaning."""
    seen = runner_environment(
        {"PATH": "/bin", "PLUE_TOKEN": "x", "PLUE_RUNNER_ID": "outer-x", "PYTHONPATH": "a:/b"}
    )
    expected = {"PATH": "/bin", "PLUE_RUNNER_ID": "outer-x", "PYTHONPATH": f"{Path.cwd()}/a:/b"}
    assert expected == seen

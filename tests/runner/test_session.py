"""The protocol: nothing is lost and nothing done twice, whatever happens to the connection."""

import asyncio
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from runner.conftest import Run, Start
from runner.scripted import ScriptedGateway, an_assignment, sh

from plue.wire.events import EventType, Reason, RunState
from plue.wire.frames import (
    Accepted,
    Events,
    Fenced,
    Finished,
    FromRunner,
    Hello,
    Limits,
    Refused,
    Retire,
    Workspace,
)


def _counting(tree: Path) -> ScriptedGateway:
    """A run whose steps note each time that they run, and print 300 lines over some time."""
    script = "echo {0} >> ran; for i in $(seq 30); do seq 10; echo e$i >&2; sleep 0.005; done"
    steps = (sh("one", script.format("one")), sh("two", script.format("two"), needs=("one",)))
    where = Workspace(kind="in_place", path=str(tree))
    return ScriptedGateway(an_assignment(*steps, workspace=where))


def _assert_complete(gateway: ScriptedGateway, tree: Path) -> None:
    assert (tree / "ran").read_text() == "one\ntwo\n"
    out = "".join(f"{n}\n" for n in range(1, 11)) * 30
    for step in ("one", "two"):
        assert out == gateway.text(step, "stdout")
        assert "".join(f"e{n}\n" for n in range(1, 31)) == gateway.text(step, "stderr")
        assert gateway.completed(step)["state"] == "succeeded"
    assert list(range(1, gateway.stored + 1)) == [event.n for event in gateway.events]
    assert gateway.finished is not None
    assert gateway.finished.state == RunState.SUCCEEDED


class _Numbers:
    """Counts the frames of one kind, from 1; the others have the number 0."""

    def __init__(self, kind: type) -> None:
        """Count frames of *kind*."""
        self._kind = kind
        self._seen = 0

    def of(self, frame: FromRunner) -> int:
        """Count *frame* and return its number."""
        self._seen += isinstance(frame, self._kind)
        return self.last(frame)

    def last(self, frame: FromRunner) -> int:
        """Return the number of *frame*, which was counted just now."""
        return self._seen if isinstance(frame, self._kind) else 0


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        pytest.param(Hello, (1, 3), (2, 4), id="hello"),
        pytest.param(Accepted, (1,), (2,), id="accepted"),
        pytest.param(Events, (1, *range(5, 200, 4)), (2, *range(7, 200, 4)), id="events"),
        pytest.param(Finished, (1, 3), (2, 4), id="finished"),
    ],
)
async def test_run_survives_cuts(
    run: Run, tmp_path: Path, kind: type, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """A cut before or after the gateway handled a frame loses nothing and doubles nothing."""
    gateway = _counting(tmp_path)
    numbers = _Numbers(kind)
    gateway.cut_when = lambda frame: numbers.of(frame) in before
    gateway.cut_after = lambda frame: numbers.last(frame) in after
    await run(gateway)
    assert gateway.cuts > 1
    _assert_complete(gateway, tmp_path)


async def test_frames_said_twice_are_harmless(run: Run, tmp_path: Path) -> None:
    """Doubled assign, start, ack and done change nothing."""
    gateway = _counting(tmp_path)
    gateway.twice = True
    await run(gateway)
    _assert_complete(gateway, tmp_path)


async def test_gateway_that_comes_back_elsewhere_is_found(start: Start, tmp_path: Path) -> None:
    """The file with the gateway's address is read again at every connection."""
    gateway = _counting(tmp_path)
    address = tmp_path / "gateway"
    process = await start("--gateway-file", str(address))
    async with gateway.serving():
        address.write_text(f"{gateway.base}\n")
        await gateway.until(lambda: gateway.text("one"))
    gateway._port = 0
    async with gateway.serving():
        address.write_text(f"{gateway.base}\n")
        assert await process.exit() == 0
    assert gateway.connections > 1
    _assert_complete(gateway, tmp_path)
    assert gateway.breaches == []


async def test_frames_about_another_attempt_are_ignored_or_refused(start: Start) -> None:
    """A start for another attempt begins nothing; an assignment while busy is refused."""
    gateway = ScriptedGateway(an_assignment(sh("a", "echo a")), start_on_accepted=False)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.accepted)
        await gateway.say(gateway.start(attempt=2))
        await gateway.say(Fenced(run="another", attempt=1))
        other = gateway._run.model_copy(update={"attempt": 2})
        await gateway.say(gateway.assign().model_copy(update={"assignment": other}))
        await gateway.until(lambda: any(isinstance(f, Refused) for f in gateway.frames))
        await gateway.say(Retire())
        assert gateway.events == []
        await gateway.say(gateway.start())
        assert await process.exit() == 0
    assert gateway.completed("a")["state"] == "succeeded"


SLEEPS = "sleep 600 & echo $!; echo ready; wait"


async def _sleeping(gateway: ScriptedGateway) -> list[int]:
    await gateway.until(lambda: "ready" in gateway.text("a"))
    return [int(word) for word in gateway.text("a").split() if word.isdigit()]


async def test_lease_that_is_not_renewed_kills_all(start: Start) -> None:
    """Without ``renewed`` for a lease the steps are killed and the runner exits."""
    gateway = ScriptedGateway(an_assignment(sh("a", SLEEPS)), renews=False, lease_seconds=1.0)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        pids = await _sleeping(gateway)
        assert await process.exit(10) == 4
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert gateway.finished is None


async def test_lease_ends_also_without_a_connection(start: Start) -> None:
    """A runner that is cut off for a lease kills its steps."""
    gateway = ScriptedGateway(an_assignment(sh("a", SLEEPS)), lease_seconds=1.0)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        pids = await _sleeping(gateway)
    assert await process.exit(10) == 4
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


async def test_lease_that_is_renewed_holds(run: Run) -> None:
    """A run of several leases goes on while they are renewed."""
    gateway = ScriptedGateway(an_assignment(sh("a", "sleep 1.5")), lease_seconds=0.5)
    await run(gateway)
    assert gateway.completed("a")["state"] == "succeeded"


async def test_fenced_runner_kills_and_says_nothing_more(start: Start) -> None:
    """After ``fenced`` nothing of the attempt is left, and nothing more is sent of it."""
    gateway = ScriptedGateway(an_assignment(sh("a", SLEEPS), sh("c", "echo c", cleanup=True)))
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        pids = await _sleeping(gateway)
        await gateway.say(Fenced(run=gateway._run.run, attempt=1))
        assert await process.exit(10) == 3
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert gateway.finished is None
    assert gateway.of(EventType.STEP_COMPLETED) == []
    assert not process.home.exists()


async def test_busy_runner_that_is_terminated_says_that_it_is_lost(start: Start) -> None:
    """TERM kills the steps first and then reports the loss."""
    gateway = ScriptedGateway(an_assignment(sh("a", SLEEPS)))
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        pids = await _sleeping(gateway)
        process.terminate()
        await gateway.until(lambda: gateway.finished)
        assert [pid for pid in pids if psutil.pid_exists(pid)] == []
        assert await process.exit() == 0
    assert gateway.breaches == []
    assert gateway.finished is not None
    assert (
        gateway.finished.state,
        gateway.finished.reason,
    ) == (RunState.FAILED, Reason.RUNNER_LOST)


async def test_finished_is_said_again_until_it_is_answered(start: Start) -> None:
    """An end that nobody answered is repeated after a reconnect, unchanged."""
    gateway = ScriptedGateway(an_assignment(sh("a", ":")), answers_finished=False)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.finished)
        gateway.cut()
        await gateway.until(lambda: len([f for f in gateway.frames if isinstance(f, Finished)]) > 1)
        await gateway.say(gateway.done())
        assert await process.exit() == 0
    assert gateway.breaches == []


async def test_runner_that_is_fenced_in_the_place_of_a_welcome_ends(start: Start) -> None:
    """A busy runner may learn only after a cut that its attempt is lost."""
    gateway = ScriptedGateway(an_assignment(sh("a", SLEEPS)))
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        pids = await _sleeping(gateway)
        gateway.instead_of_welcome = Fenced(run=gateway._run.run, attempt=1)
        gateway.cut()
        assert await process.exit(10) == 3
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


async def test_runner_that_is_retired_in_the_place_of_a_welcome_ends(start: Start) -> None:
    """An idle runner that was retired while it was away goes at once."""
    gateway = ScriptedGateway(instead_of_welcome=Retire())
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        assert await process.exit() == 0


@pytest.mark.parametrize(
    ("act", "code"),
    [pytest.param("retire", 0, id="retired"), pytest.param("terminate", 0, id="terminated")],
)
async def test_idle_runner_goes_when_it_is_asked_to(start: Start, act: str, code: int) -> None:
    """An idle runner ends at once and well."""
    gateway = ScriptedGateway()
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.frames)
        if act == "retire":
            await gateway.say(Retire())
        else:
            process.terminate()
        assert code == await process.exit()


async def test_idle_runner_that_is_not_known_goes(start: Start) -> None:
    """A gateway that does not accept the token has no use for this runner."""
    gateway = ScriptedGateway(refuses=401)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        assert await process.exit() == 3


async def test_idle_runner_without_a_gateway_goes_after_its_patience(start: Start) -> None:
    """A runner whose server is gone does not stay for ever."""
    process = await start("--gateway", "http://127.0.0.1:1", "--idle-exit", "0.5")
    assert await process.exit() == 5


async def test_full_spool_blocks_the_step_and_loses_nothing(start: Start) -> None:
    """Without acknowledgements a step that prints too much waits, and then all of it comes."""
    script = "seq 2000000; echo end >&2"
    limits = Limits(spool_bytes=2_000_000)
    gateway = ScriptedGateway(an_assignment(sh("a", script), limits=limits), acks=False)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.stored == 1)
        await gateway.say(gateway._ack())  # the step may start; nothing after that is acknowledged
        await gateway.until(lambda: len(gateway.text("a")) > 1_500_000)
        # It goes on only when something is acknowledged: a second is ample for all of it.
        with pytest.raises(TimeoutError):
            await gateway.until(lambda: len(gateway.text("a")) > 3_000_000, patience=1)
        gateway.acks = True
        gateway.cut()
        assert await process.exit() == 0
    assert "".join(f"{n}\n" for n in range(1, 2_000_001)) == gateway.text("a", "stdout")
    assert gateway.text("a", "stderr") == "end\n"
    assert gateway.breaches == []


async def test_first_step_starts_only_after_its_start_is_stored(
    start: Start, tmp_path: Path
) -> None:
    """What the engine cannot know of has not begun: a lost runner may then be replaced."""
    where = Workspace(kind="in_place", path=str(tmp_path))
    steps = (sh("a", "touch begun"), sh("b", "touch more", needs=("a",)))
    gateway = ScriptedGateway(an_assignment(*steps, workspace=where), acks=False)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.stored == 1)
        with pytest.raises(TimeoutError):
            await gateway.until(lambda: gateway.stored > 1, patience=0.5)
        assert not (tmp_path / "begun").exists()
        await gateway.say(gateway._ack())
        # Only the first waits: the second starts although nothing more is acknowledged.
        await gateway.until((tmp_path / "more").exists)
        gateway.acks = True
        gateway.cut()
        assert await process.exit() == 0


async def test_first_output_is_not_held_back(start: Start) -> None:
    """A step that prints and goes on is seen while it runs, unfinished lines included."""
    gateway = ScriptedGateway(an_assignment(sh("a", "echo one; printf two; sleep 600")))
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.text("a") == "one\ntwo")
        await gateway.say(gateway.cancel_frame(now=True))
        assert await process.exit() == 0
    chunks = [e.body for e in gateway.of(EventType.STEP_OUTPUT)]
    assert [(c["text"], c.get("partial")) for c in chunks] == [
        ("one\n", None),
        ("two", True),
        ("", None),
    ]


async def test_two_runners_of_one_machine_do_not_touch_each_other(start: Start) -> None:
    """The end of one runner ends none of another's processes."""
    mine, other = (ScriptedGateway(an_assignment(sh("a", SLEEPS))) for _ in range(2))
    async with mine.serving(), other.serving():
        first = await start("--gateway", mine.base, "--runner", f"default-{uuid4().hex[:10]}")
        second = await start("--gateway", other.base, "--runner", f"default-{uuid4().hex[:10]}")
        pids = await _sleeping(other)
        await _sleeping(mine)
        await mine.say(mine.cancel_frame(now=True))
        assert await first.exit() == 0
        assert pids == [pid for pid in pids if psutil.pid_exists(pid)]
        await other.say(other.cancel_frame(now=True))
        assert await asyncio.wait_for(second.exit(), 10) == 0

"""What steps start is ended with them: background children, daemons, the deaf and the hidden."""

from uuid import uuid4

import psutil
from runner.conftest import Run, Start
from runner.scripted import ScriptedGateway, an_assignment, sh

from plue.wire.events import EventType, Reason, RunState
from plue.wire.frames import Limits

# Prints the pids of two children and waits; none of the three listens to TERM.
DEAF = (
    "trap '' TERM; sleep 600 & echo $!; (sleep 601 & echo $!; wait) & echo ready; wait; sleep 602"
)
SHORT_GRACE = Limits(grace_seconds=0.3)


# Starts a daemon of a session of its own, and prints its pid once it lives.
DAEMON = (
    "{0} setsid -f sh -c 'echo $$ > {1}; exec sleep 600' >/dev/null 2>&1\n"
    "until [ -s {1} ]; do :; done; cat {1}"
)


def _pids(gateway: ScriptedGateway, step: str) -> list[int]:
    return [int(word) for word in gateway.text(step).split() if word.isdigit()]


def _alive(pids: list[int]) -> list[int]:
    assert pids
    return [pid for pid in pids if psutil.pid_exists(pid)]


async def test_step_ends_although_a_background_child_holds_its_pipe(run: Run) -> None:
    """A child that keeps the pipe delays the end by about a second, and is ended."""
    gateway = await run(ScriptedGateway(an_assignment(sh("bg", "sleep 600 & echo $!"))))
    duration = gateway.completed("bg")["duration_ms"]
    assert isinstance(duration, int)
    assert duration < 3000
    assert _alive(_pids(gateway, "bg")) == []


async def test_output_of_a_process_substitution_is_complete(run: Run) -> None:
    """What a background process prints within a moment after the step's end is kept."""
    step = sh("tee", "echo one > >(sleep 0.3; cat; echo two)", using="bash")
    gateway = await run(ScriptedGateway(an_assignment(step)))
    assert gateway.text("tee") == "one\ntwo\n"


async def test_daemons_end_with_their_own_step_and_with_no_other(run: Run) -> None:
    """With steps side by side, a daemon goes when its own step ends, and not before."""
    still = "; read x < pipe; kill -0 $(cat b) && echo still there"
    short = sh("short", DAEMON.format("", "a"), needs=("prepare",))
    long = sh("long", DAEMON.format("", "b") + still, needs=("prepare",))
    watch = sh("watch", "kill -0 $(cat a) || echo gone; echo go > pipe", needs=("short",))
    prepare = sh("prepare", "mkfifo pipe")
    gateway = await run(ScriptedGateway(an_assignment(prepare, short, long, watch)))
    assert gateway.text("watch", "stdout") == "gone\n"
    assert gateway.text("long").endswith("still there\n")
    assert _alive(_pids(gateway, "short") + _pids(gateway, "long")) == []


async def test_hidden_daemon_ends_with_the_run(run: Run) -> None:
    """A daemon without session or variables of its step is gone when the run's end is told."""
    hide = sh("hide", DAEMON.format("env -i", "pid"))
    gateway = ScriptedGateway(an_assignment(hide, sh("other", "sleep 0.3")))
    seen: list[int] = []

    def look(frame: object) -> bool:
        if type(frame).__name__ == "Finished":
            seen.extend(_alive(_pids(gateway, "hide")))
        return False

    gateway.cut_when = look
    await run(gateway)
    assert seen == []


async def test_cancel_kills_what_does_not_listen_to_term(start: Start) -> None:
    """TERM, then KILL after the grace for all of the step; what had not started is cancelled."""
    steps = (
        sh("deaf", DEAF),
        sh("later", ":", needs=("deaf",)),
        sh("clean", "echo c", cleanup=True),
    )
    gateway = ScriptedGateway(an_assignment(*steps, limits=SHORT_GRACE))
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: "ready" in gateway.text("deaf"))
        await gateway.say(gateway.cancel_frame(message="by ann"))
        assert await process.exit() == 0
    assert _alive(_pids(gateway, "deaf")) == []
    deaf, later = gateway.completed("deaf"), gateway.completed("later")
    assert (deaf["state"], deaf["reason"], deaf["tries"]) == ("cancelled", "Cancelled", 1)
    assert (later["state"], later["tries"]) == ("cancelled", 0)
    assert gateway.text("clean") == "c\n"
    assert gateway.finished is not None
    end = gateway.finished
    assert (end.state, end.reason, end.message) == (RunState.CANCELLED, Reason.CANCELLED, "by ann")


async def test_cancel_lets_a_step_end_by_itself_within_the_grace(start: Start) -> None:
    """A step that handles TERM has the whole grace, children included, and its output is kept."""
    script = "trap 'sleep 0.2; echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    gateway = ScriptedGateway(an_assignment(sh("nice", script)))
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: "ready" in gateway.text("nice"))
        frame = gateway.cancel_frame(state="timed_out", reason=Reason.RUN_TIMEOUT)
        await gateway.say(frame)
        assert await process.exit() == 0
    assert gateway.text("nice", "stdout") == "ready\nbye\n"
    assert gateway.completed("nice")["state"] == "cancelled"
    assert gateway.finished is not None
    assert (
        gateway.finished.state,
        gateway.finished.reason,
    ) == (RunState.TIMED_OUT, Reason.RUN_TIMEOUT)


async def test_cancel_now_skips_grace_and_cleanup(start: Start) -> None:
    """``now`` kills at once, also during the grace of an earlier cancel."""
    steps = (sh("deaf", DEAF), sh("clean", "echo c", cleanup=True))
    gateway = ScriptedGateway(an_assignment(*steps, limits=Limits(grace_seconds=60)))
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: "ready" in gateway.text("deaf"))
        await gateway.say(gateway.cancel_frame())
        await gateway.say(gateway.cancel_frame(now=True))
        assert await process.exit(10) == 0
    assert _alive(_pids(gateway, "deaf")) == []
    assert (
        gateway.completed("clean")["state"],
        gateway.completed("clean")["tries"],
    ) == ("cancelled", 0)


async def test_second_cancel_ends_cleanup_and_the_same_one_again_does_not(start: Start) -> None:
    """Clean-up survives a repeated frame; another frame ends it."""
    steps = (
        sh("a", "echo ready; sleep 600"),
        sh("last", "echo never", cleanup=True),
        sh("hangs", "echo hangs; sleep 600", cleanup=True),
        sh("first", "echo first", cleanup=True),
    )
    gateway = ScriptedGateway(an_assignment(*steps))
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.text("a"))
        await gateway.say(gateway.cancel_frame())
        await gateway.say(gateway.cancel_frame())
        await gateway.until(lambda: gateway.text("hangs"))
        await gateway.say(gateway.cancel_frame())
        await gateway.say(gateway.cancel_frame(message="again"))
        assert await process.exit(10) == 0
    states = {e.step: e.body["state"] for e in gateway.of(EventType.STEP_COMPLETED)}
    expected = {"a": "cancelled", "first": "succeeded", "hangs": "cancelled", "last": "cancelled"}
    assert expected == states
    assert gateway.text("last") == ""


async def test_cancel_before_start_starts_nothing(start: Start) -> None:
    """A run that is cancelled before its start ends as cancelled, with all of its steps."""
    gateway = ScriptedGateway(an_assignment(sh("a", "echo no")), start_on_accepted=False)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.accepted)
        await gateway.say(gateway.cancel_frame())
        assert await process.exit() == 0
    assert (gateway.completed("a")["state"], gateway.completed("a")["tries"]) == ("cancelled", 0)
    assert gateway.of(EventType.STEP_STARTED) == []


async def test_timeout_ends_the_deaf_and_lets_the_next_try_begin(run: Run) -> None:
    """A try that is too long is ended with all it started; the next one has its own time."""
    script = f"[ -e again ] && echo fine && exit 0; touch again; {DEAF}"
    step = sh("slow", script, timeout_seconds=0.5, retry=1)
    gateway = await run(ScriptedGateway(an_assignment(step, limits=SHORT_GRACE)))
    assert (
        gateway.completed("slow")["state"],
        gateway.completed("slow")["tries"],
    ) == ("succeeded", 2)
    assert _alive(_pids(gateway, "slow")) == []


async def test_many_orphans_do_not_become_zombies(run: Run) -> None:
    """Processes that lost their parents are collected while the step still runs."""
    script = (
        "for i in $(seq 50); do (sleep 0 &) ; done; sleep 0.3\n"
        "grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null |"
        ' xargs -r grep -l "^PPid:.$PPID$" | wc -l'
    )
    gateway = await run(ScriptedGateway(an_assignment(sh("orphans", script))))
    assert gateway.text("orphans", "stdout") == "0\n"


async def test_host_s_cookie_is_handed_down_to_steps(start: Start) -> None:
    """A runner inside another one's step keeps the outer cookie, so that both find its steps."""
    gateway = ScriptedGateway(an_assignment(sh("a", "echo $PLUE_RUNNER_ID")))
    async with gateway.serving():
        runner = f"default-{uuid4().hex[:10]}"
        cookie = f"outer-0000000000:{runner}"
        arguments = ("--gateway", gateway.base, "--runner", runner)
        process = await start(*arguments, PLUE_RUNNER_ID=cookie)
        assert await process.exit() == 0
    assert gateway.text("a") == f"{cookie}\n"

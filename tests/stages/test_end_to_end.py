"""Stages with every part real: evaluator, engine, gateway, Postgres and runner processes."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from stages.cluster import House, a_house

from plue.domain.run import RunDetails
from plue.wire.events import EventType, Reason, RunState, StepState


@pytest.fixture
async def house(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[House, None]:
    """Give a server with runners."""
    async with a_house(postgres_dsn, tmp_path) as house:
        yield house


def names(details: RunDetails) -> list[str]:
    """Return the names of the run's steps."""
    return [step.name for step in details.steps]


def why(details: RunDetails) -> dict[str, list[str]]:
    """Return why those steps are there that depend on values."""
    return {s.name: [a.text for a in s.why] for s in details.steps if s.why}


UNTIL_GREEN = """
for round in range(5):
    t = ctx.run("test", "echo test >> {j}; grep -c x fixed | grep -qx 2", continue_on_error=True)
    if t.ok:
        break
    ctx.run("fix", "echo fix >> {j}; echo x >> fixed")
else:
    ctx.fail("still red")
ctx.run("release", "echo release >> {j}")
return ctx.success(rounds=round + 1)
"""


async def test_a_loop_goes_on_until_the_tests_are_green(house: House, tmp_path: Path) -> None:
    """Test, while it fails fix, again: names count on, and every step ran exactly once (13)."""
    journal = tmp_path / "journal"
    run = await house.submit(UNTIL_GREEN.replace("{j}", str(journal)))
    details = await house.ended(run)
    assert (details.run.state, details.run.reason) == (RunState.SUCCEEDED, Reason.SUCCEEDED)
    assert names(details) == ["test", "fix", "test#2", "fix#2", "test#3", "release"]
    assert journal.read_text().split() == ["test", "fix", "test", "fix", "test", "release"]
    assert details.outputs == {"rounds": 3}
    assert why(details)["fix#2"] == ["test#2.ok == False, ci.py:6"]
    assert why(details)["release"] == ["test#3.ok == True, ci.py:6"]
    assert [stage.number for stage in details.stages] == [1, 2, 3, 4]
    assert len({stage.digest for stage in details.stages}) == 4


async def test_all_kinds_of_values_are_asked_for(house: House) -> None:
    """Text, its end, exit codes, outputs and typed results are ordinary Python once asked for."""
    run = await house.submit(
        """
say = "printf 'api\\nweb\\n'; seq 1 40 >&2; echo n=7 >> $PLUE_OUTPUT; exit 3"
a = ctx.run("a", say, continue_on_error=True)
kind = schema(ok_=bool, list=list(int))
b = ctx.run("b", "echo '{\\"ok_\\": true, \\"list\\": [1, 2]}'", output=kind)
for part in a.stdout.splitlines():
    ctx.run(f"build-{part}", "true")
if a.stderr.tail(2) == "39\\n40" and a.exit_code == 3 and a.outputs.n == "7":
    ctx.run("all", "true")
if b.ok_ and sum(b.list) == 3:
    ctx.run("typed", "true")
if a.log.tail(1) == "40" or a.log:
    ctx.run("log", "true")
"""
    )
    details = await house.ended(run)
    assert details.run.reason is Reason.SUCCEEDED, details.run.message
    assert names(details) == ["a", "b", "build-api", "build-web", "all", "typed", "log"]


async def test_independent_loops_do_not_wait_for_each_other(house: House) -> None:
    """Each element of ctx.parallel grows by itself; what follows waits for all (11, 12)."""
    run = await house.submit(
        """
def loop(p, rounds):
    for round in range(rounds):
        t = ctx.run(f"t-{p}", f"echo {p}", continue_on_error=True)
        if t.stdout != p:
            ctx.fail("no echo")
    return t
fast, slow = ctx.parallel([loop("fast", 4), loop("slow", 1)])
ctx.run("after", f"echo {fast.stdout} {slow.stdout}")
"""
    )
    details = await house.ended(run)
    assert details.run.reason is Reason.SUCCEEDED, details.run.message
    assert names(details) == ["t-fast", "t-fast#2", "t-fast#3", "t-fast#4", "t-slow", "after"]


async def test_what_is_for_ever_unknown_parks_its_branch(house: House) -> None:
    """After an unhandled failure the run ends when nothing more can proceed (14)."""
    run = await house.submit(
        """
def broken():
    b = ctx.run("b", "exit 1")
    if b.stdout:
        ctx.run("never", "true")
def fine():
    f = ctx.run("f", "echo yes")
    if f.stdout == "yes":
        ctx.run("g", "true")
ctx.parallel([broken(), fine()])
ctx.run("after", "true")
"""
    )
    details = await house.ended(run)
    assert (details.run.state, details.run.reason) == (RunState.FAILED, Reason.STEP_FAILED)
    assert {s.name: s.state for s in details.steps} == {
        "b": StepState.FAILED,
        "f": StepState.SUCCEEDED,
        "g": StepState.SUCCEEDED,
    }


async def test_an_error_of_the_code_ends_the_run_after_its_steps(house: House) -> None:
    """What the code raises over a result fails the run, names file and line, and cleans up."""
    run = await house.submit(
        """
ctx.run("a", "echo x")
ctx.cleanup("tidy", "true")
b = ctx.run("b", "echo text")
n = int(b.stdout)
"""
    )
    details = await house.ended(run)
    assert (details.run.state, details.run.reason) == (RunState.FAILED, Reason.WORKFLOW_ERROR)
    assert (details.run.message or "").startswith(".plue/workflows/ci.py:7: ValueError")
    assert {s.name: s.state for s in details.steps}["tidy"] is StepState.SUCCEEDED
    assert details.stages[-1].reason is Reason.WORKFLOW_ERROR


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        pytest.param(
            'b = ctx.run("b", "seq 1 200000")\nif b.stdout:\n    pass',
            Reason.OUTPUT_TOO_LARGE,
            "longer than 1024 KiB",
            id="too-large",
        ),
        pytest.param(
            'b = ctx.run("b", "true")\nif b.outputs.v == "1":\n    pass',
            Reason.MISSING_VALUE,
            "did not give it",
            id="missing",
        ),
        pytest.param(
            'while True:\n    if ctx.run("t", "true").state == "x":\n        break',
            Reason.TOO_MANY_STAGES,
            "51 times in a row",
            id="endless",
        ),
    ],
)
async def test_what_cannot_be_answered_says_so(
    house: House, body: str, reason: Reason, said: str
) -> None:
    """Too large, missing, asked without end: each ends the run with its own reason (5, 26, 27)."""
    details = await house.ended(await house.submit(body))
    assert (details.run.state, details.run.reason) == (RunState.FAILED, reason)
    assert said in (details.run.message or "")


async def test_events_and_values_leave_masked_and_short(house: House) -> None:
    """The log has how long a value is; the value itself is kept apart from it."""
    run = await house.submit('b = ctx.run("b", "echo abc")\nif b.stdout == "abc":\n    pass')
    events = await house.events(run)
    (values,) = [json.loads(e.body) for e in events if e.type is EventType.STEP_VALUES]
    assert values["values"] == [{"field": "stdout", "characters": 3}]
    grown = await house.engine.grown(run)
    assert grown.results.known()["b"]["stdout"] == "abc"


async def test_two_servers_on_one_database_record_one_result(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """Both evaluate, one records: stages are numbered without gaps, steps run once."""
    journal = tmp_path / "journal"
    async with (
        a_house(postgres_dsn, tmp_path / "a") as house,
        a_house(postgres_dsn, tmp_path / "b", runners=False) as other,
    ):
        runs = [await house.submit(UNTIL_GREEN.replace("{j}", f"{journal}{i}")) for i in range(2)]
        busy = True

        async def race() -> None:
            # The second server is woken as often as it can be, so that both evaluate at once.
            while busy:
                for run in runs:
                    other.engine.context.wake_stages(run)
                await asyncio.sleep(0.001)

        racing = asyncio.create_task(race())
        ended = [await house.ended(run) for run in runs]
        busy = False
        await racing
    for i, details in enumerate(ended):
        assert details.run.reason is Reason.SUCCEEDED, details.run.message
        assert names(details) == ["test", "fix", "test#2", "fix#2", "test#3", "release"]
        assert [stage.number for stage in details.stages] == [1, 2, 3, 4]
        written = journal.with_name(f"journal{i}").read_text().split()
        assert written == ["test", "fix", "test", "fix", "test", "release"]


async def test_cancel_ends_a_run_that_waits_for_an_evaluation(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """Nothing runs, the evaluator is away: the run says what it waits for, and a cancel ends it."""
    async with a_house(postgres_dsn, tmp_path) as house:
        run = await house.submit('b = ctx.run("b", "sleep 0.5; echo x")\nif b.stdout:\n    pass')
        await house.evaluator.close()
        view = await house.waits_for(run, Reason.EVALUATION)
        assert view.state is RunState.RUNNING
        await house.engine.cancel(run)
        details = await house.ended(run)
        assert (details.run.state, details.run.waiting_reason) == (RunState.CANCELLED, None)


async def test_an_evaluation_that_was_missed_is_found(postgres_dsn: str, tmp_path: Path) -> None:
    """A server that comes later takes up what an earlier one could not evaluate."""
    async with a_house(postgres_dsn, tmp_path) as house:
        run = await house.submit(
            'b = ctx.run("b", "sleep 0.3; echo x")\nif b.stdout:\n    ctx.run("c", "true")'
        )
        await house.evaluator.close()
        await house.waits_for(run, Reason.EVALUATION)
        async with a_house(postgres_dsn, tmp_path / "b", runners=False):
            details = await house.ended(run)
        assert details.run.reason is Reason.SUCCEEDED
        assert names(details) == ["b", "c"]

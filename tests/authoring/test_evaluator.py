"""The evaluator's process: what it answers, how it is kept alone, and how it comes back."""

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from authoring.sandboxed import FILE, Sandbox, workflow_of

from plue.authoring.answers import digest_of
from plue.authoring.evaluator import Evaluator
from plue.authoring.imports import is_workflow_file
from plue.errors import UnavailableError
from plue.wire.plan import Plan

SIMPLE = workflow_of('ctx.run("a", "true")')


@pytest.fixture
async def evaluator() -> AsyncIterator[Evaluator]:
    """Give an evaluator of the test's own."""
    evaluator = Evaluator()
    await evaluator.start()
    yield evaluator
    await evaluator.close()


def process_of(evaluator: Evaluator) -> psutil.Process:
    """Return the evaluator's process."""
    assert evaluator._link is not None
    return psutil.Process(evaluator._link._process.pid)


def links_in(folder: str, pattern: str = "*") -> list[Path]:
    """Return where the links of a folder lead."""
    return [path.readlink() for path in Path(folder).glob(pattern)]


async def test_process_is_alone(evaluator: Evaluator) -> None:
    """No environment but the hash seed, no descriptors but its socket, another network."""
    process = process_of(evaluator)
    assert process.environ() == {"PYTHONHASHSEED": "0"}
    kinds = [str(path) for path in links_in(f"/proc/{process.pid}/fd")]
    # Two pipes lead to the child that was forked ahead.
    assert {k.split(":")[0] for k in kinds} <= {"socket", "/dev/null", "anon_inode", "pipe"}
    assert sum(k.startswith("pipe") for k in kinds) <= 2
    assert sum(k.startswith("socket") for k in kinds) == 1
    isolation = evaluator.isolation
    assert isolation is not None
    (theirs,), (ours,) = (links_in(f"/proc/{pid}/ns", "net") for pid in (process.pid, "self"))
    assert isolation.network == (theirs != ours)
    assert isolation.network or any(note.startswith("network") for note in isolation.notes)


async def test_close_ends_the_process(evaluator: Evaluator) -> None:
    """Nothing of it stays, and nothing is answered afterwards."""
    process = process_of(evaluator)
    await evaluator.close()
    assert not process.is_running()
    with pytest.raises(UnavailableError):
        await evaluator.describe({FILE: SIMPLE})


async def test_process_that_died_is_started_again(evaluator: Evaluator) -> None:
    """A killed process costs nobody an answer."""
    process_of(evaluator).kill()
    described = await evaluator.describe({FILE: SIMPLE})
    assert [w.name for w in described.workflows] == ["ci"]


async def test_evaluation_in_flight_is_tried_once_more() -> None:
    """The first death is survived; the second is told."""
    evaluator = Evaluator()
    await evaluator.start()
    endless = workflow_of("while True:\n    pass")

    async def ask() -> object:
        return await evaluator.plan({FILE: endless}, "ci", inputs={}, event={})

    for deaths, expected in ((1, None), (2, UnavailableError)):
        task = asyncio.create_task(ask())
        killed = 0
        for _ in range(deaths):
            await until_busy(evaluator, killed)
            killed = process_of(evaluator).pid
            os.kill(killed, signal.SIGKILL)
        if expected:
            with pytest.raises(expected):
                await task
        else:
            await until_busy(evaluator, killed)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    await evaluator.close()


def evaluating(evaluator: Evaluator) -> list[psutil.Process]:
    """Return the children that have given up everything, as they do before an author's code."""
    return [
        child
        for child in process_of(evaluator).children()
        if "NoNewPrivs:\t1" in Path(f"/proc/{child.pid}/status").read_text()
    ]


async def until_busy(evaluator: Evaluator, killed: int = 0) -> None:
    """Wait until a process that was not *killed* has a child that evaluates."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, AssertionError):
                alive = evaluator._link and not evaluator._link.lost
                if alive and process_of(evaluator).pid != killed and evaluating(evaluator):
                    return
            await asyncio.sleep(0.01)


async def test_children_die_with_the_process(evaluator: Evaluator) -> None:
    """A killed process leaves no evaluation behind."""
    endless = workflow_of("while True:\n    pass")
    task = asyncio.create_task(evaluator.plan({FILE: endless}, "ci", inputs={}, event={}))
    await until_busy(evaluator)
    (child,) = evaluating(evaluator)
    task.cancel()
    os.kill(process_of(evaluator).pid, signal.SIGKILL)
    await asyncio.to_thread(child.wait, 5)


async def test_evaluations_run_side_by_side() -> None:
    """A slow one holds up no other; all answers find their asker."""
    evaluator = Evaluator(wall=timedelta(minutes=2))  # so slow that all others are quicker
    await evaluator.start()
    try:
        await _side_by_side(evaluator)
    finally:
        await evaluator.close()


async def _side_by_side(evaluator: Evaluator) -> None:
    slow = asyncio.create_task(
        evaluator.plan({FILE: workflow_of("while True:\n    pass")}, "ci", inputs={}, event={})
    )
    await until_busy(evaluator)
    sources = [workflow_of(f'ctx.run("s{i}", "true")') for i in range(40)]
    planned = await asyncio.gather(
        *(evaluator.plan({FILE: s}, "ci", inputs={}, event={}) for s in sources)
    )
    assert [f"s{i}" for i in range(40)] == [p.plan.steps[0].name for p in planned if p.plan]
    assert not slow.done()
    slow.cancel()


def test_time_ends_with_its_place(impatient: Sandbox) -> None:
    """An endless loop ends in time and says where it is."""
    before = time.monotonic()
    (problem,) = impatient.problems("x = 1\nwhile True:\n    x += 1")
    assert time.monotonic() - before < 3
    assert problem.code == "PLU602"
    assert problem.line in (5, 6)


def test_compiled_code_is_kept_by_content(sandbox: Sandbox) -> None:
    """The same text is compiled once; a changed text is another file."""
    body = "\n".join(f'ctx.run("step-{i}", f"echo {{ctx.event.ref}} {i}")' for i in range(150))

    def seconds(source: str) -> float:
        before = time.perf_counter()
        assert sandbox.plan(source, event={"ref": "x"}).plan is not None
        return time.perf_counter() - before

    first = seconds(workflow_of(body))
    again = min(seconds(workflow_of(body)) for _ in range(5))
    assert again < first / 1.5
    changed = sandbox.plan(workflow_of(body.replace("step-0", "other")), event={"ref": "x"}).plan
    assert changed is not None
    assert changed.steps[0].name == "other"


def test_digest_covers_the_plan(sandbox: Sandbox) -> None:
    """Anybody who has the plan can compute it: SHA-256 of its JSON without the digest."""
    plan = sandbox.plan(SIMPLE).plan
    assert plan is not None
    text = plan.model_dump_json(exclude={"digest"})
    assert plan.digest == hashlib.sha256(text.encode()).hexdigest() == digest_of(plan)
    again = Plan.model_validate_json(plan.model_dump_json())
    assert digest_of(again) == plan.digest
    assert digest_of(again.model_copy(update={"stage": 2})) != plan.digest


def test_description_holds_what_the_decorator_says(sandbox: Sandbox) -> None:
    """Every option is parsed; the description is the docstring."""
    options = (
        'triggers=[push(branches=["main"], paths="src/**"), pull_request(types=["opened"]),'
        ' schedule("*/5 4 * * MON-FRI"), manual(inputs={"x": 1})], pool="big", timeout="1h",'
        ' queue_timeout=60, idle_timeout="5m", cleanup_timeout="90s", attempts=3, env={"A": "b"}'
    )
    source = workflow_of('"""Check it.\n\n    All of it.\n    """\nctx.run("a", "true")', options)
    description = sandbox.describe(source)
    assert description.diagnostics == []
    (info,) = description.workflows
    assert (info.name, info.file, info.line) == ("ci", ".plue/workflows/a.py", 2)
    assert info.description == "Check it.\n\nAll of it."
    assert [(t.kind, dict(t.options)) for t in info.triggers] == [
        ("push", {"branches": ["main"], "paths": ["src/**"]}),
        ("pull_request", {"types": ["opened"]}),
        ("schedule", {"cron": "*/5 4 * * MON-FRI"}),
        ("manual", {}),
    ]
    assert (
        info.timeout_seconds,
        info.queue_timeout_seconds,
        info.cleanup_seconds,
    ) == (3600.0, 60.0, 90.0)
    assert (info.pool, info.attempts) == ("big", 3)
    assert info.env["A"][0].model_dump() == {"text": "b"}
    work = sandbox.evaluator.plan({info.file: source}, "ci", inputs={}, event={})
    plan = sandbox.call(work).plan
    assert plan is not None
    assert plan.steps[0].idle_timeout_seconds == 300.0
    assert plan.revision == info.revision


def test_a_bad_file_hides_no_other(sandbox: Sandbox) -> None:
    """Each file's errors stand beside what the others declare."""
    description = sandbox.describe("def x(:\n", SIMPLE, "import os\n", "x = 1/0\n")
    assert [w.name for w in description.workflows] == ["ci"]
    assert [(d.file[-4:], d.code) for d in description.diagnostics] == [
        ("a.py", "PLU001"),
        ("c.py", "PLU010"),
        ("d.py", "PLU601"),
    ]


def test_a_file_that_breaks_the_evaluation_hides_no_other(impatient: Sandbox) -> None:
    """Even one that never ends, or eats the memory, is told by itself."""
    endless = "while True: pass\n"
    eater = "x = ['a' * 10**9 for i in range(9)]\n"
    description = impatient.describe(endless, SIMPLE, eater)
    assert [w.name for w in description.workflows] == ["ci"]
    assert [(d.file[-4:], d.code) for d in description.diagnostics] == [
        ("a.py", "PLU602"),
        ("c.py", "PLU603"),
    ]


def test_names_are_unique_in_a_repository(sandbox: Sandbox) -> None:
    """Two files that declare one name: an error with both places, also when planning."""
    description = sandbox.describe(SIMPLE, SIMPLE)
    (problem,) = description.diagnostics
    assert (problem.code, problem.related) == ("PLU102", (".plue/workflows/a.py", 2))
    files = {".plue/workflows/a.py": SIMPLE, ".plue/workflows/b.py": SIMPLE}
    work = sandbox.evaluator.plan(files, "ci", inputs={}, event={})
    assert [d.code for d in sandbox.call(work).diagnostics] == ["PLU102"]


def test_plan_ignores_other_files(sandbox: Sandbox) -> None:
    """A broken file beside it does not stop a workflow."""
    files = {".plue/workflows/a.py": "def ci(:", ".plue/workflows/b.py": SIMPLE}
    planned = sandbox.call(sandbox.evaluator.plan(files, "ci", inputs={}, event={}))
    assert planned.plan is not None
    assert planned.diagnostics == []


def test_plan_tells_what_is_wrong_with_its_own_file(sandbox: Sandbox) -> None:
    """A workflow whose file is broken is not called unknown."""
    planned = sandbox.plan(SIMPLE + "import os\n")
    assert [d.code for d in planned.diagnostics] == ["PLU010"]


def test_unknown_workflow_has_a_suggestion(sandbox: Sandbox) -> None:
    """The nearest name is told, and all there are."""
    (problem,) = sandbox.plan(SIMPLE.replace("def ci", "def release"), "relaese").diagnostics
    assert (problem.code, problem.field) == ("PLU204", "workflow")
    assert "did you mean `release`" in problem.message


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".plue/workflows/ci.py", True),
        ("sub/.plue/workflows/ci.py", True),
        ("ci.py", True),
        (".plue/lib/x.py", False),
        (".plue/workflows/old/ci.py", False),
        (".plue/workflows/notes.md", False),
    ],
)
def test_which_files_are_workflows(path: str, expected: bool) -> None:
    """Files of .plue/workflows itself, and bare names of inline source."""
    assert expected == is_workflow_file(path)


LINTED = [
    pytest.param(
        'ctx.run("a", f"bash -c \'echo {ctx.event.ref}\'")', "PLU408", id="shell-in-shell"
    ),
    pytest.param('ctx.run("a", f"ssh host ls {ctx.event.ref}")', "PLU408", id="ssh"),
]


@pytest.mark.parametrize(("body", "code"), LINTED)
def test_lint_warns(sandbox: Sandbox, body: str, code: str) -> None:
    """Lint warns without stopping anything (23)."""
    (found,) = sandbox.describe(workflow_of(body)).diagnostics
    assert (code, "warning", 4) == (found.code, found.severity, found.line)
    planned = sandbox.plan(workflow_of(body), event={"ref": "x"})
    assert planned.plan is not None
    assert [d.code for d in planned.diagnostics] == [code]


def test_lint_warns_of_required_inputs_beside_other_triggers(sandbox: Sandbox) -> None:
    """A push gives no inputs (28)."""
    source = workflow_of("pass", 'triggers=[push(), manual(inputs={"x": str, "y": 1})]')
    (found,) = sandbox.describe(source).diagnostics
    assert (found.code, found.field) == ("PLU106", "inputs.x")


def test_lint_finds_what_is_wrong_in_the_function(sandbox: Sandbox) -> None:
    """Errors that no input could change are found without a run."""
    (found,) = sandbox.describe(workflow_of('ctx.run("a", "x", retries=2)')).diagnostics
    assert (found.code, found.severity) == ("PLU107", "error")


def test_lint_does_not_guess_about_values(sandbox: Sandbox) -> None:
    """What depends on invented inputs is not reported."""
    source = workflow_of(
        'a, b = ctx.inputs.pair.split(":")\nf"{ctx.event.pull_request}"\nctx.run(b, a)',
        'triggers=[manual(inputs={"pair": str})]',
    )
    assert sandbox.describe(source).diagnostics == []


async def test_process_that_is_killed_at_its_start_is_started_again(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that a signal ends before it has said a word is no fault of Plue's."""
    process_of(evaluator).kill()
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def short_lived(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        process = popen(*args, **kwargs)
        started.append(process)
        if len(started) == 1:
            process.kill()
        return process

    monkeypatch.setattr(subprocess, "Popen", short_lived)
    described = await evaluator.describe({FILE: SIMPLE})
    assert [w.name for w in described.workflows] == ["ci"]
    assert len(started) == 2


async def test_process_that_is_halted_is_replaced() -> None:
    """One that stands still answers nobody; after the time of an evaluation it is ended."""
    evaluator = Evaluator(wall=timedelta(seconds=0.5))
    await evaluator.start()
    process = process_of(evaluator)
    process.suspend()
    async with asyncio.timeout(20):
        described = await evaluator.describe({FILE: SIMPLE})
    assert [w.name for w in described.workflows] == ["ci"]
    assert not process.is_running()
    await evaluator.close()


async def test_the_child_that_waits_serves_one_request(evaluator: Evaluator) -> None:
    """It is there before the request, knows what was learnt meanwhile, and ends with its answer."""
    files = {FILE: SIMPLE}
    await evaluator.plan(files, "ci", inputs={}, event={})
    (waiting,) = await waiting_child(evaluator)
    assert (await evaluator.plan(files, "ci", inputs={}, event={})).plan is not None
    await asyncio.to_thread(waiting.wait, 10)  # it is not waited for: its answer was all
    (second,) = await waiting_child(evaluator)
    assert second.pid != waiting.pid


async def test_a_child_that_waits_may_die(evaluator: Evaluator) -> None:
    """Killed before it was asked, it costs nobody an answer."""
    files = {FILE: SIMPLE}
    (waiting,) = await waiting_child(evaluator)
    waiting.kill()
    async with asyncio.timeout(10):
        while waiting.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
    assert (await evaluator.plan(files, "ci", inputs={}, event={})).plan is not None


async def test_no_child_waits_for_what_is_large(evaluator: Evaluator) -> None:
    """A request that fills more than a pipe gets a child of its own, beside many small ones."""
    large = {FILE: SIMPLE} | {f".plue/lib/m{n}.py": "# " + "x" * 100_000 for n in range(30)}
    small = {FILE: SIMPLE}
    found = await asyncio.gather(
        *(evaluator.describe(large if n % 4 == 0 else small) for n in range(12))
    )
    assert all([w.name for w in one.workflows] == ["ci"] for one in found)


SERVER = """
import asyncio, sys
from plue.authoring.evaluator import Evaluator
async def main():
    evaluator = Evaluator()
    await evaluator.start()
    print(evaluator._link._process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_a_halted_evaluator_does_not_outlive_its_server() -> None:
    """It cannot see that its socket has ended: the kernel ends it."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    async with asyncio.timeout(30):
        evaluator = psutil.Process(int(await server.stdout.readline()))
    evaluator.suspend()
    server.kill()
    await server.wait()
    try:
        await asyncio.to_thread(evaluator.wait, 10)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            evaluator.kill()


async def waiting_child(evaluator: Evaluator) -> list[psutil.Process]:
    """Return the child that was forked ahead, when it is there."""
    async with asyncio.timeout(10):
        while True:
            found = process_of(evaluator).children()
            if len(found) == 1 and not evaluating(evaluator):
                return found
            await asyncio.sleep(0.01)

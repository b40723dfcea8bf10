"""ctx.call: a workflow inside of another one (33)."""

from collections.abc import Mapping
from typing import Any

import pytest
from authoring.sandboxed import Sandbox, workflow_of

from plue.authoring.results import Planned
from plue.wire.plan import Failure, Plan

RELEASE = """
from plue import workflow, push, manual, enum, optional, schema
@workflow(triggers=[push(), manual(inputs={
    "version": str, "env": enum("staging", "production", default="staging"),
    "count": optional(int), "names": list(str, default=[])})],
    env={"KEY": "callee"}, pool="large", timeout="1m")
def release(ctx):
    build = ctx.run("build", f"make {ctx.inputs.version}", env={"E": ctx.inputs.env})
    ctx.run("publish", f"publish {build.stdout}", depends_on="build")
    ctx.success(url=build.outputs.url, version=ctx.inputs.version, parts=[1, "two"])
"""
FILES = {".plue/workflows/release.py": RELEASE}
IMPORT = "from workflows.release import release\n"


def call(sandbox: Sandbox, body: str, files: Mapping[str, str] = FILES, **given: Any) -> Planned:
    """Plan a workflow that may call `release`."""
    return sandbox.plan(IMPORT + workflow_of(body), files=files, **given)


def plan_of(sandbox: Sandbox, body: str, files: Mapping[str, str] = FILES, **given: Any) -> Plan:
    """Return its plan."""
    found = call(sandbox, body, files, **given)
    assert found.plan is not None, found.diagnostics
    return found.plan


def release_of(body: str, options: str = "triggers=[push()]") -> Mapping[str, str]:
    """Return the files of another `release`."""
    text = workflow_of(body, options).replace("def ci", "def release")
    return {".plue/workflows/release.py": text}


def names(plan: Plan) -> list[str]:
    """Return the names of a plan's steps."""
    return [step.name for step in plan.steps]


def done(stdout: str = "", **outputs: Any) -> Mapping[str, Any]:
    """Give the values of a step that succeeded."""
    return {"stdout": stdout, "stderr": "", "exit_code": 0, "ok": True, "state": "succeeded",
            "outputs": outputs}  # fmt: skip


def test_steps_are_recorded_in_place_under_the_calls_name(sandbox: Sandbox) -> None:
    """Order goes through the call; its options are not the run's, but its env= is its steps'."""
    body = 'ctx.run("a", "x")\nr = ctx.call(release, version="v1")\nctx.run("z", f"echo {r.outputs.url}")'
    found = call(sandbox, body)
    assert found.plan is not None, found.diagnostics
    steps = {step.name: step for step in found.plan.steps}
    assert [*steps] == ["a", "release/build", "release/publish", "z"]
    assert steps["release/build"].needs == ("a",)
    assert steps["release/publish"].needs == ("release/build",)
    assert steps["z"].needs == ("release/publish", "release/build")
    assert steps["release/build"].group == ("release",)
    assert sorted(steps["release/build"].env) == ["E", "KEY"]
    assert steps["a"].env == {}
    assert found.info is not None
    assert (found.info.pool, found.info.timeout_seconds) == ("default", None)
    assert found.info.files == [".plue/workflows/ci.py", ".plue/workflows/release.py"]


def test_inputs_are_data_for_the_callee(sandbox: Sandbox) -> None:
    """Whatever the caller gives, and literals too, reach commands as variables (21)."""
    action = plan_of(sandbox, 'ctx.call(release, version="$(x)")').steps[0].action
    assert action.kind == "shell"
    assert action.script == 'make "${PLUE_V1}"'


def test_an_unknown_text_goes_as_it_is_and_other_types_are_asked_for(sandbox: Sandbox) -> None:
    """Text that any text will do for is a reference; an enum needs its value."""
    tag = 'b = ctx.run("b", "git describe")\n'
    plan = plan_of(sandbox, tag + 'ctx.call(release, version=f"v{b.stdout}")')
    assert names(plan) == ["b", "release/build", "release/publish"]
    assert plan.steps[1].needs == ("b",)
    plan = plan_of(sandbox, tag + 'ctx.call(release, version="1", env=b.stdout)')
    assert names(plan) == ["b"]
    assert [ref.ref for ref in plan.awaits] == ["b"]
    known = {"b": done("production")}
    plan = plan_of(sandbox, tag + 'ctx.call(release, version="1", env=b.stdout)', known=known)
    assert names(plan)[1:] == ["release/build", "release/publish"]


WRONG = [
    pytest.param("ctx.call(release)", "PLU202", "`version` of workflow `release` is required", id="missing"),
    pytest.param('ctx.call(release, version="1", evn="x")', "PLU201", "did you mean `env`?", id="unknown"),
    pytest.param("ctx.call(release, version=1)", "PLU203", "version", id="type"),
    pytest.param('ctx.call(release, version="1", env="dev")', "PLU203", "staging", id="enum"),
    pytest.param('ctx.call(release, version="1", names=["a", 2])', "PLU203", "names[1]", id="inside-a-list"),
    pytest.param('ctx.call(release, version=ctx.run("a", "x"))', "PLU501", "a.stdout", id="handle"),
    pytest.param('ctx.call(release, "1")', "PLU312", "by name", id="by-position"),
    pytest.param('ctx.call(release, version="1", name="a/b")', "PLU301", "a/b", id="name"),
    pytest.param('r = ctx.call(release, version="1")\nif r:\n    pass', "PLU501", ".outputs.NAME", id="truth"),
    pytest.param('r = ctx.call(release, version="1")\nr.outputs.ulr', "PLU502", "did you mean `url`?", id="output"),
    pytest.param('r = ctx.call(release, version="1")\nr.ok', "PLU502", "skipped", id="ok"),
    pytest.param('if ctx.run("a", "x").outputs:\n    pass', "PLU501", ".outputs.version", id="outputs"),
    pytest.param('ctx.call(release, version="1")\nctx.call(release, version="2")', "PLU302",
                 "two places call a workflow as `release`", id="twice"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "said"), WRONG)
def test_wrong_calls_are_told_at_the_call(
    sandbox: Sandbox, body: str, code: str, said: str
) -> None:
    """Own inputs are checked by type, outputs by name."""
    problem = call(sandbox, body).diagnostics[0]
    assert problem.code == code, problem
    assert said in f"{problem.message} {problem.remedy}"
    assert problem.file == ".plue/workflows/ci.py"


def test_loops_and_branches_of_calls(sandbox: Sandbox) -> None:
    """One place may call again and again; branches are named by who writes them."""
    plan = plan_of(sandbox, 'for v in "12":\n    ctx.call(release, version=v)')
    assert names(plan)[::2] == ["release/build", "release#2/build"]
    body = 'ctx.parallel([ctx.call(release, name=f"to-{e}", version="1", env=e) for e in ["staging", "production"]])'
    plan = plan_of(sandbox, body)
    assert names(plan)[::2] == ["to-staging/build", "to-production/build"]
    assert [step.branch for step in plan.steps[::2]] == [("1", "0"), ("1", "1")]
    assert plan.steps[0].group == ("to-{e}", "to-staging")


def test_outputs_come_back(sandbox: Sandbox) -> None:
    """Text as references, other values as they are; both usable at once."""
    body = """
r = ctx.call(release, version="v1")
for part in r.outputs.parts:
    ctx.run(f"p-{part}", "x")
if r.outputs.version == "v1" and r.outputs.get("none", "d") == "d":
    ctx.run("yes", f"echo {r.outputs['url']}")
"""
    assert names(plan_of(sandbox, body))[2:] == ["p-1", "p-two", "yes"]


def test_a_callee_that_needs_a_value_blocks_its_caller(sandbox: Sandbox) -> None:
    """It is evaluated inline: the branch waits, others go on."""
    files = release_of('t = ctx.run("t", "x")\nif t.stdout == "go":\n    ctx.run("u", "x")')
    body = 'ctx.parallel([ctx.call(release), ctx.run("beside", "x")])\nctx.run("after", "x")'
    first = plan_of(sandbox, body, files)
    assert names(first) == ["release/t", "beside"]
    known = {"release/t": done("go")}
    again = plan_of(sandbox, body, files, known=known, recorded=first.steps)
    assert names(again) == ["release/t", "release/u", "beside", "after"]


def test_fail_in_a_callee_is_a_step_that_fails(sandbox: Sandbox) -> None:
    """What follows in the caller is recorded and will be skipped; the run does not end at once."""
    files = release_of('a = ctx.run("a", "x")\nctx.fail(f"no {a.stdout}")\nctx.run("never", "x")')
    plan = plan_of(sandbox, 'r = ctx.call(release)\nctx.run("b", f"x {r.outputs.url}")', files)
    assert names(plan) == ["release/a", "release/fail", "b"]
    assert isinstance(plan.steps[1].action, Failure)
    assert plan.steps[1].needs == ("release/a",)
    assert plan.steps[2].needs == ("release/fail",)
    assert plan.fails == ()
    body = 'r = ctx.call(release)\nif r.outputs.url == "x":\n    ctx.run("b", "x")'
    failed = {"release/fail": {**done(), "state": "failed", "ok": False}}
    parked = plan_of(sandbox, body, files, known=failed)
    assert (names(parked), parked.awaits) == (["release/a", "release/fail"], ())


def test_success_ends_only_the_callee(sandbox: Sandbox) -> None:
    """Whatever stands behind it there is not recorded, not even in `finally`; the caller goes on."""
    files = release_of('try:\n    ctx.success(a="1")\nfinally:\n    ctx.run("never", "x")')
    plan = plan_of(sandbox, 'ctx.call(release)\nctx.run("b", "x")', files)
    assert names(plan) == ["b"]
    assert plan.end is not None
    assert plan.end.outputs == {}


def test_branch_of_a_callee_cannot_succeed(sandbox: Sandbox) -> None:
    """In a callee as in a workflow (18); a call inside a branch can."""
    files = release_of("ctx.parallel([ctx.success(), ctx.run('a', 'x')])")
    (problem,) = call(sandbox, "ctx.call(release)", files).diagnostics
    assert (problem.code, problem.file) == ("PLU309", ".plue/workflows/release.py")


def test_start_of_a_callee_is_its_own(sandbox: Sandbox) -> None:
    """`depends_on=[]` there means where the call began; afterwards the caller's start again."""
    files = release_of('ctx.run("a", "x")\nctx.run("b", "x", depends_on=[])')
    body = 'ctx.run("first", "x")\nr = ctx.call(release)\nctx.run("c", "x", depends_on=[])\nctx.run("d", "x", depends_on=r)'
    steps = {step.name: step.needs for step in plan_of(sandbox, body, files).steps}
    assert steps["release/b"] == ("first",)
    assert steps["c"] == ()
    assert steps["d"] == ("release/a", "release/b")


def test_calls_nest_eight_deep(sandbox: Sandbox) -> None:
    """A workflow may call itself as long as it ends."""
    text = """
from plue import workflow, manual
@workflow(triggers=[manual(inputs={"n": 8})])
def ci(ctx):
    ctx.run("a", "x")
    if ctx.inputs.n:
        ctx.call(ci, name="c", n=ctx.inputs.n - 1)
"""
    found = sandbox.plan(text)
    assert found.plan is not None, found.diagnostics
    assert names(found.plan)[-1] == "c/" * 8 + "a"
    (problem,) = sandbox.plan(text, inputs={"n": 9}).diagnostics
    assert problem.code == "PLU312"


GROUPS = [
    pytest.param('for p in "ab":\n    ctx.run(f"test-{p}", "x")', ("test-{p}",), id="loop"),
    pytest.param('ctx.parallel([ctx.run(name=f"test-{p.upper()}", cmd="x") for p in "ab"])',
                 ("test-{p.upper()}",), id="parallel"),
    pytest.param('def job(p):\n    ctx.run(f"test-{p}", f"x",\n        retry=1)\n[job(p) for p in "ab"]',
                 ("test-{p}",), id="function-of-several-lines"),
    pytest.param('for p in "ab":\n    ctx.run("test", "x")', (), id="no-hole"),
    pytest.param('ctx.run(f"test", "x")', (), id="no-hole-in-an-f-string"),
    pytest.param('é = "ü"; ctx.run(f"tést-{é}", "x")', ("tést-{é}",), id="not-ascii"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "group"), GROUPS)
def test_fan_out_is_a_group(sandbox: Sandbox, body: str, group: tuple[str, ...]) -> None:
    """Steps that one place names by a value are shown under the name as it is written."""
    assert {step.group for step in sandbox.steps(body).values()} == {group}

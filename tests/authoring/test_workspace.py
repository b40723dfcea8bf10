"""ctx.read, glob, write, hash_files and git: hidden steps at their place, their values references."""

from collections.abc import Mapping
from typing import Any

import pytest
from authoring.sandboxed import Sandbox, workflow_of

from plue.wire.plan import Git, Plan, Read, Step


def planned(sandbox: Sandbox, body: str, **given: Any) -> Plan:
    """Return the plan of a body."""
    found = sandbox.plan(workflow_of(body), **given)
    assert found.plan is not None, found.diagnostics
    return found.plan


def names(plan: Plan) -> list[str]:
    """Return the names of a plan's steps."""
    return [step.name for step in plan.steps]


def done(stdout: str = "", **outputs: Any) -> Mapping[str, Any]:
    """Give the values of a step that succeeded."""
    return {"stdout": stdout, "stderr": "", "exit_code": 0, "ok": True, "state": "succeeded",
            "outputs": outputs}  # fmt: skip


def test_read_is_recorded_at_its_place(sandbox: Sandbox) -> None:
    """It runs after what stands above it, and what uses it depends on it (31)."""
    steps = sandbox.steps(
        'ctx.run("a", "make")\nv = ctx.read("VERSION")\nctx.run("b", f"echo {v}")\n'
        'ctx.run("c", f"echo {v}", depends_on=[])'
    )
    assert [*steps] == ["a", "read VERSION", "b", "c"]
    assert steps["read VERSION"].needs == ("a",)
    assert steps["read VERSION"].action.kind == "read"
    assert steps["b"].needs == ("read VERSION",)
    assert steps["c"].needs == ("read VERSION",)


NAMES = [
    pytest.param('ctx.read("./src/VERSION")', "read ./src/VERSION", id="path"),
    pytest.param('ctx.read("a" * 200)', "read …" + "a" * 94, id="long"),
    pytest.param('ctx.read("a\\nb")', "read a b", id="control"),
    pytest.param('ctx.read(f"{b.stdout}/x")', "read <b.stdout>/x", id="reference"),
    pytest.param("ctx.read(ctx.event.branch)", "read main", id="data"),
    pytest.param('ctx.glob("*.py", "*.js")', "glob *.py *.js", id="glob"),
    pytest.param('ctx.glob(["*.py", "*.js"])', "glob *.py *.js", id="glob-of-a-list"),
    pytest.param('ctx.write("x", "text")', "write x", id="write"),
    pytest.param('ctx.hash_files("*.lock")', "hash *.lock", id="hash"),
    pytest.param("ctx.git.diff()", "git diff", id="diff"),
    pytest.param('ctx.git.diff("src", base="v1")', "git diff src", id="diff-of-a-path"),
    pytest.param("ctx.git.changed_files()", "git changed files", id="changed-files"),
    pytest.param("ctx.git.log()", "git log", id="log"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "name"), NAMES)
def test_hidden_steps_are_named_by_what_they_do(sandbox: Sandbox, code: str, name: str) -> None:
    """Names are for people, and no longer than others."""
    plan = planned(sandbox, f'b = ctx.run("b", "x")\n{code}', event={"branch": "main"})
    assert names(plan) == ["b", name]
    assert len(name) <= 100


def test_the_same_question_twice_is_two_steps(sandbox: Sandbox) -> None:
    """Authors cannot name hidden steps, so two places never clash; each sees its own moment."""
    plan = planned(sandbox, 'ctx.read("V")\nctx.run("a", "x")\nctx.read("V")')
    assert names(plan) == ["read V", "a", "read V#2"]


def test_names_replay_whichever_branch_goes_on_first(sandbox: Sandbox) -> None:
    """A branch's hidden steps are counted in it alone: branches go on at different times (11)."""
    body = """
def job(p):
    t = ctx.run(f"t-{p}", "x")
    if t.stdout:
        ctx.run(f"u-{p}", ["echo", ctx.read("V")])
ctx.parallel([job(p) for p in "ab"])
"""
    first = planned(sandbox, body, known={"t-b": done("x")})
    assert names(first) == ["t-a", "t-b", "read V [1.1]", "u-b"]
    both = {"t-a": done("x"), "t-b": done("x")}
    again = planned(sandbox, body, known=both, recorded=first.steps)
    assert set(names(again)) == {*names(first), "read V [1.0]", "u-a"}


VALUES = [
    pytest.param('ctx.read("x")', "read x", "stdout", done("text"), 'v == "text"', id="read"),
    pytest.param('ctx.read("x")', "read x", "stdout", done("1\n2"), "len(v.splitlines()) == 2",
                 id="method"),
    pytest.param('json.loads(ctx.read("x"))', "read x", "stdout", done('{"a": 1}'), 'v["a"] == 1',
                 id="json"),
    pytest.param('ctx.glob("*")', "glob *", "outputs", done(files=["a", "b"]),
                 'list(v) == ["a", "b"]', id="glob"),
    pytest.param("ctx.git.changed_files()", "git changed files", "outputs",
                 done(files=["src/a.py"]), 'any(f.startswith("src/") for f in v)', id="changed"),
    pytest.param("ctx.git.diff()", "git diff", "stdout", done(""), "not v", id="diff"),
    pytest.param('ctx.hash_files("*")', "hash *", "stdout", done("ab"), 'v[:1] == "a"', id="hash"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "name", "field", "values", "asked"), VALUES)
def test_asking_for_the_value_ends_the_stage(  # noqa: PLR0917 - the table's columns
    sandbox: Sandbox, code: str, name: str, field: str, values: Any, asked: str
) -> None:
    """Unknown, it is awaited; known, it is ordinary Python (31)."""
    body = f'v = {code}\nif {asked}:\n    ctx.run("yes", "x")\nelse:\n    ctx.run("no", "x")'
    first = planned(sandbox, body)
    assert names(first) == [name]
    assert [(ref.ref, ref.field) for ref in first.awaits] == [(name, field)]
    again = planned(sandbox, body, known={name: values}, recorded=first.steps)
    assert names(again) == [name, "yes"]


def test_files_are_data_and_never_code(sandbox: Sandbox) -> None:
    """A path that a pull request chose reaches a command as a variable (21)."""
    plan = planned(
        sandbox,
        'for f in ctx.git.changed_files():\n    ctx.run(f"lint", f"lint {f}")',
        known={"git changed files": done(files=["$(evil).py"])},
    )
    action = plan.steps[1].action
    assert action.kind == "shell"
    assert action.script == 'lint "${PLUE_V1}"'


def read_of(step: Step) -> Read:
    """Return the action of a step that reads."""
    assert isinstance(step.action, Read)
    return step.action


def test_default_may_be_a_reference(sandbox: Sandbox) -> None:
    """It is text like any other, and the step waits for it."""
    steps = sandbox.steps('b = ctx.run("b", "x")\nctx.read("V", default=f"v{b.stdout}")')
    default = read_of(steps["read V"]).default
    assert default is not None
    assert len(default) == 2
    assert read_of(sandbox.steps('ctx.read("V", default="")')["read V"]).default == ()
    assert read_of(sandbox.steps('ctx.read("V")')["read V"]).default is None


BASES: list[tuple[Mapping[str, Any], list[tuple[str, bool]]]] = [
    ({}, [("refs/remotes/origin/HEAD", True), ("refs/remotes/origin/main", True),
          ("refs/heads/main", True), ("refs/remotes/origin/master", True),
          ("refs/heads/master", True)]),
    ({"repository": {"default_branch": "trunk"}},
     [("refs/remotes/origin/trunk", True), ("refs/heads/trunk", True)]),
    ({"before": "a" * 40, "repository": {"default_branch": "trunk"}},
     [("a" * 40, False), ("refs/remotes/origin/trunk", True), ("refs/heads/trunk", True)]),
    ({"before": "0" * 40, "repository": {"default_branch": "trunk"}},
     [("refs/remotes/origin/trunk", True), ("refs/heads/trunk", True)]),
    ({"pull_request": {"base": {"ref": "dev", "sha": "b" * 40}},
      "repository": {"default_branch": "trunk"}},
     [("b" * 40, True), ("refs/remotes/origin/dev", True), ("refs/heads/dev", True),
      ("refs/remotes/origin/trunk", True), ("refs/heads/trunk", True)]),
]  # fmt: skip


@pytest.mark.parametrize(("event", "expected"), BASES)
def test_git_compares_with_what_the_event_says(
    sandbox: Sandbox, event: Mapping[str, Any], expected: list[tuple[str, bool]]
) -> None:
    """The request's merge base, the push's before, else the default branch's merge base (31)."""
    (step,) = planned(sandbox, "ctx.git.diff()", event=event).steps
    assert isinstance(step.action, Git)
    found = [("".join(p.data for p in b.rev), b.merge_base) for b in step.action.bases]  # type: ignore[union-attr]
    assert found == expected


def test_base_may_be_named(sandbox: Sandbox) -> None:
    """`base=` replaces the event's, and may be a reference."""
    step = sandbox.steps('b = ctx.run("b", "git describe")\nctx.git.log(base=b.stdout, most=3)')
    action = step["git log"].action
    assert isinstance(action, Git)
    assert (action.most, len(action.bases), step["git log"].needs) == (3, 1, ("b",))


def test_hidden_steps_are_not_recorded_in_generators(sandbox: Sandbox) -> None:
    """They are steps (35)."""
    body = 'def g():\n    yield ctx.read("V")\nlist(g())'
    (problem,) = sandbox.problems(body)
    assert problem.code == "PLU022"

"""ctx.event, ctx.repo and ctx.env: all fields exist, and unknown ones are errors (30)."""

from collections.abc import Mapping
from typing import Any

import pytest
from authoring.sandboxed import Sandbox, workflow_of

EVENT = {
    "kind": "pull_request",
    "action": "opened",
    "branch": "fix",
    "sha": "abc",
    "repository": {"name": "repo", "default_branch": "main"},
    "pull_request": {"number": 7, "labels": ["a", "b"], "base": {"ref": "main", "sha": "b"}},
    "payload": {"deep": {"er": "x"}},
}

TRUE = [
    'e.kind == "pull_request" and e.action == "opened"',
    'e.pull_request.number == 7 and e.pull_request["number"] + 1 == 8',
    "e.pull_request.title is None and e.pull_request.head.sha is None",
    'e.pull_request.base.ref == "main"',
    "e.tag is None and e.schedule is None and e.before is None and e.actor is None",
    'e.payload.deep.er == "x" and e.payload.missing is None',
    'ctx.repo.name == "repo" and ctx.repo.sha == "abc" and ctx.repo.url is None',
    '"a" in e.pull_request.labels and len(e.pull_request.labels) == 2',
    'e.repository.default_branch == "main" and e.repository.owner is None',
    'e.get("branch") == "fix"',
]  # fmt: skip


@pytest.mark.parametrize("condition", TRUE)
def test_fields_of_an_event(sandbox: Sandbox, condition: str) -> None:
    """Known at stage 1, as ordinary Python."""
    steps = sandbox.steps(f'e = ctx.event\nif {condition}:\n    ctx.run("yes", "x")', event=EVENT)
    assert [*steps] == ["yes"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("ctx.event.brnch", "did you mean `branch`?"),
        ("ctx.event.push", "it has: "),
        ("ctx.repo.defaultbranch", "did you mean `default_branch`?"),
        ("ctx.env.HOME", "@workflow(env={...})"),
    ],
)
def test_unknown_fields_are_errors(sandbox: Sandbox, body: str, said: str) -> None:
    """A misspelled field would be None for ever."""
    (problem,) = sandbox.problems(body, event=EVENT)
    assert problem.code == "PLU502"
    assert said in f"{problem.message} {problem.remedy}"


TRIGGERS: list[tuple[str, str]] = [
    ("pull_request()", "ctx.event.pull_request.number + 1"),
    ("pull_request()", 'f"{ctx.event.pull_request.head.ref}"'),
    ("push()", 'f"{ctx.event.branch} {ctx.event.before[:7]} {ctx.repo.url}"'),
    ('schedule("0 4 * * *")', 'f"{ctx.event.schedule.time}"'),
]


@pytest.mark.parametrize(("trigger", "code"), TRIGGERS)
def test_lint_invents_an_event_of_the_trigger(sandbox: Sandbox, trigger: str, code: str) -> None:
    """What a workflow may rely on is there when its file is checked."""
    body = f'ctx.run("a", ["echo", {code}])\nctx.run("a b/c", "x")'
    found = sandbox.describe(workflow_of(body, f"triggers=[{trigger}]"))
    assert [d.code for d in found.diagnostics] == ["PLU301"]


def test_env_is_the_workflows_own(sandbox: Sandbox) -> None:
    """By name or key, as text."""
    body = 'if ctx.env.A == "1" and ctx.env["B"] == "2" and ctx.env.get("C", "3") == "3":\n    ctx.run("yes", "x")'
    planned = sandbox.plan(workflow_of(body, 'triggers=[push()], env={"A": 1, "B": "2"}'))
    assert planned.plan is not None
    assert len(planned.plan.steps) == 1


def test_an_event_field_is_data(sandbox: Sandbox) -> None:
    """Whoever opens a pull request chooses its title (21)."""
    event: Mapping[str, Any] = {"pull_request": {"title": "$(evil)"}}
    step = sandbox.steps('ctx.run("a", f"echo {ctx.event.pull_request.title}")', event=event)["a"]
    assert step.action.kind == "shell"
    assert step.action.script == 'echo "${PLUE_V1}"'

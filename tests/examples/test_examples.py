"""The examples work: each runs on a real server, as the repository that a reader would copy."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from authoring.sandboxed import Sandbox
from examples.conftest import EXAMPLES, House, git

from plue.local.reading import source_files

NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def sandbox() -> Any:
    """Plan what needs a model."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_clean_and_described(sandbox: Sandbox, name: str) -> None:
    """Lint finds nothing, not even a warning; the page names it, and its own names a command."""
    found = sandbox.describe(files=source_files(EXAMPLES / name))
    assert found.diagnostics == []
    assert f"[{name}]({name})" in (EXAMPLES / "README.md").read_text()
    shown = (EXAMPLES / name / "README.md").read_text()
    commands = re.findall(r"plue workflow (?:run|plan) (\w+)", shown)
    assert commands
    assert set(commands) <= {info.name for info in found.workflows}
    assert all(info.description for info in found.workflows)


def test_ci_runs_suites_side_by_side(house: House) -> None:
    """Green: the outputs say what was built. Red: every suite had its say, and the reason names one."""
    root = house.copy("ci-parallel")
    run = house.run(root, "ci")
    assert run.state == "succeeded"
    assert run.outputs == {"built": "built from 2 files", "suites": 3}
    (root / "src" / "c.txt").write_text("TODO\n")
    run = house.run(root, "ci", event={"kind": "push", "ref": "refs/heads/main"})
    assert run.state == "failed"
    assert {name: run.said(name) for name in ("unit", "lint", "e2e")} == {
        "unit": "succeeded",
        "lint": "failed",
        "e2e": "failed",
    }
    assert run.message is not None
    assert "failed: lint, e2e" in run.message


def test_monorepo_tests_what_a_push_changed(house: House) -> None:
    """Two of three packages changed: theirs are the only steps."""
    root = house.copy("monorepo")
    before = git(root, "rev-parse", "HEAD")
    for package in ("api", "web"):
        (root / "packages" / package / "more.txt").write_text("more\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "second")
    event = {"kind": "push", "ref": "refs/heads/main", "before": before, "sha": git(root, "rev-parse", "HEAD")}
    run = house.run(root, "changed", event=event)
    assert run.state == "succeeded", run.message
    assert run.outputs == {"tested": "api, web"}
    assert {name for name in run.steps if name.startswith("test ")} == {"test api", "test web"}


def test_monorepo_without_a_change_tests_nothing(house: House) -> None:
    """Nothing to do is a success that says so."""
    root = house.copy("monorepo")
    sha = git(root, "rev-parse", "HEAD")
    event = {"kind": "push", "ref": "refs/heads/main", "before": sha, "sha": sha}
    assert house.run(root, "changed", event=event).outputs == {"tested": "nothing"}


def done(stdout: str = "", **values: Any) -> dict[str, Any]:
    """Return the values of a step that succeeded."""
    return {"ok": True, "state": "succeeded", "exit_code": 0, "stdout": stdout, "outputs": {}, **values}


def planned(sandbox: Sandbox, name: str, workflow: str, known: Mapping[str, Any], **inputs: Any) -> Any:
    """Plan an example's workflow with results that are assumed."""
    work = sandbox.evaluator.plan(
        source_files(EXAMPLES / name), workflow, inputs=inputs, event={"kind": "manual"}, known=known
    )
    found = sandbox.call(work)
    assert found.plan is not None, found.diagnostics
    return found.plan


def test_review_is_a_gate(sandbox: Sandbox) -> None:
    """Approved, it merges; refused, each issue is a step and the reason is the reviewer's."""
    first = planned(sandbox, "review-gate", "review", {})
    assert first.end is None
    prompt = first.steps[-1]
    assert prompt.action.kind == "llm"
    lint, diff = done(), {step.name: done("diff") for step in first.steps if step.action.kind not in ("shell", "llm")}
    issues = [{"file": "a.py", "line": 1, "message": "breaks"}]

    def with_verdict(approved: bool) -> Any:
        answer = {"approved": approved, "summary": "so so", "issues": issues}
        known = {"lint": lint, **diff, prompt.name: done(outputs=answer)}
        return planned(sandbox, "review-gate", "review", known)

    refused, approved = with_verdict(approved=False), with_verdict(approved=True)
    assert [step.name for step in refused.steps][-1] == "issue 1"
    assert len(refused.fails) == 1
    assert [step.name for step in approved.steps][-1] == "merge"
    assert approved.fails == ()


def test_fix_until_green_stops_when_it_is_green(house: House) -> None:
    """Three rounds of tests, two of fixes, none twice."""
    run = house.run(house.copy("fix-until-green"), "green")
    assert run.state == "succeeded", run.message
    assert run.outputs == {"rounds": 2, "said": "all tests pass"}
    shown = [name for name in run.steps if not name.startswith("ctx.")]
    assert shown == ["test", "fix", "test#2", "fix#2", "test#3"]


def test_fix_until_green_can_ask_an_agent(sandbox: Sandbox) -> None:
    """The same loop with an agent in the script's place."""
    failed = done("1 tests fail", ok=False, state="failed", exit_code=1)
    failed["stdout.tail(100)"] = "1 tests fail"
    plan = planned(sandbox, "fix-until-green", "green", {"test": failed}, fixer="agent")
    assert [step.action.kind for step in plan.steps] == ["shell", "agent", "shell"]


def test_an_agent_fixes_until_the_tests_pass(house: House) -> None:
    """The agent reads, edits by its shell and finishes; the test after it passes."""
    run = house.run(house.copy("fix-until-green"), "green", fixer="agent")
    assert run.state == "succeeded", run.message
    assert run.outputs == {"rounds": 1, "said": "all tests pass"}
    shown = {name: step["state"] for name, step in run.steps.items() if step["kind"] != "fail"}
    assert shown == {"test": "failed", "fix-errors": "succeeded", "test#2": "succeeded"}


@pytest.mark.parametrize(
    ("line", "state", "message"),
    [("echo safe", "succeeded", None), ("echo DANGER", "failed", "not approved: it removes a check")],
)
def test_a_review_decides_what_happens(
    house: House, line: str, state: str, message: str | None
) -> None:
    """Approved, the change is merged; refused, each issue is a step and the run fails for it."""
    root = house.copy("review-gate")
    git(root, "checkout", "-qb", "change")
    with (root / "lint.sh").open("a") as file:
        file.write(f"{line}\n")
    git(root, "commit", "-qam", "change it")
    run = house.run(root, "review")
    assert (run.state, run.message) == (state, message)
    assert ("merge" in run.steps) == (state == "succeeded")
    assert ("issue 1" in run.steps) == (state == "failed")


def test_a_model_writes_the_release_notes(house: House) -> None:
    """The typed answer is a list of which each item is a line of the notes."""
    run = house.run(house.copy("release-notes"), "notes", version="2.1")
    assert run.state == "succeeded", run.message
    assert run.outputs["notes"].startswith("# Version 2.1\n\n- The report can begin")
    assert run.outputs["notes"].count("\n- ") == 3


def test_an_agent_uses_tools_of_the_repository(house: House) -> None:
    """A function of `.plue/tools` and a prompt are tools; their results decide how the run ends."""
    run = house.run(house.copy("own-tools"), "triage")
    assert (run.state, run.steps["triage"]["state"]) == ("failed", "succeeded"), run.message
    assert run.message is not None
    assert "first of all: quote the name" in run.message


RELEASE: dict[str, Any] = {"version": "1.2.0", "channel": "stable", "notes": "Faster, and `$(safe)` too."}


def test_release_publishes_once(house: House) -> None:
    """Inputs are data; the clean-up runs last; defaults come from the configuration."""
    run = house.run(house.copy("release"), "release", **RELEASE)
    assert run.state == "succeeded", run.message
    assert run.outputs == {"published": True, "file": "dist/app.txt"}
    assert list(run.steps)[-1] == "remove scratch" or run.said("remove scratch") == "succeeded"
    assert {run.said(name) for name in run.steps} == {"succeeded"}


@pytest.mark.parametrize(
    ("inputs", "state", "outputs"),
    [
        pytest.param({"channel": "stable"}, "failed", {}, id="no-notes"),
        pytest.param(
            {"dry_run": True}, "succeeded", {"published": False, "file": "dist/app.txt"}, id="dry"
        ),
    ],
)
def test_release_decides_by_its_inputs(
    house: House, inputs: dict[str, Any], state: str, outputs: dict[str, Any]
) -> None:
    """A stable one needs notes; a dry one publishes nothing."""
    run = house.run(house.copy("release"), "release", version="1.2.0", **inputs)
    assert (run.state, run.outputs) == (state, outputs), run.message
    assert "publish" not in run.steps


@pytest.mark.parametrize(
    ("event", "when"),
    [
        pytest.param(None, "by hand", id="manual"),
        pytest.param(
            {"kind": "schedule", "schedule": {"cron": "30 4 * * 1-5", "time": "2026-11-25T04:30:00+00:00"}},
            "2026-11-25T04:30:00+00:00",
            id="schedule",
        ),
    ],
)
def test_the_report_says_when_it_was_made(
    house: House, event: dict[str, Any] | None, when: str
) -> None:
    """By the clock and by hand."""
    run = house.run(house.copy("nightly-report"), "report", event=event)
    assert run.state == "succeeded", run.message
    assert run.outputs == {"files": 1, "report": f"# To do ({when})\n\n- src/app.sh: 2"}


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        pytest.param("checks", "scripts are fine\n- scripts/a.sh\n- scripts/b.sh", id="checks"),
        pytest.param("docs", "texts are fine\n- docs/intro.md", id="docs"),
    ],
)
def test_two_workflows_share_a_library(house: House, workflow: str, said: str) -> None:
    """Helpers record steps like the workflow's own code."""
    run = house.run(house.copy("reusable-lib"), workflow)
    assert (run.state, run.outputs) == ("succeeded", {"summary": said}), run.message


def test_a_workflow_calls_another_for_each_environment(house: House) -> None:
    """Its steps carry the call's name; production waits for staging's answer."""
    run = house.run(house.copy("nested"), "ship", version="1.2.0")
    assert run.outputs == {"staging": "1.2.0", "production": "1.2.0"}, run.message
    assert list(run.steps) == [
        "staging/upload",
        "staging/check",
        "production/upload",
        "production/check",
    ]

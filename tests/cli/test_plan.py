"""`plue workflow plan`: assumed results, and a recorded run's results for edited files."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from cli.process import plue

Say = Callable[..., "CompletedProcess[str]"]

WORKFLOW = """\
from plue import manual, workflow


@workflow(triggers=[manual(inputs={"most": 2})])
def ci(ctx):
    for round in range(ctx.inputs.most):
        test = ctx.run("test", "echo red; exit 1", continue_on_error=True)
        if test.ok:
            break
        fix = ctx.run("fix", "echo patch")
    if "patch" in fix.stdout:
        ctx.run("push", "true")
"""
FILE = ".plue/workflows/ci.py"


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """Give a function that plans in a project with one workflow."""
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text(WORKFLOW)

    def plan(*words: str) -> "CompletedProcess[str]":
        return plue(*words, cwd=tmp_path, XDG_STATE_HOME=str(tmp_path / "state"))

    return plan


def names(text: str) -> list[str]:
    """Return the names of a plan's steps."""
    lines = [line for line in text.splitlines() if line.startswith("  ") and line[2] not in " …"]
    return [line.split()[0] for line in lines if "go on with" not in line]


def test_without_assumptions_the_plan_shows_where_it_waits(say: Say) -> None:
    """The first stage, the value that is asked for, its line, and how to go on."""
    done = say("workflow", "plan", "ci")
    assert done.returncode == 0, done.stderr
    assert names(done.stdout) == ["test"]
    assert "test.ok  .plue/workflows/ci.py:8" in done.stdout
    assert "--assume test.ok=false" in done.stdout


def test_assumptions_lead_further_and_say_why(say: Say) -> None:
    """Each opens what depends on it; a step that depends on an answer says on which."""
    words = [
        "--assume",
        "test.ok=false",
        "--assume",
        "test#2.ok=true",
        "--assume",
        "fix.stdout=patch",
    ]
    done = say("workflow", "plan", "ci", *words)
    assert done.returncode == 0, done.stderr
    assert names(done.stdout) == ["test", "fix", "test#2", "push"]
    assert "because test.ok == False, ci.py:8" in done.stdout
    assert "… more" not in done.stdout
    assert done.stderr == ""


def test_what_is_assumed_of_a_step_that_is_not_there_is_told(say: Say) -> None:
    """A misspelt step is no error, as the plan may not reach it, and is not passed over."""
    done = say("workflow", "plan", "ci", "--assume", "tset.ok=true")
    assert done.returncode == 0
    assert "not planned, so not assumed: tset" in done.stderr


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("test.ok", "STEP.FIELD=VALUE"),
        ("test.okay=true", "names no value"),
        ("test.ok=1", "true or false"),
    ],
)
def test_a_wrong_assumption_is_wrong_usage(say: Say, word: str, said: str) -> None:
    """Exit code 2, what is wrong, and how to write it."""
    done = say("workflow", "plan", "ci", "--assume", word)
    assert done.returncode == 2
    assert said in done.stderr
    assert "try: write STEP.ok=false" in done.stderr


def test_a_run_is_a_regression_test_of_an_edited_file(say: Say, tmp_path: Path) -> None:
    """The inputs and results of a recorded run lead an edited file: the difference is shown."""
    assert say("workflow", "run", "ci", "-i", "most=1").returncode == 0
    same = say("workflow", "plan", "ci", "--like", "ci-1")
    assert same.returncode == 0, same.stderr
    assert same.stdout.splitlines() == ["the plans are the same"]
    edited = (
        WORKFLOW.replace('"push", "true"', '"push", "git push"') + '    ctx.run("tell", "true")\n'
    )
    (tmp_path / FILE).write_text(
        edited.replace('"fix", "echo patch"', '"fix", "echo patch", retry=1')
    )
    changed = say("workflow", "plan", "ci", "--like", "latest")
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout.splitlines() == [
        "~ fix: retry",
        "~ push: action",
        "-     true",
        "+     git push",
        "+ tell",
        "+     true",
    ]
    other = say("workflow", "plan", "ci", "--like", "1", "--assume", "fix.stdout=nothing")
    assert "- push" in other.stdout.splitlines()

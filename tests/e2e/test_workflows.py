"""What is declared is shown, checked and planned without a server; wrong asking is exit code 2."""

import json
from pathlib import Path

import pytest
from e2e.stage import Project, Up
from e2e.workflows import WORKFLOWS


def test_workflows_are_listed_shown_and_planned(tmp_path: Path) -> None:
    """No server is needed or made, and machines get JSON of the same."""
    project = Project.make(tmp_path, {"ci.py": WORKFLOWS})
    listed = project.plue("workflow", "list")
    assert listed.returncode == 0
    assert "ci        push, manual  .plue/workflows/ci.py:6   Build, test twice" in listed.stdout
    assert {"ci", "deploy"} <= {one["name"] for one in project.json("workflow", "list")}
    shown = project.plue("workflow", "show", "deploy").stdout
    assert "-i env=staging|production\n" in shown
    assert "-i count=INTEGER\n" in shown
    plan = project.plue("workflow", "plan", "ci").stdout
    assert "report  after unit, lint, build\n" in plan
    steps = {one["name"]: one for one in project.json("workflow", "plan", "ci")["steps"]}
    assert set(steps["report"]["needs"]) >= {"unit", "lint"}
    assert project.plue("workflow", "lint").stdout == "11 workflows, no errors\n"
    assert not project.data.exists()


WRONG = {
    "syntax.py": "from plue import workflow\n@workflow\ndef a(ctx)\n    pass\n",
    "imports.py": "import os\nfrom plue import workflow\n@workflow\ndef b(ctx):\n    ctx.run('x', 'y')\n",
    "twice.py": "from plue import workflow\n@workflow\ndef c(ctx):\n    ctx.run('x', 'y')\n    ctx.run('x', 'z')\n",
    "unknown.py": "from plue import workflow\n@workflow\ndef d(ctx):\n    ctx.run('test', 'y')\n"
    "    ctx.run('z', 'y', depends_on='tset')\n",
    "good.py": "from plue import workflow\n@workflow\ndef good(ctx):\n    ctx.run('x', 'echo fine')\n",
}  # fmt: skip


def test_every_error_of_every_file_is_shown_at_once(tmp_path: Path) -> None:
    """Each names file, line and remedy; a bad file does not hide the good one."""
    project = Project.make(tmp_path, WRONG)
    linted = project.plue("workflow", "lint")
    assert linted.returncode == 1
    for place in ("syntax.py:3:", "imports.py:1:", "twice.py:5:", "unknown.py:5:"):
        assert place in linted.stderr
    assert "good.py" not in linted.stderr
    planned = {
        "c": ("twice.py:5:", "twice.py:4"),
        "d": ("unknown.py:5:", "did you mean `test`?"),
    }
    for name, said in planned.items():
        done = project.plue("workflow", "plan", name)
        assert done.returncode == 2
        for words in said:
            assert words in done.stderr
    listed = project.plue("workflow", "list")
    assert "good" in listed.stdout
    assert project.plue("workflow", "plan", "good").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["deploi"], ["no workflow `deploi`", "did you mean `deploy`?"], id="name"),
        pytest.param(
            ["deploy", "-i", "enw=staging", "-i", "count=1"],
            ["no input `enw`", "did you mean `env`?", "`env` is required", "ci.py:15:1"],
            id="input-name",
        ),
        pytest.param(
            ["deploy", "-i", "env=stagin", "-i", "count=1"],
            ["input env", '"stagin"', '"staging"', '"production"'],
            id="choice",
        ),
        pytest.param(
            ["deploy", "-i", "env=staging", "-i", "count=x"],
            ["input count", '"x"', "whole number"],
            id="type",
        ),
        pytest.param(["deploy", "-i", "env=staging"], ["`count` is required"], id="missing"),
        pytest.param(["ci", "-i", "x"], ["-i x: an input is NAME=VALUE"], id="form"),
        pytest.param(["ci", "--event-file", "{"], ["--event-file is not JSON"], id="event"),
        pytest.param(["ci", "--timeout", "soon"], ["'soon' is no duration"], id="time"),
        pytest.param(["ci", "--tiemout", "5"], ["No such option: --tiemout", "--timeout"], id="option"),
    ],
)  # fmt: skip
def test_wrong_asking_is_exit_code_2_and_leaves_no_run(
    up: Up, project: Project, words: list[str], said: list[str]
) -> None:
    """The message names what is wrong and what may be meant."""
    before = up.get("/runs?limit=1")
    done = project.plue("workflow", "run", *words)
    assert done.returncode == 2, done.stdout + done.stderr
    for one in said:
        assert one in done.stderr
    assert before == up.get("/runs?limit=1")


@pytest.mark.parametrize("words", [["view"], ["watch"], ["logs"], ["cancel"], ["rerun"]])
def test_an_unknown_run_is_named(project: Project, words: list[str]) -> None:
    """Nothing is guessed from a wrong name."""
    done = project.plue("run", *words, "no-such-77")
    assert done.returncode == 2
    assert "no-such-77" in done.stderr


def test_machines_get_errors_with_places(tmp_path: Path) -> None:
    """`lint --json` has file, line, column, code, message and remedy."""
    project = Project.make(tmp_path, WRONG)
    done = project.plue("workflow", "lint", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert {"file", "line", "column", "code", "message", "remedy"} <= set(found[0])

"""`plue workflow lint` and `plue explain`, as processes."""

import json
from pathlib import Path

import pytest
from cli.process import plue

GOOD = "from plue import workflow\n\n@workflow()\ndef ci(ctx):\n    ctx.run('a', 'true')\n"
BAD = "import os\nfrom plue import worflow\nx = naem\n"


def project(folder: Path, **files: str) -> Path:
    """Make a project with workflow files."""
    workflows = folder / ".plue" / "workflows"
    workflows.mkdir(parents=True)
    for name, text in files.items():
        (workflows / f"{name}.py").write_text(text)
    return folder


def test_every_error_of_every_file_in_one_run(tmp_path: Path) -> None:
    """File by file and line by line, each with its caret; exit code 1."""
    done = plue("workflow", "lint", cwd=project(tmp_path, b=GOOD, c="x = 1/0\n", a=BAD))
    assert done.returncode == 1
    places = [line.strip() for line in done.stderr.splitlines() if "-->" in line]
    assert places == [
        "--> .plue/workflows/a.py:1:1",
        "--> .plue/workflows/a.py:2:18",
        "--> .plue/workflows/a.py:3:5",
        "--> .plue/workflows/c.py:1:5",
    ]
    assert done.stderr.count("= help:") == 4
    assert "4 errors in 2 files; `plue explain PLU010` says more" in done.stderr
    assert done.stdout == ""


def test_a_clean_project_is_exit_code_0(tmp_path: Path) -> None:
    """And says how much was looked at."""
    done = plue("workflow", "lint", cwd=project(tmp_path, a=GOOD))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 workflow, no errors\n", "")


def test_warnings_fail_only_when_strict(tmp_path: Path) -> None:
    """A warning is shown either way."""
    folder = project(tmp_path, a="x = 1\n")
    done = plue("workflow", "lint", cwd=folder)
    assert done.returncode == 0
    assert "warning[PLU025]" in done.stderr
    assert "1 warning in 1 file" in done.stderr
    assert plue("workflow", "lint", "--strict", cwd=folder).returncode == 1


def test_machines_get_json_or_sarif(tmp_path: Path) -> None:
    """Both hold the same findings; asking for both is wrong usage."""
    folder = project(tmp_path, a=BAD)
    as_json = plue("workflow", "lint", "--json", cwd=folder)
    sarif = plue("workflow", "lint", "--sarif", cwd=folder)
    assert as_json.returncode == sarif.returncode == 1
    codes = [one["code"] for one in json.loads(as_json.stdout)]
    results = json.loads(sarif.stdout)["runs"][0]["results"]
    assert codes == [result["ruleId"] for result in results] == ["PLU010", "PLU011", "PLU012"]
    both = plue("workflow", "lint", "--sarif", "--json", cwd=folder)
    assert (both.returncode, "choose one" in both.stderr) == (2, True)


def test_explain_shows_the_wrong_and_the_right(tmp_path: Path) -> None:
    """In any case of letters; as JSON too."""
    done = plue("explain", "plu012", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("PLU012: The name is not defined\n")
    assert done.stdout.index("Wrong:") < done.stdout.index("biuld") < done.stdout.index("Right:")
    found = json.loads(plue("explain", "PLU012", "--json", cwd=tmp_path).stdout)
    assert set(found) == {"code", "title", "text", "wrong", "right"}


def test_explain_lists_all_codes(tmp_path: Path) -> None:
    """One line each."""
    lines = plue("explain", cwd=tmp_path).stdout.splitlines()
    assert "PLU012  The name is not defined" in lines
    assert len(lines) == len({line[:6] for line in lines}) > 50


@pytest.mark.parametrize("words", [["workflow", "lint"], ["explain"]])
def test_help_shows_how_it_is_used(tmp_path: Path, words: list[str]) -> None:
    """Every help text has an example."""
    assert "plue " + " ".join(words) in plue(*words, "--help", cwd=tmp_path).stdout


def test_an_unknown_code_is_wrong_usage(tmp_path: Path) -> None:
    """The nearest code is told."""
    done = plue("explain", "PLU013x", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean PLU013?" in done.stderr

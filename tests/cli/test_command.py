"""The command line as a person meets it: a real process each time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.process import plue

from plue.cli.workflows import parse_duration, parse_event, parse_inputs
from plue.errors import UsageError


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["up"], id="up"),
        pytest.param(["workflow", "run"], id="workflow-run"),
        pytest.param(["workflow", "plan"], id="workflow-plan"),
        pytest.param(["run", "list"], id="run-list"),
        pytest.param(["run", "logs"], id="run-logs"),
        pytest.param(["doctor"], id="doctor"),
    ],
)
def test_help_has_an_example(tmp_path: Path, words: list[str]) -> None:
    """Every help text shows how the command is used."""
    done = plue(*words, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "xample" in done.stdout
    assert "plue " + " ".join(words) in done.stdout


def test_help_is_there_at_once() -> None:
    """Nothing that takes long to import is imported for it."""
    code = "import sys, plue.cli.main; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    slow = {"aiohttp", "psycopg", "pydantic", "pydantic_settings", "structlog", "httpx2", "rich"}
    assert set() == slow & {name.split(".")[0] for name in done.stdout.split()}


def test_the_version_is_printed(tmp_path: Path) -> None:
    """`plue --version` says which."""
    assert plue("--version", cwd=tmp_path).stdout == "plue 0.1.0\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["workflow", "list"], "is not inside a project", id="no-project"),
        pytest.param(
            ["workflow", "run", "x", "-i", "y"], "-i y: an input is NAME=VALUE", id="input"
        ),
        pytest.param(["workflow", "run", "x", "--timeout", "soon"], "no duration", id="duration"),
        pytest.param(["up", "--port", "70000"], "--port (or PLUE_PORT)", id="port"),
        pytest.param(["workflow", "bogus"], "No such command", id="command"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_message(
    tmp_path: Path, words: list[str], expected: str
) -> None:
    """The message names what is wrong; a traceback is never shown."""
    done = plue(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_the_traceback_is_there_for_who_asks(tmp_path: Path) -> None:
    """PLUE_DEBUG=1 shows where an error came from."""
    assert "Traceback" in plue("workflow", "list", cwd=tmp_path, PLUE_DEBUG="1").stderr


def test_leaving_a_run_needs_a_server_that_stays(tmp_path: Path) -> None:
    """A private server would end with the command, and the run with it."""
    (tmp_path / ".plue").mkdir()
    done = plue("workflow", "run", "x", "--detach", cwd=tmp_path, PLUE_DATA=str(tmp_path / "d"))
    assert done.returncode == 2
    assert "plue up" in done.stderr


# ── arguments ────────────────────────────────────────────────────────────────────────────────────


def test_inputs_are_text_lists_and_files(tmp_path: Path) -> None:
    """What a value means is decided by the workflow; here it stays text."""
    (tmp_path / "notes").write_text("from a file\n")
    words = ["env=a=b", "n=1", "many=x", "many=y", f"notes=@{tmp_path / 'notes'}", "at=@@x", "e="]
    assert parse_inputs(words) == {
        "env": "a=b",
        "n": "1",
        "many": ["x", "y"],
        "notes": "from a file\n",
        "at": "@x",
        "e": "",
    }


@pytest.mark.parametrize("word", ["novalue", "=x", "f=@/no/such/file"])
def test_a_wrong_input_is_named(word: str) -> None:
    """The message has the word itself."""
    with pytest.raises(UsageError, match="-i "):
        parse_inputs([word])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("90", 90.0, id="bare-seconds"),
        pytest.param("1.5s", 1.5, id="fractions"),
        pytest.param("30m", 1800.0, id="minutes"),
        pytest.param("1h30m", 5400.0, id="combined"),
    ],
)
def test_durations_are_read(text: str, expected: float) -> None:
    """As people write them."""
    assert expected == parse_duration(text)


@pytest.mark.parametrize("text", ["", "0", "soon", "5 minutes", "-3s", "3s x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError, match="no duration"):
        parse_duration(text)


def test_events_are_json_or_a_file_of_it(tmp_path: Path) -> None:
    """An event is a JSON object, given as such or by a file's name."""
    (tmp_path / "event.json").write_text('{"a": 1}')
    assert parse_event('{"a": 1}') == parse_event(str(tmp_path / "event.json")) == {"a": 1}
    assert parse_event(None) == {}
    for wrong in ("{", str(tmp_path / "none")):
        with pytest.raises(UsageError, match="--event"):
            parse_event(wrong)

"""Secrets of a local server: where they come from, and where they never are."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from plue.errors import RejectedError
from plue.local.reading import source_files
from plue.local.secrets import LocalSecrets, parse_secrets
from plue.local.tree import names_in

PARSED: list[tuple[str, Mapping[str, str]]] = [
    ("A=1", {"A": "1"}),
    ("# comment\n\n  A = 1  \nexport B=2", {"A": "1", "B": "2"}),
    ("A=x#y", {"A": "x#y"}),
    ("A='x \"y\" \\n'", {"A": 'x "y" \\n'}),
    ('A="x\\ny \\"z\\" \\\\"', {"A": 'x\ny "z" \\'}),
    ("A=a=b", {"A": "a=b"}),
    ("A=", {"A": ""}),
    ("A=1\nA=2", {"A": "2"}),
    ("A=é", {"A": "é"}),
]


@pytest.mark.parametrize(("text", "expected"), PARSED)
def test_file_is_read_as_env_files_are(text: str, expected: Mapping[str, str]) -> None:
    """Names and values, with and without quotes."""
    assert expected == parse_secrets(text)


@pytest.mark.parametrize("text", ["hunter2", "A-B=hunter2", "A='hunter2", 'A="hunter2', "=hunter2"])
def test_wrong_line_is_named_but_not_shown(text: str) -> None:
    """The number of the line, and nothing that may be a secret."""
    with pytest.raises(RejectedError) as caught:
        parse_secrets(f"OK=1\n{text}\n")
    assert "line 2" in caught.value.message
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a repository with a file of secrets that git ignores."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".plue" / "workflows").mkdir(parents=True)
    (tmp_path / ".plue" / "workflows" / "ci.py").write_text("x = 1\n")
    secrets = tmp_path / ".plue" / "secrets.env"
    secrets.write_text("TOKEN=from-file\nEMPTY=\nOTHER=other\n")
    secrets.chmod(0o600)
    return tmp_path


async def test_values_come_from_the_environment_and_the_file(root: Path) -> None:
    """The variable wins; empty values are none; the file is read each time anew."""
    environment = {"PLUE_SECRET_ENV": "from-env", "PLUE_SECRET_OTHER": "env wins", "TOKEN": "no"}
    secrets = LocalSecrets(root, environment)
    names = ["TOKEN", "EMPTY", "ENV", "OTHER", "MISSING"]
    expected = {"TOKEN": "from-file", "ENV": "from-env", "OTHER": "env wins"}
    assert expected == await secrets.values(names, {})
    (root / ".plue" / "secrets.env").write_text("MISSING=now\n")
    assert await secrets.values(["MISSING"], {}) == {"MISSING": "now"}
    assert "PLUE_SECRET_X" in secrets.remedy("X", {})


async def test_no_file_is_no_secret(tmp_path: Path) -> None:
    """A project without secrets needs nothing."""
    assert await LocalSecrets(tmp_path, {}).values(["A"], {}) == {}


async def test_file_that_others_may_read_is_refused(root: Path) -> None:
    """With the command that mends it."""
    (root / ".plue" / "secrets.env").chmod(0o640)
    with pytest.raises(RejectedError) as caught:
        await LocalSecrets(root, {}).values(["TOKEN"], {})
    assert "chmod 600" in (caught.value.remedy or "")


async def test_file_that_git_tracks_is_refused(root: Path) -> None:
    """What was committed is no secret any more."""
    subprocess.run(["git", "add", "-f", ".plue/secrets.env"], cwd=root, check=True)  # noqa: ASYNC221
    with pytest.raises(RejectedError) as caught:
        await LocalSecrets(root, {}).values(["TOKEN"], {})
    assert "git rm --cached" in (caught.value.remedy or "")


def test_the_file_is_in_no_copy_and_no_source(root: Path) -> None:
    """Neither in a run's workspace nor in what is stored of a revision; ignored or not."""
    assert b".plue/workflows/ci.py" in names_in(root)
    assert b".plue/secrets.env" not in names_in(root)
    assert list(source_files(root)) == [".plue/workflows/ci.py"]

"""`plue init`: what it writes is right, runs, and never takes the place of anything."""

from pathlib import Path

import pytest
from cli.process import plue


def test_what_init_writes_is_clean_and_runs(tmp_path: Path) -> None:
    """The first thing that an author sees works: lint, plan and a run, with and without inputs."""
    (tmp_path / ".git").mkdir()
    made = plue("init", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "plue workflow run hello" in made.stdout
    linted = plue("workflow", "lint", "--strict", cwd=tmp_path)
    assert (linted.returncode, linted.stderr) == (0, "")
    rendered = plue("prompt", "render", "review", "-i", "diff=+ one line", cwd=tmp_path)
    assert (rendered.returncode, "+ one line" in rendered.stdout) == (0, True), rendered.stderr
    (tmp_path / ".git").rmdir()
    run = plue(
        *("workflow", "run", "hello", "-i", "who=$(boom)", "-i", "tone=loud"),
        cwd=tmp_path,
        XDG_STATE_HOME=str(tmp_path / "state"),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "HELLO $(BOOM)" in run.stdout


def test_init_writes_into_the_repositorys_root(tmp_path: Path) -> None:
    """Wherever in it somebody stands."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep/er").mkdir(parents=True)
    assert plue("init", cwd=tmp_path / "deep/er").returncode == 0
    assert (tmp_path / ".plue/workflows/hello.py").is_file()
    assert (tmp_path / ".plue/prompts/review.prompt.md").is_file()


@pytest.mark.parametrize("name", ["workflows/hello.py", "prompts/review.prompt.md"])
def test_init_overwrites_nothing(tmp_path: Path, name: str) -> None:
    """One file that is there, and nothing is written at all."""
    path = tmp_path / ".plue" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    done = plue("init", cwd=tmp_path)
    assert done.returncode == 2
    assert name in done.stderr
    assert path.read_text() == "mine"
    assert [p for p in (tmp_path / ".plue").rglob("*") if p.is_file()] == [path]

"""`plue init`: what it writes is right, runs, and never takes the place of anything."""

from pathlib import Path

import pytest
from cli.process import plue


def test_what_init_writes_is_clean(tmp_path: Path) -> None:
    """The first thing that an author sees works: nothing is wrong with it."""
    (tmp_path / ".git").mkdir()
    made = plue("init", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "plue workflow run hello" in made.stdout
    linted = plue("workflow", "lint", "--strict", cwd=tmp_path)
    assert (linted.returncode, linted.stderr) == (0, "")
    rendered = plue("prompt", "render", "toast", "-i", "who=you", "-i", "greeting=hi", cwd=tmp_path)
    assert (rendered.returncode, "toast to you" in rendered.stdout) == (0, True), rendered.stderr


@pytest.mark.parametrize("scripted", [False, True], ids=["no-key", "scripted-model"])
def test_what_init_writes_runs_with_and_without_a_model(tmp_path: Path, scripted: bool) -> None:
    """Without a key the prompt's step says what to set, and the run succeeds all the same."""
    assert plue("init", cwd=tmp_path).returncode == 0
    variables = {"PLUE_MODEL_SERVER": ".plue/models.yaml"} if scripted else {}
    run = plue(
        *("workflow", "run", "hello", "-i", "who=$(boom)", "-i", "tone=loud"),
        cwd=tmp_path,
        XDG_STATE_HOME=str(tmp_path / "state"),
        ANTHROPIC_API_KEY="",
        **variables,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "hello $(boom)" in run.stdout
    assert ("TO ALL WHO READ WHAT" in run.stdout) is scripted
    assert ("set ANTHROPIC_API_KEY for the server" in run.stdout) is not scripted
    assert ("no model answered; see .plue/models.yaml" in run.stdout) is not scripted


def test_stubs_of_what_init_writes_are_kept_up_to_date(tmp_path: Path) -> None:
    """`plue stubs` writes them once; lint writes them anew when a prompt has changed."""
    assert plue("init", cwd=tmp_path).returncode == 0
    assert plue("workflow", "lint", cwd=tmp_path).returncode == 0
    stub = tmp_path / ".plue/typings/plue/prompts.pyi"
    assert not stub.exists()
    made = plue("stubs", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "stubPath" in made.stdout
    assert "who: str | Reference" in stub.read_text()
    prompt = tmp_path / ".plue/prompts/toast.prompt.md"
    prompt.write_text(prompt.read_text().replace("who: string", "who: string?"))
    assert plue("workflow", "lint", cwd=tmp_path).returncode == 0
    assert "who: str | Reference | None = ..." in stub.read_text()


def test_init_writes_into_the_repositorys_root(tmp_path: Path) -> None:
    """Wherever in it somebody stands."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep/er").mkdir(parents=True)
    assert plue("init", cwd=tmp_path / "deep/er").returncode == 0
    assert (tmp_path / ".plue/workflows/hello.py").is_file()
    assert (tmp_path / ".plue/prompts/toast.prompt.md").is_file()


@pytest.mark.parametrize("name", ["workflows/hello.py", "prompts/toast.prompt.md"])
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

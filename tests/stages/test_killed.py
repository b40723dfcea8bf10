"""A server that is killed between stages: another life takes the run up and repeats nothing."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.stage import PATIENCE, Project, Up
from typing_extensions import override

from plue.marks import Mark

LOOP = """
from plue import workflow, manual

def step(ctx, name, script):
    return ctx.run(name, f"echo {name} >> {FOLDER}/journal; {script}", continue_on_error=True)

@workflow(triggers=[manual()])
def loop(ctx):
    for round in range(5):
        tested = step(ctx, "test", "test $(grep -c fix {FOLDER}/journal) = 3")
        if tested.ok:
            break
        step(ctx, "fix", "true")
    else:
        ctx.fail("still red")
    step(ctx, "release", "true")
    return ctx.success(rounds=round + 1)
"""

_KILLED = """
import os, signal, sys
from plue import marks

def die(mark):
    if mark == {mark!r}:
        os.kill(os.getpid(), signal.SIGKILL)

marks.hook = die
from plue.cli.main import main
main()
"""


@dataclass(frozen=True)
class Mortal(Project):
    """A project whose server kills itself at a place of the test's choice."""

    mark: str = ""

    @override
    def words(self, *words: str) -> list[str]:
        if words[0] == "up" and self.mark:
            return [sys.executable, "-c", _KILLED.format(mark=str(self.mark)), *words]
        return super().words(*words)


def died(process: "subprocess.Popen[str]") -> None:
    """Wait until a server has killed itself."""
    assert process.wait(PATIENCE) == -signal.SIGKILL


def grown(project: Project, up: Up, run: str) -> tuple[Any, Any]:
    """Return a run that has ended, and its plan as it has grown."""
    assert project.plue("run", "watch", run).returncode == 0
    return up.get(f"/runs/{run}"), up.get(f"/runs/{run}/plan")["plan"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_killed_between_stages_repeats_no_step(tmp_path: Path) -> None:
    """Killed before, at and after each record of a stage: the same plan, every step once (20)."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    project = Project.make(whole, {"loop.py": LOOP.replace("{FOLDER}", str(whole))})
    with project.up() as up:
        run = up.post("/runs", {"workflow": "loop", "workspace": {"kind": "none"}})["id"]
        expected, plan = grown(project, up, run)
    assert expected["outputs"] == {"rounds": 4}

    project = Project.make(cut, {"loop.py": LOOP.replace("{FOLDER}", str(cut))})
    with Mortal(project.root, project.data, mark=Mark.STAGE_EVALUATED).up() as up:
        run = up.post("/runs", {"workflow": "loop", "workspace": {"kind": "none"}})["id"]
        died(up.process)
    for mark in (Mark.STAGE_RECORDED, Mark.STAGE_SENT, Mark.STAGE_EVALUATED):
        # It may die before it says that it is up.
        with Mortal(project.root, project.data, mark=mark).started("up") as process:
            died(process)
    with project.up() as up:
        found, again = grown(project, up, run)

    assert (found["state"], found["attempt"]) == ("succeeded", 1)
    names = ["test", "fix", "test#2", "fix#2", "test#3", "fix#3", "test#4", "release"]
    assert [s["name"] for s in found["steps"]] == names
    assert [(s["name"], s["state"], s["why"]) for s in found["steps"]] == [
        (s["name"], s["state"], s["why"]) for s in expected["steps"]
    ]
    for key in ("steps", "fails", "end", "stage"):
        text = str(again[key]).replace(str(cut), str(whole))
        assert text == str(plan[key]), key
    written = (cut / "journal").read_text().split()
    assert written == (whole / "journal").read_text().split()
    assert len(written) == len(names)

"""A run that asks a model, as a person at a terminal tries it: a script answers, without a key."""

import json
import re
from pathlib import Path

from e2e.stage import PATIENCE, Project, Said

PROMPT = """\
---
type: agent
output:
  fixed: boolean
---
Mend it.
"""
WORKFLOW = """\
from plue import manual, workflow
from plue.prompts import Fix

@workflow(triggers=[manual()])
def mend(ctx):
    fix = Fix()
    look = ctx.run("look", "sh look.sh")
    ctx.success(fixed=fix.fixed, look=look.stdout)

@workflow(triggers=[manual()])
def plain(ctx):
    look = ctx.run("look", "sh look.sh")
    ctx.success(look=look.stdout)
"""
LOOK_SH = """\
p=$$
until grep -q plue_runner /proc/$p/cmdline; do
  test $p -gt 1 || exit 1
  p=$(awk '{print $4}' /proc/$p/stat)
done
for library in pydantic_core jiter; do
  if grep -q $library /proc/$p/maps; then echo $library; fi
done
"""
LOOK = {"tools": [{"name": "glob", "input": {"pattern": "*"}}]}
USED = {"input": 1000, "output": 100}
FINISH = {"tools": [{"name": "finish", "input": {"fixed": True}}]}
TURNS = [{**LOOK, "usage": USED}, {**FINISH, "usage": USED}]


def test_a_spent_budget_is_extended_by_the_command_that_is_shown(tmp_path: Path) -> None:
    """Who watches is told what to type; the work goes on, and the summary has its cost.

    Only the run that asks a model loads what that needs.
    """
    project = Project.make(tmp_path, {"mend.py": WORKFLOW})
    prompts = project.root / ".plue" / "prompts"
    prompts.mkdir()
    (prompts / "fix.prompt.md").write_text(PROMPT)
    (project.root / "look.sh").write_text(LOOK_SH)
    with project.up("--runners", "0", ANTHROPIC_API_KEY="") as up:
        assert any("models   none: set ANTHROPIC_API_KEY" in line for line in up.said.lines)
    script = tmp_path / "turns.json"
    script.write_text(json.dumps({"conversations": [{"turns": TURNS}]}))
    with project.up("--model-server", str(script), "--budget", "run.calls=1") as up:
        assert any(f"models   scripted by {script}" in line for line in up.said.lines)
        with project.started("workflow", "run", "mend") as watching:
            said = Said(watching.stdout)
            line = said.until("waits: the run's budget of 1 calls has 0 left")
            assert "`plue run extend mend-1 --calls …`" in line
            viewed = project.plue("run", "view", "mend-1").stdout
            assert re.search(r"^run +calls +1 +0 +1 +0$", viewed, re.MULTILINE)
            assert re.search(r"in a browser: http://127\.0\.0\.1:\d+/runs/mend-1/budget\n", viewed)
            extended = project.plue("run", "extend", "mend-1", "--calls", "5")
            assert extended.returncode == 0, extended.stderr
            assert re.search(r"^run +calls +\d +\d +6 +\d$", extended.stdout, re.MULTILINE)
            budgets = project.json("run", "budgets", "mend-1")["budgets"]
            assert {(b["scope"], b["calls"]["limit"]) for b in budgets} >= {("run", 6.0)}
            shown = said.rest()
            assert watching.wait(PATIENCE) == 0, shown
        plain = project.plue("workflow", "run", "plain")
        assert plain.returncode == 0, plain.stdout
        # jiter is a part of the provider's library, which costs a second and 40 MiB.
        looked = [project.json("run", "view", n)["outputs"]["look"] for n in ("mend-1", "plain-2")]
        assert [said.split() for said in looked] == [["pydantic_core", "jiter"], ["pydantic_core"]]
        # Twice 1,000 at 2 $ and 100 at 10 $ a million.
        assert "[2,000 tokens in, 200 out]" in shown
        assert "models cost $0.0060" in shown
        used = project.plue("usage", "--by", "workflow").stdout
    assert used.splitlines()[1].split() == ["mend", "2", "2,000", "0", "200", "$0.0060"]

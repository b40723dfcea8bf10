"""Stubs of a project's own prompts: type checkers know their inputs and the fields of answers."""

import ast
import subprocess
import sys
from pathlib import Path

from authoring.sandboxed import Sandbox

from plue.authoring.stubs import prompts_stub
from plue.cli.stubs import write_stubs

REVIEW = """\
---
name: code-review
description: Says whether a "change" can be merged.
inputs:
  diff: string
  focus: string?
  strictness: low | high = low
  files: string[]
  most: integer = 3
output:
  approved: boolean
  ok: boolean
  class: string
  issues:
    - file: string
      line: integer?
      fix:
        text: string
  by: {name: string}
---
{{ diff }} {{ focus }} {{ strictness }} {{ files }} {{ most }} {{ output_schema }}
"""
FIX = """\
---
name: fix-errors
type: agent
inputs: {errors: string}
output: {summary: string, changed: "string[]"}
---
{{ errors }} {{ output_schema }}
"""
TALK = "---\nname: talk\n---\nSay something.\n"
BROKEN = "---\nname: broken\ninputs: {x: strin}\n---\n{{ x }}\n"

RIGHT = """
from plue import Context, push, workflow
from plue.prompts import Broken, CodeReview, FixErrors, Talk

@workflow(triggers=[push()])
def ci(ctx: Context) -> None:
    build = ctx.run("build", "make")
    review = CodeReview(diff=ctx.git.diff(), files=["a", build.stdout], strictness="high", timeout="5m")
    if not review.approved and review.by.name == "me":
        for issue in review.issues:
            ctx.run("show", f"echo {issue.file} {issue.fix.text}", depends_on=[])
    first = review.issues[0].line
    if review.ok and review.outputs.ok and len(review.issues) > 3 and review.outputs["class"]:
        fix = FixErrors(errors=review.by.name, max_turns=3, depends_on=[review, build], name="fix")
        ctx.run("tell", f"{fix.summary} {fix.turns} {fix.outputs.summary} {fix.changed} {first}")
    ctx.success(said=Talk().text, more=Broken(anything=3).at_all)
"""

WRONG = {
    "review.approved and": ("review.aproved and", "aproved"),
    "issue.file}": ("issue.fil}", "fil"),
    'strictness="high"': ('strictness="hi"', "strictness"),
    "diff=ctx.git.diff(), ": ("", "diff"),
    'timeout="5m"': ('timeout="5m", max_turns=2', "max_turns"),
    "errors=review.by.name": ("errors=3", "errors"),
    "fix.changed}": ("fix.change}", "change"),
    "CodeReview, FixErrors": ("CodeReview, FixErrs as FixErrors", "FixErrs"),
}


def made(sandbox: Sandbox, folder: Path) -> Path:
    """Write the stubs of a project with some prompts."""
    files = {
        f".plue/prompts/{n}.prompt.md": text for n, text in enumerate((REVIEW, FIX, TALK, BROKEN))
    }
    described = sandbox.call(sandbox.evaluator.describe_prompts(files))
    assert [d.file for d in described.diagnostics if d.severity == "error"] == [
        ".plue/prompts/3.prompt.md"
    ]
    write_stubs(folder, described.prompts)
    return folder


def test_type_checkers_know_a_projects_prompts(sandbox: Sandbox, tmp_path: Path) -> None:
    """Mypy takes what the sandbox takes, and finds each mistake in a call or in a field."""
    stubs = made(sandbox, tmp_path / "typings")
    (tmp_path / "right.py").write_text(RIGHT)
    for number, (before, (after, _)) in enumerate(WRONG.items()):
        assert before in RIGHT
        (tmp_path / f"wrong{number}.py").write_text(RIGHT.replace(before, after))
    names = ["right.py", *(f"wrong{number}.py" for number in range(len(WRONG)))]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}/c", *names],
        env={"MYPYPATH": str(stubs)}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert not [e for e in errors if e.startswith(("right.py", "typings"))], done.stdout
    for number, (_, said) in enumerate(WRONG.values()):
        mine = [e for e in errors if e.startswith(f"wrong{number}.py")]
        assert mine, (number, done.stdout)
        assert any(said in e for e in mine), mine


def test_stubs_are_python_whatever_a_prompt_says(sandbox: Sandbox) -> None:
    """Descriptions and names end up as text: quotes, backslashes and line ends do no harm."""
    text = TALK.replace("name: talk", 'name: talk\ndescription: \'a """ b \\ c\'')
    files = {".plue/prompts/a.prompt.md": text}
    found = sandbox.call(sandbox.evaluator.describe_prompts(files)).prompts
    assert found[0].description == 'a """ b \\ c'
    tree = ast.parse(prompts_stub(found))
    (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef))
    assert (ast.get_docstring(function) or "").startswith('a """ b \\ c: .plue/prompts/a')


def test_stubs_are_written_only_when_they_differ(sandbox: Sandbox, tmp_path: Path) -> None:
    """An editor that watches them is not woken for nothing, and git never sees them."""
    folder = made(sandbox, tmp_path)
    assert (folder / ".gitignore").read_text().endswith("*\n")
    before = (folder / "plue/prompts.pyi").stat().st_mtime_ns
    made(sandbox, tmp_path)
    assert (folder / "plue/prompts.pyi").stat().st_mtime_ns == before
    assert write_stubs(folder, []) == [folder / "plue/prompts.pyi"]

"""`plue init`: a first workflow and a first prompt, to be changed."""

from pathlib import Path
from typing import Final

import typer

from plue.errors import UsageError

__all__ = ["init"]

WORKFLOW: Final = '''\
"""A first workflow: change it, then `plue workflow lint` and `plue workflow run hello`."""

from plue import enum, manual, push, workflow


@workflow(
    triggers=[
        push(branches=["main"]),
        manual(inputs={"who": "world", "tone": enum("kind", "loud", default="kind")}),
    ],
    timeout="10m",
)
def hello(ctx):
    """Greet somebody, then look at the answer."""
    # A step is a command. What it writes to $PLUE_OUTPUT are its outputs.
    greet = ctx.run(
        "greet",
        f"""
        echo "hello "{ctx.inputs.who}
        echo "length=5" >> "$PLUE_OUTPUT"
        """,
    )
    # These two run at the same time. Values reach a command as data, never as shell text.
    ctx.parallel(
        [
            ctx.run("repeat", f"echo {greet.stdout}"),
            ctx.run("count", f"test {greet.outputs.length} -eq 5", retry=1),
        ]
    )
    # With `from plue.prompts import Review`, `review = Review(diff=ctx.git.diff())` asks a model.
    # Plain Python decides; `ctx.inputs` are known, results of steps become known as they end.
    if ctx.inputs.tone == "loud":
        ctx.run("shout", f"echo {greet.stdout} | tr a-z A-Z")
    return ctx.success(said=greet.stdout)
'''

PROMPT: Final = """\
---
name: Review
type: llm
inputs:
  diff: string
output:
  approved: boolean
  summary: string
---
You review a change before it is merged. Approve it unless it breaks something.

The change:

{{ diff }}

Answer with JSON of this form:

{{ output_schema }}
"""

FILES: Final = {
    ".plue/workflows/hello.py": WORKFLOW,
    ".plue/prompts/review.prompt.md": PROMPT,
}


def init() -> None:
    """Write a first workflow and a first prompt into .plue/ of this project.

    Nothing that is there is overwritten. Example: plue init
    """
    root = _root(Path.cwd())
    there = [name for name in FILES if (root / name).exists()]
    if there:
        raise UsageError(
            f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'} there already",
            remedy="nothing was written; see `plue workflow list`",
        )
    for name, text in FILES.items():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        typer.echo(f"wrote {name}")
    typer.echo("next:")
    for command, what in (
        ("plue workflow lint", "what is wrong, with line and remedy"),
        ("plue workflow plan hello", "the steps, without running them"),
        ("plue workflow run hello -i who=you", "run it, live"),
        ("plue prompt render review -i diff=x", "what a model would be asked"),
        ("plue up --watch", "a server with warm runners that tells of every change"),
    ):
        typer.echo(f"  {command:<37} {what}")


def _root(start: Path) -> Path:
    """Return where `.plue` belongs: the root of the git repository around, else here."""
    for folder in (start, *start.parents):
        if (folder / ".plue").is_dir() or (folder / ".git").exists():
            return folder
    return start

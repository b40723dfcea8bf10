"""`plue init`: a first workflow and a first prompt, to be changed."""

from pathlib import Path
from typing import Final

import typer

from plue.errors import UsageError

__all__ = ["init"]

WORKFLOW: Final = '''\
"""A first workflow: change it, then `plue workflow lint` and `plue workflow run hello`."""

from plue import enum, manual, push, workflow
from plue.prompts import Toast


@workflow(
    triggers=[
        push(branches=["main"]),
        manual(inputs={"who": "world", "tone": enum("kind", "loud", default="kind")}),
    ],
    timeout="10m",
)
def hello(ctx):
    """Greet somebody, and let a model propose a toast."""
    # A step is a command. What it writes to $PLUE_OUTPUT are its outputs.
    greet = ctx.run(
        "greet",
        f"""
        echo "hello "{ctx.inputs.who}
        echo "words=2" >> "$PLUE_OUTPUT"
        """,
    )
    # These two run at the same time. Values reach a command as data, never as shell text.
    ctx.parallel(
        [
            ctx.run("repeat", f"echo {greet.stdout}"),
            ctx.run("count", f"test {greet.outputs.words} -eq 2", retry=1),
        ]
    )
    # A prompt is a step that asks a model; its answer has the fields that the prompt declares.
    # Handled, its failure does not fail the run: here, where there is no key for a model.
    toast = Toast(who=ctx.inputs.who, greeting=greet.stdout, continue_on_error=True)
    # Plain Python decides. Inputs are known; the results of steps are known once they end.
    if not toast.ok:
        ctx.run("no-model", "echo 'no model answered; see .plue/models.yaml'")
    elif ctx.inputs.tone == "loud":
        ctx.run("shout", f"echo {toast.text} | tr a-z A-Z")
    else:
        ctx.run("say", f"echo {toast.text}")
    return ctx.success(said=greet.stdout)
'''

PROMPT: Final = """\
---
name: Toast
description: Proposes a toast
type: llm
inputs:
  who: string
  greeting: string
output:
  text: string                     # one sentence
---
Somebody has just said: {{ greeting }}

Propose a toast to {{ who }}, in one sentence.

Answer with JSON of this form:

{{ output_schema }}
"""

MODELS: Final = """\
# What a scripted model answers, for trying workflows without a key and without cost:
#   plue up --model-server .plue/models.yaml
# A real one: set ANTHROPIC_API_KEY in the environment of `plue up`; no step ever sees it.
conversations:
  - match: Propose a toast           # a regular expression, searched in what the model is asked
    turns:
      - json: {text: To all who read what they have just written!}
"""

FILES: Final = {
    ".plue/workflows/hello.py": WORKFLOW,
    ".plue/prompts/toast.prompt.md": PROMPT,
    ".plue/models.yaml": MODELS,
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
        ("plue prompt render toast -i who=you -i greeting=hi", "what a model is asked"),
        ("plue up --watch", "a server with warm runners that tells of every change"),
        ("plue up --model-server .plue/models.yaml", "the same, with a scripted model"),
        ("plue stubs", "let your editor complete ctx. and your prompts"),
    ):
        typer.echo(f"  {command:<51} {what}")


def _root(start: Path) -> Path:
    """Return where `.plue` belongs: the root of the git repository around, else here."""
    for folder in (start, *start.parents):
        if (folder / ".plue").is_dir() or (folder / ".git").exists():
            return folder
    return start

"""`plue prompt …`: the project's prompts, and the text that one of them would give to a model.

All of it happens here, without a server and without asking any model.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plue.cli.words import Words
from plue.cli.workflows import AsJson, describe_here, evaluate, parse_inputs, similar
from plue.errors import NotFoundError, RejectedError

if TYPE_CHECKING:
    from plue.authoring.results import Diagnostic, PromptInfo

__all__ = ["app"]

app = Words(
    help="List, show and render the prompts in .plue/prompts/.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_prompts(*, as_json: AsJson = False) -> None:
    """List the prompts of this project.

    Example: plue prompt list
    """
    from plue.cli.text import table

    prompts, diagnostics = _here()
    if as_json:
        print(json.dumps([_as_json(info) for info in prompts], indent=2, ensure_ascii=False))
    elif prompts:
        rows = [["NAME", "TYPE", "IMPORT AS", "FILE", "DESCRIPTION"]]
        for info in prompts:
            place = f"{info.file}:{info.line}"
            rows.append([info.name, info.kind, info.import_name, place, info.description or ""])
        print("\n".join(table(rows)))
    else:
        print("no prompts in .plue/prompts/")
    if _complain(diagnostics, only_errors=True):
        raise typer.Exit(1)


@app.command()
def show(name: str, *, as_json: AsJson = False) -> None:
    """Show one prompt: where it is, what it takes, what it answers.

    Example: plue prompt show code-review
    """
    prompts, diagnostics = _here()
    info = _named(prompts, name)
    if as_json:
        print(json.dumps(_as_json(info), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(info)))
    own = [one for one in diagnostics if one.file in info.files]
    if _complain(own, only_errors=False):
        raise typer.Exit(1)


@app.command()
def render(
    name: str,
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE",
            help="An input; @file takes the value from a file. A list: repeat it, or give JSON.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the text that a model would be given, and the schema of its answer.

    The text goes to standard output and the schema to standard error, so the text can be piped.

    Examples:
      plue prompt render code-review -i diff=@change.diff

      git diff | plue prompt render code-review -i diff=@/dev/stdin

    Exit codes: 0 it was rendered, 2 it was not.

    """
    from plue.cli.context import here
    from plue.local.reading import SourceReader

    values = parse_inputs(inputs or [])
    files = SourceReader(here().root).read().files
    found = evaluate(
        lambda evaluator: evaluator.render(files, name, inputs=values, text_inputs=True)
    )
    if found.text is None or found.prompt is None:
        if not _complain(found.diagnostics, only_errors=False):
            raise RejectedError(f"{name} could not be rendered")
        raise typer.Exit(2)
    if as_json:
        answer = {
            "text": found.text,
            "output_schema": found.prompt.output_schema,
            "inputs": dict(found.inputs),
            "prompt": found.prompt.name,
            "digest": found.prompt.digest,
        }
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    sys.stdout.write(found.text + "\n")
    if found.prompt.output_schema is not None:
        schema = json.dumps(found.prompt.output_schema, indent=2, ensure_ascii=False)
        sys.stdout.flush()
        sys.stderr.write(f"\nthe answer must fit:\n{schema}\n")
    _complain(found.diagnostics, only_errors=False)


def _here() -> "tuple[Sequence[PromptInfo], list[Diagnostic]]":
    """Return the project's prompts, and what is wrong in files of prompts."""
    description = describe_here()
    wrong = [one for one in description.diagnostics if ".plue/prompts/" in one.file]
    return description.prompts, wrong


def _named(prompts: "Sequence[PromptInfo]", name: str) -> "PromptInfo":
    for info in prompts:
        if name in (info.name, info.import_name):
            return info
    known = [info.name for info in prompts]
    remedy = similar(name, known) if known else "add .plue/prompts/NAME.prompt.md"
    raise NotFoundError(f"there is no prompt {name}", remedy=remedy)


def _complain(found: "Sequence[Diagnostic]", *, only_errors: bool) -> bool:
    from plue.cli.workflows import print_diagnostics

    return print_diagnostics(found, only_errors=only_errors)


def _as_json(info: "PromptInfo") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(info)


def _lines(info: "PromptInfo") -> list[str]:
    lines = [f"{info.name}  ({info.file}:{info.line})"]
    if info.description:
        lines.append(f"  {info.description}")
    client = f", client {info.client}" if info.client else ""
    lines.append(f"  {info.kind}{client}, digest {info.digest[:12]}")
    lines.append(f"  from plue.prompts import {info.import_name}")
    if info.tools:
        turns = f", at most {info.max_turns} turns" if info.max_turns else ""
        lines.append(f"  tools {', '.join(info.tools)}{turns}")
    lines += ["  inputs:", *(f"    {line}" for line in _fields(info.inputs_schema))]
    if info.output_schema is not None:
        lines += ["  output:", *(f"    {line}" for line in _fields(info.output_schema))]
    others = [file for file in info.files if file != info.file]
    if others:
        lines.append(f"  made of {', '.join(others)}")
    return lines


def _fields(schema: Mapping[str, Any]) -> list[str]:
    """Return an object's fields as front matter writes them, nested ones indented."""
    lines: list[str] = []
    for name, field in schema.get("properties", {}).items():
        written, inner = _written(field)
        comment = f"  # {field['description']}" if "description" in field else ""
        lines.append(f"{name}: {written}{comment}".replace(":   #", ":  #").rstrip())
        lines += [f"  {line}" for line in inner]
    return lines or ["none"]


def _written(schema: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return a type in front matter's notation, and the lines of the fields inside."""
    from plue.schemas import options_of

    inner, optional = options_of(schema)
    text, lines = _plain(inner)
    if optional:
        text = f"({text})?" if "|" in text else f"{text}?"
    if "default" in schema:
        text += f" = {json.dumps(schema['default'], ensure_ascii=False)}"
    return text, lines


def _plain(schema: Mapping[str, Any]) -> tuple[str, list[str]]:
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"]), []
    match schema.get("type"):
        case "array":
            text, lines = _written(schema.get("items", {}))
            return (f"({text})[]" if "|" in text else f"{text}[]"), lines
        case "object":
            return "object", _fields(schema)
        case kind:
            return str(kind), []

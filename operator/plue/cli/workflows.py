"""`plue workflow …`: what the project declares, and starting runs of it.

`list`, `show`, `lint` and `plan` evaluate the files here and need no server.
"""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from plue.cli.context import here, namespace_of, refuse_to_leave_private, server
from plue.cli.lint import lint
from plue.cli.target import target
from plue.cli.words import Words
from plue.errors import NotFoundError, RejectedError, UsageError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from plue.authoring.evaluator import Evaluator
    from plue.authoring.results import Description, Diagnostic, Trigger, WorkflowInfo

__all__ = [
    "app",
    "describe_here",
    "evaluate",
    "parse_duration",
    "parse_event",
    "parse_inputs",
    "parse_trigger",
    "print_diagnostics",
    "similar",
]

T = TypeVar("T")

app = Words(
    help="List, check and run the workflows in .plue/workflows/.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("lint")(lint)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=VALUE",
        help="An input; @file takes the value from a file. A list: repeat it, or give JSON.",
    ),
]
EventKind = Annotated[
    str | None,
    typer.Option(
        "--event",
        metavar="KIND",
        help="As if by push, pull_request or schedule [default: manual].",
    ),
]
EventFile = Annotated[
    str | None,
    typer.Option(metavar="FILE|JSON", help="What ctx.event has: JSON, a file of it, or - ."),
]
Ref = Annotated[
    str | None, typer.Option(metavar="REF", help="The event's branch, or refs/tags/v1.")
]
Base = Annotated[
    str | None, typer.Option(metavar="BRANCH", help="The branch that a pull request goes into.")
]


@app.command("list")
def list_workflows(*, as_json: AsJson = False) -> None:
    """List the workflows of this project.

    Example: plue workflow list
    """
    from plue.cli.text import table

    description = describe_here()
    if as_json:
        print(json.dumps([_workflow_json(info) for info in description.workflows], indent=2))
    elif description.workflows:
        rows = [["NAME", "TRIGGERS", "FILE", "DESCRIPTION"]]
        for info in description.workflows:
            triggers = ", ".join(dict.fromkeys(t.kind for t in info.triggers)) or "manual"
            rows.append([info.name, triggers, f"{info.file}:{info.line}", info.description or ""])
        print("\n".join(table(rows)))
    else:
        print("no workflows in .plue/workflows/")
    if print_diagnostics(description.diagnostics, only_errors=True):
        raise typer.Exit(1)


@app.command()
def show(name: str, *, as_json: AsJson = False) -> None:
    """Show one workflow: where it is, when it runs, what it takes.

    Example: plue workflow show checks
    """
    info = _named(describe_here(), name)
    if as_json:
        print(json.dumps(_workflow_json(info), indent=2))
        return
    print(f"{info.name}  ({info.file}:{info.line})")
    if info.description:
        print(f"  {info.description}")
    for trigger in info.triggers:
        options = ", ".join(f"{k}={json.dumps(v)}" for k, v in trigger.options.items() if v)
        print(f"  on {trigger.kind}{f' ({options})' if options else ''}{_next_time(trigger)}")
    print(f"  pool {info.pool}, revision {info.revision[:12]}")
    properties: Mapping[str, Any] = info.inputs_schema.get("properties", {})
    required = info.inputs_schema.get("required", ())
    for field, schema in properties.items():
        print(f"  -i {field}={_type_of(schema)}{'' if field in required else '  (optional)'}")


@app.command()
def plan(
    name: str,
    *,
    inputs: Inputs = None,
    event: EventKind = None,
    event_file: EventFile = None,
    ref: Ref = None,
    base: Base = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            "--assume",
            metavar="STEP.FIELD=VALUE",
            help="A result to go on with: tests.ok=false, build.stdout=1.2, r.outputs.n=3.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Use a run's inputs and results; show how the plans differ."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run would do, without running it.

    Where the code asks for the result of a step, the plan waits; `--assume` explores further.
    With `--like`, the files as they are now are planned with what a run's steps have given: so a
    change is tried on history.

    Examples:
      plue workflow plan deploy -i env=staging

      plue workflow plan ci --assume tests.ok=false

      plue workflow plan ci --like ci-42

    """
    from plue.authoring.assume import assumed, known_of
    from plue.cli.plans import difference_lines, plan_lines
    from plue.domain.event import event_of, with_tree
    from plue.local.history import history_of, tree_facts
    from plue.local.reading import source_files
    from plue.wire.plan import Plan

    root = here().root
    values = parse_inputs(inputs or [])
    kind, given = parse_trigger(event, event_file, ref=ref, base=base)
    payload = with_tree(event_of(kind, given), tree_facts(root, history_of(root)))
    known = known_of(assumed(assume or ()))
    before: Plan | None = None
    if like is not None:
        with server() as api:
            history = api.get(f"/runs/{quote(like, safe='')}/plan")
        before = Plan.model_validate(history["plan"])
        # What the command line says counts; inputs are text here, and JSON in the record.
        known, values = {**history["known"], **known}, {**history["inputs"], **values}
        if all(one is None for one in (event, event_file, ref, base)):
            payload = history["event"]
    files = source_files(root)
    planned = evaluate(
        lambda evaluator: evaluator.plan(
            files, name, inputs=values, event=payload, text_inputs=like is None, known=known
        )
    )
    if planned.plan is None:
        if not print_diagnostics(planned.diagnostics, only_errors=False):
            raise RejectedError(f"{name} could not be planned")
        raise typer.Exit(2)
    if as_json:
        print(planned.plan.model_dump_json(indent=2))
        return
    if planned.printed:
        print(planned.printed, end="", file=sys.stderr)
    if before is not None:
        print("\n".join(difference_lines(before, planned.plan)))
    else:
        print("\n".join(plan_lines(planned.plan, planned.why)))
    unused = [step for step in known if step not in {s.name for s in planned.plan.steps}]
    if unused and like is None:
        print(f"note: not planned, so not assumed: {', '.join(unused)}", file=sys.stderr)
    print_diagnostics(planned.diagnostics, only_errors=False)


@app.command()
def run(
    name: str,
    *,
    inputs: Inputs = None,
    event: EventKind = None,
    event_file: EventFile = None,
    ref: Ref = None,
    base: Base = None,
    in_place: Annotated[
        bool, typer.Option(help="Run in the working tree itself instead of a copy.")
    ] = False,
    priority: Annotated[int, typer.Option(help="Higher runs first.")] = 0,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="End the run after 90s, 30m, 2h …")
    ] = None,
    detach: Annotated[
        bool, typer.Option(help="Start it, print its name, and leave; needs `plue up`.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="In a cluster: where the run belongs.")
    ] = None,
    deployed: Annotated[
        bool, typer.Option(help="In a cluster: its own Workflow of that name, nothing from here.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a workflow and watch it; the exit code is the run's.

    Uses the server of `plue up`, or starts a private one for as long as the run takes. The run
    sees a copy of the working tree as it is now, without what git ignores. With `plue --context`
    it runs in that cluster, and the copy is uploaded.

    Ctrl-C cancels the run and shows its end; a second one leaves.

    Examples:
      plue workflow run checks

      plue workflow run deploy -i env=staging -i "notes=@notes.md" --timeout 20m

      plue workflow run ci --event pull_request --base main

      plue workflow run checks --json | jq .type

      plue --context prod workflow run checks -n team-a

    Exit codes: 0 succeeded, 1 failed, 2 wrong usage, 124 timed out, 130 cancelled.

    """
    from plue.cli.follow import Left, Shown, follow

    kind, given = parse_trigger(event, event_file, ref=ref, base=base)
    body = {
        "workflow": name,
        "inputs": parse_inputs(inputs or []),
        "text_inputs": True,
        "trigger": kind,
        "event": given,
        "priority": priority,
        "workspace": {"kind": "in_place" if in_place else "tree"},
        "timeout_seconds": parse_duration(timeout) if timeout else None,
    }
    is_cluster = target().is_cluster
    if is_cluster and in_place:
        raise UsageError("a cluster cannot run in your working tree", remedy="leave --in-place out")
    if deployed and not is_cluster:
        raise UsageError(
            "--deployed is for a cluster", remedy="name one: `plue --context NAME workflow run …`"
        )
    if detach:
        refuse_to_leave_private()
    with server(warm=1) as api:
        if is_cluster:
            from plue.cli.sending import sent

            place = namespace_of(namespace)
            body |= {"namespace": place}
            body |= sent(api, name, namespace=place, event=given, deployed=deployed)
        elif namespace is not None:
            body |= {"namespace": namespace}
        made = api.post("/runs", {k: v for k, v in body.items() if v is not None})
        if detach:
            print(json.dumps(made) if as_json else made["name"])
            return
        hint = f"plue run view {made['name']}"
        try:
            code = follow(api, made["id"], made["name"], Shown(as_json, owned=True, hint=hint))
        except Left:
            sys.stderr.write(f"left; see {hint}\n")
            code = 130
    raise typer.Exit(code)


# ── arguments ────────────────────────────────────────────────────────────────────────────────────


def parse_inputs(words: Sequence[str]) -> dict[str, "JsonValue"]:
    """Return inputs from `NAME=VALUE` words, still as text; a repeated name gives a list.

    `NAME=@file` takes the file's text, `NAME=@@x` is the text `@x`. Raises UsageError.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(
                f"-i {word}: an input is NAME=VALUE", remedy="for example -i env=staging"
            )
        found.setdefault(name, []).append(_input_value(name, value))
    return {name: values[0] if len(values) == 1 else [*values] for name, values in found.items()}


_KINDS = ("manual", "push", "pull_request", "schedule")


def parse_trigger(
    kind: str | None, file: str | None, *, ref: str | None, base: str | None
) -> tuple[str, dict[str, Any]]:
    """Return a trigger's kind and its event, from what the command line says of them.

    Raises UsageError.
    """
    if kind is not None and kind not in _KINDS:
        json_text = kind.lstrip().startswith("{") or kind == "-"
        raise UsageError(
            f"--event {kind[:40]}: there is no such trigger",
            field="event",
            remedy="give JSON with --event-file" if json_text else f"kinds are {', '.join(_KINDS)}",
        )
    event = parse_event(file)
    kind = kind or str(event.get("kind") or "manual")
    if base is not None and kind != "pull_request":
        raise UsageError(
            "--base belongs to --event pull_request", field="base", remedy="leave --base out"
        )
    if kind == "pull_request":
        request = dict(event.get("pull_request") or {})
        given = {"head": ref, "base": base}
        sides = {
            side: {**(request.get(side) or {}), "ref": name} for side, name in given.items() if name
        }
        event["pull_request"] = {**request, **sides}
        event.setdefault("action", "opened")
    elif ref is not None:
        event["ref"] = ref
    return kind, event


def parse_event(given: str | None) -> dict[str, Any]:
    """Return the event from JSON text, a file of it, or `-` for standard input."""
    if given is None:
        return {}
    text = given
    if given == "-":
        text = sys.stdin.read()
    elif not given.lstrip().startswith("{"):
        text = _read(Path(given), "--event-file")
    try:
        event = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--event-file is not JSON: {error}", field="event") from error
    if not isinstance(event, dict):
        raise UsageError("--event-file is not a JSON object", field="event")
    return event


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Return seconds from `90`, `90s`, `30m`, `2h`, `1h30m`. Raises UsageError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    seconds: float = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise UsageError(
            f"{text!r} is no duration", field="timeout", remedy="write 90s, 30m, 2h or 1h30m"
        )
    return seconds


def _input_value(name: str, value: str) -> str:
    if value.startswith("@@"):
        return value[1:]
    return _read(Path(value[1:]), f"-i {name}") if value.startswith("@") else value


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{what}: {path} cannot be read: {why}") from error


# ── evaluation without a server ──────────────────────────────────────────────────────────────────


def evaluate(ask: "Callable[[Evaluator], Awaitable[T]]") -> T:
    """Return what *ask* gives, with an evaluator of its own for as long as that takes."""
    from plue.authoring.evaluator import Evaluator

    async def with_evaluator() -> T:
        evaluator = Evaluator()
        await evaluator.start()
        try:
            return await ask(evaluator)
        finally:
            await evaluator.close()

    return asyncio.run(with_evaluator())


def describe_here() -> "Description":
    """Return what the files of the project around us declare."""
    from plue.authoring.registry import Registry
    from plue.local.reading import SourceReader

    sources = SourceReader(here().root).read()
    return evaluate(lambda evaluator: Registry(evaluator).scan(sources)).description


def _named(description: "Description", name: str) -> "WorkflowInfo":
    for info in description.workflows:
        if info.name == name:
            return info
    raise NotFoundError(
        f"there is no workflow {name}",
        remedy=similar(name, [i.name for i in description.workflows]),
    )


def similar(name: str, known: Sequence[str]) -> str:
    """Return a remedy for a wrong name: the nearest known one, else all of them."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return "known are: " + ", ".join(known) if known else "see `plue workflow lint`"


def print_diagnostics(found: "Sequence[Diagnostic]", *, only_errors: bool) -> bool:
    """Print diagnostics to standard error; whether one of them is an error."""
    from plue.cli.diagnostics import diagnostic_text

    shown = [one for one in found if one.severity == "error" or not only_errors]
    if shown:
        print(diagnostic_text(shown), file=sys.stderr)
    return any(one.severity == "error" for one in found)


def _workflow_json(info: "WorkflowInfo") -> dict[str, Any]:
    return {
        "name": info.name,
        "file": info.file,
        "line": info.line,
        "description": info.description,
        "revision": info.revision,
        "pool": info.pool,
        "timeout_seconds": info.timeout_seconds,
        "triggers": [{"kind": t.kind, "options": dict(t.options)} for t in info.triggers],
        "inputs": dict(info.inputs_schema),
    }


def _next_time(trigger: "Trigger") -> str:
    if trigger.kind != "schedule":
        return ""
    from datetime import UTC, datetime

    from plue.domain.schedules import next_firing

    at = next_firing(str(trigger.options["cron"]), datetime.now(UTC))
    return f", next at {at:%Y-%m-%d %H:%M} UTC while `plue up` runs"


def _type_of(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "|".join(str(value) for value in schema["enum"])
    default = f"  [default: {schema['default']}]" if schema.get("default") is not None else ""
    kind = schema.get("type", "value")
    return f"{'|'.join(kind) if isinstance(kind, list) else str(kind).upper()}{default}"

"""`plue run …`: looking at runs, ending them, doing them again."""

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plue.cli.context import namespace_of, refuse_to_leave_private, server
from plue.cli.words import Words
from plue.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from plue.cli.client import Api
    from plue.cli.progress import RunProgress

__all__ = ["app", "list_lines"]

app = Words(
    help="Look at runs, end them, do them again.", no_args_is_help=True, rich_markup_mode=None
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Which = Annotated[
    str, typer.Argument(metavar="[RUN]", help="Name (ci-42), number, id, or `latest`.")
]


@app.command("list")
def list_runs(
    *,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Only of this namespace.")
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="Of all that you may read.")
    ] = False,
    workflow: Annotated[str | None, typer.Option("-w", "--workflow", help="Only of this.")] = None,
    state: Annotated[
        list[str] | None, typer.Option("-s", "--state", help="Only in this state; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("-L", "--limit", min=1, max=200, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first.

    Examples: plue run list;  plue run list -w checks -s failed;  plue --context prod run list -A
    """
    with server() as api:
        place = namespace if everywhere else namespace_of(namespace)
        page = api.get("/runs", namespace=place, workflow=workflow, state=state, limit=limit)
    if as_json:
        print(json.dumps(page["runs"], indent=2))
        return
    print("\n".join(list_lines(page["runs"], now=datetime.now(UTC))))


@app.command()
def view(run: Which = "latest", *, as_json: AsJson = False) -> None:
    """Show a run: how it ended, or why it waits, its steps, its outputs.

    Examples: plue run view;  plue run view checks-12
    """
    from plue.cli.follow import icons_for
    from plue.cli.report import summary
    from plue.cli.usage import budget_lines, usage_lines

    with server() as api:
        detail = api.get(f"/runs/{_named(api, run)}")
        progress = _progress_of(detail)
        for step in progress.steps.values():
            if step.state == "failed" and not as_json:
                step.tail = "\n".join(_last_lines(api, detail["id"], step.name))
        asked = any(step["kind"] in {"llm", "agent"} for step in detail["steps"])
        used = api.get(f"/runs/{detail['id']}/usage") if asked else None
        short = any(
            step["state"] == "waiting" and step["reason"] == "Budget" for step in detail["steps"]
        )
        budgets = api.get(f"/runs/{detail['id']}/budgets")["budgets"] if short else None
        page = api.page(f"/runs/{detail['name']}/budget")
    if as_json:
        print(json.dumps(detail, indent=2))
        return
    hint = f"plue run logs {detail['name']}" if progress.steps else None
    print("\n".join(_about(detail)))
    lines = summary(progress, icons=icons_for(sys.stdout.encoding), hint=None)
    print("\n".join(lines))
    if used is not None and used["lines"]:
        print("\n".join(usage_lines(used["lines"], ["step", "model"], used["cost_usd"])))
    if budgets is not None:
        print("\n".join(budget_lines(budgets)))
        print(f"its budgets, in a browser: {page}")
    if hint:
        print(f"its output: {hint}")


@app.command()
def watch(run: Which = "latest", *, as_json: AsJson = False) -> None:
    """Show a run as it goes, from its beginning; the exit code is the run's.

    Ctrl-C leaves, and the run goes on. Examples: plue run watch;  plue run watch checks-12
    """
    from plue.cli.follow import Left, Shown, follow

    with server() as api:
        detail = api.get(f"/runs/{_named(api, run)}")
        shown = Shown(as_json, owned=False, hint=f"plue run view {detail['name']}")
        try:
            code = follow(api, detail["id"], detail["name"], shown)
        except Left:
            code = 130
    raise typer.Exit(code)


@app.command()
def logs(
    run: Which = "latest",
    *,
    step: Annotated[str | None, typer.Option("--step", help="Only this step's lines.")] = None,
    timestamps: Annotated[bool, typer.Option(help="Begin each line with its time.")] = False,
) -> None:
    """Print the output of a run's steps so far.

    Examples: plue run logs;  plue run logs checks-12 --step tests
    """
    import os

    from plue.cli.text import coloured, safe

    clean = coloured if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else safe
    with server() as api:
        rest = ""
        query = {"step": step, "timestamps": "true" if timestamps else None}
        for text in api.text(f"/runs/{_named(api, run)}/logs", **query):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                # In a file the bytes stay as they were; on a terminal they must not steer it.
                sys.stdout.write((clean(line) if sys.stdout.isatty() else line) + "\n")
        if rest:
            sys.stdout.write((clean(rest) if sys.stdout.isatty() else rest) + "\n")


@app.command()
def cancel(
    run: Which,
    *,
    reason: Annotated[str | None, typer.Option(help="Said in the run's record.")] = None,
    now: Annotated[bool, typer.Option(help="Without grace time and clean-up steps.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for a run's end.

    Example: plue run cancel checks-12
    """
    with server() as api:
        body: dict[str, object] = {"now": now}
        if reason is not None:
            body["reason"] = reason
        detail = api.post(f"/runs/{_named(api, run)}/cancel", body)
    ended = detail["state"] not in {"queued", "claimed", "running"}
    said = (
        f"{detail['name']} has ended: {detail['state']}" if ended else f"{detail['name']} will end"
    )
    print(json.dumps(detail) if as_json else said)


@app.command()
def rerun(
    run: Which = "latest",
    *,
    detach: Annotated[
        bool, typer.Option(help="Start it, print its name, and leave; needs `plue up`.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run again: the same revision, inputs and files; the exit code is the new run's.

    Example: plue run rerun checks-12
    """
    from plue.cli.follow import Left, Shown, follow

    if detach:
        refuse_to_leave_private()
    with server(warm=1) as api:
        made = api.post(f"/runs/{_named(api, run)}/rerun")
        if detach:
            print(json.dumps(made) if as_json else made["name"])
            return
        shown = Shown(as_json, owned=True, hint=f"plue run view {made['name']}")
        try:
            code = follow(api, made["id"], made["name"], shown)
        except Left:
            code = 130
    raise typer.Exit(code)


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def list_lines(runs: list[Mapping[str, Any]], *, now: datetime) -> list[str]:
    """Return the run list as lines of a table."""
    from plue.cli.text import duration, safe, table

    if not runs:
        return ["no runs"]
    several = len({run["namespace"] for run in runs}) > 1
    rows = [["RUN", "STATE", "TRIGGER", "AGE", "TOOK", "REASON"]]
    if several:
        rows[0].insert(0, "NAMESPACE")
    for run in runs:
        age = (now - datetime.fromisoformat(run["created_at"])).total_seconds() * 1000
        waiting = run.get("waiting") or {}
        reason = waiting.get("reason") or run.get("reason") or ""
        rows.append(
            [
                safe(run["name"]),
                run["state"].replace("_", " "),
                run["trigger"],
                duration(age),
                duration(run.get("duration_ms")),
                "" if reason == "Succeeded" else reason,
            ]
        )
        if several:
            rows[-1].insert(0, safe(run["namespace"]))
    return table(rows)


def _about(detail: Mapping[str, Any]) -> list[str]:
    from plue.cli.text import safe

    lines = [f"{detail['name']}  {detail['trigger']}, revision {detail['revision'][:12]}"]
    lines += [f"  -i {safe(k)}={safe(json.dumps(v))}" for k, v in detail["inputs"].items()]
    waiting = detail.get("waiting")
    if waiting:
        lines.append(f"  waits: {safe(waiting['message'])} ({waiting['reason']})")
    if detail.get("stages") and detail["ended_at"] is None:
        lines += [f"  {safe(_awaited(one))}" for one in detail["stages"][-1]["awaits"]]
    return lines


_STANDINGS = {
    "open": "its step has not ended",
    "known": "known",
    "false": "known",
    "never": "will never be known: its step gave none",
}


def _awaited(one: Mapping[str, Any]) -> str:
    place = f" ({one['file']}:{one['line']})" if one.get("file") else ""
    return f"its code waits for {one['value']}{place}: {_STANDINGS.get(one['standing'], '?')}"


def _progress_of(detail: Mapping[str, Any]) -> "RunProgress":
    """Return the run as the displays take it, from the API's body instead of events."""
    from plue.cli.progress import RunProgress, StepProgress, why_text

    run = RunProgress(detail["name"])
    run.state, run.reason, run.message = detail["state"], detail["reason"], detail["message"]
    run.outputs, run.duration_ms = detail["outputs"], detail["duration_ms"]
    for step in detail["steps"]:
        run.steps[step["name"]] = StepProgress(
            name=step["name"],
            branch=tuple(step["branch"]),
            kind=step["kind"],
            group=tuple(step["group"]),
            state=step["state"],
            reason=step["reason"],
            message=step["message"],
            exit_code=step["exit_code"],
            tries=step["tries"],
            started=_time(step["started_at"]),
            duration_ms=step["duration_ms"],
            why=tuple(why_text(one) for one in step.get("why", ())),
        )
    return run


def _last_lines(api: "Api", run: str, step: str) -> Iterator[str]:
    """Yield the last lines of a step's output, read as a stream: it may be long."""
    from collections import deque

    tail: deque[str] = deque(maxlen=20)
    rest = ""
    for text in api.text(f"/runs/{run}/logs", step=step):
        *lines, rest = (rest + text).split("\n")
        tail.extend(lines)
    yield from tail
    if rest:
        yield rest


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _named(api: "Api", reference: str) -> str:
    """Return *reference* as a part of a path; `latest` is the namespace's, where there is one."""
    from urllib.parse import quote

    place = namespace_of() if reference == "latest" else None
    if place is not None:
        newest = api.get("/runs", namespace=place, limit=1)["runs"]
        if not newest:
            raise NotFoundError(
                f"there are no runs in the namespace {place!r} yet",
                remedy="`plue run list -A` shows the runs of all namespaces that you may read",
            )
        return str(newest[0]["id"])
    return quote(reference, safe="")


@app.command()
def budgets(run: Which = "latest", *, as_json: AsJson = False) -> None:
    """Show a run's budgets: what is used, what calls on their way may use, what is left.

    Those of the workflow and the day are of today, by UTC. Examples:
      plue run budgets
      plue run budgets review-12 --json
    """
    from plue.cli.usage import budget_lines

    with server() as api:
        report = api.get(f"/runs/{_named(api, run)}/budgets")
    if as_json:
        print(json.dumps(report, indent=2))
        return
    print("\n".join(budget_lines(report["budgets"])))


@app.command()
def extend(
    run: Which = "latest",
    *,
    usd: Annotated[float, typer.Option(min=0, help="So many US dollars more.")] = 0,
    tokens: Annotated[int, typer.Option(min=0, help="So many tokens more.")] = 0,
    calls: Annotated[int, typer.Option(min=0, help="So many calls more.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="So many seconds of calls more.")] = 0,
    step: Annotated[str | None, typer.Option(help="Only this step's budget.")] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="Whose budget: run, or of today: workflow, day [default: run]."),
    ] = None,
) -> None:
    """Allow a run more model usage; steps that wait for their budget go on.

    A step says which budget it waits for. Those of a workflow and of the day concern other runs
    too, and in a cluster only who may change runs in all namespaces extends them.

    Examples:
      plue run extend review-12 --usd 2
      plue run extend --step fix --tokens 200000
      plue run extend --scope day --usd 50

    """
    from plue.cli.usage import budget_lines

    if not (usd or tokens or calls or seconds):
        raise UsageError("say by how much", remedy="give --usd, --tokens, --calls or --seconds")
    if scope not in {None, "run", "workflow", "day"}:
        raise UsageError(
            f"--scope {scope}: there is no such budget", remedy="give run, workflow or day"
        )
    if step is not None and scope is not None:
        raise UsageError("--step and --scope are two budgets", remedy="extend one after the other")
    with server() as api:
        more = {"usd": usd, "tokens": tokens, "calls": calls, "seconds": seconds}
        body = {**more, "step": step, "scope": scope}
        named = _named(api, run)
        api.post(f"/runs/{named}/budget", body)
        report = api.get(f"/runs/{named}/budgets")
    print("\n".join(budget_lines(report["budgets"])))

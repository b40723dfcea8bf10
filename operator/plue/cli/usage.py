"""`plue usage`: what model calls cost."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from plue.cli.context import namespace_of, server
from plue.cli.text import table
from plue.errors import UsageError

__all__ = ["budget_lines", "usage", "usage_lines"]

_KEYS = ("day", "workflow", "repository", "model")


def usage(
    *,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="day, workflow, repository or model; repeatable."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day [default: 30 days ago].")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DAY", help="Last day [default: today].")
    ] = None,
    workflow: Annotated[str | None, typer.Option("-w", "--workflow", help="Only of this.")] = None,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Only of this namespace.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show what model calls used and cost. Days are UTC.

    Examples:
      plue usage
      plue usage --by day --by model
      plue usage -w review --since 2026-11-01 --json

    """
    keys = by or ["workflow", "model"]
    for key in keys:
        if key not in _KEYS:
            raise UsageError(
                f"usage cannot be summed up by {key!r}", remedy=f"use one of {', '.join(_KEYS)}"
            )
    with server() as api:
        report = api.get(
            "/usage",
            by=keys,
            since=since,
            until=until,
            workflow=workflow,
            namespace=namespace_of(namespace),
        )
    if as_json:
        print(json.dumps(report, indent=2))
        return
    print("\n".join(usage_lines(report["lines"], keys, report["cost_usd"])))


def usage_lines(lines: Sequence[Mapping[str, Any]], keys: Sequence[str], total: float) -> list[str]:
    """Return usage as a table with its total, a line for each of *keys*' values."""
    if not lines:
        return ["no model was called"]
    head = [*(key.upper() for key in keys), "CALLS", "INPUT", "CACHED", "OUTPUT", "COST"]
    rows = [head]
    for line in lines:
        cached = line["cache_read_tokens"] + line["cache_write_tokens"]
        mark = "~" if line.get("estimated") else ""
        rows.append(
            [
                *(str(line.get(key) or "-") for key in keys),
                str(line["calls"]),
                f"{line['input_tokens']:,}",
                f"{cached:,}",
                f"{line['output_tokens']:,}",
                f"{mark}${line['cost_usd']:.4f}",
            ]
        )
    rows.append([*(["total"] + [""] * (len(keys) - 1)), "", "", "", "", f"${total:.4f}"])
    note = ["~ some of it is an estimate: an answer was cut"]
    return table(rows) + (note if any(line.get("estimated") for line in lines) else [])


_UNITS = ("usd", "tokens", "calls", "seconds")


def budget_lines(budgets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return budgets as a table: what is limited, and all that is counted for the run."""
    head = ["BUDGET", "UNIT", "USED", "RESERVED", "LIMIT", "LEFT"]
    rows = [
        [
            f"step {one['step']}" if one.get("step") else one["scope"],
            unit,
            *(_amount(one[unit][part]) for part in ("used", "reserved", "limit", "left")),
        ]
        for one in budgets
        for unit in _UNITS
        if one["scope"] == "run" or one[unit].get("limit") is not None
    ]
    return table([head, *rows]) if rows else ["no model was called"]


def _amount(amount: float | None) -> str:
    if amount is None:
        return "-"
    text = f"{amount:,.4f}"
    return text.rstrip("0").rstrip(".")

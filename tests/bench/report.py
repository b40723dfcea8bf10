"""The table, the JSON, and the README's section that is made from it."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from bench.figures import Figure

__all__ = ["document", "markdown", "rewrite", "table"]

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_COLUMNS = ("what", "history", "n", "p50 or rate", "p99", "goal", "", "CPU s", "peak MB")
_SHOWN = ("aiohttp", "psycopg", "pydantic", "RestrictedPython")


def document(figures: Sequence[Figure], *, command: str) -> dict[str, Any]:
    """Return everything that was measured, and where, as JSON values."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": _commit(),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        },
        "versions": {name: version(name) for name in _SHOWN} | {"postgres": _postgres()},
        "figures": [figure.as_json() for figure in figures],
    }


def table(measured: Mapping[str, Any]) -> str:
    """Return the figures as a table for a terminal."""
    rows = [_COLUMNS, *(_row(figure) for figure in measured["figures"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("─" * w for w in widths))
    lines += [
        f"  {figure['what']}: {figure[kind]}"
        for figure in measured["figures"]
        for kind in ("reference", "note")
        if figure[kind]
    ]
    return "\n".join([_place(measured), *(line.rstrip() for line in lines)])


def markdown(measured: Mapping[str, Any]) -> str:
    """Return the figures as the README shows them."""
    head = ("what", "history", "n", "p50 or rate", "p99", "goal", "met", "reference", "CPU s", "MB")
    lines = [f"Measured with `{measured['command']}`. {_place(measured)}", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    notes: list[str] = []
    for figure in measured["figures"]:
        what, history, n, middle, high, goal, met, cpu, memory = _row(figure)
        said = figure["reference"] or ""
        if figure["note"]:
            if figure["note"] not in notes:
                notes.append(figure["note"])
            what += f" [{notes.index(figure['note']) + 1}]"
        cells = (what, history, n, middle, high, goal, met, said, cpu, memory)
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"[{number}] {note}  " for number, note in enumerate(notes, 1))]
    return "\n".join(lines).rstrip()


def rewrite(path: Path, measured: Mapping[str, Any]) -> None:
    """Put the figures between the two markers of the page at *path*.

    Raises ValueError when it has none.
    """
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path} has no lines {BEGIN} and {END}")
    fresh = f"{BEGIN}\n{markdown(measured)}\n{END}"
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    path.write_text(re.sub(pattern, lambda _: fresh, text, count=1, flags=re.DOTALL))


def _row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    unit = figure["unit"]
    middle = figure["p50"] if figure["rate"] is None else figure["rate"]
    met = {True: "yes", False: "NO", None: ""}[figure["met"]]
    return (
        figure["what"],
        "" if figure["history"] is None else f"{figure['history']:,}",
        f"{figure['n']:,}",
        f"{_number(middle)} {unit}",
        "" if figure["p99"] is None else f"{_number(figure['p99'])} {unit}",
        figure["goal"] or "",
        met,
        _parts(figure["cpu_seconds"], 2),
        _parts(figure["memory_mb"], 0),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _parts(values: Mapping[str, float], digits: int) -> str:
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())


def _place(measured: Mapping[str, Any]) -> str:
    machine, versions = measured["machine"], measured["versions"]
    return (
        f"{measured['date'][:10]}, commit {measured['commit']}, {machine['cpu']},"
        f" {machine['cores']} cores, {machine['memory_gb']} GB, Linux {machine['kernel']},"
        f" Python {machine['python']}, "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f", load {machine['load']:.1f}."
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _postgres() -> str:
    from plue.local.postgres import binaries

    words = [str(binaries() / "postgres"), "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.split()[-1] if done.stdout else "unknown"


def load(path: Path) -> dict[str, Any]:
    """Return a document that was written before."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found

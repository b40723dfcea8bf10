"""The live tree: a run painted again and again on a terminal. What is shown is a pure function."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.text import Text

from plue.cli.groups import Heading, arranged
from plue.cli.progress import RunProgress, StepProgress
from plue.cli.report import Icons, how_it_ended, last_lines
from plue.cli.text import duration, plural, safe
from plue.wire.events import RunState, StepState

__all__ = ["live_tree"]

_STYLES = {
    StepState.PENDING: "dim",
    StepState.RUNNING: "bold cyan",
    StepState.WAITING: "yellow",
    StepState.SUCCEEDED: "green",
    StepState.FAILED: "bold red",
    StepState.SKIPPED: "dim",
    StepState.CANCELLED: "yellow",
}
_IMPORTANT = {StepState.RUNNING, StepState.WAITING, StepState.FAILED}
_OUTPUT_LINES = 3
_FAILED_LINES = 8

Row = tuple[str, str]
"""A line and its style."""


def live_tree(
    run: RunProgress, *, now: datetime, width: int, height: int, icons: Icons, note: str = ""
) -> Text:
    """Return at most *height* lines: the run, its steps, and the last output of running steps.

    When there is too little room, output goes first, then steps that wait, then steps that ended
    well: what runs and what failed stays.
    """
    head = _head(run, now, icons)
    foot = [(note, "yellow")] if note else []
    room = max(1, height - len(head) - len(foot))
    rows = _fitting(run, now, room, icons)
    text = Text(no_wrap=True, overflow="ellipsis")
    for line, style in [*head, *rows, *foot]:
        text.append(line[: width - 1] + "\n", style=style)
    text.rstrip()
    return text


def _head(run: RunProgress, now: datetime, icons: Icons) -> list[Row]:
    since = run.started or run.created
    took = f"  {_since(since, now)}" if since else ""
    state = "starting" if run.state == RunState.CLAIMED else str(run.state)
    again = f"  attempt {run.attempt}" if run.attempt > 1 else ""
    why = f"  {run.reason}" if run.reason and not run.has_ended else ""
    return [(f"{icons.of(run.state)} {run.name}  {state}{took}{again}{why}", "bold")]


def _fitting(run: RunProgress, now: datetime, room: int, icons: Icons) -> list[Row]:
    steps = list(run.steps.values())
    for output in range(_OUTPUT_LINES, -1, -1):
        rows = [*_tree_rows(steps, now, icons, output)]
        if len(rows) <= room:
            return rows
    important = [step for step in steps if step.state in _IMPORTANT]
    rows = [row for step in important for row in _rows(step, now, icons, 0)][: room - 1]
    others = plural(len(steps) - len(rows), "step")
    done = sum(step.has_ended for step in steps)
    return [*rows, (f"  … {others} more; {done} of {len(steps)} ended", "dim")]


def _tree_rows(
    steps: Sequence[StepProgress], now: datetime, icons: Icons, output: int
) -> Iterator[Row]:
    for depth, item in arranged(steps):
        if isinstance(item, Heading):
            yield f"{'  ' * (depth + 1)}{safe(item[0])}  {plural(item[1], 'step')}", "bold dim"
        else:
            yield from _rows(item, now, icons, output, depth)


def _rows(
    step: StepProgress, now: datetime, icons: Icons, output: int, depth: int = 0
) -> Iterator[Row]:
    # Two parts of the branch are one parallel group and the place in it.
    indent = "  " * (1 + max(depth, len(step.branch) // 2))
    style = "dim" if step.is_hidden else _STYLES.get(StepState(step.state), "")
    if step.state == StepState.WAITING:
        yield (
            f"{indent}{icons.pending} {safe(step.name)}  waits: {safe(step.message or '')}",
            "yellow",
        )
        return
    if step.state == StepState.RUNNING:
        took = _since(step.started, now)
        again = f"  try {step.tries}" if step.tries > 1 else ""
        yield f"{indent}{icons.running} {safe(step.name)}  running  {took}{again}", style
        lines = [safe(line) for line in list(step.recent)[-output:]] if output else []
        yield from ((f"{indent}    {line}", "dim") for line in lines)
        return
    took = f"  {duration(step.duration_ms)}" if step.has_ended and step.started else ""
    words = how_it_ended(step) if step.has_ended else str(step.state)
    yield f"{indent}{icons.of(step.state)} {safe(step.name)}  {words}{took}", style
    if step.state == StepState.FAILED and output:
        shown = last_lines(step, min(_FAILED_LINES, output * 3))
        yield from ((f"{indent}    {line}", "red") for line in shown)


def _since(moment: datetime | None, now: datetime) -> str:
    return duration((now - moment).total_seconds() * 1000) if moment else ""

"""Showing a run until its end: the live tree, plain lines or JSON, and what Ctrl-C means.

The first Ctrl-C of who started the run asks for its cancelling and goes on showing; the second
leaves. Who only watches leaves at once: the run is not his to end.
"""

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Protocol, Self

from plue.cli.client import Api, StreamedEvent
from plue.cli.live import live_tree
from plue.cli.progress import RunProgress
from plue.cli.report import ASCII, UNICODE, Icons, PlainReport, summary
from plue.cli.text import safe
from plue.errors import PlueError
from plue.wire.events import RunState

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["EXIT_CODES", "Left", "Shown", "follow"]

EXIT_CODES: Mapping[str, int] = {
    RunState.SUCCEEDED: 0,
    RunState.FAILED: 1,
    RunState.TIMED_OUT: 124,
    RunState.CANCELLED: 130,
}
_REPAINTS_PER_SECOND = 8


class Left(Exception):  # noqa: N818 - not an error: the person left, the run goes on or ends
    """The person left before the run's end."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How a run is shown. *hint* is the command that shows it again, for the summary."""

    as_json: bool
    owned: bool
    hint: str


class _Display(Protocol):
    def take(self, event: StreamedEvent) -> None: ...

    def note(self, text: str) -> None: ...

    def end(self) -> None: ...


def follow(api: Api, run_id: str, name: str, shown: Shown) -> int:
    """Show the run until it has ended; return its exit code. Raises Left, PlueError."""
    run = RunProgress(name)
    with _display(run, shown) as display, _interruptible(api, run_id, display, owned=shown.owned):
        for event in api.events(run_id):
            display.take(event)
    if not shown.as_json:
        run.usd = _cost(api, run_id, run)
    display.end()
    return EXIT_CODES.get(run.state, 1)


def _cost(api: Api, run_id: str, run: RunProgress) -> float | None:
    """Return what the run's models cost; None where none was asked, or the server does not say."""
    if not any(step.tokens_out for step in run.steps.values()):
        return None
    try:
        return float(api.get(f"/runs/{run_id}/usage")["cost_usd"])
    except PlueError:
        return None


def icons_for(encoding: str | None) -> Icons:
    """Return icons that the output can show."""
    try:
        "✓✗▶⊘".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


# ── the three displays ───────────────────────────────────────────────────────────────────────────


@contextmanager
def _display(run: RunProgress, shown: Shown) -> Iterator[_Display]:
    if shown.as_json:
        yield _Json(run)
    elif sys.stdout.isatty():
        with _Live(run, shown.hint) as live:
            yield live
    else:
        yield _Plain(run, shown.hint)


class _Json:
    """One JSON object a line: the events, byte for byte."""

    def __init__(self, run: RunProgress) -> None:
        self._run = run

    def take(self, event: StreamedEvent) -> None:
        self._run.take(event.json)
        sys.stdout.write(event.line + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")

    def end(self) -> None:
        sys.stdout.flush()


class _Plain:
    """Lines for a pipe."""

    def __init__(self, run: RunProgress, hint: str) -> None:
        self._run, self._hint = run, hint
        self._report = PlainReport(run)

    def take(self, event: StreamedEvent) -> None:
        for line in self._report.take(event.json):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def end(self) -> None:
        lines = summary(self._run, icons=icons_for(sys.stdout.encoding), hint=self._hint)
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
        sys.stdout.flush()


class _Live:
    """The tree on a terminal, painted by a thread of its own; the summary when it is over."""

    def __init__(self, run: RunProgress, hint: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._run, self._hint = run, hint
        self._note = ""
        self._icons = icons_for(sys.stdout.encoding)
        self._console = Console(highlight=False, markup=False, emoji=False)
        # The events come in on one thread while the other one paints.
        self._lock = threading.Lock()
        self._live = Live(
            get_renderable=self._paint,
            console=self._console,
            refresh_per_second=_REPAINTS_PER_SECOND,
            transient=True,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def take(self, event: StreamedEvent) -> None:
        with self._lock:
            self._run.take(event.json)

    def note(self, text: str) -> None:
        self._note = text

    def end(self) -> None:
        from rich.text import Text

        style = "bold green" if self._run.state == RunState.SUCCEEDED else "bold red"
        first, *rest = summary(self._run, icons=self._icons, hint=self._hint)
        self._console.print(Text(first, style=style))
        for line in rest:
            self._console.print(Text(line), soft_wrap=True)

    def _paint(self) -> "Text":
        width, height = self._console.size
        with self._lock:
            return live_tree(
                self._run,
                now=datetime.now(UTC),
                width=width,
                height=max(3, height - 1),
                icons=self._icons,
                note=self._note,
            )


# ── Ctrl-C ───────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _interruptible(api: Api, run_id: str, display: _Display, *, owned: bool) -> Iterator[None]:
    """Have Ctrl-C cancel the run once, and leave the second time."""
    asked = threading.Event()

    def cancel() -> None:
        try:
            api.post(f"/runs/{run_id}/cancel", {"reason": "Ctrl-C"})
        except PlueError as error:
            display.note(f"the run could not be cancelled: {safe(error.message)}")

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set() or not owned:
            raise Left
        asked.set()
        display.note("cancelling; Ctrl-C again leaves")
        # Not here: the signal may have come in the middle of reading the stream.
        threading.Thread(target=cancel, name="cancel", daemon=True).start()

    before = {}
    with suppress(ValueError):  # not in the main thread: then signals are somebody else's
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Lines about a run for people: as it goes, and when it has ended. Pure: events in, text out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plue.cli.progress import Event, OutputLine, RunProgress, StepProgress
from plue.cli.text import coloured, duration, plural, safe
from plue.wire.events import EventType, Reason, RunState, StepState

__all__ = ["ASCII", "UNICODE", "Icons", "PlainReport", "how_it_ended", "summary"]

_NAME_WIDTH = 24
_TAIL_LINES = 20

WAITING = {
    Reason.NO_IDLE_RUNNER: "waiting for a runner: all are busy or still starting",
    Reason.POOL_AT_MAXIMUM: "waiting for a runner: all are busy, and there may be no more",
    Reason.NO_SUCH_POOL: "waiting for a pool of that name, which does not exist",
    Reason.CLAIMED: "bound to a runner",
    Reason.RUNNER_DID_NOT_ACCEPT: "back in the queue: the runner did not take it",
    Reason.EVALUATION: "waiting for the evaluation of its workflow's code",
    Reason.LEASE: "waiting until the lost runner has surely ended",
}


@dataclass(frozen=True, slots=True)
class Icons:
    """One character for each state."""

    pending: str
    running: str
    succeeded: str
    failed: str
    skipped: str
    cancelled: str

    def of(self, state: str) -> str:
        """Return the icon of a run's or step's state."""
        match state:
            case StepState.SUCCEEDED:
                return self.succeeded
            case StepState.FAILED | RunState.TIMED_OUT:
                return self.failed
            case StepState.RUNNING | RunState.CLAIMED:
                return self.running
            case StepState.SKIPPED:
                return self.skipped
            case StepState.CANCELLED:
                return self.cancelled
            case _:
                return self.pending


UNICODE = Icons("·", "▶", "✓", "✗", "\N{EN DASH}", "⊘")
ASCII = Icons(".", ">", "+", "x", "-", "/")


def how_it_ended(step: StepProgress) -> str:
    """Return in words how a step ended, without its duration."""
    if step.state == StepState.SUCCEEDED:
        return f"succeeded after {step.tries} tries" if step.tries > 1 else "succeeded"
    words = [str(step.state)]
    if step.message:
        words.append(f"{safe(step.message)} ({step.reason})" if step.reason else safe(step.message))
    elif step.exit_code:
        words.append(f"exit code {step.exit_code}")
    elif step.reason:
        words.append(str(step.reason))
    if step.tries > 1:
        words.append(plural(step.tries, "try").replace("trys", "tries"))
    return ": ".join([words[0], ", ".join(words[1:])]) if words[1:] else words[0]


class PlainReport:
    """A run as lines for a pipe: `step | text`, and lines where steps start and end."""

    def __init__(self, run: RunProgress, *, colours: bool = False) -> None:
        """Report on *run*; *colours* keeps those of the steps' output."""
        self._run = run
        self._clean = coloured if colours else safe

    def take(self, event: Event) -> list[str]:
        """Take the next event; return the lines that it gives."""
        output = self._run.take(event)
        body: Mapping[str, Any] = event.get("body") or {}
        lines = [self._line(line) for line in output]
        step = self._run.steps.get(event.get("step") or "")
        match event["type"]:
            case EventType.RUN_QUEUED:
                lines.append(f"{self._run.name} queued{_why(body.get('reason'))}")
            case EventType.RUN_STARTED:
                lines.append(f"{self._run.name} started{_attempt(self._run.attempt)}")
            case EventType.STEP_STARTED | EventType.STEP_COMPLETED if step and step.is_hidden:
                pass
            case EventType.STEP_STARTED if step is not None:
                shown = safe(step.shown).strip().split("\n")
                more = " …" if len(shown) > 1 else ""
                again = f" (try {step.tries})" if step.tries > 1 else ""
                lines.append(f"{self._name(step.name)} > started{again}: {shown[0]}{more}")
            case EventType.STEP_COMPLETED if step is not None:
                took = f" in {duration(step.duration_ms)}" if step.started else ""
                lines.append(f"{self._name(step.name)} < {how_it_ended(step)}{took}")
            case _:
                pass
        return lines

    def _line(self, line: OutputLine) -> str:
        return f"{self._name(line.step)} | {self._clean(line.text)}".rstrip()

    def _name(self, step: str) -> str:
        longest = max((len(name) for name in self._run.steps), default=0)
        return safe(step).ljust(min(longest, _NAME_WIDTH))


def summary(run: RunProgress, *, icons: Icons, hint: str | None = None) -> list[str]:
    """Return the last lines about a run that has ended: how, each step, outputs, where to look."""
    took = f" in {duration(run.duration_ms)}" if run.duration_ms is not None else ""
    lines = [f"{icons.of(run.state)} {run.name} {_word(run.state)}{took}{_reason(run)}"]
    width = min(max((len(name) for name in run.steps), default=0), 40)
    for step in run.steps.values():
        lines += _step_lines(step, width, icons)
    if run.usd is not None:
        lines.append(f"models cost ${run.usd:.4f}")
    if run.outputs:
        lines.append("outputs")
        names = max(len(name) for name in run.outputs)
        lines += [f"  {safe(k).ljust(names)}  {_value(v)}" for k, v in run.outputs.items()]
    if hint:
        lines.append(f"see it again: {hint}")
    return lines


def _step_lines(step: StepProgress, width: int, icons: Icons) -> Iterator[str]:
    took = duration(step.duration_ms) if step.started else ""
    how = "" if step.state == StepState.SUCCEEDED and step.tries <= 1 else how_it_ended(step)
    name = safe(step.name).ljust(width)
    used = f"  [{step.tokens_in:,} tokens in, {step.tokens_out:,} out]" if step.tokens_out else ""
    yield f"  {icons.of(step.state)} {name}  {took.rjust(9)}  {how}{used}".rstrip()
    if step.why:
        yield f"      because {safe('; '.join(step.why))}"
    if step.state == StepState.FAILED:
        yield from (f"      {line}" for line in last_lines(step, _TAIL_LINES))


def last_lines(step: StepProgress, count: int) -> Sequence[str]:
    """Return the last lines of a step that failed, cleaned, without empty ones at the end."""
    lines = step.tail.rstrip().split("\n") if step.tail.strip() else list(step.recent)
    return [safe(line) for line in lines[-count:]]


def _word(state: str) -> str:
    return "timed out" if state == RunState.TIMED_OUT else str(state)


def _reason(run: RunProgress) -> str:
    if run.message:
        return f": {safe(run.message)} ({run.reason})" if run.reason else f": {safe(run.message)}"
    return "" if run.reason is None or run.state == RunState.SUCCEEDED else f" ({run.reason})"


def _why(reason: str | None) -> str:
    if reason is None:
        return ""
    known = {str(key): words for key, words in WAITING.items()}
    return f": {known.get(reason, reason)}"


def _attempt(number: int) -> str:
    return f" (attempt {number})" if number > 1 else ""


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    lines = safe(text).split("\n")
    return lines[0] if len(lines) == 1 else f"{lines[0]} … ({plural(len(lines), 'line')})"

"""What a run's events add up to: the run and its steps, as a display needs them. No I/O.

Events are taken as JSON objects, each once and in order. Unknown types and fields are passed over:
a newer server may say more.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from plue.domain.growth import answer_of
from plue.wire.events import EventType, RunState, StepState
from plue.wire.plan import HIDDEN_KINDS

__all__ = ["OutputLine", "RunProgress", "StepProgress", "why_text"]

RECENT = 12
"""Lines of output that are kept of each step, for the display."""

_TOOL_WIDTH = 100

Event = Mapping[str, Any]


@dataclass(slots=True)
class StepProgress:
    """A step so far. ``recent`` are its last complete lines, ``tail`` what a failure reported.

    ``why`` are the answers that led to it: ``tests.ok == False, ci.py:6``.
    """

    name: str
    needs: tuple[str, ...] = ()
    branch: tuple[str, ...] = ()
    kind: str = "shell"
    group: tuple[str, ...] = ()
    cleanup: bool = False
    shown: str = ""
    state: str = StepState.PENDING
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    tries: int = 0
    started: datetime | None = None
    duration_ms: float | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    tail: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    saying: tuple[Any, ...] = ()
    why: tuple[str, ...] = ()
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def is_hidden(self) -> bool:
        """Whether it is shown discreetly: a question to the workspace that went well."""
        return self.kind in HIDDEN_KINDS and self.state != StepState.FAILED

    @property
    def has_ended(self) -> bool:
        """Whether the step never changes again within its attempt."""
        return self.state in _STEP_ENDS


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A complete line of a step's output, without its newline."""

    step: str
    stream: str
    text: str


_STEP_ENDS = frozenset(state for state in StepState if state.is_end)
_RUN_ENDS = frozenset(state for state in RunState if state.is_end)


class RunProgress:
    """A run so far."""

    def __init__(self, name: str) -> None:
        """Begin with nothing but the run's name."""
        self.name = name
        self.state: str = RunState.QUEUED
        self.reason: str | None = None
        self.message: str | None = None
        self.attempt = 0
        self.runner: str | None = None
        self.outputs: Mapping[str, Any] = {}
        self.duration_ms: float | None = None
        self.usd: float | None = None
        """What models cost, where somebody has asked: no event tells."""
        self.created: datetime | None = None
        self.started: datetime | None = None
        self.now: datetime | None = None
        """The time of the last event: the server's clock, not ours."""
        self.steps: dict[str, StepProgress] = {}
        self.last_event = 0
        self._unfinished: dict[tuple[str, str], str] = {}

    @property
    def has_ended(self) -> bool:
        """Whether the run never changes again."""
        return self.state in _RUN_ENDS

    def take(self, event: Event) -> list[OutputLine]:
        """Take the next event; return the lines of output that it completes."""
        self.last_event = event["n"]
        self.now = _time(event["time"])
        body: Mapping[str, Any] = event.get("body") or {}
        step = event.get("step")
        match event["type"]:
            case EventType.RUN_QUEUED:
                self._queued(body)
            case EventType.RUN_CLAIMED:
                self.state, self.reason, self.runner = RunState.CLAIMED, None, body.get("runner")
            case EventType.RUN_STARTED:
                self.state, self.started = RunState.RUNNING, self.now
            case EventType.PLAN_EXTENDED:
                self._extended(body)
            case EventType.RUN_COMPLETED:
                self._completed(body)
            case EventType.STEP_STARTED if step is not None:
                self._step_started(self._step(step), body)
            case EventType.STEP_OUTPUT if step is not None:
                return self._output(self._step(step), body)
            case EventType.STEP_COMPLETED if step is not None:
                return self._step_completed(self._step(step), body)
            case (
                EventType.LLM_TOKEN
                | EventType.AGENT_TURN
                | EventType.TOOL_START
                | EventType.TOOL_END
                | EventType.STEP_WAITING
                | EventType.EGRESS_REFUSED
            ) if step is not None:
                return self._model(self._step(step), event["type"], body)
            case _:
                pass
        return []

    # ── the run ──────────────────────────────────────────────────────────────────────────────────

    def _queued(self, body: Mapping[str, Any]) -> None:
        if self.created is None:
            self.created = self.now
        self.state, self.reason = RunState.QUEUED, body.get("reason")
        attempt = body.get("attempt", 1)
        if attempt != self.attempt:
            # A new attempt knows nothing of the steps before.
            self.steps, self.attempt, self.started = {}, attempt, None
            self._unfinished.clear()

    def _extended(self, body: Mapping[str, Any]) -> None:
        for planned in body.get("steps", ()):
            step = self._step(planned["name"])
            step.needs = tuple(planned.get("needs", ()))
            step.branch = tuple(planned.get("branch", ()))
            step.group = tuple(planned.get("group", ()))
            step.kind = planned.get("kind") or "shell"
            step.cleanup = bool(planned.get("cleanup"))
            step.shown = planned.get("shown") or ""
            step.why = tuple(why_text(one) for one in planned.get("why", ()))
            if "at" in planned:
                self._place(step.name, planned["at"])

    def _place(self, name: str, at: int) -> None:
        """Put a step that a later stage added where it stands among all."""
        names = [known for known in self.steps if known != name]
        names.insert(at, name)
        self.steps = {known: self.steps[known] for known in names}

    def _completed(self, body: Mapping[str, Any]) -> None:
        self.state = body.get("state", RunState.FAILED)
        self.reason, self.message = body.get("reason"), body.get("message")
        self.outputs = body.get("outputs") or {}
        self.duration_ms = body.get("duration_ms")

    # ── steps ────────────────────────────────────────────────────────────────────────────────────

    def _step(self, name: str) -> StepProgress:
        return self.steps.setdefault(name, StepProgress(name))

    def _step_started(self, step: StepProgress, body: Mapping[str, Any]) -> None:
        step.state, step.started = StepState.RUNNING, self.now
        step.tries = body.get("try", 1)
        step.shown = body.get("shown") or step.shown
        step.recent.clear()

    def _step_completed(self, step: StepProgress, body: Mapping[str, Any]) -> list[OutputLine]:
        lines = [
            OutputLine(step.name, stream, rest)
            for stream in ("stdout", "stderr")
            if (rest := self._unfinished.pop((step.name, stream), ""))
        ]
        step.recent.extend(line.text for line in lines)
        step.state = body.get("state", StepState.FAILED)
        step.reason, step.message = body.get("reason"), body.get("message")
        step.exit_code, step.duration_ms = body.get("exit_code"), body.get("duration_ms")
        step.tries = body.get("tries", step.tries)
        step.outputs = body.get("outputs") or {}
        step.tail = body.get("tail") or ""
        return lines

    def _output(self, step: StepProgress, body: Mapping[str, Any]) -> list[OutputLine]:
        stream = body.get("stream", "stdout")
        lines = [
            OutputLine(step.name, stream, text)
            for text in self._lines((step.name, stream), body.get("text", ""), body)
        ]
        step.recent.extend(line.text for line in lines)
        return lines

    def _model(self, step: StepProgress, kind: str, body: Mapping[str, Any]) -> list[OutputLine]:
        """Take what a model said or did; what it says is shown line by line, as output is."""
        said: list[str] = []
        part = (body.get("turn"), body.get("call"), body.get("kind"))
        if kind != EventType.LLM_TOKEN or part != step.saying:
            rest = self._unfinished.pop((step.name, "model"), "")
            said += [rest] if rest.strip() else []
            step.saying = part
        if kind == EventType.LLM_TOKEN:
            source, text = (step.name, "model"), body.get("text", "")
            said += self._lines(source, text, {"partial": True})
        match kind:
            case EventType.AGENT_TURN:
                used: Mapping[str, Any] = body.get("usage") or {}
                cached = used.get("cache_read", 0) + used.get("cache_write", 0)
                step.tokens_in += used.get("input", 0) + cached
                step.tokens_out += used.get("output", 0)
                if body.get("compacted"):
                    said.append(f"⋯ summed up: {_short(body.get('text'))}")
            case EventType.TOOL_START:
                said.append(f"→ {body.get('name')} {_short(body.get('input'))}".rstrip())
            case EventType.TOOL_END:
                mark = "←" if body.get("ok") else "✗"
                said.append(f"{mark} {body.get('name')}: {_short(body.get('result'))}")
            case EventType.STEP_WAITING:
                step.reason, step.message = body.get("reason"), body.get("message")
                step.state = StepState.RUNNING if step.reason is None else StepState.WAITING
                said += [f"waits: {step.message}"] if step.reason else ["goes on"]
            case EventType.EGRESS_REFUSED:
                said.append(f"✗ {body.get('target')}: {body.get('message')}")
            case _:
                pass
        step.recent.extend(said)
        return [OutputLine(step.name, "model", line) for line in said]

    def _lines(self, source: tuple[str, str], text: str, body: Mapping[str, Any]) -> Iterator[str]:
        """Yield complete lines; the last one waits when the stream's next chunk goes on with it."""
        *whole, rest = (self._unfinished.pop(source, "") + text).split("\n")
        yield from whole
        if rest and body.get("partial"):
            self._unfinished[source] = rest
        elif rest:
            yield rest


def _short(value: object) -> str:
    """Return what a tool was given or gave, on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    first, _, more = text.strip().partition("\n")
    return f"{first[:_TOOL_WIDTH]} …" if more or len(first) > _TOOL_WIDTH else first


def why_text(answer: Mapping[str, Any]) -> str:
    """Return an answer that led to a step, for people: ``tests.ok == False, ci.py:6``."""
    return answer_of(answer).text


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)

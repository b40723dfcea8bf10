"""One try of a step: what it printed, how it ended, and what it left."""

from dataclasses import dataclass, field

from pydantic import JsonValue

from plue.wire.events import Reason, StepState
from plue.wire.plan import RefField
from plue_runner.capture import Capture, Tail
from plue_runner.explain import signal_message
from plue_runner.faults import short
from plue_runner.output import StreamName

__all__ = ["Stop", "Trial"]

_TAIL_LINES = 20
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a step is stopped from outside or by a time limit, and how it then counts."""

    state: StepState
    reason: Reason
    message: str | None = None


@dataclass(slots=True)
class Trial:
    """One try: what it printed and how it ended; ``agent`` has an agent's status and summary."""

    number: int
    tail: Tail = field(default_factory=lambda: Tail(_TAIL_BYTES))
    captures: dict[RefField, Capture] = field(default_factory=dict)
    state: StepState = StepState.SUCCEEDED
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None
    outputs: dict[str, JsonValue] = field(default_factory=dict)
    agent: dict[str, JsonValue] = field(default_factory=dict)
    began: bool = False

    def keep(self, stream: StreamName, text: str) -> None:
        """Keep what the step prints, as far as somebody may ask for it."""
        self.tail.feed(text)
        names: tuple[RefField, ...] = (stream, "log")
        for name in names:
            capture = self.captures.get(name)
            if capture is not None:
                capture.feed(text)

    def count_as(self, stop: Stop) -> None:
        """Count as *stop* says."""
        self.state, self.reason, self.message = stop.state, stop.reason, stop.message

    def fail(self, reason: Reason, message: str) -> None:
        """Count as failed, unless it failed for another reason before."""
        if self.state is StepState.SUCCEEDED:
            self.state, self.reason, self.message = StepState.FAILED, reason, short(message)

    def judge(self, code: int | None, stop: Stop | None) -> None:
        """Say how it ended, from its process's return code and why it was stopped, if it was."""
        if stop is not None:
            self.count_as(stop)
        elif code is not None and code < 0:
            self.exit_code = 128 - code  # as a shell would show it
            self.fail(Reason.SIGNAL, signal_message(-code))
        elif code:
            self.exit_code = code
            self.fail(Reason.EXIT_CODE, f"exit code {code}")
        else:
            self.exit_code = code

    @property
    def end(self) -> str:
        """The last lines that it printed."""
        text = self.tail.lines(_TAIL_LINES)
        raw = text.encode()
        return text if len(raw) <= _TAIL_BYTES else raw[-_TAIL_BYTES:].decode(errors="ignore")

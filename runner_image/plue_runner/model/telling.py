"""Tells what a model does as it does it: tokens, turns, tools, and why it waits.

Tokens come one by one and are recorded in small batches: live for the eye, cheap for the log. A
secret is hidden however the model's words were cut.
"""

import asyncio
from typing import Literal

from pydantic import JsonValue

from plue.wire.events import EventType, Reason
from plue_runner.faults import short
from plue_runner.journal import Journal
from plue_runner.masking import MaskedStream

__all__ = ["SHOWN_CHARACTERS", "Kind", "Teller", "clipped"]

Kind = Literal["text", "thinking", "json"]

_BATCH_SECONDS = 0.05
_BATCH_CHARACTERS = 4096
SHOWN_CHARACTERS = 16 * 1024
"""So much of a tool's input or result is recorded; a longer one is cut, and says so."""


class Teller:
    """The events of one try of a step that asks a model."""

    def __init__(
        self, journal: Journal, step: str, attempt: int, number: int, *, tool: str | None = None
    ) -> None:
        """Write to *journal* for try *number* of *step*.

        With *tool*, the id of a tool's use, it is that tool who asks: its turns are told, as the
        tool's; its words are the tool's result and are not told twice.
        """
        self.masker = journal.masker
        self._journal = journal
        self._step = step
        self._head: dict[str, JsonValue] = {"attempt": attempt, "try": number}
        if tool is not None:
            self._head["tool"] = tool
        self._silent = tool is not None
        self._loop = asyncio.get_running_loop()
        self._turn = 0
        self._call = 0
        self._kind: Kind | None = None
        self._stream: MaskedStream | None = None
        self._waiting: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._told_wait: tuple[Reason, str] | None = None

    # ── tokens ───────────────────────────────────────────────────────────────────────────────────

    def call(self, turn: int) -> None:
        """Say that a call for *turn* begins; what an earlier call said of it counts no more."""
        self.flush()
        self._call = self._call + 1 if turn == self._turn else 1
        self._turn = turn

    def token(self, kind: Kind, text: str) -> None:
        """Take what the model just said."""
        if self._silent:
            return
        if kind != self._kind or self._stream is None:
            self.flush()
            self._kind, self._stream = kind, self.masker.stream()
        self._add(self._stream.feed(text.replace("\0", "\N{REPLACEMENT CHARACTER}")))

    def _add(self, text: str) -> None:
        if text:
            self._waiting.append(text)
        if sum(map(len, self._waiting)) >= _BATCH_CHARACTERS:
            self._leave()
        elif self._waiting and self._timer is None:
            self._timer = self._loop.call_later(_BATCH_SECONDS, self._leave)

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text, self._waiting = "".join(self._waiting), []
        if text and self._kind is not None:
            self._write(
                EventType.LLM_TOKEN,
                {"turn": self._turn, "call": self._call, "kind": self._kind, "text": text},
            )

    def flush(self) -> None:
        """Let everything leave that was said."""
        if self._stream is not None:
            self._add(self._stream.close())
            self._stream = None
        self._leave()
        self._kind = None

    # ── turns, tools, waiting ────────────────────────────────────────────────────────────────────

    def turn(self, body: dict[str, JsonValue]) -> None:
        """Record a turn that is whole."""
        self.flush()
        self._write(EventType.AGENT_TURN, {"turn": self._turn, **body})

    def tool_start(self, tool: str, name: str, given: JsonValue) -> None:
        """Record that tool *name* is used, under the id *tool*."""
        self.flush()
        shown = self.masker.json(given)
        body: dict[str, JsonValue] = {"turn": self._turn, "id": tool, "name": name, "input": shown}
        if len(str(shown)) > SHOWN_CHARACTERS:
            body |= {"input": clipped(str(shown)), "cut": True}
        self._write(EventType.TOOL_START, body)

    def tool_end(self, tool: str, name: str, result: str, *, ok: bool, milliseconds: int) -> None:
        """Record what tool *name* gave."""
        body: dict[str, JsonValue] = {
            "turn": self._turn,
            "id": tool,
            "name": name,
            "ok": ok,
            "result": clipped(self.masker.text(result)),
            "duration_ms": milliseconds,
        }
        if len(result) > SHOWN_CHARACTERS:
            body["cut"] = True
        self._write(EventType.TOOL_END, body)

    def waits(self, reason: Reason, message: str) -> None:
        """Record why the step waits, once."""
        if self._told_wait != (reason, message):
            self._told_wait = (reason, message)
            self.flush()
            body: dict[str, JsonValue] = {"reason": reason.value, "message": short(message)}
            self._write(EventType.STEP_WAITING, body)

    def goes_on(self) -> None:
        """Record that the step waits no more."""
        if self._told_wait is not None:
            self._told_wait = None
            self._write(EventType.STEP_WAITING, {})

    def _write(self, kind: EventType, body: dict[str, JsonValue]) -> None:
        self._journal.write(kind, self._step, {**self._head, **body})


def clipped(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Return the beginning and the end of *text*, with a notice of what was left out between."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    left_out = len(text) - head - tail
    return f"{text[:head]}\n… {left_out:,} characters left out …\n{text[-tail:]}"

"""Writes the attempt's events: gives each its number and time, hides secrets, hands it on."""

import asyncio
from collections.abc import Callable
from time import monotonic

from pydantic import JsonValue
from pydantic_core import to_json

from plue.marks import Mark, reached
from plue.wire.events import EventType
from plue_runner.masking import Masker
from plue_runner.output import Chunk
from plue_runner.spool import Spool

__all__ = ["Journal"]

# What authors and programs say; the other fields are words of the protocol.
_FREE_TEXT = frozenset({"shown", "message", "tail", "outputs", "agent"})


class Journal:
    """The log of one attempt as its runner writes it."""

    def __init__(self, spool: Spool, masker: Masker, wake: Callable[[], None]) -> None:
        """Append to *spool* and call *wake* after each event."""
        self.spool = spool
        self.masker = masker
        self._wake = wake
        self._closed = False
        self._first_start = 0
        self._began = monotonic()

    def write(
        self, kind: EventType, step: str, body: dict[str, JsonValue], *, harmless: bool = False
    ) -> None:
        """Record an event. Fields of *body* that are None are left out.

        The start of a *harmless* step is none that the store must know of.
        """
        if kind is EventType.STEP_STARTED and not self._first_start and not harmless:
            self._first_start = self.spool.last + 1
        present: dict[str, JsonValue] = {
            key: self.masker.json(value) if key in _FREE_TEXT else value
            for key, value in body.items()
            if value is not None
        }
        self._append(kind, step, present)

    def output(self, step: str, attempt: int, number: int, chunk: Chunk) -> None:
        """Record a chunk of output, whose text was masked as a stream already."""
        body: dict[str, JsonValue] = {
            "attempt": attempt,
            "try": number,
            "stream": chunk.stream,
            "text": chunk.text,
            "line": chunk.line,
        }
        if chunk.partial:
            body["partial"] = True
        self._append(EventType.STEP_OUTPUT, step, body)

    def begin(self) -> None:
        """Count the time from now on."""
        self._began = monotonic()

    @property
    def start_is_known(self) -> bool:
        """Whether the store knows that some step of the attempt has started."""
        return 0 < self._first_start <= self.spool.acked

    async def known(self) -> None:
        """Wait until all that was written up to now is stored."""
        number, done = self.spool.last, asyncio.Event()

        def look() -> None:
            if self.spool.acked >= number:
                done.set()

        self.spool.on_ack.append(look)
        try:
            look()
            await done.wait()
        finally:
            self.spool.on_ack.remove(look)

    def close(self) -> None:
        """Record nothing more."""
        self._closed = True

    def _append(self, kind: EventType, step: str, body: JsonValue) -> None:
        if self._closed:
            return
        event = {
            "n": self.spool.last + 1,
            "type": kind.value,
            "step": step,
            "t": int((monotonic() - self._began) * 1000),
            "body": body,
        }
        # The same shape as wire's RunnerEvent; building that model costs more than all the rest.
        self.spool.append(to_json(event))
        reached(Mark.R_SPOOLED)
        self._wake()

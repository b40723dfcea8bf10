"""Sends events over one connection: the first at once, then in batches, ``finished`` last.

A burst of small frames leaves undelayed, so that a short run is seen at once; a step that prints
steadily costs at most about a hundred frames a second.
"""

import asyncio
from collections.abc import Callable
from typing import NoReturn

from aiohttp import ClientWebSocketResponse, WSMsgType
from pydantic import BaseModel
from pydantic_core import to_json

from plue.marks import Mark, reached
from plue.wire.frames import Finished
from plue_runner.attempt import Attempt

__all__ = ["Sender"]

_BATCH_BYTES = 512 * 1024
_BURST = 20.0  # frames that may leave without a pause
_FRAMES_A_SECOND = 100.0
_FINISHED_AGAIN_SECONDS = 5.0


class Sender:
    """The sending side of one connection."""

    def __init__(
        self,
        socket: ClientWebSocketResponse,
        wake: asyncio.Event,
        attempt: Callable[[], Attempt | None],
    ) -> None:
        """Send what the *attempt* has whenever *wake* is set."""
        self._socket = socket
        self._wake = wake
        self._attempt = attempt
        self._loop = asyncio.get_running_loop()
        self._tokens = _BURST
        self._counted = self._loop.time()

    async def send(self, frame: BaseModel) -> None:
        """Send one frame now."""
        await self._socket.send_frame(frame.model_dump_json().encode(), WSMsgType.TEXT)

    async def run(self) -> None:
        """Send until the connection ends."""
        while True:
            attempt = self._attempt()
            if attempt is not None:
                await self._send_events(attempt)
                if attempt.finished is not None and not attempt.spool.unsent:
                    await self._finish(attempt.finished)
            await self._wake.wait()
            self._wake.clear()

    async def _finish(self, finished: Finished) -> NoReturn:
        while True:
            await self.send(finished)
            reached(Mark.R_FINISHED_SENT)
            # It is answered with `done`, always; if not, it is harmless to say it again.
            await asyncio.sleep(_FINISHED_AGAIN_SECONDS)

    async def _send_events(self, attempt: Attempt) -> None:
        spool = attempt.spool
        while spool.unsent:
            if spool.unsent_bytes < _BATCH_BYTES and attempt.finished is None:
                await self._pace()
            events = spool.take(_BATCH_BYTES)
            if not events:
                return  # enough is in flight: an acknowledgement wakes us
            run = to_json(attempt.assignment.run)
            number = attempt.assignment.attempt
            head = b'{"type":"events","run":%b,"attempt":%d,"events":[' % (run, number)
            await self._socket.send_frame(head + b",".join(events) + b"]}", WSMsgType.TEXT)
            reached(Mark.R_SENT)

    async def _pace(self) -> None:
        now = self._loop.time()
        self._tokens = min(_BURST, self._tokens + (now - self._counted) * _FRAMES_A_SECOND)
        self._counted = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / _FRAMES_A_SECOND)

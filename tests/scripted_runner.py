"""A runner whose every frame is the test's: it speaks to a real gateway over a real socket."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel

from plue.domain.run import RunId
from plue.wire import frames
from plue.wire.events import EventType, Reason, RunnerEvent, RunState

__all__ = ["Closed", "ScriptedRunner", "connected", "event"]

F = TypeVar("F", bound=BaseModel)
PATIENCE = 5.0


class Closed(Exception):  # noqa: N818 - it is an answer, not a fault
    """The gateway closed the socket."""


class ScriptedRunner:
    """One session of one runner."""

    def __init__(self, runner: str, token: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.runner = runner
        self.token = token
        self._socket = socket

    async def say(self, frame: BaseModel) -> None:
        await self._socket.send_str(frame.model_dump_json())

    async def say_raw(self, text: str) -> None:
        await self._socket.send_str(text)

    async def hello(self, holding: frames.Holding | None = None) -> None:
        await self.say(
            frames.Hello(
                protocol=frames.PROTOCOL, runner=self.runner, token=self.token, holding=holding
            )
        )

    async def hear(self, kind: type[F]) -> F:
        """Return the next frame, which must be of *kind*. Raises Closed."""
        message = await asyncio.wait_for(self._socket.receive(), PATIENCE)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise Closed(self._socket.close_code, message)
        frame = frames.from_gateway(message.data)
        assert isinstance(frame, kind), f"wanted {kind.__name__}, heard {frame}"
        return frame

    async def take(self) -> frames.Assignment:
        """Hear the assignment, accept it and hear the start."""
        assignment = (await self.hear(frames.Assign)).assignment
        await self.say(frames.Accepted(run=assignment.run, attempt=assignment.attempt))
        start = await self.hear(frames.Start)
        assert (assignment.run, assignment.attempt) == (start.run, start.attempt)
        return assignment

    async def events(self, assignment: frames.Assignment, events: Sequence[RunnerEvent]) -> None:
        await self.say(
            frames.Events(run=assignment.run, attempt=assignment.attempt, events=tuple(events))
        )

    async def finish(self, assignment: frames.Assignment, n: int, **fields: Any) -> None:
        values = {"state": RunState.SUCCEEDED, "reason": Reason.SUCCEEDED} | fields
        await self.say(
            frames.Finished(run=assignment.run, attempt=assignment.attempt, n=n, **values)
        )

    def stall(self) -> None:
        """Take nothing from the socket any more, so that its other end cannot write."""
        connection = self._socket._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.pause_reading()

    async def close(self) -> None:
        await self._socket.close()


@asynccontextmanager
async def connected(url: str, runner: str, token: str) -> AsyncGenerator[ScriptedRunner, None]:
    """Open a socket to the gateway at *url*; nothing is said yet."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/runner/v1/session", max_msg_size=0) as socket,
    ):
        yield ScriptedRunner(runner, token, socket)


def event(n: int, kind: EventType, step: str | None = "hello", **body: Any) -> RunnerEvent:
    """Return one event."""
    return RunnerEvent(n=n, type=kind, step=step, body=body)


FIRST_TRY: dict[str, Any] = {"try": 1}
"""A word of Python cannot name an argument."""


def hello_events(first: int = 1) -> list[RunnerEvent]:
    """Return the three events of a step that says hello."""
    return [
        event(first, EventType.STEP_STARTED, attempt=1, **FIRST_TRY, shown="echo hello"),
        event(first + 1, EventType.STEP_OUTPUT, attempt=1, stream="stdout", text="hello\n", line=1),
        event(
            first + 2, EventType.STEP_COMPLETED, attempt=1, state="succeeded", exit_code=0, tries=1
        ),
    ]


def run_id(assignment: frames.Assignment) -> RunId:
    """Return the assignment's run."""
    return RunId(assignment.run)

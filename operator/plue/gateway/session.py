"""One runner's session: frames in, frames out. What it knows, the database knows too."""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, assert_never

import structlog
from aiohttp import WSMessage, WSMsgType, web
from pydantic import BaseModel, ValidationError

from plue.domain.progress import step_values
from plue.domain.run import RunId, RunnerId
from plue.errors import ConflictError, FencedError, PlueError
from plue.gateway.recorder import Recorder
from plue.marks import Mark, reached
from plue.store.events import RunEnd
from plue.store.queue import ClaimKey
from plue.wire import frames
from plue.wire.events import EventType, RunnerEvent
from plue.wire.frames import Assignment
from plue.wire.plan import Await
from plue.wire.stages import Extension

__all__ = [
    "CLOSE_BAD_FRAME",
    "CLOSE_OUT_OF_STEP",
    "CLOSE_REVOKED",
    "CLOSE_TRY_AGAIN",
    "CLOSE_UNKNOWN",
    "Session",
]

_log = structlog.get_logger(__name__)

CLOSE_BAD_FRAME = 4400
CLOSE_UNKNOWN = 4401
CLOSE_OUT_OF_STEP = 4409
CLOSE_REVOKED = 4408
CLOSE_TRY_AGAIN = 1013

SEND_SECONDS = 5.0
"""A runner that takes no frame for so long is cut off; it holds up nobody else."""

GOODBYE_SECONDS = 2.0
"""How long a close may take, its frame's writing included."""

WINDOW_BYTES = 8 * 1024 * 1024
"""Bytes of a session that may wait for their commit; beyond it the socket is not read."""


class Session:
    """The live end of one runner's WebSocket."""

    def __init__(
        self,
        runner: RunnerId,
        epoch: int,
        socket: web.WebSocketResponse,
        recorder: Recorder,
        *,
        abort: Callable[[], None],
    ) -> None:
        """Speak to *runner* over *socket*, which *abort* breaks without a goodbye.

        ``epoch`` is the session's number in its row.
        """
        self._abort = abort
        self.runner = runner
        self.epoch = epoch
        self.is_over = False
        """Whether the attempt's end is recorded and was said."""
        self.renew_requested: list[float] = []
        self._socket = socket
        self._recorder = recorder
        self._assigned: Assignment | None = None
        self._stage = 1
        self._steps: set[str] = set()
        self._asked: set[tuple[str, str, int]] = set()
        self._acked = 0
        self._cancelled: frames.Cancel | None = None
        self._pending: deque[tuple[asyncio.Future[None], BaseModel | None, int]] = deque()
        self._pending_changed = asyncio.Event()
        self._pending_bytes = 0

    # ── towards the runner ───────────────────────────────────────────────────────────────────────

    async def send(self, frame: BaseModel) -> None:
        """Send a frame; a socket that is gone is found out by the reading side."""
        text = frame.model_dump_json(exclude_none=True)
        await self._written(self._socket.send_str(text), SEND_SECONDS)

    async def assign(self, assignment: Assignment, *, started: bool, acked: int) -> None:
        """Tell the runner its assignment, unless it knows it; safe to repeat.

        Once a session is enough: a socket delivers in order, or ends and begins with ``hello``.
        """
        if self._assigned is None:
            self._assigned, self._acked = assignment, acked
            self._steps = {step.name for step in assignment.plan.steps}
            self._learn(assignment.plan.awaits)
            if not started:
                await self.send(frames.Assign(assignment=assignment))
                reached(Mark.ASSIGNED)

    @property
    def waits_at(self) -> int | None:
        """The newest stage that the session knows; None when its plan does not grow."""
        return self._stage if self._asked else None

    async def extend(
        self,
        extensions: Sequence[Extension],
        *,
        held: int = 0,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """Tell the runner the next stages, unless it has them (up to *held*); safe to repeat.

        *secrets* are the values of those that the stages' steps name.
        """
        assigned = self._assigned
        for extension in extensions:
            if assigned is None or extension.stage != self._stage + 1:
                continue
            self._stage = extension.stage
            self._steps |= {placed.step.name for placed in extension.steps}
            self._learn(extension.awaits)
            if extension.stage > held:
                await self.send(
                    frames.Extend(
                        run=assigned.run,
                        attempt=assigned.attempt,
                        extension=extension,
                        secrets=dict(secrets or {}),
                    )
                )
                reached(Mark.STAGE_SENT)

    def _learn(self, awaits: Sequence[Await]) -> None:
        self._asked |= {(one.ref, one.field, one.tail or 0) for one in awaits}

    async def cancel(self, cancel: frames.Cancel) -> None:
        """Tell the runner to end its attempt; repeats are sent only when they are more urgent."""
        if self._cancelled is None or (cancel.now and not self._cancelled.now):
            self._cancelled = cancel
            await self.send(cancel)
            reached(Mark.CANCEL_PUSHED)

    async def dismiss(self) -> None:
        """Tell a runner that is needed no more to go."""
        if any(isinstance(answer, frames.Done) for _, answer, _ in self._pending):
            return  # it ended its run itself a moment ago: `done` is on its way
        if self._assigned is None:
            await self.send(frames.Retire())
        else:
            await self.send(frames.Fenced(run=self._assigned.run, attempt=self._assigned.attempt))

    async def close(self, code: int = 1001, message: bytes = b"") -> None:
        """Close the socket; the runner connects again when it still has something to say."""
        await self._written(self._socket.close(code=code, message=message), GOODBYE_SECONDS)

    async def _written(self, writing: Coroutine[Any, Any, object], seconds: float) -> None:
        """Await *writing*; after *seconds* break the connection, which ends it.

        Not by a timeout, which would cancel: aiohttp's writers of one socket wait for the same
        future, so that cancelling one makes the next ones look cancelled, and with them whoever
        called (aiohttp 3.14, ``BaseProtocol._drain_helper``).
        """
        timer = asyncio.get_running_loop().call_later(seconds, self._abort)
        try:
            await writing
        except (ConnectionError, RuntimeError):
            pass
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._abort()  # another writer of this socket was cancelled, and not we
        finally:
            timer.cancel()

    # ── from the runner ──────────────────────────────────────────────────────────────────────────

    async def serve(self) -> None:
        """Read frames until the socket ends. Order is kept; commits of one session overlap."""
        answers = asyncio.create_task(self._answer(), name=f"answers-{self.runner}")
        try:
            async for message in self._socket:
                if not await self._receive(message):
                    break
                await self._wait_for_room()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            for future, _, _ in self._pending:
                # Their commits may still come; nobody is left to be told.
                future.add_done_callback(_retrieve)

    async def _receive(self, message: WSMessage) -> bool:
        if message.type is not WSMsgType.TEXT:
            await self.close(CLOSE_BAD_FRAME, b"frames are text")
            return False
        try:
            frame = frames.from_runner(message.data)
            self._handle(frame, len(message.data))
        except (ValidationError, ConflictError) as error:
            _log.warning("bad_frame", runner=self.runner, error=_short(error))
            await self.close(CLOSE_BAD_FRAME, b"not a frame of protocol 1, or not in its place")
            return False
        return True

    def _handle(self, frame: frames.FromRunner, size: int) -> None:
        match frame:
            case frames.Hello():
                raise ConflictError("hello is the first frame only")
            case frames.Renew():
                self.renew_requested.append(frame.sent)
            case frames.Refused():
                _log.warning("assignment_refused", runner=self.runner, why=frame.message)
            case frames.Accepted():
                reached(Mark.ACCEPT_ARRIVED)
                key = self._key(frame.run, frame.attempt)
                start = frames.Start(run=frame.run, attempt=frame.attempt)
                self._wait(self._recorder.accept(key), start, size)
            case frames.Events():
                reached(Mark.EVENTS_ARRIVED)
                self._append(frame, size)
            case frames.Finished():
                reached(Mark.FINISH_ARRIVED)
                self._finish(frame, size)
            case _:
                assert_never(frame)

    def _key(self, run: str, attempt: int) -> ClaimKey:
        """Return whom a frame is about. Raises ConflictError when it cannot be anybody."""
        # The store would refuse it too, and with it for a moment what others send.
        if not (_RUN_ID.fullmatch(run) and 0 < attempt < 2**31):
            raise ConflictError(f"there is no attempt {attempt} of a run {run[:100]!r}")
        return ClaimKey(RunId(run), attempt, self.runner)

    def _append(self, frame: frames.Events, size: int) -> None:
        self._check(frame)
        fresh = [event for event in frame.events if event.n > self._acked]
        if not fresh:
            self._acknowledge_again(frame, size)
            return
        if fresh[0].n != self._acked + 1:
            raise ConflictError(f"event {self._acked + 1} is missing")
        self._acked = fresh[-1].n
        ack = frames.Ack(run=frame.run, attempt=frame.attempt, through=self._acked)
        key = self._key(frame.run, frame.attempt)
        future = self._recorder.append(key, fresh, answers=bool(self._asked) and _answers(fresh))
        self._wait(future, ack, size)

    def _acknowledge_again(self, frame: frames.Events, size: int) -> None:
        """Answer events that are stored, or on their way there, to a runner that does not know.

        It may have been welcomed just before they were stored, and its first step waits for the
        answer. After all that is on its way: nothing is acknowledged before it is stored.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stored.set_result(None)
        ack = frames.Ack(run=frame.run, attempt=frame.attempt, through=self._acked)
        self._wait(stored, ack, size)

    def _check(self, frame: frames.Events) -> None:
        """Refuse what a runner of this assignment cannot say. Raises ConflictError."""
        assigned = self._assigned
        if assigned is None or (frame.run, frame.attempt) != (assigned.run, assigned.attempt):
            # It may be a late frame of an attempt that went to another runner.
            if assigned is not None or not frame.events:
                raise ConflictError("these events are of another attempt")
            return
        numbers = [event.n for event in frame.events]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False:
            raise ConflictError("the events' numbers have gaps")
        for event in frame.events:
            self._check_event(event)

    def _check_event(self, event: RunnerEvent) -> None:
        """Refuse an event of a step outside the plan, of an engine's type, or of what none asked.

        Raises ConflictError.
        """
        if event.step is not None and event.step not in self._steps:
            raise ConflictError(f"there is no step {event.step[:100]!r} in the plan")
        if event.type.value.startswith(("run_", "plan_", "egress_")):
            raise ConflictError(f"{event.type} events are the engine's")
        sent = {(one.step, one.field, one.tail) for one in step_values([event])}
        if not sent <= self._asked:
            raise ConflictError(f"nobody asked for what {event.step!r} printed")

    def _finish(self, frame: frames.Finished, size: int) -> None:
        if not frame.state.is_end:
            raise ConflictError(f"{frame.state} is not an end")
        end = RunEnd(
            RunId(frame.run),
            frame.attempt,
            frame.state,
            frame.reason,
            frame.message,
            acked=min(frame.n, 2**31 - 1),
            outputs=dict(frame.outputs),
        )
        done = frames.Done(run=frame.run, attempt=frame.attempt)
        key = self._key(frame.run, frame.attempt)
        self._wait(self._recorder.finish(key, end), done, size)

    # ── commits ──────────────────────────────────────────────────────────────────────────────────

    def _wait(self, future: asyncio.Future[None], answer: BaseModel | None, size: int) -> None:
        self._pending.append((future, answer, size))
        self._pending_bytes += size
        self._pending_changed.set()

    async def _wait_for_room(self) -> None:
        while self._pending_bytes > WINDOW_BYTES:
            with contextlib.suppress(PlueError):
                await asyncio.shield(self._pending[0][0])
            await asyncio.sleep(0)

    async def _answer(self) -> None:
        """Send each answer when its commit is done, in the order of the frames."""
        while True:
            while not self._pending:
                self._pending_changed.clear()
                await self._pending_changed.wait()
            future, answer, size = self._pending[0]
            try:
                await asyncio.shield(future)
            except FencedError:
                await self._fenced(answer)
            except PlueError as error:
                _log.warning("session_out_of_step", runner=self.runner, error=error.message)
                await self.close(CLOSE_OUT_OF_STEP, b"say hello again")
                return
            else:
                if answer is not None and not self._is_covered(answer):
                    await self.send(answer)
                    reached(_SENT[type(answer)])
                self.is_over = self.is_over or isinstance(answer, frames.Done)
            finally:
                if future.done():
                    self._pending.popleft()
                    self._pending_bytes -= size

    def _is_covered(self, answer: BaseModel) -> bool:
        """Whether the next answer, which is due already, acknowledges what this one does."""
        if len(self._pending) < 2 or not isinstance(answer, frames.Ack):  # noqa: PLR2004 - itself and one more
            return False
        future, following, _ = self._pending[1]
        settled = future.done() and not future.cancelled() and future.exception() is None
        return settled and isinstance(following, frames.Ack) and following.run == answer.run

    async def _fenced(self, answer: BaseModel | None) -> None:
        if isinstance(answer, frames.Start | frames.Ack | frames.Done):
            await self.send(frames.Fenced(run=answer.run, attempt=answer.attempt))


_RUN_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_SENT = {
    frames.Start: Mark.STARTED,
    frames.Ack: Mark.ACKNOWLEDGED,
    frames.Done: Mark.DONE_SENT,
}


def _answers(events: Sequence[RunnerEvent]) -> bool:
    """Whether *events* may answer what the workflow's code asks for."""
    return any(e.type in {EventType.STEP_COMPLETED, EventType.STEP_VALUES} for e in events)


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def _short(error: Exception) -> str:
    return str(error)[:300]

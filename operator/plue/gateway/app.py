"""The gateway: the aiohttp application that runners connect to, and its table of sessions."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial

import structlog
from aiohttp import WSMsgType, web
from pydantic import ValidationError

from plue.domain.run import RunnerId
from plue.ending import end_tasks
from plue.engine.loop import Loop
from plue.engine.ports import Identity
from plue.engine.secrets import secrets_for
from plue.engine.service import Engine
from plue.errors import NotFoundError, RejectedError, UnavailableError
from plue.gateway.assignments import assignment_of
from plue.gateway.caches import CacheRoutes, credentials_of
from plue.gateway.llm.proxy import ModelProxy
from plue.gateway.llm.settings import Models
from plue.gateway.recorder import Recorder
from plue.gateway.session import (
    CLOSE_BAD_FRAME,
    CLOSE_REVOKED,
    CLOSE_TRY_AGAIN,
    CLOSE_UNKNOWN,
    Session,
)
from plue.marks import Mark, reached
from plue.store.lifecycle import PendingCancel
from plue.store.queue import OpenAssignment
from plue.store.runners import HelloAnswer
from plue.wire import frames
from plue.wire.events import RunState
from plue.wire.plan import Step, secrets_of

__all__ = ["Gateway"]

_log = structlog.get_logger(__name__)

HELLO_SECONDS = 10.0
RENEW_EVERY = 1.0
SWEEP_EVERY = 60.0
HEARTBEAT_SECONDS = 20.0
"""A socket whose other end is silent for one and a half of these is half open, and is closed."""

CLOSE_SECONDS = 1.0
"""How long closing waits for the other end's goodbye."""


class Gateway:
    """Holds the runners' sessions of this process; implements ``engine.ports.Sessions``."""

    def __init__(
        self, *, engine: Engine, models: Models | None = None, identity: Identity | None = None
    ) -> None:
        """Serve the runners of *engine*; *models* says who answers for models, and for how much.

        *identity* knows runners that were given no token of ours. Needs a running event loop.
        """
        self._identity = identity
        self.name = f"gateway-{secrets.token_hex(6)}"
        self._engine = engine
        self._context = engine.context
        self._sessions: dict[RunnerId, Session] = {}
        self._recorder = Recorder(engine.context)
        metrics = engine.context.metrics
        poll = engine.context.settings.poll.total_seconds()
        self._attend = Loop("attend", self._attend_pass, every=poll, metrics=metrics)
        self._renew = Loop("renew", self._renew_pass, every=RENEW_EVERY, metrics=metrics)
        self._tasks: set[asyncio.Task[None]] = set()
        self.app = web.Application()
        self.app.router.add_get("/runner/v1/session", self._session)
        self.app.router.add_get("/runner/v1/blobs/{blob}", self._blob)
        CacheRoutes(engine.context, engine.blobs).routes(self.app)
        models = models or Models()
        self._models = ModelProxy(engine.context, models.settings, models.provider)
        self._models.routes(self.app)
        self._sweep = Loop("usage", self._models.sweep, every=SWEEP_EVERY, metrics=metrics)
        engine.attach(self)
        self._attend.start()
        self._renew.start()
        self._sweep.start()

    async def close(self) -> None:
        """Close all sessions; the runners connect again to whoever comes next."""
        await self._attend.close()
        await self._renew.close()
        await self._sweep.close()
        await asyncio.gather(*(s.close() for s in list(self._sessions.values())))
        await self._recorder.close()
        await end_tasks(list(self._tasks))

    # ── engine.ports.Sessions ────────────────────────────────────────────────────────────────────

    def attend(self) -> None:
        """Look into the store for what the runners here must be told."""
        self._attend.wake()

    def budget_changed(self) -> None:
        """Let model calls that wait for a budget look again."""
        self._models.budget_changed()

    def assign(self, runners: Sequence[RunnerId]) -> None:
        """Push the open assignments of these runners at once."""
        self._spawn(self._assign(runners))

    def extend(self, runners: Sequence[RunnerId]) -> None:
        """Push the stages that these runners do not have yet, at once."""
        self._spawn(self._extend(runners))

    async def _extend(self, runners: Sequence[RunnerId]) -> None:
        # When the store is away, the attend pass finds the stages later.
        with contextlib.suppress(UnavailableError):
            await self._send_stages(runners)

    async def _send_stages(self, runners: Sequence[RunnerId], *, held: int = 0) -> None:
        sessions = {r: s for r in runners if (s := self._sessions.get(r)) is not None}
        known = {r: stage for r, s in sessions.items() if (stage := s.waits_at) is not None}
        if known:
            for runner, extensions in (await self._context.stages.after(known)).items():
                named = [placed.step for one in extensions for placed in one.steps]
                values = await self._secrets(runner, named)
                await sessions[runner].extend(extensions, held=held, secrets=values)

    async def _secrets(self, runner: RunnerId, steps: Sequence[Step]) -> Mapping[str, str]:
        if not secrets_of(steps):
            return {}
        allowed = await self._context.runs.secrets_from_at(runner)
        return await secrets_for(self._context.secrets, steps, allowed)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _assign(self, runners: Sequence[RunnerId]) -> None:
        # When the store is away, the attend pass finds the claims later.
        with contextlib.suppress(UnavailableError):
            found = await self._context.queue.assignments(runners)
            # Beside each other: a runner that takes nothing must not cost another its claim.
            await asyncio.gather(*(self._tell(one) for one in found))

    async def _tell(self, found: OpenAssignment) -> None:
        session = self._sessions.get(found.key.runner)
        if session is not None:
            await session.assign(
                await assignment_of(found, self._context.settings, self._context.secrets),
                started=found.started,
                acked=found.acked,
            )

    async def _attend_pass(self) -> None:
        if not self._sessions:
            return
        context, runners = self._context, list(self._sessions)
        await self._assign(await context.queue.open_claims(self.name))
        await self._extend(runners)
        cancels = await context.lifecycle.cancels_of(runners)
        await asyncio.gather(*(self._cancel(cancel) for cancel in cancels))
        retired = await context.runners.retired_at(self.name)
        leaving = [s for runner in retired if (s := self._sessions.get(runner)) is not None]
        await asyncio.gather(*(session.dismiss() for session in leaving))

    async def _cancel(self, cancel: PendingCancel) -> None:
        session = self._sessions.get(cancel.key.runner)
        if session is None:
            return
        await session.cancel(
            frames.Cancel(
                run=cancel.key.run,
                attempt=cancel.key.attempt,
                state="timed_out" if cancel.state is RunState.TIMED_OUT else "cancelled",
                reason=cancel.reason,
                message=cancel.message,
                now=cancel.now,
            )
        )

    async def _renew_pass(self) -> None:
        asking = {r: s for r, s in self._sessions.items() if s.renew_requested}
        if not asking:
            return
        sent = {runner: max(session.renew_requested) for runner, session in asking.items()}
        for session in asking.values():
            session.renew_requested.clear()
        renewed = await self._context.runners.renew(
            list(asking), gateway=self.name, lease=self._context.settings.lease
        )
        if renewed:
            reached(Mark.RENEWED)
        await asyncio.gather(*(asking[r].send(frames.Renewed(sent=sent[r])) for r in renewed))

    # ── a runner connects ────────────────────────────────────────────────────────────────────────

    async def _session(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS,
            max_msg_size=frames.MAX_FRAME_BYTES,
            compress=False,
            timeout=CLOSE_SECONDS,
        )
        await socket.prepare(request)
        hello = await _hello(socket)
        if hello is None:
            await socket.close(code=CLOSE_BAD_FRAME, message=b"say hello first")
            return socket
        try:
            await self._serve(socket, hello, partial(_abort, request))
        except UnavailableError:
            # No verdict: the runner keeps what it has and tries again.
            await socket.close(code=CLOSE_TRY_AGAIN, message=b"the store is away")
        return socket

    async def _serve(
        self, socket: web.WebSocketResponse, hello: frames.Hello, abort: Callable[[], None]
    ) -> None:
        answer, token = await self._answer(hello)
        if answer is None:
            await socket.close(code=CLOSE_UNKNOWN, message=b"unknown runner or wrong token")
            return
        reached(Mark.HELLO_RECORDED)
        session = Session(RunnerId(hello.runner), answer.epoch, socket, self._recorder, abort=abort)
        older = self._sessions.get(session.runner)
        self._sessions[session.runner] = session
        self._context.metrics.sessions.set(len(self._sessions))
        if older is not None:
            # Beside the newer one: the older may be half open and slow to close.
            self._spawn(older.close(CLOSE_REVOKED, b"a newer session of this runner stands"))
        try:
            if await self._welcome(session, hello, answer, token):
                await session.serve()
        finally:
            await self._closed(session)

    async def _answer(self, hello: frames.Hello) -> tuple[HelloAnswer | None, str | None]:
        """Return how the runner stands, and the token that it is to use from here on."""
        if hello.protocol != frames.PROTOCOL or "\0" in hello.runner:
            return None, None
        runner = RunnerId(hello.runner)
        answer = await self._hello(runner, hello.token)
        if answer is not None or self._identity is None:
            return answer, None
        # Not a session's token, so perhaps what its host gave it to prove who it is; that is
        # looked at once, before the runner's first session.
        if not await self._identity.is_runner(runner, hello.token):
            return None, None
        token = secrets.token_urlsafe(32)
        if not await self._context.runners.admit(runner, token):
            return None, None
        return await self._hello(runner, token), token

    async def _hello(self, runner: RunnerId, token: str) -> HelloAnswer | None:
        return await self._context.runners.hello(
            runner, token, gateway=self.name, lease=self._context.settings.lease
        )

    async def _welcome(
        self, session: Session, hello: frames.Hello, answer: HelloAnswer, token: str | None
    ) -> bool:
        """Say how things stand; False when the runner is to go."""
        found = (
            await self._context.queue.assignments([session.runner])
            if answer.state == "claimed"
            else []
        )
        held, current = hello.holding, found[0] if found else None
        if held is not None and (
            current is None or (held.run, held.attempt) != (current.key.run, current.key.attempt)
        ):
            await session.send(frames.Fenced(run=held.run, attempt=held.attempt))
            return False
        if answer.state == "retired" or (held is None and current is not None and current.started):
            # A started attempt that its runner does not know: this is another process.
            await session.send(frames.Retire(message="not needed any more"))
            return False
        lease = self._context.settings.lease.total_seconds()
        await session.send(
            frames.Welcome(
                epoch=session.epoch,
                lease_seconds=lease,
                holding=_holding(current),
                session=token,
            )
        )
        reached(Mark.WELCOMED)
        if current is not None:
            await self._tell(current)
            await self._send_stages([session.runner], held=1 if held is None else held.stage)
            self._context.wake_stages(current.key.run)
            self._attend.wake()
        else:
            self._context.wake_claims()
        return True

    async def _closed(self, session: Session) -> None:
        if self._sessions.get(session.runner) is session:
            del self._sessions[session.runner]
            self._context.metrics.sessions.set(len(self._sessions))
        reached(Mark.SESSION_CLOSED)
        if session.is_over:
            return  # its end has retired the runner: who held it concerns nobody any more
        # Away: the row keeps this gateway's name, and a claim by it comes back after 2 s.
        with contextlib.suppress(UnavailableError):
            await self._context.runners.session_closed(
                session.runner, gateway=self.name, epoch=session.epoch
            )

    # ── archives ─────────────────────────────────────────────────────────────────────────────────

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        runner, token = credentials_of(request)
        blob = request.match_info["blob"]
        if "\0" in blob or not await self._context.runners.may_read_blob(runner, token, blob):
            raise web.HTTPForbidden
        try:
            return web.FileResponse(await self._engine.archives.path(blob))
        except (NotFoundError, RejectedError) as error:
            raise web.HTTPNotFound from error


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _hello(socket: web.WebSocketResponse) -> frames.Hello | None:
    try:
        message = await socket.receive(timeout=HELLO_SECONDS)
        if message.type is not WSMsgType.TEXT:
            return None
        frame = frames.from_runner(message.data)
    except (TimeoutError, ValidationError):
        return None
    return frame if isinstance(frame, frames.Hello) else None


def _holding(current: OpenAssignment | None) -> frames.Holding | None:
    if current is None:
        return None
    return frames.Holding(
        run=current.key.run,
        attempt=current.key.attempt,
        acked=current.acked,
        started=current.started,
    )

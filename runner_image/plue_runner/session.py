"""The runner's side of the protocol: connect, say what is held, obey, report, renew, end.

A connection may be cut at any moment: everything is sent again or asked for again after the next
``hello``. What must not happen is that two runners execute one attempt; so the runner counts its
lease by its own clock from the moment it *asked* for it, and kills its steps when it runs out.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    WSCloseCode,
    WSMsgType,
    WSServerHandshakeError,
)
from pydantic import ValidationError

from plue.errors import UnavailableError
from plue.marks import Mark, reached
from plue.wire.frames import (
    MAX_FRAME_BYTES,
    PROTOCOL,
    Accepted,
    Ack,
    Assign,
    Assignment,
    Cancel,
    Done,
    Extend,
    Fenced,
    FromGateway,
    Hello,
    Holding,
    Refused,
    Renew,
    Renewed,
    Retire,
    Start,
    Welcome,
)
from plue_runner.attempt import Attempt
from plue_runner.deadlines import Lease, Patience
from plue_runner.faults import Fault
from plue_runner.gateway import Gateway
from plue_runner.home import Home
from plue_runner.incoming import Incoming, parsed_frame
from plue_runner.process import Family
from plue_runner.sender import Sender
from plue_runner.step import ModelAccess

__all__ = ["Exit", "Options", "Session"]

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.05, 2.0
_HANDSHAKE_SECONDS = 10.0
_WELCOME_SECONDS = 10.0
_HEARTBEAT_SECONDS = 20.0
_RENEWALS_PER_LEASE = 6
_LAST_WORDS_SECONDS = 2.0
_NOT_OURS = 4401


class Exit(IntEnum):
    """The exit codes of the runner's process."""

    DONE = 0  # the attempt's end is recorded, or an idle runner was asked to go
    FENCED = 3  # the attempt, or this runner, is not wanted any more
    LEASE = 4  # the lease could not be renewed; the steps were killed
    NO_GATEWAY = 5  # idle, and no gateway for too long
    TERMINATED = 6  # busy, and asked to go by a signal


@dataclass(frozen=True, slots=True)
class Options:
    """What the runner is told when it is started.

    ``host_explains``: who signals the runner to end is the host's to say, so that an eviction is
    not told as a run's own failure.
    """

    runner: str
    token: str
    home: Path
    gateway: str | None = None
    gateway_file: Path | None = None
    idle_seconds: float = 60.0
    host_explains: bool = False


class Session:
    """One runner from its first connection to its end."""

    def __init__(self, options: Options, http: ClientSession, family: Family, home: Home) -> None:
        """Use what was prepared before the claim."""
        self._options = options
        self._http = http
        self._family = family
        self._home = home
        self._gateway = Gateway(
            url=options.gateway,
            file=options.gateway_file,
            runner=options.runner,
            token=options.token,
            http=http,
        )
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[Exit] = self._loop.create_future()
        self._wake = asyncio.Event()
        self._attempt: Attempt | None = None
        self._work: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._lease = Lease(lambda: self._end(Exit.LEASE))
        self._patience = Patience(options.idle_seconds, lambda: self._end(Exit.NO_GATEWAY))

    async def run(self) -> Exit:
        """Serve until the end; nothing of the runner's own is left when this returns."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._terminate)
        connecting = asyncio.create_task(self._connect_forever())
        self._patience.wait()
        connecting.add_done_callback(self._fail_with)
        try:
            return await self._over
        finally:
            await self._drop()
            connecting.cancel()
            await asyncio.wait([connecting])

    def _fail_with(self, task: asyncio.Task[NoReturn]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._over.done():
            self._over.set_exception(error)

    def _end(self, code: Exit) -> None:
        if not self._over.done():
            self._over.set_result(code)

    async def _drop(self) -> None:
        """Kill every process and forget the attempt."""
        if self._attempt is not None:
            self._attempt.halt()
            self._attempt.spool.close()
        if self._work is not None:
            self._work.cancel()
        await self._family.kill_all()

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    async def _connect_forever(self) -> NoReturn:
        backoff = _FIRST_BACKOFF
        while True:
            before = self._progress
            try:
                await self._connect()
            except WSServerHandshakeError as error:
                if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                    self._turned_away()
            except (ClientError, OSError, TimeoutError, UnavailableError):
                pass  # it is away, or going: wait and try again
            if self._attempt is None:
                self._patience.wait()
            if before != self._progress:
                backoff = _FIRST_BACKOFF
            # Jitter, so that many runners do not come back at once.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            backoff = min(2 * backoff, _LONGEST_BACKOFF)

    async def _connect(self) -> None:
        """Serve one connection to its end."""
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            socket = await self._http.ws_connect(
                f"{self._gateway.base()}/runner/v1/session",
                headers=self._gateway.headers,
                max_msg_size=MAX_FRAME_BYTES,
                heartbeat=_HEARTBEAT_SECONDS,
                timeout=ClientWSTimeout(ws_close=1.0),
            )
        async with socket:
            sender = Sender(socket, self._wake, lambda: self._attempt)
            await sender.send(self._hello())
            reached(Mark.R_HELLO)
            incoming = await self._receive(socket, _WELCOME_SECONDS)
            if incoming is None:
                if socket.close_code == _NOT_OURS:
                    self._turned_away()
                elif socket.close_code == WSCloseCode.TRY_AGAIN_LATER:
                    self._patience.stop()  # there is a gateway; what it needs is away
            elif isinstance(incoming.frame, Welcome):
                await self._serve(socket, sender, incoming)
            else:
                # In the place of a welcome: we are not wanted any more.
                await self._obey(sender, incoming)

    @property
    def _progress(self) -> tuple[bool, bool, int]:
        """What a connection brings forward; one that brings nothing is not repeated in haste."""
        acked = 0 if self._attempt is None else self._attempt.spool.acked
        return self._attempt is not None, self._work is not None, acked

    def _turned_away(self) -> None:
        # A busy runner goes on trying until its lease ends: the refusal may be a passing fault.
        if self._attempt is None:
            self._end(Exit.FENCED)

    def _hello(self) -> Hello:
        holding = None
        if self._attempt is not None:
            holding = Holding(
                run=self._attempt.assignment.run,
                attempt=self._attempt.assignment.attempt,
                acked=self._attempt.spool.acked,
                started=self._work is not None,
                stage=self._attempt.stage,
            )
        return Hello(
            protocol=PROTOCOL,
            runner=self._options.runner,
            token=self._gateway.token,
            pid=os.getpid(),
            holding=holding,
        )

    async def _receive(
        self, socket: ClientWebSocketResponse, seconds: float | None = None
    ) -> Incoming | None:
        """Return the next frame that can be understood; None at the connection's end."""
        while True:
            message = await socket.receive(seconds)
            if message.type is not WSMsgType.TEXT:
                return None
            try:
                return parsed_frame(message.data)
            except ValidationError as error:
                # A newer gateway may say more than we know; what we must know, we cannot guess.
                sys.stderr.write(f"ignored a frame: {error}\n")

    async def _serve(
        self, socket: ClientWebSocketResponse, sender: Sender, welcome: Incoming
    ) -> None:
        self._patience.stop()
        await self._obey(sender, welcome)
        self._wake.set()
        tasks = [
            asyncio.create_task(_closing(socket, sender.run())),
            asyncio.create_task(_closing(socket, self._renew_forever(sender))),
        ]
        try:
            while (incoming := await self._receive(socket)) is not None:
                await self._obey(sender, incoming)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew_forever(self, sender: Sender) -> None:
        while True:
            await sender.send(Renew(sent=self._lease.now()))
            await asyncio.sleep(self._lease.seconds / _RENEWALS_PER_LEASE)

    # ── frames ───────────────────────────────────────────────────────────────────────────────────

    async def _obey(self, sender: Sender, incoming: Incoming) -> None:
        frame: FromGateway = incoming.frame
        match frame:
            case Welcome():
                await self._on_welcome(sender, frame, incoming.problem)
            case Assign():
                await self._on_assign(sender, frame.assignment, incoming.problem)
            case Start() if self._holds(frame):
                self._begin()
            case Extend() | Ack() | Cancel() if self._attempt is not None and self._holds(frame):
                self._tell(self._attempt, frame)
            case Renewed():
                self._lease.renewed(frame.sent)
            case Fenced() if self._holds(frame):
                self._end(Exit.FENCED)
            case Done() if self._holds(frame):
                reached(Mark.R_DONE)
                self._end(Exit.DONE)
            case Retire() if self._attempt is None:
                self._end(Exit.DONE)
            case _:
                pass  # about another attempt, or said twice

    def _tell(self, attempt: Attempt, frame: Extend | Ack | Cancel) -> None:
        match frame:
            case Extend():
                attempt.extend(frame.extension, frame.secrets)
                reached(Mark.R_EXTENDED)
            case Ack():
                attempt.spool.ack(frame.through)
                reached(Mark.R_ACKED)
                self._wake.set()
            case Cancel():
                attempt.cancel(frame)
                reached(Mark.R_CANCEL)
                self._begin()

    def _holds(self, frame: Start | Extend | Ack | Cancel | Fenced | Done | Holding) -> bool:
        if self._attempt is None:
            return False
        mine = self._attempt.assignment
        return (frame.run, frame.attempt) == (mine.run, mine.attempt)

    async def _on_welcome(self, sender: Sender, frame: Welcome, problem: Fault | None) -> None:
        self._lease.seconds = frame.lease_seconds
        self._gateway.token = frame.session or self._gateway.token
        if self._attempt is None and frame.assignment is not None:
            await self._on_assign(sender, frame.assignment, problem)
        elif self._attempt is not None:
            self._attempt.spool.rewind(0)
        holding = frame.holding
        if holding is None or self._attempt is None:
            return
        if not self._holds(holding):
            self._end(Exit.FENCED)
            return
        self._attempt.spool.rewind(holding.acked)
        if holding.started:
            self._begin()
        elif self._work is None:
            await self._accept(sender)

    async def _on_assign(
        self, sender: Sender, assignment: Assignment, problem: Fault | None
    ) -> None:
        held = None if self._attempt is None else self._attempt.assignment
        if held is None:
            self._take(assignment, problem)
        elif (held.run, held.attempt) != (assignment.run, assignment.attempt):
            refused = Refused(
                run=assignment.run, attempt=assignment.attempt, message=f"busy with {held.run}"
            )
            await sender.send(refused)
            return
        await self._accept(sender)

    def _take(self, assignment: Assignment, problem: Fault | None) -> None:
        self._attempt = Attempt(
            assignment,
            home=self._home,
            runner=self._options.runner,
            family=self._family,
            download=self._gateway.download,
            # Not the options': after the first hello it is the session's that the store knows.
            models=ModelAccess(self._gateway.base, self._gateway.token),
            caches=self._gateway,
            wake=self._wake.set,
            problem=problem,
        )
        self._lease.begin()
        self._patience.stop()
        reached(Mark.R_TAKEN)

    async def _accept(self, sender: Sender) -> None:
        if self._attempt is not None:
            mine = self._attempt.assignment
            await sender.send(Accepted(run=mine.run, attempt=mine.attempt))
            reached(Mark.R_ACCEPTED)

    def _begin(self) -> None:
        if self._work is None and self._attempt is not None:
            reached(Mark.R_BEGUN)
            self._work = asyncio.create_task(self._attempt.run())

    # ── signals ──────────────────────────────────────────────────────────────────────────────────

    def _terminate(self) -> None:
        if self._attempt is None:
            self._end(Exit.DONE)
        elif self._ending is None:
            self._ending = asyncio.create_task(self._say_last_words())

    async def _say_last_words(self) -> None:
        if self._work is not None:
            self._work.cancel()
        if self._attempt is not None:
            self._attempt.halt()
        await self._family.kill_all()
        if self._attempt is not None and not self._options.host_explains:
            self._attempt.lost("the runner was asked to end by a signal")
        # `done` ends the session earlier.
        await asyncio.sleep(_LAST_WORDS_SECONDS)
        self._end(Exit.TERMINATED)


async def _closing(socket: ClientWebSocketResponse, sending: Coroutine[None, None, None]) -> None:
    """Await *sending*; when it fails, close *socket*, so that its receiver ends too."""
    try:
        await sending
    except (ClientError, OSError):
        await socket.close()


async def serve(options: Options) -> Exit:
    """Prepare everything that a claim needs, and serve until the end."""
    home = Home(options.home)
    family = Family(options.runner)
    timeout = ClientTimeout(total=None, sock_connect=5)
    async with ClientSession(timeout=timeout) as http:
        try:
            return await Session(options, http, family, home).run()
        finally:
            family.close()
            home.remove()

"""A gateway that follows a script: the other side of the runner's protocol, on loopback.

It stores events as the real one does (by number, dropping doubles) and notes every breach of the
protocol. What a test wants to go wrong, it says by the fields of :class:`ScriptedGateway`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from aiohttp import WSMsgType, web

from plue.wire.events import EventType, RunnerEvent
from plue.wire.frames import (
    Accepted,
    Ack,
    Assign,
    Assignment,
    Cancel,
    Done,
    Events,
    Fenced,
    Finished,
    FromRunner,
    Hello,
    Holding,
    Limits,
    Refused,
    Renew,
    Renewed,
    Retire,
    Start,
    Welcome,
    from_runner,
)
from plue.wire.plan import End, Lit, Plan, Shell, Step, Text

__all__ = ["Answer", "Process", "ScriptedGateway", "a_plan", "an_assignment", "argv", "lit", "sh"]

Answer = Welcome | Assign | Start | Ack | Cancel | Renewed | Fenced | Done | Retire

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-a-test"
PATIENCE = 30.0


def lit(text: str) -> Text:
    """Return the author's own text."""
    return (Lit(text=text),)


def sh(name: str, script: str, *, using: str = "sh", **fields: object) -> Step:
    """Return a step that runs *script*; ``holes`` and ``stdin`` go to its action."""
    action = {key: fields.pop(key) for key in ("holes", "stdin") if key in fields}
    made = Shell(script=script, shell=using, shown=script, **action)  # type: ignore[arg-type]
    return Step(name=name, action=made, **fields)  # type: ignore[arg-type]


def argv(name: str, *words: str, **fields: object) -> Step:
    """Return a step that starts a program without a shell."""
    made = Shell(argv=tuple(lit(word) for word in words), shown=" ".join(words))
    return Step(name=name, action=made, **fields)  # type: ignore[arg-type]


def a_plan(*steps: Step, **fields: object) -> Plan:
    """Return a plan of one stage."""
    fields.setdefault("end", End())
    return Plan(workflow="test", revision="r1", steps=steps, **fields)  # type: ignore[arg-type]


def an_assignment(*steps: Step, plan: Plan | None = None, **fields: object) -> Assignment:
    """Return an assignment of attempt 1; ``limits`` have a short grace by default."""
    fields.setdefault("limits", Limits(grace_seconds=5))
    return Assignment(
        run="00000000-0000-4000-8000-000000000001",
        run_name="test-1",
        attempt=1,
        plan=plan or a_plan(*steps),
        **fields,  # type: ignore[arg-type]
    )


@dataclass
class ScriptedGateway:
    """One gateway with at most one run."""

    assignment: Assignment | None = None
    assign_on_hello: bool = True
    start_on_accepted: bool = True
    answers_finished: bool = True
    renews: bool = True
    acks: bool = True
    twice: bool = False  # say everything twice
    lease_seconds: float = 60.0
    instead_of_welcome: Fenced | Retire | None = None
    refuses: int | None = None  # answer the handshake with this status
    cut_when: Callable[[FromRunner], bool] | None = None  # cut instead of handling the frame
    cut_after: Callable[[FromRunner], bool] | None = None  # handle it, answer nothing, cut
    blobs: dict[str, bytes] = field(default_factory=dict)

    events: list[RunnerEvent] = field(default_factory=list)
    frames: list[FromRunner] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    finished: Finished | None = None
    accepted: bool = False
    ended: bool = False
    connections: int = 0
    cuts: int = 0
    base: str = ""
    keep_events: bool = True
    stored: int = 0

    def __post_init__(self) -> None:
        """Prepare the signals that tests wait on."""
        self.changed = asyncio.Condition()
        self.socket: web.WebSocketResponse | None = None
        self._cut_socket: web.WebSocketResponse | None = None
        self._told = 0
        self._port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedGateway"]:
        """Serve on a free port, the same one each time."""
        app = web.Application()
        app.router.add_get("/runner/v1/session", self._session)
        app.router.add_get("/runner/v1/blobs/{blob}", self._blob)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = runner.addresses[0][1]
        self.base = f"http://127.0.0.1:{self._port}"
        try:
            yield self
        finally:
            if self.socket is not None:
                self._cut(self.socket)
            await runner.cleanup()

    # ── the protocol ─────────────────────────────────────────────────────────────────────────────

    async def _blob(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.breaches.append("a blob was asked for without the token")
        content = self.blobs.get(request.match_info["blob"])
        return web.Response(status=404) if content is None else web.Response(body=content)

    async def _session(self, request: web.Request) -> web.StreamResponse:
        if self.refuses is not None:
            return web.Response(status=self.refuses)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.breaches.append("a session was opened without the token")
        socket = web.WebSocketResponse(max_msg_size=8 * 1024 * 1024)
        await socket.prepare(request)
        self.socket = socket
        self.connections += 1
        async for message in socket:
            # What comes after a cut was lost on the way.
            if message.type is not WSMsgType.TEXT or socket is self._cut_socket:
                break
            if len(message.data) > 1024 * 1024:
                self.breaches.append(f"a frame of {len(message.data)} characters")
            await self._handle(socket, from_runner(message.data))
        return socket

    async def _handle(self, socket: web.WebSocketResponse, frame: FromRunner) -> None:
        if not isinstance(frame, Events | Renew):
            self.frames.append(frame)
        if self.cut_when is not None and self.cut_when(frame):
            self.cuts += 1
            self._cut(socket)
            return
        answers = self._answers(frame)
        if self.cut_after is not None and self.cut_after(frame):
            self.cuts += 1
            self._cut(socket)
        elif not socket.closed:
            for answer in answers:
                for _ in range(2 if self.twice else 1):
                    with suppress(ConnectionError):
                        await socket.send_str(self.encoded(answer))
        async with self.changed:
            self.changed.notify_all()

    def _answers(self, frame: FromRunner) -> list[Answer]:
        match frame:
            case Hello():
                return self._welcome(frame)
            case Accepted():
                self.accepted = True
                return [self.start()] if self.start_on_accepted else []
            case Events():
                self._store(frame)
                return [self._ack()] if self.acks else []
            case Finished():
                return self._finish(frame)
            case Renew():
                return [Renewed(sent=frame.sent)] if self.renews else []
            case Refused():
                return []

    def _welcome(self, hello: Hello) -> list[Answer]:
        if self.instead_of_welcome is not None:
            return [self.instead_of_welcome]
        open_now = self.assignment is not None and not self.ended
        holding = None
        if open_now and (self.accepted or hello.holding is not None):
            self._told = self.stored
            holding = Holding(
                run=self._run.run, attempt=1, acked=self.stored, started=self.accepted
            )
        welcome = Welcome(
            epoch=self.connections,
            lease_seconds=self.lease_seconds,
            holding=holding,
            assignment=self.assignment if holding is not None and not hello.holding else None,
        )
        first_time = open_now and holding is None and self.assign_on_hello
        return [welcome, self.assign()] if first_time else [welcome]

    def _store(self, frame: Events) -> None:
        for event in frame.events:
            if event.n <= self._told:
                self.breaches.append(f"{event.n} came again, although it was said to be stored")
            elif event.n > self.stored + 1:
                self.breaches.append(f"{event.n} came after {self.stored}")
            elif event.n == self.stored + 1:
                self.stored = event.n
                if self.finished is not None and event.n > self.finished.n:
                    self.breaches.append(f"{event.n} came after the end")
                if self.keep_events:
                    self.events.append(event)

    def _finish(self, frame: Finished) -> list[Answer]:
        if frame.n != self.stored:
            self.breaches.append(f"finished says {frame.n}, and {self.stored} are stored")
        if self.finished is not None and frame != self.finished:
            self.breaches.append("two different ends")
        self.finished = frame
        if not self.answers_finished:
            return []
        self.ended = True
        return [self.done()]

    @property
    def _run(self) -> Assignment:
        assert self.assignment is not None
        return self.assignment

    def assign(self) -> Assign:
        """Return the frame that assigns the run."""
        return Assign(assignment=self._run)

    def encoded(self, frame: Answer) -> str:
        """Return the text in which *frame* is sent."""
        return frame.model_dump_json()

    def start(self, attempt: int = 1) -> Start:
        """Return the frame that starts the run."""
        return Start(run=self._run.run, attempt=attempt)

    def _ack(self) -> Ack:
        return Ack(run=self._run.run, attempt=1, through=self.stored)

    def done(self) -> Done:
        """Return the frame that says the end is recorded."""
        return Done(run=self._run.run, attempt=1)

    # ── for tests ────────────────────────────────────────────────────────────────────────────────

    def _cut(self, socket: web.WebSocketResponse) -> None:
        self._cut_socket = socket
        # As a network does it: no close frame, no warning.
        transport = socket._req.transport if socket._req is not None else None
        if transport is not None:
            transport.abort()

    def cut(self) -> None:
        """Cut the connection."""
        if self.socket is not None:
            self._cut(self.socket)

    async def say(self, frame: Assign | Start | Ack | Cancel | Fenced | Done | Retire) -> None:
        """Send *frame* to the connected runner."""
        assert self.socket is not None
        await self.socket.send_str(frame.model_dump_json())

    def cancel_frame(self, **fields: object) -> Cancel:
        """Return a frame that cancels the run."""
        return Cancel(run=self._run.run, attempt=1, **fields)  # type: ignore[arg-type]

    async def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Wait until *condition* holds, looking after each frame that came."""
        async with asyncio.timeout(patience), self.changed:
            await self.changed.wait_for(lambda: bool(condition()))

    def of(self, kind: EventType, step: str | None = None) -> list[RunnerEvent]:
        """Return the stored events of *kind*."""
        return [e for e in self.events if e.type is kind and step in {None, e.step}]

    def text(self, step: str, stream: str | None = None) -> str:
        """Return what *step* printed, as stored."""
        chunks = [e.body for e in self.of(EventType.STEP_OUTPUT, step)]
        return "".join(str(c["text"]) for c in chunks if stream in {None, c["stream"]})

    def completed(self, step: str) -> dict[str, object]:
        """Return the body of the step's one completion."""
        (event,) = self.of(EventType.STEP_COMPLETED, step)
        return dict(event.body)


class Process:
    """A real runner process."""

    def __init__(self, process: asyncio.subprocess.Process, home: Path) -> None:
        """Use ``Process.started``."""
        self.process = process
        self.home = home

    @classmethod
    async def started(cls, home: Path, *arguments: str, **environment: str) -> "Process":
        """Start a runner with *arguments* beside its id and home."""
        path = f"{ROOT / 'operator'}:{ROOT / 'runner_image'}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "plue_runner",
            "--runner",
            # Two suites on one machine must not find each other's processes.
            f"default-{uuid4().hex[:10]}",
            "--home",
            str(home),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **environment},
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(f"{TOKEN}\n".encode())
        process.stdin.close()
        return cls(process, home)

    async def exit(self, patience: float = PATIENCE) -> int:
        """Wait for the process's end and return its exit code."""
        async with asyncio.timeout(patience):
            return await self.process.wait()

    @property
    def peak_bytes(self) -> int:
        """The most memory that it has used so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def terminate(self) -> None:
        """Send it TERM."""
        self.process.terminate()

    async def end(self) -> None:
        """Kill it, if it still runs."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

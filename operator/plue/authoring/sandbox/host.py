"""The sandbox's own process: reads requests, forks a child for each, answers what came of it.

It never reads what is in a request and never runs an author's code. The child for the next request
is forked while there is nothing to do. Frames in both directions are
``length (4 bytes), id (8), kind (1), payload``: ``Q`` is a request, ``P`` one with prompts, ``R``
a child's result (JSON), ``E`` how a child ended without one, ``H`` the greeting with what
isolation is in force.

Compiled code comes back from children and is kept by the content's hash. A child writes it before
it executes anything of the author's, so what an author's code writes later is never taken for it.
"""

import base64
import contextlib
import encodings.ascii
import encodings.latin_1
import encodings.utf_16
import fcntl
import gc
import json
import os
import select
import selectors
import signal
import socket
import struct
import sys
import time
import unicodedata
import warnings
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, NoReturn

from plue.authoring.codes import Code
from plue.authoring.sandbox.evaluation import Job, as_json
from plue.authoring.sandbox.isolation import Fence, virtual_bytes
from plue.authoring.sandbox.problems import Problem

__all__ = ["main"]

HEADER: Final = struct.Struct(">IQc")
MAX_REQUEST: Final = 256 * 1024 * 1024
CACHE_BYTES: Final = 64 * 1024 * 1024
_NO_MEMORY: Final = 70
_NO_TIME: Final = 71
_CHUNK: Final = 1 << 18
_INBOX: Final = 1 << 20
"""Bytes of a request that a waiting child can be given; a larger one gets a child of its own."""

_PROBE: Final[dict[str, Any]] = {
    "op": "plan",
    "files": {
        "probe.py": "from plue import workflow\n@workflow\ndef probe(ctx):\n"
        "    a = ctx.run('a', 'b')\n    ctx.run('c', f'd {a.stdout}')\n"
    },
    "workflow": "probe", "inputs": {}, "event": {}, "text_inputs": False, "known": {},
    "recorded": [], "stage": 1, "asked": [],
}  # fmt: skip
# Python loads these only when a file has `é` in a name or an author encodes text; a child, which
# can open no file, finds them loaded.
_PRELOADED: Final = (encodings.ascii, encodings.latin_1, encodings.utf_16, unicodedata)


@dataclass
class _Child:
    request: int
    pid: int
    pipe: int
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    reason: str = ""


@dataclass(frozen=True)
class _Spare:
    """A child that was forked ahead and waits for its request."""

    pid: int
    pipe: int
    inbox: int
    room: int


class Host:
    """The loop: one socket to the server, one pipe to each child."""

    def __init__(self, link: socket.socket, settings: dict[str, Any]) -> None:
        """Serve *link* with the limits in *settings*."""
        self._link = link
        self._server = int(settings["server"])
        self._most = int(settings["children"])
        self._result_bytes = int(settings["result_bytes"])
        self._fence = Fence(int(settings["memory_bytes"]), float(settings["wall_seconds"]))
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._children: dict[int, _Child] = {}
        self._spare: _Spare | None = None
        self._selector = selectors.DefaultSelector()
        self._incoming = bytearray()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────

    def serve(self) -> None:
        """Greet, then answer requests until the server is gone."""
        self._fence.die_with(self._server)
        self._probe()
        gc.collect()
        gc.freeze()
        fence = self._fence
        greeting = {
            "network": fence.network,
            "syscalls": fence.syscalls,
            "user": fence.user,
            "notes": fence.notes,
        }
        self._send(0, b"H", json.dumps(greeting).encode())
        self._selector.register(self._link, selectors.EVENT_READ)
        try:
            while self._turn():
                pass
        finally:
            self._drop_spare()
            for child in list(self._children.values()):
                self._end(child)

    def _turn(self) -> bool:
        while self._waiting and len(self._children) < self._most:
            self._start(*self._waiting.popleft())
        if self._spare is None and not self._children:
            self._spare = self._fork_ahead()
        now = time.monotonic()
        soonest = min((child.deadline for child in self._children.values()), default=None)
        timeout = None if soonest is None else max(soonest - now, 0)
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._link:
                if not self._receive():
                    return False
            else:
                self._read(self._children[key.fd])
        now = time.monotonic()
        for child in [c for c in self._children.values() if c.deadline <= now]:
            child.reason = "timeout"
            self._finish(child)
        return True

    def _probe(self) -> None:
        """Try the fence with a real evaluation, and leave out what does not work here."""
        body = json.dumps(_PROBE).encode()
        for give_up in (None, self._fence.without_syscalls, self._fence.without_user):
            if give_up is not None:
                give_up("an evaluation did not survive it")
            if self._probe_once(body):
                return
        raise RuntimeError("an evaluation does not work on this machine")

    def _probe_once(self, body: bytes) -> bool:
        self._start(0, body)
        child = self._children[next(iter(self._children))]
        self._selector.unregister(child.pipe)
        while chunk := os.read(child.pipe, _CHUNK):
            child.received += chunk
        _, status = os.waitpid(child.pid, 0)
        del self._children[child.pipe]
        os.close(child.pipe)
        if status != 0 or b'"plan":{' not in child.received:
            return False
        self._learn(_frames(child.received)[0])  # what children warm up with
        return True

    # ── the server's side ────────────────────────────────────────────────────────────────────────

    def _receive(self) -> bool:
        chunk = self._link.recv(_CHUNK)
        if not chunk:
            return False
        self._incoming += chunk
        while len(self._incoming) >= HEADER.size:
            size, request, kind = HEADER.unpack_from(self._incoming)
            end = HEADER.size + size
            if size > MAX_REQUEST:
                return False
            if len(self._incoming) < end:
                break
            if kind == b"P" and _load_prompts():
                self._drop_spare()
            self._waiting.append((request, bytes(self._incoming[HEADER.size : end])))
            del self._incoming[:end]
        return True

    def _send(self, request: int, kind: bytes, payload: bytes) -> None:
        self._link.sendall(HEADER.pack(len(payload), request, kind) + payload)

    # ── children ─────────────────────────────────────────────────────────────────────────────────

    def _start(self, request: int, body: bytes) -> None:
        pid, read = self._hand_over(body) or self._fork(body)
        deadline = time.monotonic() + self._fence.wall
        child = _Child(request, pid, read, deadline)
        self._children[read] = child
        self._selector.register(read, selectors.EVENT_READ)

    def _fork(self, body: bytes) -> tuple[int, int]:
        """Start a child for *body*; return its id and the pipe with its answer."""
        read, write = os.pipe()
        parent, baseline = os.getpid(), virtual_bytes()
        pid = os.fork()
        if pid == 0:
            _close_all_but(write)
            self._become_child(body, write, parent, baseline)
        os.close(write)
        return pid, read

    # A fork, and the first touch of each page that both would write to, take longer than a small
    # evaluation. So while there is nothing to do, a child is forked that does that in advance, by
    # an evaluation of its own, and then waits for the one request that it will serve.

    def _fork_ahead(self) -> _Spare | None:
        read, write = os.pipe()
        taking, inbox = os.pipe()
        room, parent = _room_of(inbox), os.getpid()
        try:
            pid = os.fork()
        except OSError:  # it was only to save time
            for end in (read, write, taking, inbox):
                os.close(end)
            return None
        if pid == 0:
            _close_all_but(write, taking)
            self._wait_for_request(taking, write, parent)
        os.close(write)
        os.close(taking)
        return _Spare(pid, read, inbox, room)

    def _wait_for_request(self, taking: int, pipe: int, parent: int) -> NoReturn:
        try:
            Job(_PROBE, self._cache).warm_up()
            size = int.from_bytes(_read_exactly(taking, 4), "big")
            body = _read_exactly(taking, size)
            os.close(taking)
        except BaseException:  # noqa: BLE001 - nobody has asked for anything yet
            os._exit(0)
        self._become_child(body, pipe, parent, virtual_bytes())

    def _hand_over(self, body: bytes) -> tuple[int, int] | None:
        """Give *body* to the child that waits; None when there is none, or no room for so much."""
        spare = self._spare
        if spare is None or len(body) + 4 > spare.room:
            return None
        self._spare = None
        try:
            # All of it fits into the pipe: whatever the child does, nobody waits for it here.
            taken = os.write(spare.inbox, len(body).to_bytes(4, "big") + body)
        except OSError:
            taken = 0
        if taken != len(body) + 4:
            self._bury(spare)
            return None
        os.close(spare.inbox)
        return spare.pid, spare.pipe

    def _drop_spare(self) -> None:
        """End the child that waits: it has not what this process has learnt since."""
        if self._spare is not None:
            spare, self._spare = self._spare, None
            self._bury(spare)

    @staticmethod
    def _bury(spare: _Spare) -> None:
        os.close(spare.inbox)
        os.close(spare.pipe)
        os.kill(spare.pid, signal.SIGKILL)
        os.waitpid(spare.pid, 0)

    def _become_child(self, body: bytes, pipe: int, parent: int, baseline: int) -> NoReturn:
        code = 1
        try:
            _limit_time(self._fence.wall)
            self._fence.close(parent, baseline)
            _answer(body, self._cache, pipe)
            code = 0
        except MemoryError:
            code = _NO_MEMORY
        except Problem:
            # The timer's, while a file was compiled: there is no place of the author's to tell.
            code = _NO_TIME
        finally:
            os._exit(code)

    def _read(self, child: _Child) -> None:
        chunk = os.read(child.pipe, _CHUNK)
        child.received += chunk
        if not chunk:
            self._finish(child)
        elif len(child.received) > self._result_bytes + CACHE_BYTES:
            child.reason = "too_large"
            self._finish(child)
        elif len(_frames(child.received)) > 1:
            # All is said. Its end takes longer than a small evaluation: the asker need not wait.
            self._finish(child)

    def _finish(self, child: _Child) -> None:
        """Answer with what the child gave, and end it."""
        frames = _frames(child.received)
        answered = len(frames) > 1 and not child.reason and len(frames[1]) <= self._result_bytes
        if answered:
            self._send(child.request, b"R", frames[1])
        elif len(frames) > 1 and not child.reason:
            child.reason = "too_large"
        status = self._end(child)
        if frames:
            self._learn(frames[0])
        if not answered:
            self._send(child.request, b"E", (child.reason or _reason_of(status)).encode())

    def _end(self, child: _Child) -> int:
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.pipe)
        os.close(child.pipe)
        del self._children[child.pipe]
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            # Either it is on its way out with all said, or it plays for time: the same to us.
            time.sleep(0 if len(_frames(child.received)) > 1 else 0.002)
            pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            os.kill(child.pid, signal.SIGKILL)
            _, status = os.waitpid(child.pid, 0)
        return status

    def _learn(self, frame: bytes) -> None:
        """Keep the code that a child compiled."""
        found = json.loads(frame)
        for key in found["used"]:
            if key in self._cache:
                self._cache.move_to_end(key)
        for key, encoded in found["fresh"].items():
            if key not in self._cache:
                self._drop_spare()
                self._cache[key] = base64.b64decode(encoded)
                self._cached_bytes += len(self._cache[key])
        while self._cached_bytes > CACHE_BYTES:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)


def _room_of(inbox: int) -> int:
    """Return how many bytes fit into a pipe that nobody reads, after it was made large."""
    for command in (fcntl.F_SETPIPE_SZ, fcntl.F_GETPIPE_SZ):
        with contextlib.suppress(OSError):  # more than this user may have
            return fcntl.fcntl(inbox, command, _INBOX)
    return select.PIPE_BUF


def _close_all_but(*kept: int) -> None:
    first = 0
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 256)


def _read_exactly(pipe: int, size: int) -> bytes:
    """Read *size* bytes. Raises EOFError when the other end was closed before."""
    found = bytearray()
    while len(found) < size:
        chunk = os.read(pipe, size - len(found))
        if not chunk:
            raise EOFError
        found += chunk
    return bytes(found)


def _load_prompts() -> bool:
    """Load what prompts need; whether that was the first time.

    Children can open no file, and most projects have no prompts.
    """
    if "plue.authoring.sandbox.prompts.answers" in sys.modules:
        return False
    from plue.authoring.sandbox.prompts.answers import warm_up

    warm_up()
    return True


def _reason_of(status: int) -> str:
    if os.WIFSIGNALED(status):
        names = {signal.SIGSYS: "forbidden", signal.SIGXCPU: "timeout"}
        return names.get(os.WTERMSIG(status), "crashed")  # type: ignore[call-overload,no-any-return] # by number
    codes = {_NO_MEMORY: "memory", _NO_TIME: "timeout"}
    return codes.get(os.WEXITSTATUS(status), "crashed")


def _frames(received: bytes | bytearray) -> list[bytes]:
    """Split what a child wrote: its compiled code, then its result; more is not read."""
    found: list[bytes] = []
    at = 0
    while len(found) < 2 and len(received) - at >= 4:  # noqa: PLR2004 - two frames, four bytes
        size = int.from_bytes(received[at : at + 4], "big")
        if len(received) - at - 4 < size:
            break
        found.append(bytes(received[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def _write(pipe: int, payload: bytes) -> None:
    rest = memoryview(len(payload).to_bytes(4, "big") + payload)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def _answer(body: bytes, cache: OrderedDict[str, bytes], pipe: int) -> None:
    # It lives for milliseconds: looking for cycles costs more than they do.
    gc.set_threshold(50_000, 20, 100)
    used: list[str] = []
    fresh: dict[str, bytes] = {}
    crash, job = "", None
    try:
        job = Job(json.loads(body), cache)
        used, fresh = job.prepare()
    except Exception as error:  # noqa: BLE001 - a fault of ours, to be told and not to be lost
        crash = f"{type(error).__name__}: {error}"
    learned = {"used": used, "fresh": {k: base64.b64encode(v).decode() for k, v in fresh.items()}}
    _write(pipe, json.dumps(learned).encode())
    try:
        answer = {"crash": crash} if job is None or crash else job.run()
    except Exception as error:  # noqa: BLE001 - as above
        answer = {"crash": f"{type(error).__name__}: {error}"}
    _write(pipe, as_json(answer))


def _limit_time(wall: float) -> None:
    """Interrupt the author's code a little before the end, so that its place can be told."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise Problem(
            Code.TIMEOUT,
            f"the evaluation took longer than {wall:g} seconds",
            remedy="look for a loop that does not end; work belongs into steps",
        )

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, wall * 0.8)


def main(descriptor: int, settings: str) -> None:
    """Serve the socket *descriptor*; returns when the server closes it."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the server's to handle
    link = socket.socket(fileno=descriptor)
    host = Host(link, json.loads(settings))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.close(null)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115,PTH123 - for good
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        host.serve()

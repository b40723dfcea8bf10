"""Processes of steps, and all that they start: spawned, signalled, collected, never left behind.

Each step's process leads a session of its own. The runner is the subreaper, so whatever a step's
process leaves behind becomes the runner's child and is found in ``/proc`` in one read; that read
is all that a trivial step pays. Which step a leftover belongs to is told by its session and by
the variables that every step's process carries; with one step running there is nothing to tell.

SIGCHLD and ``waitpid`` are used instead of asyncio's child watchers: adopted processes must be
collected too, which no watcher does, and it needs no pidfd, which not every sandbox has.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COOKIE", "Family", "Spawned", "cookie_for"]

COOKIE = "PLUE_RUNNER_ID"

_PR_SET_CHILD_SUBREAPER = 36
_UNKILLABLE_SECONDS = 10.0  # a process that KILL does not end waits in the kernel: go on without


def cookie_for(runner: str, given: str | None) -> str:
    """Return what steps carry as COOKIE: what the host gave *runner*, if it names it."""
    return given if given is not None and runner in given.split(":") else runner


@dataclass(eq=False, slots=True)
class Spawned:
    """A step's main process; ``exit`` becomes its return code, negative for a signal."""

    pid: int
    step: str
    exit: asyncio.Future[int]
    popen: subprocess.Popen[bytes]

    @property
    def ended(self) -> bool:
        """Whether the process itself has ended; what it started may live on."""
        return self.exit.done()


class Family:
    """All processes below the runner."""

    def __init__(self, runner: str) -> None:
        """Become the one that collects children; call it in the running loop's thread.

        *runner* is the id that the processes carry in their variable PLUE_RUNNER_ID.
        """
        self._runner = runner.encode()
        self._loop = asyncio.get_running_loop()
        self._living: dict[int, Spawned] = {}
        self._unsettled: set[Spawned] = set()
        self._changed = asyncio.Event()
        self._me = os.getpid()
        self._adopts = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        self._loop.add_signal_handler(signal.SIGCHLD, self._collect)

    def close(self) -> None:
        """Stop collecting."""
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def spawn(
        self,
        argv: Sequence[bytes],
        *,
        step: str,
        env: Mapping[bytes, bytes],
        cwd: Path,
        stdin: int,
        stdout: int,
        stderr: int,
    ) -> Spawned:
        """Start *argv* in a session of its own. Raises OSError or ValueError when it cannot."""
        popen = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        process = Spawned(popen.pid, step, self._loop.create_future(), popen)
        self._living[popen.pid] = process
        self._unsettled.add(process)
        return process

    def settled(self, process: Spawned) -> None:
        """Say that nothing of *process* is of interest any more."""
        self._unsettled.discard(process)

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            process = self._living.pop(pid, None)
            if process is not None:
                code = os.waitstatus_to_exitcode(status)
                # Popen must not wait for it again, nor complain that nobody did.
                process.popen.returncode = code
                if not process.exit.done():
                    process.exit.set_result(code)
        self._changed.set()

    # ── what is left of a step ───────────────────────────────────────────────────────────────────

    def leftovers(self, process: Spawned) -> list[int]:
        """Return what *process* left behind, by pid, after it has ended itself."""
        adopted = [pid for pid in _children(self._me) if pid not in self._living]
        if not adopted:
            return []
        others = self._unsettled - {process}
        mine = [pid for pid in adopted if not others or _belongs(pid, process)]
        return [pid for top in mine for pid in (top, *_descendants(top))]

    def kill(self, process: Spawned) -> bool:
        """KILL all that now is of *process*; False when nothing was left of it."""
        if process.ended:
            pids = self.leftovers(process)
        else:
            pids = [process.pid, *_descendants(process.pid)]
            _signal_group(process.pid, signal.SIGKILL)
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        return bool(pids)

    async def clear(self, process: Spawned) -> None:
        """KILL *process* and all that it started; return when nothing of it is left."""
        deadline = self._loop.time() + _UNKILLABLE_SECONDS
        while self._loop.time() < deadline:
            self._changed.clear()
            if not self.kill(process):
                return
            await self._wait_for_change(0.05)

    async def end(self, process: Spawned, grace: float) -> None:
        """TERM all of *process*, and KILL what is left of it after *grace* seconds."""
        deadline = self._loop.time() + grace
        if grace > 0:
            self._terminate(process)
        while self._loop.time() < deadline:
            self._changed.clear()
            if process.ended and not self.leftovers(process):
                return
            await self._wait_for_change(deadline - self._loop.time())
        await self.clear(process)

    def _terminate(self, process: Spawned) -> None:
        if process.ended:
            for pid in self.leftovers(process):
                _signal(pid, signal.SIGTERM)
            return
        outside = [p for p in _descendants(process.pid) if _group_of(p) != process.pid]
        _signal_group(process.pid, signal.SIGTERM)
        for pid in outside:
            _signal(pid, signal.SIGTERM)

    async def _wait_for_change(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def kill_children(self) -> None:
        """KILL everything below the runner; return when it is gone."""
        await self._kill(lambda: _descendants(self._me))

    async def kill_all(self) -> None:
        """KILL everything of the runner's, wherever it hangs; return when it is gone.

        The search by variable is for sandboxes in which nobody can be a subreaper, and for them
        alone: it reads the variables of every process, and among them may be a server's keys.
        """
        await self.kill_children()
        if not self._adopts:
            await self._kill(lambda: [pid for pid in _pids() if self._is_ours(pid)])

    def _is_ours(self, pid: int) -> bool:
        # A runner inside a step of another one has its id behind the other's.
        carried = _variable(pid, COOKIE.encode())
        return pid != self._me and self._runner in carried.split(b":")

    async def _kill(self, find: Callable[[], list[int]]) -> None:
        deadline = self._loop.time() + _UNKILLABLE_SECONDS
        while self._loop.time() < deadline:
            self._changed.clear()
            pids = find()
            if not pids:
                return
            for pid in pids:
                _signal(pid, signal.SIGKILL)
            await self._wait_for_change(0.05)


def _belongs(pid: int, process: Spawned) -> bool:
    with suppress(OSError):
        if os.getsid(pid) == process.pid:
            return True
    return _variable(pid, b"PLUE_STEP") == process.step.encode()


def _variable(pid: int, name: bytes) -> bytes:
    """Return a variable that the process was started with; nothing when that is not known."""
    with suppress(OSError):
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(name + b"="):
                return variable[len(name) + 1 :]
    return b""


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - names


def _children(pid: int) -> list[int]:
    """Return the children of *pid*, ended ones included; none when it is gone."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names, on the hot path
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:  # noqa: PTH123 - hot path
                found += map(int, file.read().split())
    return found


def _descendants(pid: int) -> list[int]:
    """Return all that *pid* started, directly or not, as far as it still hangs together."""
    found: list[int] = []
    for child in _children(pid):
        found += (child, *_descendants(child))
    return found


def _group_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getpgid(pid)
    return None


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)

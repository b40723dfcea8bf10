"""Processes of the test bed: started with a log of their own, waited for, ended by their id."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.bed.say import BedError

__all__ = ["Processes", "wait_for"]


class Processes:
    """What was started; ended in the opposite order."""

    def __init__(self, logs: Path) -> None:
        """Write each process's output to a file of *logs*."""
        self._logs = logs
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start *command*; its output goes to ``<name>.log``."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )
        self._started.append((name, process))

    def pid(self, name: str) -> int:
        """Return the process id of the youngest process of that name."""
        return next(p.pid for n, p in reversed(self._started) if n == name)

    def check(self) -> None:
        """Raise BedError with the end of the log of a process that has ended."""
        for name, process in self._started:
            if process.poll() is not None:
                raise BedError(f"{name} ended with {process.returncode}:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a process's log."""
        text = (self._logs / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """Kill all of them: what they hold is thrown away."""
        for _, process in reversed(self._started):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._started.clear()


def wait_for(
    what: str, true: Callable[[], bool], *, seconds: float, check: Callable[[], None] = lambda: None
) -> None:
    """Ask *true* until it is; *check* may raise meanwhile. Raises BedError after *seconds*."""
    end = time.monotonic() + seconds
    while not true():
        check()
        if time.monotonic() > end:
            raise BedError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)

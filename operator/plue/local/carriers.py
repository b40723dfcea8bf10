"""Which processes belong to a runner, whoever their parent is by now.

A runner and all that it starts carry ``PLUE_RUNNER_ID`` in their environment: daemons that left
the process group and lost their parent are still found by it. A runner inside a step of another
runner appends its id, so that the outer one finds everything too. What empties its environment on
purpose is found while its working directory is in the runner's home, unless it has a terminal: a
person's shell that looks around there is nobody's leftover.
"""

import contextlib
import os
import signal
from pathlib import Path

import psutil

__all__ = ["COOKIE", "cookie_for", "kill_carriers"]

COOKIE = "PLUE_RUNNER_ID"


def cookie_for(runner: str, outer: str | None) -> str:
    """Return the cookie's value: the runner's id behind the ids of those that it runs in."""
    return f"{outer}:{runner}" if outer else runner


def kill_carriers(runner: str, home: Path) -> list[int]:
    """Send KILL to every process of *runner* that still executes; return their pids.

    An empty list is the proof that nothing of it executes any more. Blocks for some milliseconds.
    """
    killed = []
    for process in psutil.process_iter():
        # Gone meanwhile, or another user's: neither can be one of ours.
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and _belongs(process, runner, home):
                process.send_signal(signal.SIGKILL)
                killed.append(process.pid)
    return killed


def _belongs(process: psutil.Process, runner: str, home: Path) -> bool:
    if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
        return False
    if runner in process.environ().get(COOKIE, "").split(":"):
        return True
    return Path(process.cwd()).is_relative_to(home) and process.terminal() is None

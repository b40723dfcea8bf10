"""Waiting for the end of a process, child or not, without polling and without mistaking its pid.

A pidfd refers to one process for ever, while a pid is used again; so whoever remembers a process
across restarts keeps its start time beside the pid, and checks it *after* the pidfd is open.
Linux only, as all of local mode.
"""

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")
__all__ = ["ProcessMark", "end_of", "end_of_marked", "ended_within", "is_alive"]


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process as it can be recognised later: pid, and when it started.

    ``started`` names the boot and counts the kernel's ticks since it. Seconds since the epoch
    would change whenever somebody corrects the clock, and a living process would be a stranger.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "ProcessMark":
        """Mark a process that runs now. Raises psutil.NoSuchProcess."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError as error:
            raise psutil.NoSuchProcess(pid) from error
        # The name, in parentheses, may hold anything; the start is the 22nd field of all.
        ticks = stat.rpartition(b")")[2].split()[19].decode()
        return cls(pid, f"{_BOOT.read_text().strip()}/{ticks}")


def is_alive(mark: ProcessMark) -> bool:
    """Whether exactly this process still executes; a zombie does not."""
    try:
        status, found = psutil.Process(mark.pid).status(), ProcessMark.of(mark.pid)
    except psutil.NoSuchProcess:
        return False
    return found == mark and status not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


async def end_of(pid: int) -> None:
    """Return when the process has ended (a zombie has); at once when there is none."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await _readable(descriptor)
    finally:
        os.close(descriptor)


async def end_of_marked(mark: ProcessMark) -> None:
    """Return when exactly this process has ended, and not one that got its pid later."""
    try:
        descriptor = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(mark):
            await _readable(descriptor)
    finally:
        os.close(descriptor)


async def ended_within(pid: int, timeout: timedelta) -> bool:
    """Whether the process ends within *timeout*."""
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            await end_of(pid)
    except TimeoutError:
        return False
    return True


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)

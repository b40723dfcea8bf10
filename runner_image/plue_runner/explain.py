"""What the operating system's refusals mean to the author of a step, and what to do about them."""

import errno
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from plue.wire.events import Reason
from plue.wire.plan import Shell
from plue_runner.faults import Fault

__all__ = ["disk_fault", "signal_message", "start_fault"]


def signal_message(number: int) -> str:
    """Say by which signal a command was ended."""
    name = str(number)
    with suppress(ValueError):
        name = signal.Signals(number).name
    hint = ", as happens when memory runs out" if number == signal.SIGKILL else ""
    return f"it was ended by {name}{hint}"


def disk_fault(error: OSError) -> Fault:
    """Say why a file of a step could not be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Fault(Reason.DISK_FULL, "the disk is full", remedy="free disk space, or write less")
    return Fault(Reason.CANNOT_START, f"its files cannot be written: {error}")


def start_fault(error: OSError | ValueError, argv: Sequence[bytes], action: Shell | None) -> Fault:
    """Say why *argv*, of a step's *action*, could not be started, and what to do about it."""
    program = os.fsdecode(argv[0]) if argv else ""
    if not isinstance(error, OSError):
        return Fault(Reason.CANNOT_START, f"{program!r} cannot be started: {error}")
    match error.errno:
        case errno.ENOENT:
            shell = action is not None and action.argv is None
            remedy = "install it in the runner's image, or correct PATH in env="
            if action is not None and shell and action.shell == "bash":
                remedy += ', or use shell="sh"'
            what = "shell" if shell else "program"
            return Fault(Reason.CANNOT_START, f"there is no {what} {program!r}", remedy=remedy)
        case errno.EACCES:
            return Fault(
                Reason.CANNOT_START,
                f"{program!r} may not be executed",
                remedy="make it executable (chmod +x), or name the program that runs it",
            )
        case errno.ENOEXEC:
            return Fault(
                Reason.CANNOT_START,
                f"{program!r} is not a program",
                remedy="begin it with a line such as #!/bin/sh, or name the program that runs it",
            )
        case errno.E2BIG:
            return Fault(
                Reason.VALUE_TOO_LARGE,
                "its environment and arguments are too large together",
                remedy="give large values as stdin=, which has no limit",
            )
        case _:
            return Fault(Reason.CANNOT_START, f"{program!r} cannot be started: {error.strerror}")

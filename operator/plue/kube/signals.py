"""The signals that end a server process.

One place listens to them and tells one event, whoever else in the process would take them: kopf
does, and would end its watch alone.
"""

import asyncio
import signal
from contextvars import ContextVar

__all__ = ["end_at_signals", "take_signals_back"]

_told: ContextVar[asyncio.Event] = ContextVar("told")


def end_at_signals() -> asyncio.Event:
    """Return the event that is set when this process is told to end.

    Known to all tasks that the caller starts from now on.
    """
    _told.set(asyncio.Event())
    take_signals_back()
    return _told.get()


def take_signals_back() -> None:
    """Listen again, after somebody else has begun to; nothing where we never did."""
    told = _told.get(None)
    if told is None:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)

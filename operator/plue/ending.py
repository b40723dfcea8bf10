"""Ends asyncio tasks for sure."""

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["end_tasks"]

_AGAIN_SECONDS = 0.3


async def end_tasks(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel *tasks* and wait until each has ended.

    Once is not enough: a cancellation that arrives while a database driver cleans up after a
    query can be swallowed there, and the task would go on for ever.
    """
    left = {task for task in tasks if task is not None}
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()

"""Work by key: each when it is due, a key never twice at once, and only so many side by side."""

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable

from plue.ending import end_tasks

__all__ = ["Agenda"]


class Agenda:
    """Calls *work* with each key that is due; a key that is due earlier than before moves up.

    Whoever waits far in the future, as ten thousand resources for their end, costs nothing now.
    """

    def __init__(self, name: str, work: Callable[[str], Awaitable[None]], *, at_once: int) -> None:
        """Work on at most *at_once* keys together; *work* must not raise."""
        self._name = name
        self._work = work
        self._at_once = at_once
        self._due: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []
        """A heap. Entries that say another time than ``_due`` are void."""
        self._busy: set[str] = set()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, key: str, after: float = 0.0) -> None:
        """Have *key* worked on in so many seconds, or earlier if that was said before."""
        at = asyncio.get_running_loop().time() + max(0.0, after)
        if at < self._due.get(key, at + 1):
            self._due[key] = at
            self._enter(key)

    def start(self) -> None:
        """Begin; until then what is added is only remembered."""
        self._task = asyncio.create_task(self._forever(), name=f"pass-{self._name}")

    async def close(self) -> None:
        """End, wherever the work is."""
        await end_tasks([self._task, *self._tasks])

    def _enter(self, key: str) -> None:
        if key not in self._busy:  # else when it is done
            heapq.heappush(self._queue, (self._due[key], key))
            self._changed.set()

    async def _forever(self) -> None:
        while True:
            self._changed.clear()
            while (key := self._take()) is not None:
                self._busy.add(key)
                task = asyncio.create_task(self._one(key))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait()):
                    await self._changed.wait()

    def _take(self) -> str | None:
        """Take the key that is due longest; None while there is no room or no such key."""
        self._drop_void()
        if len(self._busy) >= self._at_once or not self._queue or self._wait() != 0.0:
            return None
        _, key = heapq.heappop(self._queue)
        del self._due[key]
        return key

    def _wait(self) -> float | None:
        """Return the seconds until the next key is due; None while there is no room or no key."""
        if len(self._busy) >= self._at_once or not self._queue:
            return None
        return max(0.0, self._queue[0][0] - asyncio.get_running_loop().time())

    def _drop_void(self) -> None:
        while self._queue and self._due.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)

    async def _one(self, key: str) -> None:
        try:
            await self._work(key)
        finally:
            self._busy.discard(key)
            if key in self._due:
                self._enter(key)
            self._changed.set()

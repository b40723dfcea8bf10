"""Work by key: each when it is due, a key never twice at once, and only so many side by side."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from plue.ending import end_tasks

__all__ = ["Agenda"]


class Agenda:
    """Calls *work* with each key that is due; a key that is due earlier than before moves up."""

    def __init__(self, name: str, work: Callable[[str], Awaitable[None]], *, at_once: int) -> None:
        """Work on at most *at_once* keys together; *work* must not raise."""
        self._name = name
        self._work = work
        self._at_once = at_once
        self._due: dict[str, float] = {}
        self._busy: set[str] = set()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, key: str, after: float = 0.0) -> None:
        """Have *key* worked on in so many seconds, or earlier if that was said before."""
        at = asyncio.get_running_loop().time() + max(0.0, after)
        if at < self._due.get(key, at + 1):
            self._due[key] = at
            self._changed.set()

    def start(self) -> None:
        """Begin; until then what is added is only remembered."""
        self._task = asyncio.create_task(self._forever(), name=f"pass-{self._name}")

    async def close(self) -> None:
        """End, wherever the work is."""
        await end_tasks([self._task, *self._tasks])

    async def _forever(self) -> None:
        while True:
            self._changed.clear()
            now = asyncio.get_running_loop().time()
            for key in self._ready(now):
                del self._due[key]
                self._busy.add(key)
                task = asyncio.create_task(self._one(key))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait(now)):
                    await self._changed.wait()

    def _ready(self, now: float) -> list[str]:
        room = self._at_once - len(self._busy)
        ready = [key for key, at in self._due.items() if at <= now and key not in self._busy]
        return ready[:room]

    def _wait(self, now: float) -> float | None:
        """Return the seconds until the next key is due; None while there is no room or no key."""
        if len(self._busy) >= self._at_once:
            return None
        following = min((at for k, at in self._due.items() if k not in self._busy), default=None)
        return None if following is None else max(0.0, following - now)

    async def _one(self, key: str) -> None:
        try:
            await self._work(key)
        finally:
            self._busy.discard(key)
            self._changed.set()

"""What many callers want at the same moment is asked of Postgres in one statement.

A caller who is alone is served at once. Those who come while a statement is on its way wait for it
and then go together: the busier the server, the fewer round trips a run costs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from plue.ending import end_tasks
from plue.errors import ConflictError, InternalError

__all__ = ["Together"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Together(Generic[Item, Answer]):
    """Collects items of many callers for a function that takes several."""

    def __init__(
        self, do: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], *, limit: int = 50
    ) -> None:
        """Call *do* with at most *limit* items; it returns an answer for each, in their order."""
        self._do = do
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Return the answer for *item*. Raises what the function raises for this item."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="together")
        return await answer

    async def close(self) -> None:
        """End what is on its way."""
        await end_tasks([self._task])

    async def _work(self) -> None:
        try:
            while self._waiting:
                several = self._waiting[: self._limit]
                del self._waiting[: self._limit]
                await self._serve([one for one in several if not one[1].done()])
        finally:
            self._task = None
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting.clear()

    async def _serve(self, several: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._do([item for item, _ in several])
        except asyncio.CancelledError:
            for _, answer in several:
                answer.cancel()
            raise
        except (ConflictError, InternalError) as error:
            if len(several) > 1:
                # One of them is to blame, and only its own caller hears of it.
                for one in several:
                    await self._serve([one])
                return
            _fail(several, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are to hear of it
            _fail(several, error)
        else:
            for (_, waiting), found in zip(several, answers, strict=True):
                if not waiting.done():
                    waiting.set_result(found)


def _fail(several: Sequence[tuple[Item, asyncio.Future[Answer]]], error: Exception) -> None:
    for _, answer in several:
        if not answer.done():
            answer.set_exception(error)

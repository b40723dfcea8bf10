"""Work by key: what is due, in its order, and never twice at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from plue.kube.agenda import Agenda

FAR = 1_000_000.0


class Work:
    """Begins each key, and ends it when the test says so."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.goes_on: dict[str, asyncio.Event] = {}

    async def __call__(self, key: str) -> None:
        self.begun.put_nowait(key)
        self.goes_on[key] = asyncio.Event()
        await self.goes_on[key].wait()

    async def next(self) -> str:
        """Return the key that is begun next."""
        async with asyncio.timeout(10):
            return await self.begun.get()

    async def nothing(self) -> None:
        """See that nothing more is begun, in as many turns as it would need."""
        for _ in range(20):
            await asyncio.sleep(0)
        assert self.begun.empty()


@asynccontextmanager
async def agenda(work: Work, *, at_once: int) -> AsyncIterator[Agenda]:
    """Give an agenda at work."""
    made = Agenda("test", work, at_once=at_once)
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def test_who_is_due_longest_is_first_and_only_so_many_at_once() -> None:
    """Beyond that they wait for room."""
    work = Work()
    async with agenda(work, at_once=2) as made:
        for key in ("a", "b", "c", "d"):
            made.add(key)
        assert [await work.next() for _ in range(2)] == ["a", "b"]
        await work.nothing()
        work.goes_on["b"].set()
        assert await work.next() == "c"
        await work.nothing()


async def test_a_key_is_not_worked_on_twice_at_once() -> None:
    """What is added meanwhile is done once, afterwards."""
    work = Work()
    async with agenda(work, at_once=2) as made:
        made.add("a")
        assert await work.next() == "a"
        made.add("a")
        made.add("a")
        await work.nothing()
        work.goes_on["a"].set()
        assert await work.next() == "a"
        work.goes_on["a"].set()
        await work.nothing()


async def test_an_earlier_time_moves_a_key_up_and_a_later_one_does_not_move_it_back() -> None:
    """And it is done once: the time that was said first counts no more."""
    work = Work()
    async with agenda(work, at_once=2) as made:
        made.add("far", FAR)
        made.add("a", FAR)
        made.add("a")
        made.add("a", FAR)
        assert await work.next() == "a"
        work.goes_on["a"].set()
        await work.nothing()
        made.add("b")
        assert await work.next() == "b"


async def test_a_key_that_is_due_later_is_begun_then() -> None:
    """Nobody has to wake it."""
    work = Work()
    async with agenda(work, at_once=1) as made:
        made.add("far", FAR)
        made.add("a", 0.05)
        assert await work.next() == "a"

"""What several callers want at once goes in one statement, and each gets its own answer."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from plue.domain.run import RunnerId
from plue.errors import InternalError, UnavailableError
from plue.store.database import Database
from plue.store.migrations import migrate
from plue.store.runners import RunnerStore
from plue.store.together import Together


class Doubling:
    """Doubles numbers, one call at a time, and remembers what came together."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.may_go = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        await self.may_go.wait()
        if 13 in items:
            raise InternalError("unlucky")
        if 99 in items:
            raise UnavailableError("away")
        return [2 * item for item in items]


async def test_those_who_come_meanwhile_go_together() -> None:
    """One goes alone; the rest of a burst wait for it and share the next calls, in their order."""
    doubling = Doubling()
    together = Together(doubling, limit=3)
    asked = [asyncio.create_task(together.ask(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked += [asyncio.create_task(together.ask(n)) for n in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    doubling.may_go.set()
    assert await asyncio.gather(*asked) == [2, 4, 6, 8, 10]
    assert doubling.calls == [[1], [2, 3, 4], [5]]


async def test_only_who_is_to_blame_hears_of_it() -> None:
    """An item that is refused is found; the others of its batch are done."""
    doubling = Doubling()
    doubling.may_go.set()
    together = Together(doubling)
    answers = await asyncio.gather(
        together.ask(1), together.ask(13), together.ask(3), return_exceptions=True
    )
    assert answers[0] == 2
    assert isinstance(answers[1], InternalError)
    assert answers[2] == 6


async def test_a_store_that_is_away_is_told_to_all() -> None:
    """Nobody is tried one by one against a store that does not answer."""
    doubling = Doubling()
    doubling.may_go.set()
    together = Together(doubling)
    answers = await asyncio.gather(together.ask(1), together.ask(99), return_exceptions=True)
    assert [type(one) for one in answers] == [UnavailableError, UnavailableError]
    assert len(doubling.calls) == 1


async def test_who_gives_up_costs_nobody_else_their_answer() -> None:
    """A caller that is cancelled leaves; the statement goes on for the others."""
    doubling = Doubling()
    together = Together(doubling)
    first, second = asyncio.create_task(together.ask(1)), asyncio.create_task(together.ask(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    doubling.may_go.set()
    assert await second == 4
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_closing_ends_whoever_waits() -> None:
    """Callers of something that is closed are cancelled, not left for ever."""
    together = Together(Doubling())
    asked = [asyncio.create_task(together.ask(n)) for n in (1, 2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await together.close()
    done, left = await asyncio.wait(asked, timeout=5)
    assert len(done) == 2
    assert not left
    assert all(task.cancelled() for task in done)


async def test_a_runner_that_says_hello_twice_at_once_has_two_sessions(postgres_dsn: str) -> None:
    """Each hello has an epoch of its own, the wrong token none, and others are not held up."""
    await migrate(postgres_dsn)
    database = await Database.open(postgres_dsn)
    try:
        store = RunnerStore(database)
        await store.record_pool("default", host="paper", warm=2, maximum=2)
        a, b = RunnerId("default-a"), RunnerId("default-b")
        await store.insert([(a, "one"), (b, "two")], pool="default", host="paper")
        answers = await asyncio.gather(
            *(
                store.hello(runner, token, gateway="g", lease=timedelta(seconds=60))
                for runner, token in ((b, "two"), (a, "one"), (a, "one"), (a, "wrong"))
            )
        )
        assert answers[3] is None
        assert [None if one is None else one.epoch for one in answers[:3]] == [1, 1, 2]
    finally:
        await database.close()

"""One world a test: a server of its own, ended whatever happens."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from faults.rounds import Round, opened
from faults.world import World

__all__ = ["Open"]

Open = Callable[..., AbstractAsyncContextManager[Round]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World, None]:
    """Give a world whose server is not started yet."""
    world = World(tmp_path)
    try:
        yield world
    finally:
        await world.sweep()


@pytest.fixture
def fault_round(world: World) -> Open:
    """Give what opens a round on the test's world and starts its server."""

    @asynccontextmanager
    async def begin(seed: int = 1) -> AsyncIterator[Round]:
        async with opened(world, seed) as this:
            await world.start()
            yield this

    return begin

"""One idempotency key is one run, however many ask at the same moment."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from server import Server, a_server

from plue.domain.run import RunFilter, Submission

SOURCE = "from plue import workflow\n@workflow\ndef ci(ctx):\n    ctx.run('a', 'true')\n"


@pytest.fixture
async def server(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Server, None]:
    """Start an engine."""
    async with a_server(postgres_dsn, tmp_path) as server:
        yield server
        await server.engine._evaluator.close()


async def test_one_key_is_one_run_for_all_who_ask_at_once(server: Server) -> None:
    """Nobody gets an error, and all get the same run."""
    wanted = Submission(
        workflow="ci", files={".plue/workflows/ci.py": SOURCE}, idempotency_key="key"
    )
    await server.engine.plan(wanted)
    for round_ in range(5):
        key = f"key {round_}"
        again = Submission(workflow="ci", files=wanted.files, idempotency_key=key)
        runs = await asyncio.gather(*(server.engine.submit(again) for _ in range(8)))
        assert len(set(runs)) == 1
    assert len((await server.engine.runs(RunFilter())).runs) == 5


async def test_what_was_planned_is_not_evaluated_again_when_it_is_submitted(
    server: Server,
) -> None:
    """An operator plans a run, looks at its pool, and submits it: that is one evaluation."""
    wanted = Submission(workflow="ci", files={".plue/workflows/ci.py": SOURCE})
    await server.engine.plan(wanted)
    await server.engine.check(wanted)
    await server.engine.submit(wanted)
    text, _ = await server.engine.metrics()
    counts = [line for line in text.decode().splitlines() if "evaluation_seconds_count" in line]
    assert [line.rpartition(" ")[2] for line in counts] == ["1.0"]

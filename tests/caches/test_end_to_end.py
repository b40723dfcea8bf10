"""Caches with every part real: kept by one run, found by the next, lost without harm."""

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stages.cluster import SETTINGS, House, a_house

from plue.domain.run import RunDetails
from plue.wire.events import EventType, Reason, StepState

REPO = {"name": "x", "default_branch": "main"}


@pytest.fixture
async def house(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[House, None]:
    """Give a server with runners."""
    async with a_house(postgres_dsn, tmp_path) as house:
        yield house


def body(key: str = "k1", script: str = "mkdir deps; echo made > deps/a", more: str = "") -> str:
    """Return a workflow with one step and its cache."""
    return f"""
from plue import cache
ctx.run("a", '''echo hit=$PLUE_CACHE_HIT; cat deps/a && exit; {script}''',
        cache=cache(paths=["deps"], key="{key}"{more}))
"""


async def ran(house: House, text: str, ref: str = "main", **event: Any) -> tuple[RunDetails, str]:
    """Run a workflow for a ref; return the run and all that its steps printed."""
    given: Mapping[str, Any] = {"repository": REPO, "ref": f"refs/heads/{ref}", **event}
    run = await house.submit(text, event=given)
    events = await house.events(run)
    said = [json.loads(e.body) for e in events if e.type is EventType.STEP_OUTPUT]
    lines = [one["line"] for one in said]
    assert lines == sorted(set(lines))
    return await house.engine.details(run), "".join(one["text"] for one in said)


async def test_the_next_run_finds_what_one_kept(house: House) -> None:
    """A miss is made and kept; a hit is there before the step starts, and is not kept again."""
    details, said = await ran(house, body())
    assert details.run.reason is Reason.SUCCEEDED, details.run.message
    first, hit, rest = said.split("\n", 2)
    assert first == "cache k1: there is none yet"
    assert hit == "hit=false"
    assert "cache k1: kept (" in rest
    details, said = await ran(house, body())
    assert said.startswith("cache k1: restored (")
    assert said.endswith("\nhit=true\nmade\n")


async def test_a_failed_step_keeps_nothing_and_other_paths_are_another_cache(house: House) -> None:
    """Only what succeeded is kept; a key stands for its paths too."""
    details, said = await ran(house, body(script="mkdir deps; echo bad > deps/a; exit 1"))
    assert details.run.reason is Reason.STEP_FAILED
    assert "kept" not in said
    _, said = await ran(house, body())
    assert "there is none yet" in said
    _, said = await ran(house, body().replace('["deps"]', '["deps", "more"]'))
    assert "there is none yet" in said


async def test_the_newest_cache_of_a_restore_key_will_do(house: House) -> None:
    """What begins with a restore key is given, is no hit, and the new key is kept as well."""
    await ran(house, body("deps-1"))
    await ran(house, body("deps-2", script="mkdir deps; echo second > deps/a"))
    _, said = await ran(house, body("deps-3", more=', restore_keys=["x", "deps-"]'))
    assert "cache deps-3: restored from deps-2 (" in said
    assert "hit=false\nsecond\n" in said
    assert "cache deps-3: kept (" in said
    _, said = await ran(house, body("deps-3"))
    assert "hit=true\nsecond\n" in said


async def test_a_branch_finds_what_main_kept_and_never_the_other_way_round(house: House) -> None:
    """Own ref first, then the base and the default branch; another repository has its own."""
    request = {
        "number": 7,
        "base": {"ref": "main", "sha": "a"},
        "head": {"ref": "main", "sha": "b"},
    }
    await ran(house, body("poison", "mkdir deps; echo evil > deps/a"), pull_request=request)
    _, said = await ran(house, body("poison"))
    assert "there is none yet" in said
    await ran(house, body("good"))
    _, said = await ran(house, body("good"), ref="feature")
    assert "hit=true" in said
    _, said = await ran(house, body("good"), repository={"name": "y", "default_branch": "main"})
    assert "there is none yet" in said


async def test_a_lost_or_broken_archive_is_a_miss(house: House, tmp_path: Path) -> None:
    """A missing or mangled archive costs a line in the log, and the next run keeps a new one."""
    await ran(house, body())
    (blob,) = (tmp_path / "blobs").iterdir()
    blob.write_bytes(blob.read_bytes()[:-3])
    details, said = await ran(house, body())
    assert details.run.reason is Reason.SUCCEEDED
    assert "cache k1: not restored: what came is not what was kept" in said
    blob.unlink()
    _, said = await ran(house, body())
    assert "there is none yet" in said
    assert "cache k1: kept (" in said
    _, said = await ran(house, body())
    assert "hit=true" in said


async def test_values_that_lead_out_fail_the_step_before_it_starts(house: House) -> None:
    """A path is checked again when its value is known; no cache is no excuse for it."""
    details, _ = await ran(
        house,
        """
from plue import cache
p = ctx.run("p", "echo ../outside")
ctx.run("a", "true", cache=cache(paths=[p.stdout], key="k"))
""",
    )
    step = details.steps[-1]
    assert (step.state, step.reason) == (StepState.FAILED, Reason.INVALID_PATH)
    assert "'../outside' of a cache is not below the workspace" in (step.message or "")


async def test_secrets_in_a_key_are_hidden_in_the_log(house: House) -> None:
    """What the runner says of a cache is masked as what the step prints."""
    details, said = await ran(
        house,
        """
from plue import cache
ctx.run("a", "rm -rf deps; exit 0", retry=1, cache=[
    cache(paths=["deps"], key="one"), cache(paths=["~/no-such-folder-of-plue"], key="two")])
""",
    )
    assert details.run.reason is Reason.SUCCEEDED
    assert "cache one: nothing to keep: there is no deps" in said
    assert "cache two: nothing to keep" in said


async def test_too_large_a_cache_is_not_kept(postgres_dsn: str, tmp_path: Path) -> None:
    """The server's bound ends the upload; the step has succeeded all the same."""
    settings = replace(SETTINGS, cache_bytes=1000)
    async with a_house(postgres_dsn, tmp_path, settings=settings) as house:
        script = "mkdir deps; head -c 100000 /dev/urandom > deps/a"
        details, said = await ran(house, body(script=script))
        assert details.run.reason is Reason.SUCCEEDED
        assert "cache k1: not kept: it is too large for this server" in said
        assert [*(tmp_path / "blobs").iterdir()] == []

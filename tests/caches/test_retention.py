"""Old caches and old archives go; what a run or a cache uses stays."""

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from authoring.sandboxed import FILE, workflow_of
from server import QUICK, Server, a_server

from plue.domain.caches import CacheScope
from plue.domain.run import Submission
from plue.engine.retention import archives_pass
from plue.store.blobs import Blobs
from plue.wire.caches import CacheQuery, version_of
from plue.wire.frames import Workspace

SCOPE = CacheScope("local", "x", "main", ("main",))
VERSION = version_of(["deps"])


@pytest.fixture
async def server(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Server, None]:
    """Give a server whose repositories may keep 100 bytes."""
    settings = replace(QUICK, repository_cache_bytes=100)
    async with a_server(postgres_dsn, tmp_path, settings) as server:
        yield server


def made(blobs: Blobs, content: str, *, days: float = 0) -> str:
    """Store an archive that was last looked at *days* ago."""
    name = blobs.put_at_once([content.encode()])
    path = blobs.path(name)
    then = path.stat().st_mtime - days * 86400
    os.utime(path, (then, then))
    return name


def names(folder: Path) -> set[str]:
    """Return what is in the folder of archives."""
    return {path.name for path in (folder / "blobs").iterdir()}


async def keep(server: Server, key: str, blob: str, size: int, scope: CacheScope = SCOPE) -> None:
    """Record a cache."""
    caches = server.engine.context.caches
    assert await caches.insert(scope, version=VERSION, key=key, blob=blob, size=size)


async def found(server: Server, key: str) -> bool:
    """Whether there is a cache of the key."""
    query = CacheQuery(version=VERSION, key=key)
    return await server.engine.context.caches.find(SCOPE, query) is not None


async def test_an_archive_goes_when_neither_a_run_nor_a_cache_uses_it(
    server: Server, tmp_path: Path
) -> None:
    """And not before it is a day old: what was just uploaded is used by nothing yet."""
    blobs, context = server.engine.blobs, server.engine.context
    of_run, of_cache, old, fresh = [
        await asyncio.to_thread(made, blobs, content)
        for content in ("run", "cache", "old", "fresh")
    ]
    (tmp_path / "blobs" / ".0123.part").write_text("half")
    workspace = Workspace(kind="blob", blob=of_run)
    files = {FILE: workflow_of("ctx.run('a', 'x')")}
    await server.engine.submit(Submission(workflow="ci", files=files, workspace=workspace))
    await keep(server, "k", of_cache, 5)
    for name in (of_run, of_cache, old, ".0123.part"):
        os.utime(tmp_path / "blobs" / name, (1, 1))
    await archives_pass(context, server.engine.archives)
    assert names(tmp_path) == {of_run, of_cache, fresh}


async def test_an_archive_that_was_looked_at_meanwhile_stays(tmp_path: Path) -> None:
    """Between the look at its age and its removal, a use saves it."""
    blobs = Blobs(tmp_path)
    name = await asyncio.to_thread(made, blobs, "x", days=2)
    assert blobs.unused(timedelta(days=1)) == [name]
    assert blobs.has(name)
    assert blobs.remove([name], unused=timedelta(days=1)) == 0
    assert blobs.has(name)


async def test_caches_that_nobody_uses_go_after_a_week(
    server: Server, tmp_path: Path, postgres_dsn: str
) -> None:
    """A use counts; with the last cache of it, its archive goes at once."""
    blobs = server.engine.blobs
    one, other = [await asyncio.to_thread(made, blobs, c) for c in "ab"]
    await keep(server, "old", one, 1)
    await keep(server, "older", one, 1)
    await keep(server, "used", other, 1)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute("UPDATE caches SET used_at = now() - interval '8 days'")
    assert await found(server, "used")
    await archives_pass(server.engine.context, server.engine.archives)
    assert names(tmp_path) == {other}
    assert not await found(server, "old")
    assert await found(server, "used")


async def test_of_a_repository_the_least_used_go_first(server: Server) -> None:
    """Beyond its bytes; other repositories have their own."""
    blobs = server.engine.blobs
    for number in range(3):
        await keep(server, f"k{number}", await asyncio.to_thread(made, blobs, f"{number}"), 40)
    await keep(
        server, "k", await asyncio.to_thread(made, blobs, "y"), 90, replace(SCOPE, repository="y")
    )
    assert await found(server, "k0")
    await archives_pass(server.engine.context, server.engine.archives)
    assert [await found(server, f"k{number}") for number in range(3)] == [True, False, True]


async def test_of_all_repositories_the_least_used_go_first(server: Server) -> None:
    """However many there are, the disk has an end."""
    caches = server.engine.context.caches
    for number in range(3):
        scope = replace(SCOPE, repository=f"r{number}")
        await keep(server, f"k{number}", str(number) * 64, 40, scope)
    assert await caches.forget(days=7, most=1000, most_of_all=100) == ["0" * 64]


async def test_the_first_of_a_key_stays(server: Server) -> None:
    """Two runs that keep one key at once: one wins, and both go on."""
    caches = server.engine.context.caches
    await keep(server, "k", "a" * 64, 1)
    assert not await caches.insert(SCOPE, version=VERSION, key="k", blob="b" * 64, size=1)
    found = await caches.find(SCOPE, CacheQuery(version=VERSION, key="k"))
    assert found is not None
    assert found.blob == "a" * 64

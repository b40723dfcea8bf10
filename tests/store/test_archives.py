"""Archives that processes without a common folder share through a real database."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from factories import a_run
from typing_extensions import override

from plue.errors import NotFoundError, RejectedError, UnavailableError
from plue.store.archives import PIECE_BYTES, SharedArchives
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.lifecycle import LifecycleStore
from plue.store.migrations import migrate
from plue.store.runs import RunStore
from plue.wire.frames import Workspace

CONTENT = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(100_000))  # 3.2 MB
NAME = hashlib.sha256(CONTENT).hexdigest()
ABSENT = "0" * 64
DAY = timedelta(days=1)

Process = Callable[[str], SharedArchives]


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """Give a database with the schema."""
    await migrate(postgres_dsn)
    database = await Database.open(postgres_dsn, connections=4)
    yield database
    await database.close()


@pytest.fixture
def process(database: Database, tmp_path: Path) -> Process:
    """Give a function that starts a process of the engine, with a folder of its own."""
    return lambda name: SharedArchives(Blobs(tmp_path / name), database)


async def chunks(content: bytes = CONTENT) -> AsyncIterator[bytes]:
    """Give what a client sends, in pieces of another size than the store's."""
    for at in range(0, len(content), 300_000):
        await asyncio.sleep(0)
        yield content[at : at + 300_000]


async def test_what_one_process_was_given_any_other_has(process: Process) -> None:
    """It is the same bytes, whoever is asked, and the second look is at the own folder."""
    api, gateway = process("api"), process("gateway")
    assert await api.put(chunks()) == (NAME, len(CONTENT))
    await gateway.check(NAME)
    path = await gateway.path(NAME)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(path.parents[1] / "gateway")
    assert await gateway.path(NAME) == path


async def test_doubled_uploads_are_one(process: Process, database: Database) -> None:
    """At once, one after the other, and of what another process has: the same pieces."""
    processes = [process(f"api-{n}") for n in range(3)]
    found = await asyncio.gather(*(p.put(chunks()) for p in [*processes, *processes]))
    assert set(found) == {(NAME, len(CONTENT))}
    with psycopg.connect(database.dsn) as connection:
        rows = connection.execute("SELECT n, length(data) FROM archive_pieces ORDER BY n")
        sizes = rows.fetchall()
    whole, rest = divmod(len(CONTENT), PIECE_BYTES)
    assert sizes == [*((n, PIECE_BYTES) for n in range(whole)), (whole, rest)]
    assert (await process("gateway").path(NAME)).read_bytes() == CONTENT


async def test_an_upload_that_broke_off_is_nothing_until_it_is_repeated(
    process: Process, database: Database
) -> None:
    """Pieces of a process that was killed are no archive; the next upload completes them."""
    api, gateway = process("api"), process("gateway")
    await api.blobs.put(chunks())
    await database.rows("keep_archive_piece", {"blob": NAME, "n": 0, "data": CONTENT[:PIECE_BYTES]})
    with pytest.raises(NotFoundError):
        await gateway.check(NAME)
    with pytest.raises(NotFoundError):
        await gateway.path(NAME)
    await api.put(chunks())
    assert (await gateway.path(NAME)).read_bytes() == CONTENT


async def test_what_is_not_there_and_what_is_no_name(process: Process) -> None:
    """Each has its own error; a path is no name."""
    archives = process("api")
    for ask in (archives.check, archives.path):
        with pytest.raises(NotFoundError):
            await ask(ABSENT)
        for name in ("../../etc/passwd", "\0" * 64):
            with pytest.raises(RejectedError):
                await ask(name)


async def test_damage_is_found(process: Process, database: Database) -> None:
    """Bytes that are not what the name says are given to no runner."""
    await process("api").put(chunks())
    with psycopg.connect(database.dsn) as connection:
        connection.execute("UPDATE archive_pieces SET data = 'other' WHERE n = 1")
    gateway = process("gateway")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="damaged"):
            await gateway.path(NAME)


class _Counted(Blobs):
    """A folder that counts what is put into it."""

    puts = 0

    @override
    async def put(self, chunks: AsyncIterable[bytes]) -> tuple[str, int]:
        self.puts += 1
        return await super().put(chunks)


async def test_a_herd_of_runners_brings_an_archive_once(
    process: Process, database: Database, tmp_path: Path
) -> None:
    """Fifty who ask at once read the pieces once; one who goes away takes nothing from others."""
    await process("api").put(chunks())
    folder = _Counted(tmp_path / "gateway")
    gateway = SharedArchives(folder, database)
    asking = [asyncio.create_task(gateway.path(NAME)) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    paths = await asyncio.gather(*asking[1:])
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == CONTENT
    assert folder.puts == 1


async def test_only_what_nobody_needs_is_forgotten(process: Process, database: Database) -> None:
    """A run keeps its archive, a use keeps it a day; pieces that belong to nothing go too."""
    api = process("api")
    await api.put(chunks())
    old, _ = await api.put(chunks(b"old"))
    young, _ = await api.put(chunks(b"young"))
    await database.rows("keep_archive_piece", {"blob": ABSENT, "n": 0, "data": b"half"})
    await LifecycleStore(database).ensure_partitions()
    assert await RunStore(database).insert(a_run(workspace=Workspace(kind="blob", blob=NAME)))
    with psycopg.connect(database.dsn) as connection:
        connection.execute("UPDATE archives SET used_at = now() - interval '2 days'")
        connection.execute("UPDATE archive_pieces SET made_at = now() - interval '2 days'")
    await api.check(young)
    assert await api.forget(DAY) == 1
    assert await api.forget(DAY) == 0
    with psycopg.connect(database.dsn) as connection:
        left = {row[0] for row in connection.execute("SELECT blob FROM archive_pieces")}
    assert left == {NAME, young}
    # What is only in the folder may be gone from the store: it is stored again.
    os.stat(api.blobs.path(old))  # noqa: PTH116 - its copy is still there
    assert await api.put(chunks(b"old")) == (old, 3)
    assert (await process("gateway").path(old)).read_bytes() == b"old"

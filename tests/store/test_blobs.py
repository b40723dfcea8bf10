"""Archives in a folder."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from plue.store.blobs import Blobs


async def archive(*chunks: bytes) -> AsyncIterator[bytes]:
    """Give the chunks of an archive."""
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def test_what_a_killed_server_had_begun_is_removed(tmp_path: Path) -> None:
    """Only whole archives stay; half ones of a server that was killed go at the next start."""
    blobs = Blobs(tmp_path)
    name, _ = await blobs.put(archive(b"whole"))
    (tmp_path / ".0123456789abcdef.part").write_bytes(b"half")
    Blobs(tmp_path).clear()
    assert blobs.path(name).read_bytes() == b"whole"
    assert not [*tmp_path.glob(".*")]  # noqa: ASYNC240 - two names

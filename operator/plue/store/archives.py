"""The archives of workspaces, as the processes of one engine see them.

Where one process is all there is, its folder is the store. Where API, gateways and operator stand
apart, an archive that is brought to one must be had from any: the database holds them, in pieces,
and a process's folder is a cache in front of it. Archives are named by their content, so that
doubled and broken uploads do no harm: what has its name is whole.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from datetime import timedelta
from pathlib import Path

from typing_extensions import override

from plue.errors import NotFoundError, UnavailableError
from plue.store.blobs import Blobs, check_name
from plue.store.database import Database

__all__ = ["Archives", "SharedArchives"]

PIECE_BYTES = 1024 * 1024
_TRIES = 3


class Archives:
    """The archives of a process that has no others beside it: those of its folder."""

    shared = False
    """Whether other processes have them too, so that this one's copies may go at any time."""

    def __init__(self, blobs: Blobs) -> None:
        """Keep them in *blobs*."""
        self.blobs = blobs

    async def put(self, chunks: AsyncIterable[bytes]) -> tuple[str, int]:
        """Store what *chunks* give; return its id and its size in bytes.

        Raises UnavailableError when the disk is full or the database is away.
        """
        return await self.blobs.put(chunks)

    async def check(self, blob: str) -> None:
        """Raise NotFoundError when there is no such archive; being looked at is a use of it."""
        self.blobs.path(blob)

    async def path(self, blob: str) -> Path:
        """Return a file with the archive. Raises NotFoundError, RejectedError for a bad name."""
        return self.blobs.path(blob)

    async def forget(self, unused: timedelta) -> int:
        """Remove what others share with us and nothing has used for so long; return how many."""
        _ = unused
        return 0


class SharedArchives(Archives):
    """The archives of an engine whose processes stand apart."""

    shared = True

    def __init__(self, blobs: Blobs, database: Database) -> None:
        """Keep them in *database*, and what was used lately in *blobs* too."""
        super().__init__(blobs)
        self._database = database
        self._coming: dict[str, asyncio.Task[Path]] = {}

    @override
    async def put(self, chunks: AsyncIterable[bytes]) -> tuple[str, int]:
        blob, size = await self.blobs.put(chunks)
        for _ in range(_TRIES):
            if await self._pieces_of(blob) is not None or await self._share(blob, size):
                return blob, size
        raise UnavailableError(
            "the archive was removed while it was stored", remedy="send it again"
        )

    async def _pieces_of(self, blob: str) -> int | None:
        """Say that the archive is used; return its number of pieces, None when it is not there."""
        row = await self._database.row("use_archive", {"blob": blob})
        return None if row is None else row["pieces"]

    async def _share(self, blob: str, size: int) -> bool:
        """Write the pieces, and then that they are all there; False when some were removed."""
        count = 0
        with self.blobs.path(blob).open("rb") as file:
            while data := await asyncio.to_thread(file.read, PIECE_BYTES):
                await self._database.rows(
                    "keep_archive_piece", {"blob": blob, "n": count, "data": data}
                )
                count += 1
        whole = {"blob": blob, "bytes": size, "pieces": count}
        return await self._database.row("keep_archive", whole) is not None

    @override
    async def check(self, blob: str) -> None:
        check_name(blob)
        if await self._pieces_of(blob) is None:
            raise NotFoundError(f"there is no blob {blob}")

    @override
    async def path(self, blob: str) -> Path:
        try:
            return self.blobs.path(blob)
        except NotFoundError:
            pass
        # Many runners ask for the archive of one commit at once: it comes once.
        coming = self._coming.get(blob)
        if coming is None:
            coming = self._coming[blob] = asyncio.create_task(self._bring(blob))
            coming.add_done_callback(lambda _: self._coming.pop(blob, None))
        return await asyncio.shield(coming)

    async def _bring(self, blob: str) -> Path:
        count = await self._pieces_of(blob)
        if count is None:
            raise NotFoundError(f"there is no blob {blob}")
        found, _ = await self.blobs.put(self._pieces(blob, count))
        if found != blob:
            raise UnavailableError(
                f"blob {blob} is damaged in the database: its content is {found}",
                remedy="upload it again under another name, or restore the table archive_pieces",
            )
        return self.blobs.path(blob)

    async def _pieces(self, blob: str, count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            row = await self._database.row("read_archive_piece", {"blob": blob, "n": number})
            if row is None:
                raise NotFoundError(f"blob {blob} was removed")
            yield row["data"]

    @override
    async def forget(self, unused: timedelta) -> int:
        (row,) = await self._database.rows("forget_archives", {"unused": unused})
        return int(row["archives"])

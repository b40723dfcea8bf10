"""Caches of steps: rows that name archives; the archives themselves are blobs."""

from collections.abc import Sequence
from dataclasses import dataclass

from plue.domain.caches import CacheScope, cache_scope
from plue.domain.run import RunnerId
from plue.store.database import Database
from plue.store.runners import token_hash
from plue.wire.caches import CacheQuery

__all__ = ["CacheStore", "FoundCache"]


@dataclass(frozen=True, slots=True)
class FoundCache:
    """A cache that fits: whose it is, its key, and its archive."""

    ref: str
    key: str
    blob: str


class CacheStore:
    """The caches of all repositories."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def scope(self, runner: RunnerId, token: str) -> CacheScope | None:
        """Return whose caches the runner's own run uses; None for who has none."""
        row = await self._database.row(
            "cache_owner", {"id": runner, "token_hash": token_hash(token)}
        )
        return None if row is None else cache_scope(row["namespace"], row["event"])

    async def find(self, scope: CacheScope, query: CacheQuery) -> FoundCache | None:
        """Return the best cache that *scope* sees, which counts as a use of it."""
        row = await self._database.row(
            "find_cache",
            {
                "namespace": scope.namespace,
                "repository": scope.repository,
                "refs": list(scope.refs),
                "version": query.version,
                "key": query.key,
                "prefixes": list(query.restore_keys),
            },
        )
        return None if row is None else FoundCache(row["ref"], row["key"], row["blob"])

    async def insert(
        self, scope: CacheScope, *, version: str, key: str, blob: str, size: int
    ) -> bool:
        """Record a cache of *size* bytes; False when there is one of that key already."""
        row = await self._database.row(
            "insert_cache",
            {
                "namespace": scope.namespace,
                "repository": scope.repository,
                "ref": scope.ref,
                "version": version,
                "key": key,
                "blob": blob,
                "bytes": size,
            },
        )
        return row is not None

    async def lost(self, blob: str) -> None:
        """Forget the caches of an archive that is gone."""
        await self._database.rows("forget_lost_cache", {"blob": blob})

    async def forget(self, *, days: int, most: int, most_of_all: int) -> list[str]:
        """Forget what was unused for *days*, and beyond *most* bytes a repository and of all.

        Return their archives.
        """
        rows = await self._database.rows(
            "forget_caches", {"days": days, "most": most, "most_of_all": most_of_all}
        )
        return [row["blob"] for row in rows]

    async def unreferenced(self, blobs: Sequence[str], *, copies: bool = False) -> list[str]:
        """Return those of *blobs* that no run and no cache uses.

        Where they are only *copies* of what runs use, no run needs them.
        """
        rows = await self._database.rows(
            "unreferenced_blobs", {"blobs": list(blobs), "copies": copies}
        )
        return [row["blob"] for row in rows]

"""What runner and gateway say to each other about caches.

``POST /runner/v1/caches/restore`` with a :class:`CacheQuery` gives an archive, whose
:data:`FOUND_HEADER` is a :class:`CacheFound` as JSON in ASCII, or 404: there is none.
``POST /runner/v1/caches?version=…&key=…`` keeps the archive in its body: 201, or 200 when there is
one of that key already, 413 when it is too large. Whose caches a runner sees is decided by the
gateway, from the runner's own run.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FOUND_HEADER", "MAX_CACHE_BYTES", "CacheFound", "CacheQuery", "version_of"]

FOUND_HEADER: Final = "X-Plue-Cache"
MAX_CACHE_BYTES: Final = 1024**3
"""The largest archive, compressed."""

_FORMAT: Final = 1
"""Of the archives; another one makes the caches of older runners unknown, which is a miss."""

Key = Annotated[str, Field(min_length=1, max_length=512)]
Version = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class CacheQuery(BaseModel):
    """Asks for the cache of ``key``, else the newest whose key begins with a restore key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version
    key: Key
    restore_keys: Annotated[tuple[Key, ...], Field(max_length=10)] = ()


class CacheFound(BaseModel):
    """What was found: its key, and the SHA-256 of the archive."""

    model_config = ConfigDict(frozen=True)

    key: str
    blob: Version


def version_of(paths: Sequence[str]) -> str:
    """Return what tells caches of one key but other *paths* apart: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps([_FORMAT, *paths]).encode()).hexdigest()

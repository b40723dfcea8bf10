"""The caches of steps: asked for before a step starts, kept after it has succeeded.

A cache that is lost, broken or cannot be reached is one that is not there: the step runs, and its
log says why. Only what the author wrote wrong fails a step.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Final, Protocol, TypeVar

from plue.errors import NotFoundError, PlueError
from plue.wire.caches import MAX_CACHE_BYTES, CacheFound, CacheQuery, version_of
from plue.wire.events import Reason
from plue.wire.plan import Cache
from plue_runner.archives import ArchiveError, Place, Roots, pack, place_of, unpack
from plue_runner.faults import Fault
from plue_runner.values import Values

__all__ = ["CacheServer", "Caches", "Wanted", "wanted_of"]

_MOST_SECONDS: Final = 600.0
"""How long a step may wait for one of its caches."""

_MAX_KEY: Final = 512
_MEGABYTE: Final = 1_000_000

_T = TypeVar("_T")

Say = Callable[[str], None]


class CacheServer(Protocol):
    """Where caches are: the gateway."""

    def restore_cache(
        self, query: CacheQuery
    ) -> AbstractAsyncContextManager[tuple[CacheFound, AsyncIterator[bytes]]]:
        """Open the cache that fits. Raises NotFoundError, UnavailableError."""
        ...

    async def save_cache(self, version: str, key: str, archive: Path) -> bool:
        """Keep *archive*; False when there is one already. Raises PlueError."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A step's cache with its values."""

    paths: tuple[str, ...]
    places: tuple[Place, ...]
    query: CacheQuery

    @property
    def key(self) -> str:
        """What it is kept under."""
        return self.query.key


def wanted_of(cache: Cache, values: Values) -> Wanted:
    """Return *cache* with its values. Raises Fault for a path or a key that cannot be."""
    paths = tuple(values.text(path) for path in cache.paths)
    places = tuple(_place(path) for path in paths)
    query = CacheQuery(
        version=version_of(paths),
        key=_key(values.text(cache.key)),
        restore_keys=tuple(_key(values.text(key)) for key in cache.restore_keys),
    )
    return Wanted(paths, places, query)


def _place(path: str) -> Place:
    place = place_of(path)
    if place is None:
        raise Fault(
            Reason.INVALID_PATH,
            f"the path {path!r} of a cache is not below the workspace or the home folder",
            remedy="write it relative to the workspace, or after `~/`, without `..`",
        )
    return place


def _key(key: str) -> str:
    if not (0 < len(key) <= _MAX_KEY and key.isprintable()):
        raise Fault(
            Reason.MISSING_VALUE,
            f"a cache's key is 1 to {_MAX_KEY} printable characters, and not {key[:80]!r}",
            remedy="put a hash into it: ctx.hash_files(...)",
        )
    return key


class Caches:
    """The caches of one attempt; one is worked on at a time."""

    def __init__(self, server: CacheServer, scratch: Path) -> None:
        """Ask *server*; *scratch* is a folder for archives on their way."""
        self._server = server
        self._scratch = scratch
        self._lock = asyncio.Lock()
        self._kept: set[tuple[str, str]] = set()
        self._files = 0

    async def restore(self, wanted: Wanted, roots: Roots, say: Say) -> bool:
        """Put the files of *wanted* in their places; whether they are exactly those of its key."""
        said = f"cache {wanted.key}"
        try:
            found, size, seconds = await self._bounded(
                lambda archive, stop: self._restore(wanted, roots, archive, stop)
            )
        except NotFoundError:
            say(f"{said}: there is none yet")
        except (PlueError, ArchiveError, OSError) as error:
            say(f"{said}: not restored: {_short(error)}")
        else:
            exact = found.key == wanted.key
            if exact:
                self._kept.add((wanted.query.version, wanted.key))
            other = "" if exact else f" from {found.key}"
            say(f"{said}: restored{other} ({size / _MEGABYTE:.1f} MB in {seconds:.1f} s)")
            return exact
        return False

    async def keep(self, wanted: Wanted, roots: Roots, say: Say) -> None:
        """Keep the files of *wanted*, unless there is one of its key already."""
        if (wanted.query.version, wanted.key) in self._kept:
            return
        said = f"cache {wanted.key}"
        try:
            told = await self._bounded(
                lambda archive, stop: self._keep(wanted, roots, archive, stop)
            )
        except (PlueError, ArchiveError, OSError) as error:
            say(f"{said}: not kept: {_short(error)}")
        else:
            say(f"{said}: {told}")

    async def _bounded(self, work: Callable[[Path, Event], Coroutine[None, None, _T]]) -> _T:
        """Do *work* with a file of its own, not beside another's and not for ever."""
        async with self._lock:
            self._files += 1
            archive, stop = self._scratch / f"cache{self._files}.tar.gz", Event()
            try:
                async with asyncio.timeout(_MOST_SECONDS):
                    return await work(archive, stop)
            except TimeoutError as error:
                raise ArchiveError(f"it took longer than {_MOST_SECONDS:g} s") from error
            finally:
                stop.set()  # a thread that nobody waits for any more ends by itself
                archive.unlink(missing_ok=True)

    async def _restore(
        self, wanted: Wanted, roots: Roots, archive: Path, stop: Event
    ) -> tuple[CacheFound, int, float]:
        began, size, digest = monotonic(), 0, hashlib.sha256()
        async with self._server.restore_cache(wanted.query) as (found, chunks):
            with archive.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
                    if size > MAX_CACHE_BYTES:
                        raise ArchiveError("it is too large")
        if digest.hexdigest() != found.blob:
            raise ArchiveError("what came is not what was kept")
        await asyncio.to_thread(unpack, archive, roots, wanted.places, stop=stop)
        return found, size, monotonic() - began

    async def _keep(self, wanted: Wanted, roots: Roots, archive: Path, stop: Event) -> str:
        began = monotonic()
        count, size = await asyncio.to_thread(
            pack, archive, roots, wanted.places, limit=MAX_CACHE_BYTES, stop=stop
        )
        if not count:
            return f"nothing to keep: there is no {' and no '.join(wanted.paths)}"
        stored = await self._server.save_cache(wanted.query.version, wanted.key, archive)
        self._kept.add((wanted.query.version, wanted.key))
        if not stored:
            return "another run has kept it meanwhile"
        return f"kept ({size / _MEGABYTE:.1f} MB in {monotonic() - began:.1f} s)"


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__

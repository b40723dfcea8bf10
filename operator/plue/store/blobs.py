"""Archives by content: a folder now; S3-compatible and GCS stores are other implementations."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from plue.errors import NotFoundError, RejectedError, UnavailableError
from plue.marks import Mark, reached

__all__ = ["Blobs", "check_name"]

_SMALL_BYTES = 64 * 1024


class Blobs:
    """Immutable archives named by their SHA-256 in lower-case hex, in one folder."""

    def __init__(self, folder: Path) -> None:
        """Use *folder*, making it when it is missing."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def clear(self) -> None:
        """Remove what a predecessor that was killed had begun; the folder must be ours alone."""
        for partial in self._folder.glob(".*.part"):
            partial.unlink(missing_ok=True)

    async def put(self, chunks: AsyncIterable[bytes]) -> tuple[str, int]:
        """Store what *chunks* give; return its id and its size in bytes.

        Complete or not at all: the name appears only after the last byte. Raises
        UnavailableError when the disk is full.
        """
        with self._partial() as partial:
            async for chunk in chunks:
                if len(chunk) < _SMALL_BYTES:
                    partial.add(chunk)
                else:  # hashing and writing it takes longer than another thread
                    await asyncio.to_thread(partial.add, chunk)
            return partial.keep(), partial.size

    def put_at_once(self, chunks: Iterable[bytes]) -> str:
        """Store as ``put`` does and return the id; for a thread that may block."""
        with self._partial() as partial:
            for chunk in chunks:
                partial.add(chunk)
            return partial.keep()

    @contextlib.contextmanager
    def _partial(self) -> Iterator["_Partial"]:
        path = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            with path.open("wb") as file:
                yield _Partial(file, path)
        except OSError as error:
            raise UnavailableError(
                f"the archive could not be stored in {self._folder}: {error.strerror}",
                remedy="free disk space, or choose another data folder",
            ) from error
        finally:
            path.unlink(missing_ok=True)

    def unused(self, age: timedelta) -> list[str]:
        """Return the archives that nobody looked at for *age*, and drop what was never finished."""
        oldest, found = time.time() - age.total_seconds(), []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not _is_older(entry.path, oldest):
                    continue
                if entry.name.endswith(".part"):
                    Path(entry.path).unlink(missing_ok=True)
                elif _is_name(entry.name):
                    found.append(entry.name)
        return sorted(found)

    def remove(self, blobs: Iterable[str], *, unused: timedelta) -> int:
        """Remove archives that are still unused for so long; return how many."""
        oldest, removed = time.time() - unused.total_seconds(), 0
        for blob in blobs:
            path = self._folder / blob
            if _is_name(blob) and _is_older(os.fspath(path), oldest):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def has(self, blob: str) -> bool:
        """Return whether the archive is there; that counts as a use of it."""
        try:
            self.path(blob)
        except NotFoundError:
            return False
        return True

    def path(self, blob: str) -> Path:
        """Return where the archive lies. Raises NotFoundError, RejectedError for a bad name."""
        check_name(blob)
        path = self._folder / blob
        if not path.exists():
            raise NotFoundError(f"there is no blob {blob}")
        # Its age since the last use decides when it is removed.
        os.utime(path)
        return path


def check_name(blob: str) -> None:
    """Raise RejectedError when *blob* can be no archive's id."""
    if not _is_name(blob):
        raise RejectedError("a blob's id is 64 hexadecimal digits", field="blob")


def _is_name(name: str) -> bool:
    return len(name) == 64 and all(c in "0123456789abcdef" for c in name)  # noqa: PLR2004 - SHA-256


def _is_older(path: str, oldest: float) -> bool:
    try:
        return os.stat(path).st_mtime <= oldest  # noqa: PTH116 - of thousands
    except FileNotFoundError:
        return False


class _Partial:
    """An archive that is being written."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._digest = hashlib.sha256()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Write a piece."""
        self._digest.update(chunk)
        self.size += len(chunk)
        self._file.write(chunk)

    def keep(self) -> str:
        """Give it its name, and return that."""
        self._file.close()
        name = self._digest.hexdigest()
        reached(Mark.BLOB_WRITTEN)
        self._path.replace(self._path.with_name(name))
        return name

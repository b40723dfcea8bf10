"""Archives by content: a folder now; S3-compatible and GCS stores are other implementations."""

import hashlib
import os
import secrets
from collections.abc import AsyncIterable
from pathlib import Path

from plue.errors import NotFoundError, RejectedError, UnavailableError
from plue.marks import Mark, reached

__all__ = ["Blobs"]


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
        digest, size = hashlib.sha256(), 0
        partial = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            with partial.open("wb") as file:
                async for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
            name = digest.hexdigest()
            reached(Mark.BLOB_WRITTEN)
            partial.replace(self._folder / name)
        except OSError as error:
            raise UnavailableError(
                f"the archive could not be stored in {self._folder}: {error.strerror}",
                remedy="free disk space, or choose another data folder",
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return name, size

    def path(self, blob: str) -> Path:
        """Return where the archive lies. Raises NotFoundError, RejectedError for a bad name."""
        if len(blob) != 64 or not all(c in "0123456789abcdef" for c in blob):  # noqa: PLR2004 - SHA-256
            raise RejectedError("a blob's id is 64 hexadecimal digits", field="blob")
        path = self._folder / blob
        if not path.exists():
            raise NotFoundError(f"there is no blob {blob}")
        # Its age since the last use decides when it is removed.
        os.utime(path)
        return path

"""Reading ``.plue`` again and again, cheaply: what has not changed is not read.

A file is taken as unchanged when its size, times and inode are, as git does it, and with git's
caution: a file that was changed so shortly before it was read that a second change could carry
the same time is read once more.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.results import Diagnostic
from plue.authoring.sources import MAX_FILE_BYTES, Sources, must_be_text, text_or_diagnostic
from plue.errors import RejectedError
from plue.local.secrets import SECRETS_FILE

__all__ = ["FOLDER", "LEFT_OUT", "SourceReader", "source_files"]

FOLDER: Final = ".plue"
LEFT_OUT: Final = frozenset(
    {".git", ".hg", ".svn", ".venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache"}
)
"""Folders that hold what tools make again."""

_TOTAL_BYTES: Final = 16 * 1024 * 1024
_FILES: Final = 2000
_RACY_NS: Final = 2_000_000_000
"""How old a change must be to be told from a later one: the coarsest clock of a file system."""

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    stamp: Stamp | None
    found: str | Diagnostic | None
    """The text, or what is wrong with it; None for what is no text and need not be."""


def source_files(root: Path) -> Mapping[str, str]:
    """Return the usable text files under ``.plue`` of *root*, by path. Raises RejectedError."""
    return SourceReader(root).read().files


class SourceReader:
    """Reads the files under ``.plue`` of one project; safe to share between threads."""

    def __init__(self, root: Path) -> None:
        """Read below *root*; nothing is read yet."""
        self.root = root
        self.reads = 0
        """How many files were opened so far."""
        self._known: dict[str, _Read] = {}
        self._sources = Sources()
        self._lock = threading.Lock()

    def read(self) -> Sources:
        """Return the files as they are now; the same object when nothing has changed.

        Raises RejectedError when there is more than anybody writes by hand.
        """
        with self._lock:
            before, self._known = self._known, dict(self._read_all())
            if _contents(before) != _contents(self._known):
                self._sources = _sources_of(self._known)
            return self._sources

    def _read_all(self) -> Iterator[tuple[str, _Read]]:
        now = time.time_ns()
        for number, (name, path, status) in enumerate(_walked(self.root)):
            if number >= _FILES:
                raise RejectedError(
                    f"{FOLDER}/ has more than {_FILES} files",
                    remedy=f"keep data and build products out of {FOLDER}/",
                )
            changed = max(status.st_mtime_ns, status.st_ctime_ns)
            stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            before = self._known.get(name)
            if before is not None and before.stamp == stamp:
                yield name, before
                continue
            found = self._found(name, path, status.st_size)
            yield name, _Read(stamp if now - changed > _RACY_NS else None, found)

    def _found(self, name: str, path: str, size: int) -> str | Diagnostic | None:
        needed = must_be_text(name)
        if size > MAX_FILE_BYTES and not needed:
            return None
        self.reads += 1
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a thousand of them
                data = file.read(MAX_FILE_BYTES + 1) or b""
        except OSError as error:
            return _unreadable(name, error) if needed else None
        found = text_or_diagnostic(name, data)
        return found if needed or isinstance(found, str) else None


def _walked(root: Path) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield (name, path, status) of the regular files under ``.plue``, sorted by name."""
    top = str(root / FOLDER)
    cut = len(str(root)) + 1
    for place, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        for name in sorted(names):
            path = f"{place}/{name}"
            if path.endswith(f"/{SECRETS_FILE}"):
                continue  # it is nobody's source
            if name.startswith(".") or not os.path.isfile(path):  # noqa: PTH113 - as above
                continue
            try:
                status = os.stat(path)  # noqa: PTH116 - as above
            except FileNotFoundError:
                continue
            yield path[cut:].replace(os.sep, "/"), path, status


def _unreadable(name: str, error: OSError) -> Diagnostic:
    return Diagnostic(
        Code.UNREADABLE,
        f"the file cannot be read: {error.strerror}",
        name,
        1,
        remedy="make it readable for the user that runs Plue",
    )


def _contents(known: Mapping[str, _Read]) -> Mapping[str, object]:
    return {name: read.found for name, read in known.items()}


def _sources_of(known: Mapping[str, _Read]) -> Sources:
    files: dict[str, str] = {}
    diagnostics: list[Diagnostic] = []
    for name, read in known.items():
        if isinstance(read.found, str):
            files[name] = read.found
        elif read.found is not None:
            diagnostics.append(read.found)
    if sum(map(len, files.values())) > _TOTAL_BYTES:
        raise RejectedError(
            f"{FOLDER}/ has more than {_TOTAL_BYTES >> 20} MiB of text",
            remedy=f"keep data and build products out of {FOLDER}/",
        )
    return Sources(dict(sorted(files.items())), diagnostics)

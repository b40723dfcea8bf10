"""Archives of caches: files and folders below the workspace or the home folder, and back again.

An archive holds only what was named, links as links, and nothing that is read through one. When it
is unpacked, every folder on the way is opened without following links, members that were not
named are refused, and what is there already stays: a cache never changes a file. What a broken
archive has made before it broke is removed again.
"""

import gzip
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO, Final, cast

__all__ = ["ArchiveError", "Place", "Roots", "pack", "place_of", "unpack"]

MAX_MEMBERS: Final = 1_000_000
MAX_UNPACKED: Final = 16 * 1024**3
"""Bytes; what a small archive can become is bounded by it."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK: Final = 1024 * 1024
_PADDING: Final = 4 * _CHUNK
_LEVEL: Final = 1  # time is dearer than space: a step waits for it

Roots = Mapping[str, Path]
"""``w`` is the workspace, ``h`` the home folder."""

Place = tuple[str, ...]
"""A path in an archive: the letter of its root, then the parts below it."""


class ArchiveError(Exception):
    """The archive cannot be made or used; the message says why."""


def place_of(path: str) -> Place | None:
    """Return where *path* lies; None when it is not below a root."""
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    root, inside = ("h", parts[1:]) if parts[:1] == ("~",) else ("w", parts)
    bad = path.startswith("/") or ".." in parts or "\0" in path
    return None if bad or not inside or inside[0].startswith("~") else (root, *inside)


# ── packing ──────────────────────────────────────────────────────────────────────────────────────


def pack(
    target: Path, roots: Roots, places: Sequence[Place], *, limit: int, stop: Event
) -> tuple[int, int]:
    """Write what lies at *places* to *target*; return how many members, and bytes, there are.

    What is not there is left out. Raises ArchiveError beyond *limit* bytes, or when *stop* is set;
    OSError when the disk is full.
    """
    count = 0
    with target.open("wb") as file:
        # Without a time and a name in its head, the same files are the same archive.
        with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
            with _open(packed) as tar:
                for place in places:
                    for _ in _add(tar, roots, place):
                        count += 1
                        _check(stop, file.tell(), limit)
            _check(stop, file.tell(), limit)
        _check(stop, size := file.tell(), limit)
    return count, size


def _open(packed: gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(
        mode="w|", fileobj=cast("IO[bytes]", packed), bufsize=_CHUNK, format=tarfile.PAX_FORMAT,
        encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip


def _check(stop: Event, size: int, limit: int) -> None:
    if stop.is_set():
        raise ArchiveError("it was interrupted")
    if size > limit:
        raise ArchiveError(f"it is larger than {limit // 1024**2} MiB")


def _add(tar: tarfile.TarFile, roots: Roots, place: Place) -> Iterator[None]:
    """Add what lies at *place*, one member at a time."""
    with ExitStack() as stack:
        try:
            folder = _opened(stack, roots[place[0]], place[1:-1])
            found = os.lstat(place[-1], dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        name = "/".join(place)
        if not stat.S_ISDIR(found.st_mode):
            yield from _add_file(tar, folder, place[-1], name, found)
            return
        for below, names, files, inside in os.fwalk(place[-1], dir_fd=folder):
            path = name + below.removeprefix(place[-1])
            tar.addfile(_member(path, os.fstat(inside), tarfile.DIRTYPE))
            yield
            names.sort()  # in a fixed order, so that the same files are the same archive
            links = [one for one in names if _is_link(one, inside)]
            for file in sorted([*files, *links]):
                found = os.lstat(file, dir_fd=inside)
                yield from _add_file(tar, inside, file, f"{path}/{file}", found)


def _opened(stack: ExitStack, root: Path, parts: Sequence[str]) -> int:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, folder)
    for part in parts:
        try:
            folder = os.open(part, _FOLDER, dir_fd=folder)
        except NotADirectoryError as error:
            if _is_link(part, folder):
                raise ArchiveError(f"{part!r} is a link, and none is followed") from error
            raise
        stack.callback(os.close, folder)
    return folder


def _is_link(name: str, folder: int) -> bool:
    return stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode)


def _add_file(
    tar: tarfile.TarFile, folder: int, name: str, path: str, found: os.stat_result
) -> Iterator[None]:
    if stat.S_ISLNK(found.st_mode):
        member = _member(path, found, tarfile.SYMTYPE)
        member.linkname = os.readlink(name, dir_fd=folder)
        tar.addfile(member)
        yield
    elif stat.S_ISREG(found.st_mode):
        with open(os.open(name, _READ, dir_fd=folder), "rb") as file:  # noqa: PTH123 - a descriptor
            found = os.fstat(file.fileno())
            member = _member(path, found, tarfile.REGTYPE)
            member.size = found.st_size
            tar.addfile(member, file)
        yield
    # Sockets, pipes and devices are nothing that could be kept.


def _member(path: str, found: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = kind, found.st_mode & 0o755, int(found.st_mtime)
    return member


# ── unpacking ────────────────────────────────────────────────────────────────────────────────────


def unpack(archive: Path, roots: Roots, places: Sequence[Place], *, stop: Event) -> int:
    """Make what *archive* has and is not there yet; return how many files and links.

    Raises ArchiveError, and takes back what was made, when the archive is broken, has what lies
    in none of *places*, would go through a link, or *stop* is set; OSError when the disk is full.
    """
    making = _Making(roots, frozenset(places))
    try:
        with (
            gzip.open(archive) as packed,
            tarfile.open(fileobj=packed, encoding="utf-8", errors="surrogateescape") as tar,
        ):
            for member in tar:
                making.add(tar, member, stop)
            # What comes after the last member says whether all of it was whole.
            if len(packed.read(_PADDING + 1)) > _PADDING:
                raise ArchiveError("there is more in it than files")  # noqa: TRY301 - as above
        making.finish()
    except BaseException as error:
        making.undo()
        if isinstance(error, tarfile.TarError | EOFError | gzip.BadGzipFile | ValueError):
            raise ArchiveError(f"the archive is broken: {error}") from error
        raise
    finally:
        making.close()
    return making.count


@dataclass
class _Making:
    """The folders that are open, from a root downwards, and what was made."""

    roots: Roots
    places: frozenset[Place]
    count: int = 0
    size: int = 0
    members: int = 0
    links: list[tuple[Place, str]] = field(default_factory=list)
    times: list[tuple[Place, int]] = field(default_factory=list)
    made: list[tuple[Place, bool]] = field(default_factory=list)
    path: Place = ()
    folders: list[int] = field(default_factory=list)

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, stop: Event) -> None:
        """Make one member; links wait until the end, so that nothing is written through one."""
        if stop.is_set():
            raise ArchiveError("it was interrupted")
        place = self._checked(member)
        self.members += 1
        self.size += max(member.size, 0)
        if self.members > MAX_MEMBERS or self.size > MAX_UNPACKED:
            raise ArchiveError("it has too much in it")
        if member.isdir():
            self._enter(place)
            self.times.append((place, int(member.mtime)))
        elif member.issym():
            self.links.append((place, member.linkname))
        elif member.isreg() and not member.issparse():
            self._write(tar, member, place)
        else:
            raise ArchiveError(f"{member.name!r} is neither a file, a folder nor a link")

    def _checked(self, member: tarfile.TarInfo) -> Place:
        place = tuple(member.name.split("/"))
        named = any(place[:count] in self.places for count in range(2, len(place) + 1))
        if not named or not all(part not in {"", ".", ".."} for part in place):
            raise ArchiveError(f"{member.name!r} is not what the cache is of")
        return place

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, place: Place) -> None:
        folder = self._enter(place[:-1])
        try:
            target = os.open(place[-1], _NEW_FILE, 0o600, dir_fd=folder)
        except FileExistsError:
            return
        self.made.append((place, False))
        self.count += 1
        with open(target, "wb") as file:  # noqa: PTH123 - a descriptor
            source = tar.extractfile(member)
            while source is not None and (piece := source.read(_CHUNK)):
                file.write(piece)
            file.flush()
            if file.tell() != member.size:
                raise ArchiveError("it ends too early")
            os.fchmod(target, 0o600 | member.mode & 0o755)
            os.utime(target, (int(member.mtime), int(member.mtime)))

    def _enter(self, place: Place) -> int:
        """Return the open folder at *place*, making those that are missing."""
        shared = 0
        while shared < min(len(place), len(self.path)) and place[shared] == self.path[shared]:
            shared += 1
        while len(self.folders) > shared:
            os.close(self.folders.pop())
        self.path = place[:shared]
        for part in place[shared:]:
            folder = self._root(part) if not self.folders else self._below(part)
            self.folders.append(folder)
            self.path = (*self.path, part)
        return self.folders[-1]

    def _root(self, letter: str) -> int:
        return os.open(self.roots[letter], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _below(self, name: str) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=self.folders[-1])
            self.made.append(((*self.path, name), True))
        try:
            return os.open(name, _FOLDER, dir_fd=self.folders[-1])
        except NotADirectoryError as error:  # also for a link, whatever it leads to
            raise ArchiveError(f"{name!r} is there and is no folder") from error

    def finish(self) -> None:
        """Make the links, and give the folders that are ours the times that they had."""
        for place, target in self.links:
            folder = self._enter(place[:-1])
            with suppress(FileExistsError):
                os.symlink(target, place[-1], dir_fd=folder)
                self.made.append((place, False))
                self.count += 1
        ours = {place for place, is_folder in self.made if is_folder}
        for place, time in reversed(self.times):
            if place in ours:
                os.utime(self._enter(place), (time, time))

    def undo(self) -> None:
        """Remove what was made, the newest first."""
        for place, is_folder in reversed(self.made):
            with suppress(OSError, ArchiveError):
                folder = self._enter(place[:-1])
                if is_folder:
                    os.rmdir(place[-1], dir_fd=folder)
                else:
                    os.unlink(place[-1], dir_fd=folder)

    def close(self) -> None:
        """Close the folders."""
        while self.folders:
            os.close(self.folders.pop())

"""Writing a tree as a tar archive, byte for byte the same as long as the tree is.

Order is the given one, owners are dropped, modes are 0644 or 0755; times of change stay, in whole
seconds, because `make` and its like compare them. Paths are bytes throughout: Linux does not ask
for UTF-8, and such a file must arrive too.
"""

import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from plue.errors import RejectedError

__all__ = ["tar_of"]

_CHUNK = 1024 * 1024
_IN_MEMORY = 4 * 1024 * 1024


def tar_of(
    root: bytes, names: Sequence[bytes], made: Iterable[tuple[bytes, bytes]] = ()
) -> Iterator[bytes]:
    """Yield the archive of *names* (sorted, below *root*) in chunks of about a MiB.

    After them come the files that were *made* for it: a path and its content, or a path that ends
    with a slash for an empty folder.

    Files that have gone meanwhile are left out, and so are folders that git lists for
    submodules, sockets, pipes and devices. Raises RejectedError for what cannot be read.
    """
    sink = _Sink()
    links: set[bytes] = set()
    with tarfile.open(
        fileobj=sink,
        mode="w",
        format=tarfile.GNU_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        for name in names:
            if _is_below(name, links):
                continue  # git still tracks a file in a folder that has become a link
            path = os.path.join(root, name)  # noqa: PTH118 - pathlib knows no bytes
            try:
                info = _entry(path, name)
                if info is None:
                    continue
                if info.issym():
                    links.add(name)
                yield from _written(archive, sink, info, path)
            except OSError as error:
                raise RejectedError(
                    f"{os.fsdecode(path)} cannot be copied into the run's workspace:"
                    f" {error.strerror}",
                    remedy="make it readable, or let .gitignore name it",
                ) from error
        for name, content in made:
            info = tarfile.TarInfo(name.rstrip(b"/").decode("utf-8", "surrogateescape"))
            info.mode, info.size = 0o644, len(content)
            if name.endswith(b"/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info, io.BytesIO(content))
            yield from sink.taken(_CHUNK)
    yield from sink.taken(0)


class _Sink(io.BytesIO):
    """Keeps what is written until it is taken; the archive counts its offset by itself."""

    def taken(self, at_least: int) -> Iterator[bytes]:
        """Yield what was written, unless that is nothing or less than *at_least*."""
        if self.tell() and self.tell() >= at_least:
            whole = self.getvalue()
            self.seek(0)
            self.truncate()
            yield whole


def _is_below(name: bytes, links: set[bytes]) -> bool:
    if not links:
        return False
    parts = name.split(b"/")
    return any(b"/".join(parts[:count]) in links for count in range(1, len(parts)))


def _entry(path: bytes, name: bytes) -> tarfile.TarInfo | None:
    try:
        seen = os.lstat(path)
        target = os.readlink(path) if stat.S_ISLNK(seen.st_mode) else b""  # noqa: PTH115 - bytes
    except (FileNotFoundError, NotADirectoryError):
        return None  # tracked and deleted, or deleted just now
    info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    info.mtime = int(seen.st_mtime)
    if stat.S_ISREG(seen.st_mode):
        info.mode = 0o755 if seen.st_mode & stat.S_IXUSR else 0o644
        info.size = seen.st_size
    elif stat.S_ISLNK(seen.st_mode):
        info.type, info.mode = tarfile.SYMTYPE, 0o777
        info.linkname = target.decode("utf-8", "surrogateescape")
    elif stat.S_ISDIR(seen.st_mode) and not name.endswith(b"/") and not os.listdir(path):  # noqa: PTH208 - bytes
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    else:
        return None
    return info


def _written(
    archive: tarfile.TarFile, sink: _Sink, info: tarfile.TarInfo, path: bytes
) -> Iterator[bytes]:
    """Write one entry, yielding full chunks."""
    if not info.isreg():
        archive.addfile(info)
        yield from sink.taken(_CHUNK)
        return
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - bytes
            # Whole where that is cheap: then size and content are of one moment.
            content = file.read(_IN_MEMORY + 1)
            if len(content) <= _IN_MEMORY:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                file.seek(0)
                info.size = os.fstat(file.fileno()).st_size
                yield from _streamed(archive, sink, info, file)
    except FileNotFoundError:
        return
    yield from sink.taken(_CHUNK)


def _streamed(
    archive: tarfile.TarFile, sink: _Sink, info: tarfile.TarInfo, file: BinaryIO
) -> Iterator[bytes]:
    """Write a large file piece by piece; one that shrinks meanwhile is filled up with zeros."""
    # The header by hand: from Python 3.13 on, addfile refuses one without its content.
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    sink.write(header)
    left = info.size
    while left:
        piece = file.read(min(_CHUNK, left)) or bytes(min(_CHUNK, left))
        sink.write(piece)
        left -= len(piece)
        yield from sink.taken(_CHUNK)
    padding = bytes(-info.size % tarfile.BLOCKSIZE)
    sink.write(padding)
    archive.offset += len(header) + info.size + len(padding)

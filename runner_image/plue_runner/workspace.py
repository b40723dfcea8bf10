"""The folder that a run works in: empty, unpacked from an archive, or the tree itself."""

import asyncio
import errno
import hashlib
import os
import platform
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from plue.errors import NotFoundError, UnavailableError
from plue.wire.events import Reason
from plue.wire.frames import Workspace
from plue_runner.faults import Fault

__all__ = ["Download", "make_workspace"]

Download = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens a blob by its id; raises NotFoundError or UnavailableError."""

# Neither is in Python before 3.11.4, which some distributions have.
_JUDGES = hasattr(tarfile, "data_filter")
_REFUSED: tuple[type[Exception], ...] = (tarfile.FilterError,) if _JUDGES else ()

_TRIES = 8
_COPY_BYTES = 1024 * 1024
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0


async def make_workspace(
    wanted: Workspace, *, folder: Path, archive: Path, download: Download
) -> Path:
    """Return the folder to work in.

    *folder* exists and is empty; *archive* is where a blob is put before it is unpacked. Raises
    Fault: WorkspaceFailed or DiskFull.
    """
    match wanted.kind:
        case "none":
            return folder
        case "in_place":
            return _in_place(wanted)
        case "blob":
            await _fetch(wanted.blob or "", archive, download)
            # A thread that is not waited for any more cannot be stopped, but its folder is gone
            # together with this process.
            await asyncio.to_thread(_unpack, archive, folder)
            return folder


def _in_place(wanted: Workspace) -> Path:
    path = Path(wanted.path or "")
    if not path.is_absolute() or not path.is_dir():
        raise Fault(
            Reason.WORKSPACE_FAILED,
            f"there is no folder {wanted.path!r}",
            remedy="was it moved or removed since the run was created?",
        )
    return path


async def _fetch(blob: str, archive: Path, download: Download) -> None:
    wait = _FIRST_WAIT
    for left in reversed(range(_TRIES)):
        try:
            await _fetch_once(blob, archive, download)
        except NotFoundError as error:
            raise Fault(
                Reason.WORKSPACE_FAILED,
                f"the workspace's archive {blob[:12]} is not on the server any more",
                remedy="create a new run",
            ) from error
        except UnavailableError as error:
            if not left:
                message = f"the workspace's archive cannot be fetched: {error}"
                raise Fault(Reason.WORKSPACE_FAILED, message) from error
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        except OSError as error:
            raise _disk_fault(error) from error
        else:
            return


async def _fetch_once(blob: str, archive: Path, download: Download) -> None:
    digest = hashlib.sha256()
    with archive.open("wb") as file:
        async with download(blob) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
    if digest.hexdigest() != blob:
        raise UnavailableError(f"what came is not the archive {blob[:12]}")


def _extract(tar: tarfile.TarFile, folder: str) -> None:
    """Unpack into *folder*, which is empty, as the filter `data` of tarfile would.

    That filter resolves every path anew, which is most of the work for many small files. Plain
    files and folders are made first and without it: nothing can lead them elsewhere yet. The rest
    it judges afterwards, and so what is named like, or lies below, a part of the rest.
    """
    made, folders = {""}, list[tarfile.TarInfo]()
    rest, names = list[tarfile.TarInfo](), set[str]()
    for member in tar:
        parent, _, name = member.name.rpartition("/")
        plain = (member.isreg() and not member.issparse()) or member.isdir()
        if not plain or not _is_plain(member.name) or _is_of(names, member.name):
            rest.append(member)
            names.add(member.name)
            continue
        place = member.name if member.isdir() else parent
        if place not in made:
            os.makedirs(f"{folder}/{place}", exist_ok=True)  # noqa: PTH103 - hot path
            made.add(place)
        if member.isdir():
            folders.append(member)
        elif not _write(tar, member, f"{folder}/{parent}/{name}"):
            rest.append(member)
    if rest and not _JUDGES:
        raise Fault(
            Reason.WORKSPACE_FAILED,
            f"{rest[0].name!r} of the workspace's archive cannot be judged by Python"
            f" {platform.python_version()}",
            remedy="give the runner Python 3.11.4 or newer, or leave out links",
        )
    if rest:
        tar.extractall(folder, rest, filter="data")
    for member in reversed(folders):
        os.utime(f"{folder}/{member.name}", (member.mtime, member.mtime))


def _is_of(names: set[str], name: str) -> bool:
    """Return whether *name*, or a folder that it is in, is one of *names*."""
    if not names:
        return False
    parts = name.split("/")
    return any("/".join(parts[:count]) in names for count in range(1, len(parts) + 1))


def _is_plain(name: str) -> bool:
    return all(part not in {"", ".", ".."} for part in name.split("/"))


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bool:
    """Write a regular file that is not there yet; False when it is."""
    # The bits that the filter `data` leaves: nobody else's writing, and execution by all or none.
    mode = 0o600 | member.mode & (0o755 if member.mode & 0o100 else 0o644)
    try:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return False
    try:
        left = member.size
        source = tar.fileobj
        assert source is not None  # noqa: S101 - for the type checker: it is open
        source.seek(member.offset_data)
        while left:
            piece = source.read(min(left, _COPY_BYTES))
            if not piece:
                raise tarfile.ReadError("unexpected end of data")
            left -= len(piece)
            while piece:
                piece = piece[os.write(target, piece) :]
        os.fchmod(target, mode)
        os.utime(target, (member.mtime, member.mtime))
    finally:
        os.close(target)
    return True


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            _extract(tar, os.fspath(folder))
    except _REFUSED as error:
        member = getattr(error, "tarinfo", None)
        name = "a member" if member is None else repr(member.name)
        raise Fault(
            Reason.WORKSPACE_FAILED,
            f"{name} of the workspace's archive is refused: {error}",
            remedy="links out of the workspace and special files cannot be copied",
        ) from error
    except tarfile.TarError as error:
        raise Fault(
            Reason.WORKSPACE_FAILED, f"the workspace's archive cannot be read: {error}"
        ) from error
    except OSError as error:
        raise _disk_fault(error) from error
    archive.unlink(missing_ok=True)


def _disk_fault(error: OSError) -> Fault:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Fault(
            Reason.DISK_FULL,
            "the disk is full: the workspace could not be copied",
            remedy="free disk space, or let .gitignore leave out what the run does not need",
        )
    return Fault(Reason.WORKSPACE_FAILED, f"the workspace could not be copied: {error}")

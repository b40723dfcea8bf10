"""Clones a git repository for the runs that work in it: one commit, as a tar archive.

The archive has the tree and its ``.git``, shallow, with HEAD at the commit and the address as
``origin``: steps can ask git what they work on. Submodules are empty folders and files of LFS are
their pointers: both would fetch from addresses that the repository names, not its user.
"""

import asyncio
import contextlib
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plue.authoring.remotes import MOST_BYTES, Git, GitRequest, Reach, commit_of, git_for, in_time
from plue.errors import RejectedError

__all__ = ["Clone", "clone"]

_FILES: Final = 200_000
_CHUNK_BYTES: Final = 1024 * 1024
_IN: Final = ("-C", "repository")


@dataclass(frozen=True, slots=True)
class Clone:
    """A commit, and the archive of its clone in chunks; None when it is the known one."""

    commit: str
    chunks: AsyncIterator[bytes] | None
    ref: str | None = None
    """The full name of the branch or tag that was asked for, as far as one was."""


@contextlib.asynccontextmanager
async def clone(
    request: GitRequest, *, reach: Reach, most_bytes: int = MOST_BYTES
) -> AsyncIterator[Clone]:
    """Give a clone at the commit that the ref names now, whatever ``path`` says.

    Raises RejectedError for what its author must mend, also when its objects or its files have
    more than *most_bytes*; UnavailableError when the host is away or takes more than a minute.
    """
    async with git_for(request, reach=reach, most_bytes=most_bytes) as git:
        async with in_time(git):
            at = await commit_of(git, request.ref)
            if at.commit != request.known:
                await _check_out(git, at.commit)
        if at.commit == request.known:
            yield Clone(at.commit, None, at.ref)
            return
        archive = git.folder / "archive"
        await asyncio.to_thread(_pack, git.folder / "repository", archive)
        yield Clone(at.commit, _chunks(archive), at.ref)


async def _check_out(git: Git, commit: str) -> None:
    # Without the templates there are no hooks; attributes can name no filter without settings.
    await git.run("init", "--quiet", "--template=", "--initial-branch=main", "repository")
    await git.get(commit, *_IN)
    files, size = _measured(await git.run(*_IN, "ls-tree", "-r", "-z", "--long", commit))
    if files > _FILES or size > git.most_bytes:
        raise RejectedError(
            f"{git.remote.host}: the repository has {files} files of {size} bytes at"
            f" {commit[:12]}; {_FILES} files and {git.most_bytes} bytes are the most",
            field="url",
            remedy="keep large files elsewhere, or clone what is needed in a step",
        )
    await git.run(*_IN, "checkout", "--quiet", "--detach", commit)
    await git.run(*_IN, "remote", "add", "origin", git.remote.url)


def _measured(listed: bytes) -> tuple[int, int]:
    """Return how many files a listing has, and how many bytes they have together."""
    sizes = [entry.split(b"\t", 1)[0].split()[-1] for entry in listed.split(b"\0") if entry]
    return len(sizes), sum(int(size) for size in sizes if size != b"-")


def _pack(folder: Path, archive: Path) -> None:
    """Write *folder* as a tar archive, owners left out."""
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, entry.name, filter=_nameless)


def _nameless(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


async def _chunks(archive: Path) -> AsyncIterator[bytes]:
    with archive.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk

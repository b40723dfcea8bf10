"""The working tree that a local server offers: where it is, its workflow files, a copy of it.

Local mode's implementation of engine.ports.Repository. Reading is left to
:mod:`plue.local.archive`; this module knows which files count.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

from plue.authoring.sources import Sources
from plue.errors import NotFoundError, UnavailableError
from plue.local.archive import tar_of
from plue.local.reading import FOLDER, LEFT_OUT, SourceReader
from plue.local.secrets import SECRETS_FILE
from plue.store.blobs import Blobs
from plue.wire.frames import Workspace

__all__ = ["Tree", "find_root", "names_in"]


def find_root(start: Path) -> Path:
    """Return the tree around *start*: the nearest folder upwards with `.plue`, else git's root.

    Raises NotFoundError when there is neither.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir() or (folder / ".git").exists():
            return folder
    raise NotFoundError(
        f"{start} is not inside a project: no folder above it has {FOLDER}/ or .git",
        remedy=f"change into your project, or make {FOLDER}/workflows/ in it",
    )


def names_in(root: Path) -> Sequence[bytes]:
    """Return the paths below *root* that belong to the tree, sorted, as bytes without `./`.

    With git: what it tracks, and what it neither tracks nor ignores. Without: everything but
    folders that tools make again. The file of secrets never does. Raises UnavailableError when
    git fails.
    """
    inside_git = any((folder / ".git").exists() for folder in (root, *root.parents))
    names = _git_names(root) if inside_git else None
    found = set(_walked_names(root) if names is None else names)
    return sorted(found - {SECRETS_FILE.encode()})


class Tree:
    """The working tree at ``root`` as the engine's Repository."""

    def __init__(self, root: Path, *, blobs: Blobs) -> None:
        """Offer *root*; copies of it go into *blobs*."""
        self.root = root
        self._blobs = blobs
        self._reader = SourceReader(root)

    async def sources(self) -> Sources:
        """Return the files under ``.plue`` as they are now; the same object when unchanged."""
        return await asyncio.to_thread(self._reader.read)

    async def files(self) -> Mapping[str, str]:
        """Return the text of the files under ``.plue`` that can be used."""
        return (await self.sources()).files

    async def snapshot(self) -> Workspace:
        """Store a copy of the tree as it is now; an unchanged tree gives the same blob.

        Raises RejectedError when a file cannot be read, UnavailableError when the disk is full.
        """
        names = await asyncio.to_thread(names_in, self.root)
        chunks = _from_thread(tar_of(os.fsencode(self.root), names))
        blob, _ = await self._blobs.put(chunks)
        return Workspace(kind="blob", blob=blob)


async def _from_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # Reading the disk blocks: each chunk is made in a thread, one after another.
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


def _git_names(root: Path) -> list[bytes] | None:
    """Return what git lists; None where there is no git program."""
    # Variables of an outer git (a hook's GIT_DIR, GIT_INDEX_FILE) would show another tree.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    # The tree's owner may be another (containers): its workflows are about to run anyway. A file
    # system monitor is a program that the repository names; listing files needs none.
    words = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(root)]
    words += ["ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(words, capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        return None
    if listed.returncode != 0:
        said = listed.stderr.decode(errors="replace").strip()
        raise UnavailableError(
            f"git cannot list the files of {root}: {said}",
            remedy="see that `git status` works there",
        )
    return [name for name in listed.stdout.split(b"\0") if name]


def _walked_names(root: Path) -> list[bytes]:
    top = os.fsencode(root)
    found = []
    for place, folders, names in os.walk(top):
        folders[:] = [name for name in folders if os.fsdecode(name) not in LEFT_OUT]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118 - pathlib knows no bytes
        empty = [b"."] if not names and not folders and place != top else []
        found += [
            os.path.normpath(os.path.relpath(os.path.join(place, name), top))  # noqa: PTH118 - as above
            for name in [*names, *links, *empty]
        ]
    return found

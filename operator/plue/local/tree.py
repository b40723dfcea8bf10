"""The working tree that a local server offers: its workflow files, a copy of it.

Local mode's implementation of engine.ports.Repository. Reading is left to
:mod:`plue.local.archive`; this module knows which files count.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from plue.authoring.sources import Sources
from plue.local.archive import tar_of
from plue.local.history import Listed, history_of, list_files, tree_facts
from plue.local.reading import LEFT_OUT, SourceReader
from plue.local.secrets import SECRETS_FILE
from plue.local.standing import Standing, standing_of
from plue.store.blobs import Blobs
from plue.wire.frames import Workspace

__all__ = ["Tree", "names_in"]


def names_in(root: Path, listed: Sequence[Listed] | None = None) -> Sequence[bytes]:
    """Return the paths below *root* that belong to the tree, sorted, as bytes without `./`.

    With git: what it tracks, and what it neither tracks nor ignores (*listed*, when it was asked
    already). Without: everything but folders that tools make again. The file of secrets never
    does. Raises UnavailableError when git fails.
    """
    if listed is None:
        listed = _listed(root)
    names = _walked_names(root) if listed is None else [one.path for one in listed]
    return sorted({*names} - {SECRETS_FILE.encode()})


def _listed(root: Path) -> Sequence[Listed] | None:
    inside_git = any((folder / ".git").exists() for folder in (root, *root.parents))
    return list_files(root) if inside_git else None


class Tree:
    """The working tree at ``root`` as the engine's Repository."""

    def __init__(self, root: Path, *, blobs: Blobs) -> None:
        """Offer *root*; copies of it go into *blobs*."""
        self.root = root
        self._blobs = blobs
        self._reader = SourceReader(root)
        self._copying = asyncio.Lock()
        self._last: tuple[Standing, str] | None = None

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
        listed, history = await asyncio.gather(
            asyncio.to_thread(_listed, self.root), asyncio.to_thread(history_of, self.root)
        )
        # One at a time: who comes meanwhile finds the copy that was just made.
        async with self._copying:
            made = () if history is None or listed is None else tuple(history.files(listed))
            return Workspace(kind="blob", blob=await asyncio.to_thread(self._copy, listed, made))

    def _copy(self, listed: Sequence[Listed] | None, made: Sequence[tuple[bytes, bytes]]) -> str:
        """Return the blob of the tree as it is; a tree that nobody touched is not read again."""
        names, root = names_in(self.root, listed), os.fsencode(self.root)
        now, last = standing_of(root, names, made), self._last
        if last is not None and last[0].is_still(now) and self._blobs.has(last[1]):
            return last[1]
        blob = self._blobs.put_at_once(tar_of(root, names, made))
        self._last = (now, blob)
        return blob

    async def facts(self) -> Mapping[str, JsonValue]:
        """Return what an event of this tree knows: ref, sha, repository.

        Raises UnavailableError when git fails.
        """
        history = await asyncio.to_thread(history_of, self.root)
        return tree_facts(self.root, history)


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

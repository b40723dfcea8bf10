"""The repositories that runs work in: cloned beside the passes, each commit once per process.

A clone is made by the evaluator, which reaches the world and knows nothing that is ours, and is
kept where uploaded trees are: any gateway gives it to its runners. What is remembered here is
only which archive it is; when that was removed meanwhile, it is made again.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from plue.authoring.cloning import Clone
from plue.authoring.remotes import GitRequest
from plue.ending import end_tasks
from plue.errors import NotFoundError
from plue.kube.git_sources import Credentials
from plue.store.archives import Archives

__all__ = ["CLONING", "Made", "Opener", "Tree", "Trees"]

CLONING = "Cloning"
"""The reason of a run that waits for its clone."""

_AT_ONCE = 4
_REMEMBERED = 4096
_FRESH = 30.0
"""Seconds after which an answer that nobody came for is none: its ref may have moved."""


@dataclass(frozen=True, slots=True)
class Opener:
    """Whose Secret opens a repository: a Workflow's, for its own source alone."""

    namespace: str
    workflow: str
    secret: str


@dataclass(frozen=True, slots=True)
class Tree:
    """What a run works in: a repository at a branch, a tag or a commit.

    Who opens it is a part of what it is: a clone is never given to whom it was not opened for.
    """

    url: str
    ref: str
    opener: Opener | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A clone: its commit, and its archive."""

    commit: str
    blob: str
    ref: str | None = None
    """The full name of the branch or tag that was asked for, as far as one was."""


class Trees:
    """The clones of this process's runs."""

    def __init__(
        self,
        clone: Callable[[GitRequest], AbstractAsyncContextManager[Clone]],
        archives: Archives,
        credentials: Credentials,
        *,
        patience: float = 2.0,
    ) -> None:
        """Clone by *clone* into *archives*, with what *credentials* returns for an opener.

        *patience*: seconds that a run is held for a clone. A longer one is asked for again, and
        others go on meanwhile.
        """
        self._patience = patience
        self._clone = clone
        self._archives = archives
        self._credentials = credentials
        self._made: dict[Tree, Made] = {}
        self._coming: dict[Tree, asyncio.Task[Made]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def get(self, tree: Tree) -> Made | None:
        """Return the clone of *tree*; None while it is being made.

        Whoever asks while it is made gets the same. Raises RejectedError for what its user must
        mend, UnavailableError; whoever asks afterwards has it tried again.
        """
        coming = self._coming.get(tree)
        if coming is None:
            coming = self._coming[tree] = asyncio.create_task(self._make(tree), name="clone")
            coming.add_done_callback(lambda done: self._done(tree, done))
        await asyncio.wait([coming], timeout=self._patience)
        if not coming.done():
            return None
        self._forget(tree, coming)
        return coming.result()

    async def close(self) -> None:
        """End the clones that are being made."""
        coming, self._coming = list(self._coming.values()), {}
        await end_tasks(coming)

    def _done(self, tree: Tree, task: asyncio.Task[Made]) -> None:
        if not task.cancelled():
            task.exception()  # whoever comes for it is told; perhaps nobody does
            asyncio.get_running_loop().call_later(_FRESH, self._forget, tree, task)

    def _forget(self, tree: Tree, task: asyncio.Task[Made]) -> None:
        if self._coming.get(tree) is task:
            del self._coming[tree]

    async def _make(self, tree: Tree) -> Made:
        before = await self._remembered(tree)
        if before is not None and before.commit == tree.ref:
            return before
        credentials: Mapping[str, str] = {}
        if tree.opener is not None:
            one = tree.opener
            credentials = await self._credentials(one.namespace, one.workflow, one.secret)
        request = GitRequest(
            tree.url,
            tree.ref,
            known=None if before is None else before.commit,
            credentials=credentials,
        )
        async with self._slots, self._clone(request) as found:
            if before is not None and found.chunks is None:
                return before
            assert found.chunks is not None  # noqa: S101 - for the type checker: no known commit
            blob, _ = await self._archives.put(found.chunks)
        made = Made(found.commit, blob, found.ref)
        self._remember(replace(tree, ref=made.commit), replace(made, ref=None))
        self._remember(tree, made)
        return made

    async def _remembered(self, tree: Tree) -> Made | None:
        made = self._made.get(tree)
        if made is None:
            return None
        try:
            await self._archives.check(made.blob)
        except NotFoundError:
            self._made.pop(tree, None)
            return None
        return made

    def _remember(self, tree: Tree, made: Made) -> None:
        self._made.pop(tree, None)
        self._made[tree] = made
        while len(self._made) > _REMEMBERED:
            self._made.pop(next(iter(self._made)))

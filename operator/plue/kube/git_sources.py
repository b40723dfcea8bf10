"""Git sources of Workflows: fetched beside the passes, and again at each one's interval.

What was fetched is kept in memory: after a restart everything is fetched anew, so that nothing
depends on what an earlier process knew. A fetch that fails takes nothing away: runs go on with the
commit that is known, and the condition says so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from plue.authoring.fetching import Fetched, GitRequest
from plue.ending import end_tasks
from plue.errors import PlueError, RejectedError
from plue.kube.objects import Known
from plue.resources.workflow import GitSource

__all__ = ["Credentials", "GitSources", "Held"]

_log = structlog.get_logger(__name__)

_AT_ONCE = 4
_AGAIN_SECONDS = 30.0
"""After a fetch that failed: soon, and not so often that a host takes it for an attack."""

Credentials = Callable[[str, str, str], Awaitable[Mapping[str, str]]]
"""Returns what a Secret lets a Workflow have: (namespace, workflow, secret)."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of one source. ``problem``: why the last fetch failed, reason and message."""

    source: GitSource
    due: float
    commit: str | None = None
    files: Mapping[str, str] | None = None
    problem: tuple[str, str] | None = None


class GitSources:
    """The git sources of all Workflows, by the Workflow's UID."""

    def __init__(
        self,
        fetch: Callable[[GitRequest], Awaitable[Fetched]],
        credentials: Credentials,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fetch by *fetch*, with what *credentials* returns for a source that names a Secret."""
        self.on_change: Callable[[Known], None] = lambda _known: None
        self._fetch = fetch
        self._credentials = credentials
        self._now = now
        self._held: dict[str, Held] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def get(self, known: Known, source: GitSource) -> Held | None:
        """Return what is known of *source*; None until its first fetch has ended."""
        held = self._held.get(known.uid)
        return held if held is not None and held.source == source else None

    def look(self, known: Known, source: GitSource) -> None:
        """Begin a fetch if one is due and none runs; ``on_change`` tells what it changed."""
        held = self.get(known, source)
        if known.uid not in self._tasks and (held is None or held.due <= self._now()):
            task = asyncio.create_task(self._one(known, source, held), name="fetch")
            self._tasks[known.uid] = task
            task.add_done_callback(lambda _: self._tasks.pop(known.uid, None))

    def forget(self, uid: str) -> None:
        """Forget the source of a Workflow that is gone."""
        self._held.pop(uid, None)

    async def close(self) -> None:
        """End the fetches that run."""
        await end_tasks(list(self._tasks.values()))

    async def _one(self, known: Known, source: GitSource, held: Held | None) -> None:
        before = held or Held(source, 0.0)
        async with self._slots:
            after = await self._fetched(known, before)
        self._held[known.uid] = after
        if held is None or (before.commit, before.problem) != (after.commit, after.problem):
            _log.info("fetched", name=known.name, commit=after.commit, problem=after.problem)
            self.on_change(known)

    async def _fetched(self, known: Known, before: Held) -> Held:
        source = before.source
        try:
            secret, credentials = source.secret_ref, dict[str, str]()
            if secret is not None:
                credentials |= await self._credentials(known.namespace, known.name, secret.name)
            found = await self._fetch(
                GitRequest(source.url, source.ref, source.path, before.commit, credentials)
            )
        except PlueError as error:
            reason = "InvalidSource" if isinstance(error, RejectedError) else "FetchFailed"
            message = error.message + (f"; {error.remedy}" if error.remedy else "")
            wait = min(_AGAIN_SECONDS, source.interval_seconds)
            return replace(before, due=self._now() + wait, problem=(reason, message))
        due = self._now() + source.interval_seconds
        files = before.files if found.files is None else found.files
        return Held(source, due, found.commit, files)

"""Git sources of Workflows: fetched beside the passes, and again at each one's interval.

What was fetched is kept in memory: after a restart everything is fetched anew, so that nothing
depends on what an earlier process knew. A fetch that fails takes nothing away: runs go on with the
commit that is known, and the condition says so.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from plue.authoring.fetching import Fetched
from plue.authoring.remotes import GitRequest
from plue.errors import PlueError, RejectedError
from plue.kube.agenda import Agenda
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
    commit: str | None = None
    ref: str | None = None
    files: Mapping[str, str] | None = None
    problem: tuple[str, str] | None = None


class GitSources:
    """The git sources of all Workflows, by the Workflow's UID."""

    def __init__(
        self, fetch: Callable[[GitRequest], Awaitable[Fetched]], credentials: Credentials
    ) -> None:
        """Fetch by *fetch*, with what *credentials* returns for a source that names a Secret."""
        self.on_change: Callable[[Known], None] = lambda _known: None
        self._fetch = fetch
        self._credentials = credentials
        self._wanted: dict[str, tuple[Known, GitSource]] = {}
        self._held: dict[str, Held] = {}
        self._agenda = Agenda("fetches", self._one, at_once=_AT_ONCE)

    def start(self) -> None:
        """Begin to fetch; until then what is looked for is only remembered."""
        self._agenda.start()

    async def close(self) -> None:
        """End, and the fetches that run with it."""
        await self._agenda.close()

    def get(self, known: Known, source: GitSource) -> Held | None:
        """Return what is known of *source*; None until its first fetch has ended.

        From the first time on that it is asked for, a source is fetched at its interval until it
        is forgotten or another one is asked for; ``on_change`` tells what that changed.
        """
        before = self._wanted.get(known.uid)
        self._wanted[known.uid] = (known, source)
        if before is None or before[1] != source:
            self._agenda.add(known.uid)
        held = self._held.get(known.uid)
        return held if held is not None and held.source == source else None

    def forget(self, uid: str) -> None:
        """Forget the source of a Workflow that is gone, or that has its text elsewhere now."""
        self._wanted.pop(uid, None)
        self._held.pop(uid, None)

    async def _one(self, uid: str) -> None:
        wanted = self._wanted.get(uid)
        if wanted is None:
            return
        known, source = wanted
        held = self._held.get(uid)
        before = held if held is not None and held.source == source else Held(source)
        after = await self._fetched(known, before)
        asked = self._wanted.get(uid)
        if asked is None or asked[1] != source:
            return  # forgotten meanwhile, or another one, which is on the agenda
        self._held[uid] = after
        failed = after.problem is not None
        wait = min(_AGAIN_SECONDS, source.interval_seconds) if failed else source.interval_seconds
        self._agenda.add(uid, wait)
        if before is not held or (before.commit, before.problem) != (after.commit, after.problem):
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
            return replace(before, problem=(reason, message))
        except Exception:  # noqa: BLE001 - the outermost: a bad fetch must not be the last
            _log.exception("fetch_crashed", name=known.name)
            return replace(before, problem=("FetchFailed", "the fetch crashed; see the log"))
        files = before.files if found.files is None else found.files
        return Held(source, found.commit, found.ref, files)

"""The run pass: a WorkflowRun is submitted, cancelled, reported and, in time, deleted.

Level-triggered, one run at a time: whatever woke it, it looks at the resource and at the engine's
run and does what is missing. The run's id is the object's UID, so that every step can be repeated.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from plue.domain.run import RunDetails, RunId
from plue.engine.service import Engine
from plue.errors import (
    ConflictError,
    NotFoundError,
    PlueError,
    RejectedError,
    UnavailableError,
)
from plue.kube.agenda import Agenda
from plue.kube.announcing import Announcer
from plue.kube.client import ApiClient
from plue.kube.objects import RUNS, Known, is_gone, renew, write_status
from plue.kube.run_status import pending_status, refused_status, status_of
from plue.kube.submitting import KEY_PREFIX, NotYetError, Submitter, reason_of, said
from plue.kube.trees import Trees
from plue.kube.workflows import Workflows
from plue.resources.workflow_run import Phase
from plue.wire.events import EventType

__all__ = ["Runs"]

_log = structlog.get_logger(__name__)

_AT_ONCE = 16
_COALESCE = 0.2
"""Seconds in which changes of phase are reported together."""

_EVERY = 1.0
"""Seconds between two reports of a run that only goes on."""

_AGAIN = 5.0
"""Seconds until a run that waits for something outside is looked at again."""

_SAID_AFTER = 2
"""Failures of a submission after which the run says why it waits: most pass sooner."""

_PHASES = frozenset({EventType.RUN_QUEUED, EventType.RUN_CLAIMED, EventType.RUN_STARTED})


@dataclass(slots=True)
class _Run:
    """A WorkflowRun and what was done for it by this process."""

    known: Known
    is_submitted: bool = False
    is_cancelled: bool = False
    failures: int = 0
    reported_at: float = 0.0

    @property
    def has_ended(self) -> bool:
        return _is_end(self.known.status)


class Runs:
    """The WorkflowRuns of all namespaces, as the watch tells of them."""

    def __init__(
        self,
        api: ApiClient,
        *,
        engine: Engine,
        workflows: Workflows,
        trees: Trees,
        may_use: Callable[[str, str], bool],
        announcer: Announcer,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Submit to *engine*; *may_use* says whether a pool may be used by a namespace."""
        self._api = api
        self._engine = engine
        self._submitter = Submitter(engine, workflows=workflows, trees=trees, may_use=may_use)
        self._announcer = announcer
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._deleted: set[str] = set()
        self._agenda = Agenda("runs", self._one, at_once=_AT_ONCE)
        workflows.on_registered = self._workflow_changed
        engine.context.feed.on_news = self._news

    def start(self) -> None:
        """Begin; until then what is seen is only remembered."""
        self._agenda.start()

    async def close(self) -> None:
        """End, wherever it is: every step can be repeated."""
        await self._agenda.close()

    # ── what wakes it ────────────────────────────────────────────────────────────────────────────

    def saw(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take in what the watch says about a run."""
        uid = body["metadata"]["uid"]
        if deleted:
            self.gone(uid)
            return
        run = self._runs.get(uid)
        if run is None:
            run = self._runs[uid] = _Run(Known.of(body))
            _slim(run)
            if run.has_ended:
                self._look_at_ttl(run)
            else:
                self._look(uid)
        elif body["metadata"]["resourceVersion"] != run.known.version and not run.has_ended:
            renew(run.known, body)
            _slim(run)  # where another operator acts, ours is not the report that ends it
            self._look(uid)

    def took(self, body: Mapping[str, Any]) -> bool:
        """Take in a run of a list if it has ended; False, and nothing done, for any other.

        It overtakes what kopf still has to tell of the same run, and may: an end is final.
        """
        if not _is_end(body.get("status") or {}):
            return False
        self.saw(body, deleted=False)
        return True

    def identities(self) -> Mapping[str, tuple[str, str]]:
        """Return UID → (namespace, name) of all runs that are known."""
        return {uid: run.known.key for uid, run in self._runs.items()}

    def gone(self, uid: str) -> None:
        """Take in that a run's resource was deleted: its run ends too."""
        run = self._runs.pop(uid, None)
        if run is None or not run.has_ended:
            self._deleted.add(uid)
            self._look(uid)

    async def find_deleted(self) -> None:
        """End the runs whose resources were deleted while no operator was there.

        Their names are not known any more, so nobody can ask for one of them. But this list is no
        stale one, since it names no version; and where right or definition are lost there is none.
        Raises NotFoundError without the definition, UnavailableError.
        """
        active = await self._engine.context.lifecycle.active_by_key(KEY_PREFIX)
        missing = set(active) - self._runs.keys()
        if not missing:
            return
        async for page in self._api.pages(RUNS, metadata_only=True):
            missing -= {RunId(item["metadata"]["uid"]) for item in page["items"]}
        for uid in missing:
            _log.info("resource_deleted_unseen", run=uid)
            self.gone(uid)

    def _news(self, run: RunId, type_: EventType | None) -> None:
        known = self._runs.get(run)
        if known is None or known.has_ended:
            return
        if type_ is EventType.RUN_COMPLETED:
            self._look(run)
        elif type_ in _PHASES:
            self._look(run, _COALESCE)
        else:
            self._look(run, known.reported_at + _EVERY - _now())

    def _workflow_changed(self, key: tuple[str, str]) -> None:
        for uid, run in self._runs.items():
            reference = run.known.spec.get("workflowRef")
            if (
                not run.is_submitted
                and reference
                and key
                == (
                    run.known.namespace,
                    reference["name"],
                )
            ):
                self._look(uid)

    def _look(self, uid: str, after: float = 0.0) -> None:
        self._agenda.add(uid, after)

    # ── the pass ─────────────────────────────────────────────────────────────────────────────────

    async def _one(self, uid: str) -> None:
        run = self._runs.get(uid)
        try:
            if run is not None:
                await self._reconcile(uid, run)
            elif uid in self._deleted:
                await self._abandon(uid)
        except ConflictError:
            self._look(uid)
        except NotFoundError as error:
            if run is not None and is_gone(error, run.known.name):
                # Between the watch and us it was deleted, or made again with another UID.
                self.gone(uid)
            else:
                self._retry(uid, run, error)
        except PlueError as error:
            self._retry(uid, run, error)
        except Exception:  # noqa: BLE001 - the outermost: one bad run must not be the last
            _log.exception("run_pass_crashed", run=uid)
            self._look(uid, _AGAIN)

    def _retry(self, uid: str, run: _Run | None, error: PlueError) -> None:
        failures = 0 if run is None else run.failures
        if run is not None:
            run.failures += 1
        asked = error.retry_in.total_seconds() if isinstance(error, UnavailableError) else _AGAIN
        _log.warning("run_pass_failed", run=uid, error=error.message, failures=failures)
        self._look(uid, min(30.0, asked * 2.0 ** min(failures, 5)))

    async def _reconcile(self, uid: str, run: _Run) -> None:
        if run.has_ended:
            _slim(run)  # that it has ended may have been read after a conflict
            await self._expire(run)
            return
        # Who has a runId was submitted, perhaps by an operator before us.
        if not run.is_submitted and run.known.status.get("runId") is None:
            run.is_submitted = await self._submit(run)
            if run.is_submitted:
                # What happens within this time is reported together: most often the run's end.
                self._look(uid, _COALESCE)
            if not run.known.spec.get("cancel"):
                return
        try:
            details = await self._engine.details(RunId(uid))
        except NotFoundError:
            await self._refill(run)
            return
        if run.known.spec.get("cancel") and not run.is_cancelled:
            await self._engine.cancel(RunId(uid), reason="spec.cancel of the WorkflowRun")
            run.is_cancelled = True
        await self._report(run, details)
        run.failures = 0

    async def _refill(self, run: _Run) -> None:
        """Give an emptied database what this resource still knows of a run that had not ended."""
        known, run.is_submitted = run.known, False
        if known.status.get("startedAt") is None:
            known.status.pop("runId", None)  # never started: again from the beginning
            self._look(known.uid)
            return
        message = "the run had started, and the database does not know it any more"
        await write_status(self._api, RUNS, known, self._refused(known, "StoreLost", message))
        _slim(run)

    async def _submit(self, run: _Run) -> bool:
        """Hand the run to the engine; False when it cannot be, and its status says why."""
        known = run.known
        status: dict[str, Any]
        try:
            await self._submitter.submit(known)
        except NotYetError as error:
            if known.spec.get("cancel"):
                status = self._refused(known, "Cancelled", "cancelled before it was submitted")
            else:
                await self._pend(known, error.reason, error.message)
                self._look(known.uid, _AGAIN)
                return False
        except UnavailableError as error:
            if run.failures >= _SAID_AFTER:
                await self._pend(known, "Unavailable", error.message)
            raise
        except RejectedError as error:
            status = self._refused(known, reason_of(error), said(error))
        else:
            run.is_submitted = True
            return True
        await write_status(self._api, RUNS, known, status)
        await self._announce_end(run)
        _slim(run)
        return False

    async def _pend(self, known: Known, reason: str, message: str) -> None:
        status = pending_status(
            reason, message, known.status, generation=known.generation, now=self._clock()
        )
        await write_status(self._api, RUNS, known, status)

    def _refused(self, known: Known, reason: str, message: str) -> dict[str, Any]:
        return refused_status(
            reason, message, known.status, generation=known.generation, now=self._clock()
        )

    async def _report(self, run: _Run, details: RunDetails) -> None:
        known = run.known
        if details.run.last_event < int(known.status.get("lastEvent", 0)):
            return  # another operator knew more than we read: a status never goes back
        status = status_of(details, known.status, generation=known.generation, now=self._clock())
        run.reported_at = _now()
        await write_status(self._api, RUNS, known, status)
        if run.has_ended:
            await self._announce_end(run)
            _slim(run)
            self._look_at_ttl(run)

    async def _announce_end(self, run: _Run) -> None:
        """Say in an event how a run ended that did not end well."""
        status = run.known.status
        if run.has_ended and status.get("phase") != Phase.SUCCEEDED.value:
            reason = str(status.get("reason") or status["phase"])
            message = str(status.get("message") or "")
            await self._announcer.say("WorkflowRun", run.known, "Warning", reason, message)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    async def _abandon(self, uid: str) -> None:
        """Cancel the run of a resource that is gone."""
        with contextlib.suppress(NotFoundError):
            await self._engine.cancel(RunId(uid), reason="the WorkflowRun was deleted")
        self._deleted.discard(uid)

    def _look_at_ttl(self, run: _Run) -> None:
        left = _time_left(run.known, self._clock())
        if left is not None:
            self._look(run.known.uid, max(0.0, left.total_seconds()))

    async def _expire(self, run: _Run) -> None:
        left = _time_left(run.known, self._clock())
        if left is None:
            return
        if left > timedelta():
            self._look_at_ttl(run)
            return
        known = run.known
        await self._api.delete(RUNS, known.namespace, known.name, uid=known.uid)


def _is_end(status: Mapping[str, Any]) -> bool:
    phase = status.get("phase")
    return phase is not None and Phase(phase).is_end


def _slim(run: _Run) -> None:
    """Forget of a run that has ended what is never looked at again."""
    if run.has_ended:
        known = run.known
        known.spec = {"ttlSecondsAfterFinished": known.spec.get("ttlSecondsAfterFinished")}
        known.status = {key: known.status.get(key) for key in ("phase", "endedAt")}


def _time_left(known: Known, now: datetime) -> timedelta | None:
    """Return how long the resource of an ended run has to stay; None: for ever."""
    seconds, ended = known.spec.get("ttlSecondsAfterFinished"), known.status.get("endedAt")
    if seconds is None or ended is None:
        return None
    return datetime.fromisoformat(ended) + timedelta(seconds=int(seconds)) - now


def _now() -> float:
    return asyncio.get_running_loop().time()

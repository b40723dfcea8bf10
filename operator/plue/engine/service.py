"""The engine's face for API, gateway and operator: submit, cancel, rerun, describe, read.

It also owns the passes. Any number of engines may run on one database: what they do is made safe
by transactions, not by there being one of them.
"""

import asyncio
import contextlib
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from datetime import date, timedelta
from functools import partial

import structlog
from pydantic import JsonValue
from pydantic_core import to_json

from plue.authoring.cloning import Clone
from plue.authoring.codes import Code
from plue.authoring.evaluator import Evaluator
from plue.authoring.fetching import Fetched
from plue.authoring.registry import Registry
from plue.authoring.remotes import GitRequest
from plue.authoring.results import Description, Planned, Rendered, WorkflowInfo
from plue.domain.budget import Amount, Books, Scope
from plue.domain.clock import StoreClock
from plue.domain.event import event_of
from plue.domain.growth import GrownPlan
from plue.domain.run import RunDetails, RunFilter, RunId, RunPageOf, StoredEvent, Submission
from plue.engine.claiming import claim_pass, unaccepted_pass
from plue.engine.context import EngineContext
from plue.engine.ending import deadline_pass, lost_pass, request_cancel
from plue.engine.feed import Feed
from plue.engine.loop import Loop
from plue.engine.pooling import host_pass, pool_pass
from plue.engine.ports import Host, NoSecrets, Repository, Secrets, Sessions
from plue.engine.recording import Recorder
from plue.engine.retention import archives_pass, retention_pass
from plue.engine.scheduling import LOOK_EVERY, Scheduler
from plue.engine.secrets import refuse_missing
from plue.engine.settings import EngineSettings
from plue.engine.stages import Stages
from plue.errors import NotFoundError, RejectedError, UnavailableError
from plue.marks import Mark, reached
from plue.metrics import Metrics
from plue.store.archives import Archives
from plue.store.blobs import Blobs
from plue.store.caches import CacheStore
from plue.store.database import Database
from plue.store.definitions import DefinitionStore
from plue.store.events import EventStore
from plue.store.lifecycle import LifecycleStore
from plue.store.queue import QueueStore
from plue.store.runners import RunnerStore
from plue.store.runs import NewRun, RunStore
from plue.store.schedules import ScheduleStore
from plue.store.stages import StageStore
from plue.store.usage import UsageLine, UsageStore
from plue.wire.events import Reason, RunState
from plue.wire.frames import Workspace
from plue.wire.plan import Plan

__all__ = ["Engine"]

_log = structlog.get_logger(__name__)

PLANS_KEPT = 256
"""Plans of the same source, inputs and event that are not evaluated again."""


class Engine:
    """One engine of perhaps many on the same database; all are harmless to one another."""

    def __init__(
        self,
        *,
        database: Database,
        evaluator: Evaluator,
        blobs: Blobs,
        archives: Archives | None = None,
        repository: Repository | None = None,
        hosts: Sequence[Host] = (),
        secrets: Secrets | None = None,
        settings: EngineSettings | None = None,
        passes: Collection[str] | None = None,
    ) -> None:
        """Put the engine together; ``start`` begins its passes, or those named by *passes*.

        *blobs* is this process's own folder; *archives* are the workspaces' where other processes
        have them too. Whoever leaves passes out relies on another process that runs them.
        """
        settings = settings or EngineSettings()
        metrics = Metrics()
        events = EventStore(database)
        self.context = EngineContext(
            database=database,
            settings=settings,
            metrics=metrics,
            runs=RunStore(database),
            queue=QueueStore(database),
            events=events,
            lifecycle=LifecycleStore(database),
            stages=StageStore(database),
            runners=RunnerStore(database),
            definitions=DefinitionStore(database),
            schedules=ScheduleStore(database),
            usage=UsageStore(database),
            caches=CacheStore(database),
            feed=Feed(events, metrics),
            lease_counts=self._lease_counts,
            clock=StoreClock(settings.lease_margin / 3),
            secrets=secrets or NoSecrets(),
        )
        self.blobs = blobs
        self.archives = archives or Archives(blobs)
        self._evaluator = evaluator
        self._registry = Registry(evaluator)
        self._repository = repository
        self._hosts = hosts
        self._plans: OrderedDict[bytes, Planned] = OrderedDict()
        self._recorder = Recorder(self.context.definitions)
        self._started_at = 0.0
        self._stages = Stages(self.context, evaluator)
        self._loops = self._make_loops()
        self._passes = [
            loop for name, loop in self._loops.items() if passes is None or name in passes
        ]

    # ── life ─────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Record the pools, make the log's partitions and begin the passes."""
        self._started_at = asyncio.get_running_loop().time()
        context = self.context
        await context.lifecycle.ensure_partitions()
        for pool in context.settings.pools:
            await context.runners.record_pool(
                pool.name, host=pool.host, warm=pool.warm, maximum=pool.maximum
            )
        context.wake_claims = self._loops["claim"].wake
        context.wake_lost = self._loops["lost"].wake
        context.wake_pools = self._wake_pools
        context.wake_stages = self._stages.wake
        for host in self._hosts:
            host.on_change = self._loops[f"host-{host.kind}"].wake
        context.database.listen(self._heard, lost=self._wake_all)
        for loop in self._passes:
            loop.start()

    async def close(self) -> None:
        """End the passes; runs and runners stay as they are."""
        for loop in self._passes:
            await loop.close()
        await self._stages.close()
        await self.context.runs.close()
        await self.context.runners.close()
        await self.context.usage.close()

    def attach(self, sessions: Sessions) -> None:
        """Have *sessions* be told of claims, cancels and ends."""
        self.context.sessions = sessions

    def _make_loops(self) -> dict[str, Loop]:
        context, poll = self.context, self.context.settings.poll.total_seconds()

        def loop(
            name: str, run: Callable[..., Awaitable[None]], every: float, *more: Host | Archives
        ) -> Loop:
            return Loop(name, partial(run, context, *more), every=every, metrics=context.metrics)

        loops = {
            "claim": loop("claim", claim_pass, poll),
            "unaccepted": loop("unaccepted", unaccepted_pass, 0.5),
            "deadline": loop("deadline", deadline_pass, 0.5),
            "lost": loop("lost", lost_pass, poll, *self._hosts),
            "retention": loop("retention", retention_pass, 3600.0),
            "archives": loop("archives", archives_pass, 3600.0, self.archives),
            "stages": Loop("stages", self._stages.look, every=poll, metrics=context.metrics),
        }
        if self._repository is not None and context.settings.fire_schedules:
            scheduler = Scheduler(
                context, self._repository, describe=self.describe, submit=self.submit
            )
            metrics = context.metrics
            loops["schedules"] = Loop(
                "schedules", scheduler.look, every=LOOK_EVERY, metrics=metrics
            )
            loops["due"] = Loop("due", scheduler.fire, every=poll / 2, metrics=metrics)
        for host in self._hosts:
            loops[f"host-{host.kind}"] = loop("host", host_pass, poll, host)
            loops[f"pool-{host.kind}"] = loop("pool", pool_pass, poll, host)
        return loops

    def _wake_pools(self) -> None:
        if not self._hosts:
            self.context.database.tell("pools")
        for host in self._hosts:
            self._loops[f"pool-{host.kind}"].wake_in(host.refill_after)

    def _wake_all(self) -> None:
        for loop in self._loops.values():
            loop.wake()
        self.context.feed.wake_all()
        if self.context.sessions is not None:
            self.context.sessions.attend()

    def _heard(self, topics: dict[str, int]) -> None:
        for topic, number in topics.items():
            kind, _, name = topic.partition(":")
            if kind == "run":
                self.context.feed.wake(RunId(name), number)
            elif kind == "queue":
                self._loops["claim"].wake()
            elif kind == "pools" and self._hosts:
                self._wake_pools()
            elif kind == "budget" and self.context.sessions is not None:
                self.context.sessions.budget_changed()
            elif (sessions := self.context.sessions) is not None and (
                kind == "gateways" or (kind == "gateway" and name == sessions.name)
            ):
                sessions.attend()

    def _lease_counts(self) -> bool:
        """Return whether silence means something: this engine and the store were there long enough.

        While the store is away nobody can renew; after it comes back, or after its clock has
        jumped, no lease expires for as long as a lease lasts.
        """
        now, context = asyncio.get_running_loop().time(), self.context
        away = max(
            self._started_at, context.database.last_failure or 0.0, context.clock.jumped_at or 0.0
        )
        return now - away > context.settings.lease.total_seconds()

    # ── submit ───────────────────────────────────────────────────────────────────────────────────

    async def fetch(self, request: GitRequest) -> Fetched:
        """Return the `.plue/` of a git repository. Raises RejectedError, UnavailableError."""
        return await self._evaluator.fetch(request)

    def clone(self, request: GitRequest) -> AbstractAsyncContextManager[Clone]:
        """Give a git repository at a commit. Raises RejectedError, UnavailableError."""
        return self._evaluator.clone(request)

    async def describe(self, files: Mapping[str, str] | None = None) -> Description:
        """Return what *files* declare, or what the server's own tree declares now.

        Raises NotFoundError without files and without a tree.
        """
        if files is None:
            if self._repository is None:
                raise NotFoundError("this server has no working tree of its own")
            sources = await self._repository.sources()
            found = (await self._registry.scan(sources)).description
            # What is declared can be told without the store; it is recorded when it is back.
            with contextlib.suppress(UnavailableError):
                await self._recorder.description(found, sources.files)
            return found
        return await self._evaluator.describe(files)

    async def describe_prompts(self, files: Mapping[str, str] | None = None) -> Description:
        """Return the prompts of *files*, or of the server's own tree, and what is wrong in them.

        Raises NotFoundError without files and without a tree.
        """
        return await self._evaluator.describe_prompts(await self._files(files))

    async def render_prompt(
        self,
        prompt: str,
        inputs: Mapping[str, JsonValue],
        *,
        files: Mapping[str, str] | None = None,
        text_inputs: bool = False,
    ) -> Rendered:
        """Return the text of a prompt with *inputs*, as a runner would render it; asks no model.

        Raises NotFoundError without files and without a tree.
        """
        return await self._evaluator.render(
            await self._files(files), prompt, inputs=inputs, text_inputs=text_inputs
        )

    async def _files(self, files: Mapping[str, str] | None) -> Mapping[str, str]:
        if files is not None:
            return files
        if self._repository is None:
            raise NotFoundError(
                "this server has no working tree of its own", remedy="send the `files`"
            )
        return (await self._repository.sources()).files

    async def submit(
        self,
        submission: Submission,
        *,
        workspace: Callable[[], Awaitable[Workspace]] | None = None,
    ) -> RunId:
        """Pin the revision, evaluate stage 1, record and queue the run; safe to repeat by id.

        *workspace* makes the submission's workspace once nothing is wrong with the rest of it.

        Raises RejectedError (with ``details["diagnostics"]``, a list of Diagnostic as dicts, where
        the workflow or an input is wrong), NotFoundError for an unknown workflow,
        UnavailableError when the store or the evaluator is away.
        """
        context = self.context
        if submission.idempotency_key is not None:
            earlier = await context.runs.by_key(submission.idempotency_key)
            if earlier is not None:
                return earlier
        submission = replace(submission, event=event_of(submission.trigger, submission.event))
        planned = await self.plan(submission)
        plan, info = _complete(planned)
        await refuse_missing(context.secrets, plan.steps, submission.secrets_from)
        if workspace is not None:
            submission = replace(submission, workspace=await workspace())
        await self._recorder.workflow(info, submission.files)
        run = submission.id or RunId(str(uuid.uuid4()))
        reached(Mark.PLANNED)
        if not await context.runs.insert(self._new_run(run, submission, planned, plan, info)):
            # Somebody else was first with the same id or key; theirs is the run.
            key = submission.idempotency_key
            return (await context.runs.by_key(key) if key else None) or run
        reached(Mark.SUBMITTED)
        context.metrics.runs_submitted.labels(submission.trigger).inc()
        context.wake_claims()
        context.wake_pools()
        context.database.tell("queue")
        return run

    async def check(self, submission: Submission) -> WorkflowInfo:
        """Return what would be run, or raise what ``submit`` would of its source and inputs."""
        return _complete(await self.plan(submission))[1]

    async def submission_of(self, run: RunId) -> Submission:
        """Return what would make the same run again. Raises NotFoundError."""
        return await self.context.runs.submission_of(run)

    async def plan(self, submission: Submission) -> Planned:
        """Evaluate as ``submit`` would, and record nothing; the same again is not evaluated again.

        Raises RejectedError for an event that cannot be.
        """
        event = event_of(submission.trigger, submission.event)
        key = to_json(
            [
                submission.workflow,
                dict(submission.files),
                dict(submission.inputs),
                submission.text_inputs,
                event,
            ]
        )
        planned = self._plans.get(key)
        if planned is None:
            with self.context.metrics.evaluation_seconds.time():
                planned = await self._evaluator.plan(
                    submission.files,
                    submission.workflow,
                    inputs=submission.inputs,
                    event=event,
                    text_inputs=submission.text_inputs,
                )
            # The sandbox has no clock and no randomness: the same question has the same answer.
            self._plans[key] = planned
            while len(self._plans) > PLANS_KEPT:
                self._plans.popitem(last=False)
        return planned

    def _new_run(
        self, run: RunId, submission: Submission, planned: Planned, plan: Plan, info: WorkflowInfo
    ) -> NewRun:
        settings = self.context.settings
        return NewRun(
            id=run,
            namespace=submission.namespace,
            workflow=info.name,
            revision=info.revision,
            plan=plan,
            inputs=planned.inputs,
            event=submission.event,
            trigger=submission.trigger,
            workspace=submission.workspace,
            env=info.env,
            pool=submission.pool or info.pool,
            priority=submission.priority,
            run_timeout=submission.timeout or _time(info.timeout_seconds) or settings.run_timeout,
            queue_timeout=submission.queue_timeout
            or _time(info.queue_timeout_seconds)
            or settings.queue_timeout,
            cleanup_timeout=_time(info.cleanup_seconds) or settings.cleanup_timeout,
            attempts=info.attempts,
            rerun_of=submission.rerun_of,
            secrets_from=submission.secrets_from,
            idempotency_key=submission.idempotency_key,
        )

    async def rerun(self, run: RunId) -> RunId:
        """Make a new run of the same revision, inputs and workspace."""
        return await self.submit(await self.context.runs.submission_of(run))

    async def cancel(self, run: RunId, *, reason: str | None = None, now: bool = False) -> None:
        """Ask for the run's end; a run that has ended already stays as it is."""
        await request_cancel(
            self.context,
            run,
            state=RunState.CANCELLED,
            reason=Reason.CANCELLED,
            message=reason,
            now=now,
        )

    async def extend_budget(
        self, run: RunId, extra: Amount, *, scope: Scope = Scope.RUN, step: str = ""
    ) -> None:
        """Allow more in a scope that *step* of the run counts in; calls that wait go on."""
        record = await self.context.runs.get(run)
        await self.context.usage.extend(
            run, extra, scope=scope, step=step, workflow=record.workflow
        )
        if self.context.sessions is not None:
            self.context.sessions.budget_changed()
        self.context.database.tell("budget")

    async def budgets_of(self, run: RunId) -> Sequence[Books]:
        """Return the budgets that the run's calls are counted in today, from the narrowest."""
        record = await self.context.runs.get(run)
        return await self.context.usage.budgets_of(run, workflow=record.workflow)

    # ── read ─────────────────────────────────────────────────────────────────────────────────────

    async def find(self, reference: str, *, among: Sequence[str] | None = None) -> RunId:
        """Return the id of a run given by id, name (``ci-42``), number or ``latest``.

        *among* are the namespaces whose latest run is meant; None: all.
        """
        return await self.context.runs.find(reference, among=among)

    async def details(self, run: RunId) -> RunDetails:
        """Return the run and its steps. Raises NotFoundError."""
        return await self.context.runs.details(run)

    async def grown(self, run: RunId) -> GrownPlan:
        """Return the run's plan as far as it has grown. Raises NotFoundError."""
        return await self._stages.grown(run)

    async def runs(self, which: RunFilter) -> RunPageOf:
        """Return one page of runs, newest first."""
        return await self.context.runs.page(which)

    async def namespaces(self) -> Sequence[str]:
        """Return the namespaces of a cluster that have runs."""
        return await self.context.runs.namespaces()

    async def namespace_of(self, run: RunId) -> str:
        """Return the namespace that a run belongs to. Raises NotFoundError."""
        return (await self.context.runs.get(run)).namespace

    async def active(self) -> Sequence[tuple[RunId, str, RunState]]:
        """Return (id, name, state) of the runs that have not ended."""
        return await self.context.lifecycle.active()

    async def events(self, run: RunId, *, after: int, limit: int) -> Sequence[StoredEvent]:
        """Return stored events with numbers above *after*, at most *limit*, in order.

        Raises GoneError when that part of the log was dropped by retention.
        """
        place = await self.context.events.place(run)
        return await self.context.events.read(run, place.day, after=after, limit=limit)

    async def usage(
        self,
        since: date,
        until: date,
        *,
        by: Sequence[str],
        workflow: str | None = None,
        namespaces: Sequence[str] | None = None,
    ) -> Sequence[UsageLine]:
        """Return model usage from *since* to *until*, summed up by what *by* names.

        Of runs of these namespaces only; None: of all.
        """
        return await self.context.usage.totals(
            since, until, by=by, workflow=workflow, namespaces=namespaces
        )

    async def usage_of(self, run: RunId) -> Sequence[UsageLine]:
        """Return what a run used of models, by step and model."""
        return await self.context.usage.of_run(run)

    def follow(self, run: RunId, *, after: int) -> AsyncIterator[Sequence[StoredEvent]]:
        """Yield batches of events above *after* as they come; ends after ``run_completed``.

        An empty batch is yielded every 15 s without events, so that the caller can send a
        heartbeat. A slow caller holds up nobody: batches are read when it asks for the next one.
        """
        return self.context.feed.follow(run, after)

    # ── health ───────────────────────────────────────────────────────────────────────────────────

    async def ping(self) -> None:
        """Ask the store something. Raises UnavailableError."""
        await self.context.queue.depths()

    async def metrics(self) -> tuple[bytes, str]:
        """Return the metrics of this process, and of the database where they are asked for."""
        metrics = self.context.metrics
        metrics.runs_queued.clear()
        metrics.runners.clear()
        for pool, depth in (await self.context.queue.depths()).items():
            metrics.runs_queued.labels(pool).set(depth)
        for (pool, state), count in (await self.context.runners.counts()).items():
            metrics.runners.labels(pool, state).set(count)
        return metrics.render()


def _time(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _complete(planned: Planned) -> tuple[Plan, WorkflowInfo]:
    """Return the plan when it can be run. Raises RejectedError, NotFoundError otherwise."""
    if planned.plan is None or planned.info is None:
        errors = [d for d in planned.diagnostics if d.severity == "error"]
        first = errors[0] if errors else None
        unknown = first is not None and first.code == Code.UNKNOWN_WORKFLOW
        kind = NotFoundError if unknown else RejectedError
        raise kind(
            first.message if first else "the workflow could not be planned",
            field=first.field if first else None,
            remedy=first.remedy if first else None,
            details={"diagnostics": [asdict(d) for d in planned.diagnostics]},
        )
    return planned.plan, planned.info

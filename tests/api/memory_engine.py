"""An engine of dictionaries, for tests of HTTP only; nothing of the real engine's rules is here."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pydantic import JsonValue
from pydantic_core import to_json
from typing_extensions import override

from plue.authoring.evaluator import Evaluator
from plue.authoring.results import Description, Diagnostic, Planned, Trigger, WorkflowInfo
from plue.authoring.sources import Sources
from plue.domain.budget import Amount, Books, Scope
from plue.domain.growth import GrownPlan, Results
from plue.domain.run import (
    RunDetails,
    RunFilter,
    RunId,
    RunPageOf,
    RunView,
    StepView,
    StoredEvent,
    Submission,
)
from plue.engine.service import Engine
from plue.errors import GoneError, NotFoundError, PlueError, RejectedError
from plue.store.usage import UsageLine
from plue.wire.events import EventType, Reason, RunState, StepState
from plue.wire.frames import Workspace
from plue.wire.plan import End, Plan, Shell, Step

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BLOB = "ab" * 32


def an_info(name: str = "ci", file: str = ".plue/workflows/ci.py") -> WorkflowInfo:
    """Return a workflow with one input."""
    return WorkflowInfo(
        name=name,
        file=file,
        line=3,
        revision="0" * 64,
        description="Checks",
        triggers=(Trigger("manual"),),
        inputs_schema={"type": "object", "properties": {"env": {"type": "string"}}},
    )


def a_step(name: str) -> StepView:
    """Return a step that succeeded."""
    return StepView(
        name=name,
        kind="shell",
        state=StepState.SUCCEEDED,
        reason=None,
        message=None,
        needs=(),
        branch=(),
        group=(),
        cleanup=False,
        shown=f"make {name}",
        exit_code=0,
        tries=1,
        started_at=START,
        ended_at=START + timedelta(seconds=1),
        duration_ms=1000,
        outputs={"version": "1.0"},
    )


@dataclass
class Record:
    """A run and its log."""

    details: RunDetails
    submission: Submission
    log: list[StoredEvent] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self.details.run.id

    def update(self, **fields: object) -> None:
        """Change fields of the run."""
        run = replace(self.details.run, **fields)  # type: ignore[arg-type] # tests name real ones
        self.details = replace(self.details, run=run)

    async def add(
        self, *, type_: EventType, step: str | None = None, **body: object
    ) -> StoredEvent:
        """Store an event and wake who waits for it."""
        (event,) = await self.add_all([(type_, step, body)])
        return event

    async def add_all(
        self, events: Sequence[tuple[EventType, str | None, Mapping[str, object]]]
    ) -> list[StoredEvent]:
        """Store events at once, as a batch."""
        added = []
        async with self.changed:
            for type_, step, body in events:
                n = len(self.log) + 1
                time = START + timedelta(milliseconds=n)
                text = to_json({"attempt": 1, **body}).decode()
                added.append(StoredEvent(self.id, n, time, type_, step, text))
                self.log.append(added[-1])
            self.update(last_event=len(self.log))
            self.changed.notify_all()
        return added

    async def say(
        self,
        step: str,
        text: str,
        *,
        line: int = 1,
        stream: str = "stdout",
        partial: bool = False,
        try_: int = 1,
    ) -> StoredEvent:
        """Store a chunk of output."""
        body: dict[str, object] = {"try": try_, "stream": stream, "text": text, "line": line}
        if partial:
            body["partial"] = True
        return await self.add(type_=EventType.STEP_OUTPUT, step=step, **body)

    async def finish(self, state: RunState = RunState.SUCCEEDED) -> StoredEvent:
        """End the run."""
        self.update(state=state, reason=Reason.SUCCEEDED, ended_at=START, started_at=START)
        return await self.add(type_=EventType.RUN_COMPLETED, state=state, reason="Succeeded")


class MemoryEngine(Engine):
    """Keeps runs in a list; tests write their logs."""

    def __init__(self, *, heartbeat: float = 15.0, evaluator: Evaluator | None = None) -> None:
        """Send an empty batch after *heartbeat* seconds without events.

        *evaluator* answers about prompts, which are all that the real one is asked here.
        """
        self.records: list[Record] = []
        self.description = Description(workflows=(an_info(),))
        self.failure: Exception | None = None
        self.heartbeat = heartbeat
        self.dropped_through = 0
        self.cancelled: list[tuple[RunId, str | None, bool]] = []
        self.following = 0
        self._evaluator = evaluator or Evaluator()
        self._repository = None

    def _may_fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def add_run(self, submission: Submission | None = None, **fields: object) -> Record:
        """Add a run, queued."""
        submission = submission or Submission(workflow="ci", files={})
        number = len(self.records) + 1
        view = RunView(
            id=RunId(submission.id or str(uuid.uuid4())),
            number=number,
            name=f"{submission.workflow}-{number}",
            namespace=submission.namespace,
            workflow=submission.workflow,
            revision="0" * 64,
            state=RunState.QUEUED,
            reason=None,
            message=None,
            trigger=submission.trigger,
            pool="default",
            priority=submission.priority,
            attempt=1,
            created_at=START,
            queued_at=START,
            started_at=None,
            ended_at=None,
            cancel_requested_at=None,
            waiting_reason=Reason.NO_IDLE_RUNNER,
            waiting_since=START,
            last_event=0,
        )
        details = RunDetails(
            run=view,
            inputs=submission.inputs,
            event=submission.event,
            outputs={},
            rerun_of=submission.rerun_of,
            runner=None,
            steps=(a_step("build"), a_step("unit")),
        )
        record = Record(details, submission)
        record.update(**fields)
        self.records.append(record)
        return record

    def record(self, run: RunId) -> Record:
        """Return the run's record."""
        self._may_fail()
        for record in self.records:
            if record.id == run:
                return record
        raise NotFoundError(f"there is no run {run}", field="id")

    @override
    async def describe(self, files: Mapping[str, str] | None = None) -> Description:
        self._may_fail()
        if files is None:
            return self.description
        broken = [
            Diagnostic(code="PLU001", message="invalid syntax", file=name, line=1, field="files")
            for name, text in files.items()
            if "def" not in text
        ]
        infos = [an_info(file=name) for name, text in files.items() if "def" in text]
        return Description(workflows=infos, diagnostics=broken)

    @override
    async def submit(
        self,
        submission: Submission,
        *,
        workspace: Callable[[], Awaitable[Workspace]] | None = None,
    ) -> RunId:
        self._may_fail()
        if submission.workflow != "ci":
            raise NotFoundError(
                f"there is no workflow `{submission.workflow}`",
                field="workflow",
                remedy="did you mean `ci`?",
            )
        if submission.inputs.get("env") == "wrong":
            one = {"code": "PLU101", "severity": "error", "message": "`wrong` is not one of them"}
            place = {"file": "ci.py", "line": 2, "field": "inputs.env", "related": None}
            raise RejectedError(
                "an input is wrong", field="inputs.env", details={"diagnostics": [one | place]}
            )
        if workspace is not None:
            submission = replace(submission, workspace=await workspace())
        return self.add_run(submission).id

    @override
    async def plan(self, submission: Submission) -> Planned:
        self._may_fail()
        step = Step(name="build", action=Shell(script="make", shown="make"))
        plan = Plan(workflow="ci", revision="0" * 64, steps=(step,), end=End())
        return Planned(plan=plan, info=an_info(), inputs=submission.inputs)

    @override
    async def cancel(self, run: RunId, *, reason: str | None = None, now: bool = False) -> None:
        record = self.record(run)
        self.cancelled.append((run, reason, now))
        record.update(cancel_requested_at=START)

    @override
    async def rerun(self, run: RunId) -> RunId:
        old = self.record(run)
        return self.add_run(replace(old.submission, rerun_of=run)).id

    @override
    async def usage(
        self,
        since: date,
        until: date,
        *,
        by: Sequence[str],
        workflow: str | None = None,
        namespaces: Sequence[str] | None = None,
    ) -> Sequence[UsageLine]:
        self._may_fail()
        return ()

    @override
    async def usage_of(self, run: RunId) -> Sequence[UsageLine]:
        self.record(run)
        return ()

    @override
    async def budgets_of(self, run: RunId) -> Sequence[Books]:
        self.record(run)
        return ()

    @override
    async def extend_budget(
        self, run: RunId, extra: Amount, *, scope: Scope = Scope.RUN, step: str = ""
    ) -> None:
        self.record(run)

    @override
    async def find(self, reference: str, *, among: Sequence[str] | None = None) -> RunId:
        self._may_fail()
        for record in reversed(self.records):
            view = record.details.run
            if reference == "latest" and among is not None and view.namespace not in among:
                continue
            if reference in {view.id, view.name, str(view.number), "latest"}:
                return view.id
        raise NotFoundError(f"there is no run `{reference}`", field="id")

    @override
    async def namespaces(self) -> Sequence[str]:
        self._may_fail()
        return sorted({record.details.run.namespace for record in self.records})

    @override
    async def namespace_of(self, run: RunId) -> str:
        return self.record(run).details.run.namespace

    @override
    async def details(self, run: RunId) -> RunDetails:
        return self.record(run).details

    @override
    async def grown(self, run: RunId) -> GrownPlan:
        details = self.record(run).details
        plan = Plan(workflow=details.run.workflow, revision="0" * 64, end=End())
        return GrownPlan(plan, details.inputs, details.event, Results())

    @override
    async def runs(self, which: RunFilter) -> RunPageOf:
        self._may_fail()
        found = [
            view
            for view in (record.details.run for record in reversed(self.records))
            if (which.namespaces is None or view.namespace in which.namespaces)
            and which.workflow in {None, view.workflow}
            and (not which.states or view.state in which.states)
            and which.trigger in {None, view.trigger}
            and (which.before is None or view.number < which.before)
        ]
        page = found[: which.limit]
        return RunPageOf(page, page[-1].number if len(found) > len(page) else None)

    @override
    async def events(self, run: RunId, *, after: int, limit: int) -> Sequence[StoredEvent]:
        log = self.record(run).log
        if after < self.dropped_through:
            raise GoneError("that part of the log was dropped by the retention setting")
        return log[after : after + limit]

    @override
    async def follow(self, run: RunId, *, after: int) -> AsyncIterator[Sequence[StoredEvent]]:
        record = self.record(run)
        self.following += 1
        try:
            while not (after and record.log[after - 1].type is EventType.RUN_COMPLETED):
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.heartbeat), record.changed:
                        while len(record.log) <= after and self.failure is None:
                            await record.changed.wait()
                if isinstance(self.failure, PlueError):
                    raise self.failure
                batch = record.log[after : after + 1000]
                yield batch
                after += len(batch)
        finally:
            self.following -= 1


@dataclass
class MemoryTree:
    """A working tree of one file."""

    root: Path
    snapshots: int = 0

    async def files(self) -> Mapping[str, str]:
        """Return its one workflow."""
        return {".plue/workflows/ci.py": "def ci(ctx): ..."}

    async def sources(self) -> Sources:
        """Return it."""
        return Sources(await self.files())

    async def facts(self) -> Mapping[str, JsonValue]:
        """Return a commit."""
        return {"ref": "refs/heads/main", "sha": "abc", "repository": {"name": "project"}}

    async def snapshot(self) -> Workspace:
        """Return a blob's name."""
        self.snapshots += 1
        return Workspace(kind="blob", blob=BLOB)

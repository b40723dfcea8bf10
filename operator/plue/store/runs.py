"""Runs as the API reads them and as a submission makes them."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json

from plue.domain.growth import answer_of, plan_body
from plue.domain.run import (
    RunDetails,
    RunFilter,
    RunId,
    RunnerId,
    RunPageOf,
    RunView,
    StageView,
    StepView,
    Submission,
)
from plue.errors import ConflictError, NotFoundError
from plue.store.database import Database, seconds
from plue.store.together import Together
from plue.wire.events import Reason, RunState, StepState
from plue.wire.frames import Workspace
from plue.wire.plan import Await, Plan, Text

__all__ = ["NewRun", "RunStore"]

_NAME = re.compile(r"^(?P<name>.+)-(?P<number>\d{1,18})$", re.DOTALL)
_FOREVER = timedelta(days=365 * 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that is planned and may be recorded. Times are durations from now."""

    id: RunId
    namespace: str
    workflow: str
    revision: str
    plan: Plan
    inputs: Mapping[str, JsonValue]
    event: Mapping[str, JsonValue]
    trigger: str
    workspace: Workspace
    env: Mapping[str, Text]
    pool: str
    priority: int
    run_timeout: timedelta
    queue_timeout: timedelta | None
    cleanup_timeout: timedelta
    attempts: int
    rerun_of: RunId | None
    idempotency_key: str | None
    secrets_from: Mapping[str, JsonValue] = field(default_factory=dict)


class RunStore:
    """The rows of runs, their specs, attempts and steps."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database
        self._inserts = Together(self._insert)

    async def definition_files(self, revision: str, name: str) -> Mapping[str, str]:
        """Return a revision's files. Raises NotFoundError."""
        row = await self._database.row("definition_files", {"revision": revision, "name": name})
        if row is None:
            raise NotFoundError(f"the source of revision {revision[:12]} is not kept any more")
        files: Mapping[str, str] = row["files"]
        return files

    async def insert(self, run: NewRun) -> bool:
        """Record and queue *run*; False when its id or its idempotency key is there already."""
        try:
            return await self._inserts.ask(run)
        except ConflictError:
            # Somebody used the key at the same moment, and their transaction ended first.
            return False

    async def _insert(self, runs: Sequence[NewRun]) -> list[bool]:
        rows = await self._database.rows("insert_runs", {"runs": _json([*map(_row_of, runs)])})
        made = {str(row["id"]) for row in rows}
        return [str(uuid.UUID(run.id)) in made for run in runs]

    async def close(self) -> None:
        """End what is on its way."""
        await self._inserts.close()

    async def by_key(self, key: str) -> RunId | None:
        """Return the run that this idempotency key made."""
        row = await self._database.row("run_by_key", {"key": key})
        return None if row is None else RunId(str(row["run_id"]))

    async def find(self, reference: str, *, among: Sequence[str] | None = None) -> RunId:
        """Return the id of the run given by id, name, number or ``latest``: of these namespaces."""
        if reference == "latest":
            newest = (await self.page(RunFilter(limit=1, namespaces=among))).runs
            if not newest:
                raise NotFoundError("there are no runs yet", remedy="plue workflow run NAME")
            return newest[0].id
        row = await self._database.row("find_run", _reference(reference))
        if row is None:
            raise NotFoundError(
                f"there is no run {reference!r}", remedy="`plue run list` shows the runs"
            )
        return RunId(str(row["id"]))

    async def get(self, run: RunId) -> RunView:
        """Return one row. Raises NotFoundError."""
        row = await self._database.row("get_run", {"id": run})
        if row is None:
            raise NotFoundError(f"there is no run {run}")
        return _view(row)

    async def details(self, run: RunId) -> RunDetails:
        """Return a run with its steps. Raises NotFoundError."""
        view = await self.get(run)
        spec, steps, stages = await self._database.transaction(
            [
                ("get_spec", {"id": run}),
                ("get_steps", {"id": run, "attempt": view.attempt}),
                ("stages_of_run", {"run": run, "after": 0}),
            ]
        )
        if not spec:
            raise NotFoundError(f"there is no run {run}")
        row = spec[0]
        return RunDetails(
            run=view,
            inputs=row["inputs"],
            event=row["event"],
            outputs=row["outputs"] or {},
            rerun_of=None if row["rerun_of"] is None else RunId(str(row["rerun_of"])),
            runner=None if row["runner_id"] is None else RunnerId(row["runner_id"]),
            steps=[_step(step) for step in steps],
            stages=[_stage(stage) for stage in stages],
        )

    async def submission_of(self, run: RunId) -> Submission:
        """Return what would make the same run again. Raises NotFoundError."""
        row = await self._database.row("get_spec", {"id": run})
        if row is None:
            raise NotFoundError(f"there is no run {run}")
        return Submission(
            workflow=row["workflow"],
            files=await self.definition_files(row["revision"], row["workflow"]),
            inputs=row["inputs"],
            trigger=row["trigger"],
            event=row["event"],
            workspace=Workspace.model_validate(row["workspace"]),
            priority=row["priority"],
            timeout=row["run_timeout"],
            secrets_from=row["secrets_from"],
            rerun_of=run,
            namespace=row["namespace"],
        )

    async def secrets_from(self, run: RunId) -> Mapping[str, JsonValue]:
        """Return where a run's secrets may come from; nothing for a run that there is not."""
        row = await self._database.row("get_secrets_from", {"id": run})
        found: Mapping[str, JsonValue] = {} if row is None else row["secrets_from"]
        return found

    async def secrets_from_at(self, runner: RunnerId) -> Mapping[str, JsonValue]:
        """Return the same of the run that a runner executes."""
        row = await self._database.row("get_secrets_from_at", {"runner": runner})
        found: Mapping[str, JsonValue] = {} if row is None else row["secrets_from"]
        return found

    async def page(self, which: RunFilter) -> RunPageOf:
        """Return one page of runs, newest first."""
        # In the order of a run's life: one that moves on between two of them is not missed.
        states: list[str | None] = [s.value for s in RunState if s in which.states] or [None]
        namespaces = None if which.namespaces is None else sorted({*which.namespaces})
        if namespaces == []:
            return RunPageOf([], None)
        # Of one the planner knows how many runs it has; of several it takes their own indexes.
        many = namespaces is not None and len(namespaces) > 1
        one = namespaces[0] if namespaces else None
        place: dict[str, Any] = {"namespaces": namespaces} if many else {"namespace": one}
        pages = await self._database.transaction(
            [
                (
                    "list_runs_of_namespaces" if many else "list_runs",
                    {
                        "before": which.before,
                        **place,
                        "workflow": which.workflow,
                        "trigger": which.trigger,
                        "state": state,
                        "limit": which.limit + 1,
                    },
                )
                for state in states
            ]
        )
        found = {row["number"]: row for page in pages for row in page}
        rows = [found[number] for number in sorted(found, reverse=True)[: which.limit + 1]]
        runs = [_view(row) for row in rows[: which.limit]]
        return RunPageOf(runs, runs[-1].number if len(rows) > which.limit else None)

    async def namespaces(self) -> Sequence[str]:
        """Return the namespaces of a cluster that have runs."""
        return [row["namespace"] for row in await self._database.rows("namespaces")]


def _reference(reference: str) -> dict[str, Any]:
    """Return the ways in which *reference* may name a run; those that it cannot are None."""
    try:
        identity = str(uuid.UUID(reference)) if len(reference) == 36 else None  # noqa: PLR2004 - text of a UUID
    except ValueError:
        identity = None
    number = int(reference) if reference.isascii() and reference.isdigit() else None
    named = _NAME.match(reference)
    return {
        "id": identity,
        "number": number if number is not None and number < 2**63 else None,
        "name": reference if named and "\0" not in reference else None,
        "name_number": int(named["number"]) if named else None,
    }


def _row_of(run: NewRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "namespace": run.namespace,
        "workflow": run.workflow,
        "revision": run.revision,
        "trigger": run.trigger,
        "pool": run.pool,
        "priority": run.priority,
        "run_timeout": seconds(run.run_timeout),
        "queue_timeout": seconds(run.queue_timeout or _FOREVER),
        "cleanup_timeout": seconds(run.cleanup_timeout),
        "inputs": run.inputs,
        "event": run.event,
        "workspace": run.workspace,
        "env": run.env,
        "attempts": run.attempts,
        "rerun_of": run.rerun_of,
        "idempotency_key": run.idempotency_key,
        "secrets_from": run.secrets_from,
        "plan": run.plan,
        "steps": [
            {
                "name": step.name,
                "ordinal": ordinal,
                "kind": step.action.kind,
                "needs": step.needs,
                "branch": step.branch,
                "cleanup": step.cleanup,
                "once": step.once,
                "shown": step.action.shown,
                "shown_under": step.group,
            }
            for ordinal, step in enumerate(run.plan.steps, 1)
        ],
        "queued_body": _json({"attempt": 1, "pool": run.pool, "priority": run.priority}),
        "plan_body": _json(plan_body(run.plan, attempt=1)),
        "digest": run.plan.digest,
        "awaits": run.plan.awaits,
        "awaited": sorted({one.ref for one in run.plan.awaits}),
    }


def _json(value: object) -> str:
    return to_json(value).decode()


def _view(row: Mapping[str, Any]) -> RunView:
    return RunView(
        id=RunId(str(row["id"])),
        number=row["number"],
        name=row["name"],
        namespace=row["namespace"],
        workflow=row["workflow"],
        revision=row["revision"],
        state=RunState(row["state"]),
        reason=None if row["reason"] is None else Reason(row["reason"]),
        message=row["message"],
        trigger=row["trigger"],
        pool=row["pool"],
        priority=row["priority"],
        attempt=row["attempt"],
        created_at=row["created_at"],
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        cancel_requested_at=row["cancel_requested_at"],
        waiting_reason=None if row["waiting_reason"] is None else Reason(row["waiting_reason"]),
        waiting_since=row["waiting_since"],
        last_event=row["last_event"],
    )


def _step(row: Mapping[str, Any]) -> StepView:
    return StepView(
        name=row["name"],
        kind=row["kind"],
        state=StepState(row["state"]),
        reason=_known_reason(row["reason"]),
        message=row["message"],
        needs=row["needs"],
        branch=row["branch"],
        group=row["shown_under"],
        cleanup=row["cleanup"],
        shown=row["shown"],
        exit_code=row["exit_code"],
        tries=row["tries"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        duration_ms=row["duration_ms"],
        outputs=row["outputs"] or {},
        stage=row["stage"],
        why=tuple(answer_of(one) for one in row["why"] or ()),
    )


def _stage(row: Mapping[str, Any]) -> StageView:
    extension = row["extension"] or {}
    trouble = extension.get("trouble") or {}
    return StageView(
        number=row["stage"],
        digest=row["digest"],
        created_at=row["created_at"],
        awaits=tuple(Await.model_validate(one) for one in row["awaits"]),
        reason=_known_reason(trouble.get("reason")),
        message=trouble.get("message"),
    )


def _known_reason(value: str | None) -> Reason | None:
    """Return the reason; a word that a runner made up counts as internal."""
    if value is None:
        return None
    return Reason(value) if value in _REASONS else Reason.INTERNAL


_REASONS = frozenset(reason.value for reason in Reason)

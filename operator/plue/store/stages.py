"""Stages: what an evaluation is made from, and the one statement that records what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json

from plue.domain.growth import Answer, Results, StepResult
from plue.domain.progress import StepValue
from plue.domain.run import RunId, RunnerId, StoredEvent
from plue.store.database import Database
from plue.wire.events import EventType, RunState, StepState
from plue.wire.plan import Await, Plan
from plue.wire.stages import Extension

__all__ = ["NewStage", "Origin", "RecordedStage", "StageHead", "StageStore", "StoredStage"]


@dataclass(frozen=True, slots=True)
class StageHead:
    """How far a run is."""

    run: RunId
    state: RunState
    attempt: int
    stage: int
    workflow: str
    revision: str
    cancelling: bool


@dataclass(frozen=True, slots=True)
class StoredStage:
    """A recorded stage; ``extension`` is None for the first."""

    attempt: int
    stage: int
    awaits: Sequence[Await]
    extension: Extension | None


@dataclass(frozen=True, slots=True)
class Origin:
    """What every stage of an attempt is evaluated from; ``plan`` is that of stage 1."""

    attempt: int
    plan: Plan
    inputs: Mapping[str, JsonValue]
    event: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStage:
    """A stage to be recorded: *plan* as it is with it, and the body of its event.

    ``shifted`` are the new ordinals of earlier steps that stand behind new ones.
    """

    run: RunId
    attempt: int
    plan: Plan
    extension: Extension
    body: Mapping[str, JsonValue]
    why: Mapping[str, Sequence[Answer]]
    shifted: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RecordedStage:
    """A stage that this call recorded, and who is to be told of it."""

    runner: RunnerId | None
    gateway: str | None
    event: StoredEvent


class StageStore:
    """The rows of stages, and of the values that are asked for."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def news(
        self, run: RunId, *, after: int
    ) -> tuple[StageHead | None, list[StoredStage], Results]:
        """Return how far a run is, its stages above *after*, and the results so far."""
        heads, stages, steps, values = await self._database.transaction(
            [
                ("stage_head", {"run": run}),
                ("stages_of_run", {"run": run, "after": after}),
                ("stage_results", {"run": run}),
                ("stage_values", {"run": run}),
            ]
        )
        results = Results(
            {row["name"]: _result(row) for row in steps},
            [StepValue(v["step"], v["field"], v["tail"], v["value"], v["error"]) for v in values],
        )
        return (_head(heads[0]) if heads else None), [_stage(row) for row in stages], results

    async def origin(self, run: RunId) -> Origin | None:
        """Return what the present attempt is evaluated from; None when the run is gone."""
        row = await self._database.row("stage_origin", {"run": run})
        if row is None:
            return None
        plan = Plan.model_validate(row["plan"])
        return Origin(row["attempt"], plan, row["inputs"], row["event"])

    async def record(self, stage: NewStage) -> RecordedStage | None:
        """Record the next stage; None when somebody else was first or the attempt is over."""
        row = await self._database.row("record_stage", _parameters(stage))
        if row is None:
            return None
        body = to_json(stage.body).decode()
        return RecordedStage(
            None if row["runner_id"] is None else RunnerId(row["runner_id"]),
            row["gateway"],
            StoredEvent(
                stage.run, row["last_event"], row["time"], EventType.PLAN_EXTENDED, None, body
            ),
        )

    async def waits(self, head: StageHead) -> bool:
        """Say that the run waits for an evaluation; whether that is news."""
        row = await self._database.row(
            "wait_for_evaluation",
            {"run": head.run, "attempt": head.attempt, "stage": head.stage},
        )
        return row is not None

    async def with_answers(self, *, limit: int = 1000) -> list[RunId]:
        """Return the running runs whose code perhaps is to be evaluated."""
        rows = await self._database.rows("runs_with_answers", {"limit": limit})
        return [RunId(str(row["run_id"])) for row in rows]

    async def after(self, held: Mapping[RunnerId, int]) -> dict[RunnerId, list[Extension]]:
        """Return what extends the plans of these runners beyond the stage that they have."""
        rows = await self._database.rows(
            "stages_after", {"runners": list(held), "stages": list(held.values())}
        )
        found: dict[RunnerId, list[Extension]] = {}
        for row in rows:
            extension = Extension.model_validate(row["extension"])
            found.setdefault(RunnerId(row["runner_id"]), []).append(extension)
        return found


def _head(row: Mapping[str, Any]) -> StageHead:
    return StageHead(
        RunId(str(row["run_id"])),
        RunState(row["state"]),
        row["attempt"],
        row["stage"],
        row["workflow"],
        row["revision"],
        row["cancelling"],
    )


def _stage(row: Mapping[str, Any]) -> StoredStage:
    extension = row["extension"]
    return StoredStage(
        row["attempt"],
        row["stage"],
        [Await.model_validate(one) for one in row["awaits"]],
        None if extension is None else Extension.model_validate(extension),
    )


def _result(row: Mapping[str, Any]) -> StepResult:
    return StepResult(
        row["name"], StepState(row["state"]), row["reason"], row["exit_code"], row["outputs"] or {}
    )


def _parameters(stage: NewStage) -> dict[str, Any]:
    extension, new = stage.extension, [placed.step for placed in stage.extension.steps]
    return {
        "run": stage.run,
        "attempt": stage.attempt,
        "stage": extension.stage,
        "digest": extension.digest,
        "awaits": _json(extension.awaits),
        "awaited": sorted({one.ref for one in extension.awaits}),
        "extension": extension.model_dump_json(),
        "body": _json(dict(stage.body)),
        "step_names": [s.name for s in new],
        # Ordinals count from 1, places from 0.
        "step_ordinals": [placed.at + 1 for placed in extension.steps],
        "step_kinds": [s.action.kind for s in new],
        "step_needs": [_json(list(s.needs)) for s in new],
        "step_branches": [_json(list(s.branch)) for s in new],
        "step_groups": [_json(list(s.group)) for s in new],
        "step_cleanups": [s.cleanup for s in new],
        "step_onces": [s.once for s in new],
        "step_shown": [s.action.shown for s in new],
        "step_why": [
            _json([one.json() for one in stage.why[s.name]]) if stage.why.get(s.name) else None
            for s in new
        ],
        "shifted_names": list(stage.shifted),
        "shifted_ordinals": [at + 1 for at in stage.shifted.values()],
    }


def _json(value: object) -> str:
    return to_json(value).decode()

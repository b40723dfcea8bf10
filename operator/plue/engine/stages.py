"""Evaluates a run's code again when a value is known that it waits for, and records the stage.

An evaluation is an action that anybody may take, repeat, or be killed in: it reads what is known,
asks the evaluator, and records what came of it by one statement that only one caller can win
(``record_stage``). Nothing is kept here that the database does not have; what is remembered of a
run only saves reading it again. Of two servers on one database both may evaluate; one records.

Each run has a task of its own, so that a slow evaluation holds up nobody else. Whoever stores an
event of a run that waits wakes it; a slow poll finds what was missed.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from plue.authoring.evaluator import Evaluator
from plue.authoring.results import Planned
from plue.domain.growth import (
    MAX_STAGES,
    GrownPlan,
    Results,
    due,
    plan_body,
    shown_ref,
    trouble_of,
)
from plue.domain.run import RunId
from plue.ending import end_tasks
from plue.engine.context import EngineContext
from plue.engine.secrets import refuse_missing
from plue.errors import NotFoundError, PlueError, RejectedError, UnavailableError
from plue.marks import Mark, reached
from plue.store.stages import NewStage, Origin, RecordedStage, StageHead
from plue.wire.events import Reason, RunState
from plue.wire.plan import Await, Plan, secrets_of
from plue.wire.stages import Extension, Trouble, extended, extension_of

__all__ = ["Stages"]

_log = structlog.get_logger(__name__)

REMEMBERED = 256
"""Runs whose plan so far is kept in memory between two evaluations."""

SAID_AFTER_SECONDS = 0.5
"""A run that waits longer than this for its evaluation says so."""


@dataclass(frozen=True, slots=True)
class _Grown:
    """An attempt's plan as it is now, and all that its code has asked for."""

    origin: Origin
    files: Mapping[str, str]
    plan: Plan
    asked: Sequence[Await]
    over: bool = False

    def with_stage(self, extension: Extension) -> "_Grown":
        plan = extended(self.plan, extension)
        over = self.over or extension.trouble is not None
        return _Grown(self.origin, self.files, plan, (*self.asked, *extension.awaits), over)


class Stages:
    """The evaluations of this process: at most one at a time for each run."""

    def __init__(self, context: EngineContext, evaluator: Evaluator) -> None:
        """Evaluate with *evaluator*, read and record through *context*."""
        self._context = context
        self._evaluator = evaluator
        self._grown: OrderedDict[RunId, _Grown] = OrderedDict()
        self._tasks: dict[RunId, asyncio.Task[None]] = {}
        self._again: set[RunId] = set()

    def wake(self, run: RunId) -> None:
        """Look whether *run* is to be evaluated, soon and without waiting."""
        if run in self._tasks:
            self._again.add(run)
            return
        task = asyncio.create_task(self._serve(run), name=f"stages-{run}")
        self._tasks[run] = task
        task.add_done_callback(lambda _: self._tasks.pop(run, None))

    async def look(self) -> None:
        """Find the runs that nobody woke: the slow poll, and the first look of a new server."""
        for run in await self._context.stages.with_answers():
            self.wake(run)

    async def grown(self, run: RunId) -> GrownPlan:
        """Return the plan of *run* as it is now, ended or not. Raises NotFoundError."""
        stages = self._context.stages
        origin = await stages.origin(run)
        _, newer, results = await stages.news(run, after=0)
        if origin is None:
            raise NotFoundError(f"there is no run {run}")
        plan = origin.plan
        for stage in newer:
            if stage.extension is not None and stage.attempt == origin.attempt:
                plan = extended(plan, stage.extension)
        return GrownPlan(plan, origin.inputs, origin.event, results)

    async def close(self) -> None:
        """End the evaluations, wherever they are."""
        await end_tasks(list(self._tasks.values()))

    async def _serve(self, run: RunId) -> None:
        pause = 0.1
        while True:
            self._again.discard(run)
            try:
                moved = await self._grow(run)
            except UnavailableError as error:
                _log.warning("evaluation_waits", run=run, error=error.message)
                await self._say_that_it_waits(run)
                await asyncio.sleep(min(pause, error.retry_in.total_seconds()))
                pause = min(2 * pause, 2.0)
                continue
            except Exception:  # noqa: BLE001 - the outermost loop of a run: the poll tries again
                _log.exception("evaluation_crashed", run=run)
                return
            # What became known while it was evaluated woke nobody else.
            if not moved and run not in self._again:
                return

    # ── one evaluation ───────────────────────────────────────────────────────────────────────────

    async def _grow(self, run: RunId) -> bool:
        """Evaluate *run* once, if it is due; whether something was recorded, by whomever."""
        found = await self._present(run)
        if found is None:
            return False
        head, grown, results = found
        if grown.over or not due(grown.plan, results):
            return False
        begun = asyncio.get_running_loop().time()
        extension, planned = await self._evaluate(head, grown, results)
        self._context.metrics.evaluation_seconds.observe(asyncio.get_running_loop().time() - begun)
        reached(Mark.STAGE_EVALUATED)
        recorded = await self._context.stages.record(_new_stage(head, grown, extension, planned))
        if recorded is not None:
            reached(Mark.STAGE_RECORDED)
            self._remember(run, grown.with_stage(extension))
            self._deliver(recorded)
        return True

    async def _present(self, run: RunId) -> tuple[StageHead, _Grown, Results] | None:
        """Return the run as it is now; None when there is nothing to evaluate."""
        stages = self._context.stages
        grown = self._grown.get(run)
        head, newer, results = await stages.news(run, after=grown.plan.stage if grown else 0)
        if head is None or head.state is not RunState.RUNNING or head.cancelling:
            self._grown.pop(run, None)
            return None
        if grown is None or grown.origin.attempt != head.attempt:
            grown = await self._begin(head)
            head, newer, results = await stages.news(run, after=0)
            if head is None or grown is None or grown.origin.attempt != head.attempt:
                return None
        for stage in newer:
            if stage.extension is not None and stage.attempt == head.attempt:
                grown = grown.with_stage(stage.extension)
        self._remember(run, grown)
        # A stage that came between the statements is looked at the next time.
        return (head, grown, results) if grown.plan.stage == head.stage else None

    async def _begin(self, head: StageHead) -> _Grown | None:
        origin = await self._context.stages.origin(head.run)
        if origin is None:
            return None
        try:
            files = await self._context.runs.definition_files(head.revision, head.workflow)
        except NotFoundError:
            files = {}
        return _Grown(origin, files, origin.plan, origin.plan.awaits)

    def _remember(self, run: RunId, grown: _Grown) -> None:
        self._grown[run] = grown
        self._grown.move_to_end(run)
        while len(self._grown) > REMEMBERED:
            self._grown.popitem(last=False)

    async def _evaluate(
        self, head: StageHead, grown: _Grown, results: Results
    ) -> tuple[Extension, Planned]:
        plan = grown.plan
        if plan.stage >= MAX_STAGES:
            return _ended(plan, _too_often(plan)), Planned()
        if not grown.files:
            message = f"the source of revision {head.revision[:12]} is not kept any more"
            return _ended(plan, trouble_of(None, message, None)), Planned()
        asking = self._evaluator.plan(
            grown.files,
            head.workflow,
            inputs=grown.origin.inputs,
            event=grown.origin.event,
            known=results.known(),
            recorded=plan.steps,
            stage=plan.stage + 1,
            asked=grown.asked,
        )
        planned = await self._saying_that_it_waits(head, asking)
        if planned.plan is None:
            return _ended(plan, _trouble_in(planned)), planned
        extension = extension_of(plan, planned.plan)
        try:
            new = [placed.step for placed in extension.steps]
            if secrets_of(new):
                allowed = await self._context.runs.secrets_from(head.run)
                await refuse_missing(self._context.secrets, new, allowed)
        except RejectedError as error:
            message = f"{error.message}; {error.remedy}"
            return _ended(plan, Trouble(reason=Reason.MISSING_SECRET, message=message)), planned
        return extension, planned

    # ── what others see ──────────────────────────────────────────────────────────────────────────

    async def _saying_that_it_waits(self, head: StageHead, asking: Awaitable[Planned]) -> Planned:
        """Await an evaluation; when it takes long, have the run say that it waits for it."""
        task = asyncio.ensure_future(asking)
        try:
            done, _ = await asyncio.wait({task}, timeout=SAID_AFTER_SECONDS)
            if not done and await self._context.stages.waits(head):
                self._context.news_of(head.run)
            return await task
        finally:
            task.cancel()

    async def _say_that_it_waits(self, run: RunId) -> None:
        try:
            head, _, _ = await self._context.stages.news(run, after=2**31 - 1)
            if head is not None and await self._context.stages.waits(head):
                self._context.news_of(run)
        except PlueError:
            return  # the store is what is away

    def _deliver(self, recorded: RecordedStage) -> None:
        context = self._context
        context.publish([recorded.event])
        if recorded.runner is None or recorded.gateway is None:
            return
        if context.sessions is not None and recorded.gateway == context.sessions.name:
            context.sessions.extend([recorded.runner])
        else:
            context.database.tell(f"gateway:{recorded.gateway}")


def _new_stage(head: StageHead, grown: _Grown, extension: Extension, planned: Planned) -> NewStage:
    plan = extended(grown.plan, extension)
    before = {step.name: at for at, step in enumerate(grown.plan.steps)}
    now = {step.name: at for at, step in enumerate(plan.steps)}
    return NewStage(
        run=head.run,
        attempt=head.attempt,
        plan=plan,
        extension=extension,
        body=plan_body(
            plan,
            attempt=head.attempt,
            new=[placed.step.name for placed in extension.steps],
            why=planned.why,
            trouble=extension.trouble,
        ),
        why=planned.why,
        shifted={name: now[name] for name, at in before.items() if now[name] != at},
    )


def _ended(plan: Plan, trouble: Trouble) -> Extension:
    """Return the extension that plans nothing more."""
    return Extension(stage=plan.stage + 1, digest=plan.digest, fails=plan.fails, trouble=trouble)


def _trouble_in(planned: Planned) -> Trouble:
    first = next((d for d in planned.diagnostics if d.severity == "error"), None)
    if first is None:
        return trouble_of(None, "the workflow could not be planned further", None)
    second = f" (see {first.related[0]}:{first.related[1]})" if first.related else ""
    remedy = f"; {first.remedy}" if first.remedy else ""
    return trouble_of(first.code, f"{first.message}{second}{remedy}", f"{first.file}:{first.line}")


def _too_often(plan: Plan) -> Trouble:
    asked = ", ".join(dict.fromkeys(map(shown_ref, plan.awaits)))
    return Trouble(
        reason=Reason.TOO_MANY_STAGES,
        message=f"the workflow's code was evaluated {MAX_STAGES} times and still asks for {asked};"
        " look for a loop without a bound",
    )

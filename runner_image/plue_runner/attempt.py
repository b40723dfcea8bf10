"""One attempt of a run, from its workspace to ``finished``: order, cancel, clean-up, the end."""

import asyncio
import os
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue
from pydantic_core import to_json

from plue.marks import Mark, reached
from plue.schemas import unknown_keyword
from plue.wire.events import EventType, Reason, RunState, StepState
from plue.wire.frames import Assignment, Cancel, Finished
from plue.wire.plan import Await, Plan, Prompt, RefField, Shell, Step
from plue.wire.stages import (
    SENT,
    Extension,
    Standing,
    Trouble,
    extended,
    is_due,
    standing_of,
)
from plue_runner.caches import Caches, CacheServer
from plue_runner.command import Places, host_environment
from plue_runner.faults import Fault, short
from plue_runner.graph import Decision, Order, cleanup_decisions, fault_in, happened
from plue_runner.hidden import HiddenRun
from plue_runner.home import Home
from plue_runner.journal import Journal
from plue_runner.masking import Masker
from plue_runner.outputs import check_sizes
from plue_runner.process import COOKIE, Family, cookie_for
from plue_runner.prompting import PromptRun, preload
from plue_runner.spool import Spool
from plue_runner.step import Ended, ModelAccess, Setting, StepRun
from plue_runner.trial import Stop
from plue_runner.values import Kept, Result, Values
from plue_runner.workspace import Download, make_workspace

__all__ = ["Attempt"]


class Attempt:
    """The one attempt of this runner."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        home: Home,
        runner: str,
        family: Family,
        download: Download,
        models: ModelAccess,
        caches: CacheServer,
        wake: Callable[[], None],
        problem: Fault | None = None,
    ) -> None:
        """Take *assignment*; *wake* is called whenever there is something new to send.

        With *problem*, nothing is executed: the attempt ends with it as soon as it begins.
        """
        self._problem = problem
        self.assignment = assignment
        self.finished: Finished | None = None
        self.spool = Spool(home.spool, assignment.limits.spool_bytes)
        self._home = home
        self._runner = runner
        self._family = family
        self._download = download
        self._models = models
        self._caches = Caches(caches, home.steps)
        self._wake = wake
        self._masker = Masker(assignment.secrets.values())
        self._journal = Journal(self.spool, self._masker, wake)
        self._values = Values(assignment.secrets)
        self._kept = Kept(assignment.plan, assignment.env)
        self._plan = assignment.plan
        self._trouble: Trouble | None = None
        self._answered: set[tuple[str, RefField, int | None]] = set()
        self._keys: dict[str, str] = {}
        self.stage = 1
        self._cancelled: Cancel | None = None
        self._cancel_came = asyncio.Event()
        self._cleans_up = True
        self._in_cleanup = False
        self._news: asyncio.Queue[asyncio.Task[Ended] | Extension | None] = asyncio.Queue()
        self._running: dict[asyncio.Task[Ended], StepRun | HiddenRun | PromptRun] = {}
        self._ended: list[Ended] = []

    # ── from outside ─────────────────────────────────────────────────────────────────────────────

    def cancel(self, frame: Cancel) -> None:
        """End the attempt. The same frame again changes nothing; another one skips clean-up."""
        if frame == self._cancelled or self.finished is not None:
            return
        first = self._cancelled is None
        if first:
            self._cancelled = frame
            self._cancel_came.set()
            self._news.put_nowait(None)
        if frame.now or not first:
            self._cleans_up = False
        grace = 0.0 if frame.now else self.assignment.limits.grace_seconds
        for step in self._running.values():
            # Clean-up that was begun goes on after a first cancel.
            if not self._in_cleanup or not self._cleans_up:
                step.stop(self._stop(), grace=grace)

    def extend(self, extension: Extension, secrets: Mapping[str, str]) -> None:
        """Take the plan's next stage; one that is held already, or out of turn, changes nothing.

        *secrets* are the values of those that its steps name.
        """
        if extension.stage == self.stage + 1:
            if secrets:
                self._values.secrets |= secrets
                self._masker = Masker(self._values.secrets.values())
                self._journal.masker = self._masker
            self.stage = extension.stage
            self._news.put_nowait(extension)

    def _stop(self) -> Stop:
        frame = self._cancelled
        reason = Reason.CANCELLED if frame is None else frame.reason
        return Stop(StepState.CANCELLED, reason, None if frame is None else frame.message)

    # ── the way through ──────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Execute the plan; ``finished`` is set at the end, whatever happens."""
        self._journal.begin()
        try:
            await self._run()
        except Fault as fault:
            if self._cancelled is None:
                self._finish(RunState.FAILED, fault.reason, str(fault))
            else:
                self._finish_cancelled()
        except Exception as error:  # noqa: BLE001 - a run must end, also by a fault of ours
            traceback.print_exc()
            self._finish(RunState.FAILED, Reason.INTERNAL, f"a fault of the runner: {error!r}")

    async def _run(self) -> None:
        plan = self.assignment.plan
        if self._problem is not None:
            raise self._problem
        _check(plan)
        if any(isinstance(step.action, Prompt) for step in plan.steps):
            preload()
        places = None if self._cancelled is not None else await self._places()
        if places is None:
            for step in plan.steps:
                self._unstarted(step, StepState.CANCELLED, self._stop().reason)
            self._finish_cancelled()
            return
        order = Order(plan.steps)
        setting = self._setting(places)
        await self._steps(order, setting)
        await self._cleanups(order, setting)
        # What hid from its step, without a session or variables of the step's, ends here.
        await self._family.kill_children()
        self._end(order)

    async def _places(self) -> Places | None:
        """Return where the attempt works; None when it was cancelled meanwhile."""
        home = self._home
        making = asyncio.ensure_future(
            make_workspace(
                self.assignment.workspace,
                folder=home.workspace,
                archive=home.archive,
                download=self._download,
            )
        )
        if self.assignment.workspace.kind == "blob":
            cancel = asyncio.ensure_future(self._cancel_came.wait())
            await asyncio.wait([making, cancel], return_when=asyncio.FIRST_COMPLETED)
            cancel.cancel()
            if not making.done():
                making.cancel()
                await asyncio.wait([making])
                return None
        workspace = await making
        try:
            home.event.write_bytes(to_json(self.assignment.event))
        except OSError as error:
            raise Fault(Reason.DISK_FULL, f"the event could not be written: {error}") from error
        return Places(workspace, home.steps, home.temporary, home.event)

    def _setting(self, places: Places) -> Setting:
        return Setting(
            cookie=cookie_for(self._runner, os.environ.get(COOKIE)),
            assignment=self.assignment,
            places=places,
            host=host_environment(),
            family=self._family,
            journal=self._journal,
            values=self._values,
            kept=self._kept,
            ended=self._answer,
            models=self._models,
            caches=self._caches,
        )

    async def _steps(self, order: Order, setting: Setting) -> None:
        """Execute the steps until nothing runs and no further stage will come."""
        decided = deque(order.first())
        while True:
            while decided:
                ended = self._act(decided.popleft(), setting)
                if ended is not None:
                    decided += self._note(order, ended)
            if not self._running and not self._waits(order):
                return
            match await self._news.get():
                case asyncio.Task() as task:
                    del self._running[task]
                    decided += self._note(order, task.result())
                case Extension() as extension:
                    decided += self._grow(order, extension)
                case None:
                    pass  # it was cancelled: there is nothing to wait for any more

    # ── stages ───────────────────────────────────────────────────────────────────────────────────

    def _waits(self, order: Order) -> bool:
        """Whether the plan's next stage will come, now that all its steps have ended.

        It comes when the workflow's code asked for a value that is known. Where none is, because
        what it asked was for ever lost with an unhandled failure, the run ends.
        """
        if self._cancelled is not None:
            return False

        def standing(one: Await) -> Standing:
            past = order.past.get(one.ref)
            if past is None:
                return Standing.NEVER
            return standing_of(one, past.state, past.reason)

        return is_due(self._plan.awaits, standing)

    def _grow(self, order: Order, extension: Extension) -> list[Decision]:
        """Take the next stage; return what is decided by it."""
        plan = extended(self._plan, extension)
        try:
            _check(plan)
        except Fault as fault:
            extension = Extension(
                stage=extension.stage, trouble=Trouble(reason=fault.reason, message=str(fault))
            )
            plan = extended(self._plan, extension)
        self._plan = plan
        self._trouble = self._trouble or extension.trouble
        self._kept.update(plan)
        decided = order.extend([placed.step for placed in extension.steps])
        for name in {one.ref for one in plan.awaits}:
            if name in order.past:
                self._answer(name)
        return decided

    def _answer(self, name: str) -> None:
        """Send what the workflow's code asks for of a step that has ended."""
        for one in self._plan.awaits:
            question = (one.ref, one.field, one.tail)
            if one.ref != name or one.field not in SENT or question in self._answered:
                continue
            self._answered.add(question)
            value: dict[str, JsonValue] = {"field": one.field}
            if one.tail is not None:
                value["tail"] = one.tail
            try:
                value["value"] = self._values.answer(one)
            except Fault as fault:
                value["error"] = str(fault)
            body: dict[str, JsonValue] = {"attempt": self.assignment.attempt, "values": [value]}
            self._journal.write(EventType.STEP_VALUES, name, body)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────

    def _note(self, order: Order, ended: Ended) -> list[Decision]:
        self._ended.append(ended)
        return order.end(ended.step, ended.state, ended.reason, ended.tries)

    def _act(self, decision: Decision, setting: Setting) -> Ended | None:
        """Start the step, or record that it never will and return so."""
        if self._cancelled is not None and not self._in_cleanup:
            return self._unstarted(decision.step, StepState.CANCELLED, self._cancelled.reason)
        if decision.skip is not None:
            return self._unstarted(
                decision.step, StepState.SKIPPED, decision.skip, decision.message
            )
        step = self._run_of(decision.step, setting)
        task = asyncio.create_task(step.run())
        task.add_done_callback(self._news.put_nowait)
        self._running[task] = step
        return None

    def _run_of(self, step: Step, setting: Setting) -> StepRun | HiddenRun | PromptRun:
        key = self._keys.setdefault(step.name, f"{len(self._keys):04}")
        match step.action:
            case Shell() as shell:
                return StepRun(step, shell, setting, key=key)
            case Prompt() as prompt:
                return PromptRun(step, prompt, setting)
            case _:
                return HiddenRun(step, setting, key=key)

    def _unstarted(
        self, step: Step, state: StepState, reason: Reason, message: str | None = None
    ) -> Ended:
        self._values.record(step.name, Result(state, reason))
        body: dict[str, JsonValue] = {
            "attempt": self.assignment.attempt,
            "state": state.value,
            "reason": reason,
            "message": message,
            "tries": 0,
            "duration_ms": 0,
        }
        self._journal.write(EventType.STEP_COMPLETED, step.name, body)
        return Ended(step, state, reason, 0, message)

    # ── clean-up ─────────────────────────────────────────────────────────────────────────────────

    async def _cleanups(self, order: Order, setting: Setting) -> None:
        loop = asyncio.get_running_loop()
        self._in_cleanup = True
        deadline = loop.time() + self.assignment.limits.cleanup_seconds
        for decision in cleanup_decisions(self._plan.steps, order.past):
            if not self._cleans_up:
                ended = self._unstarted(decision.step, StepState.CANCELLED, self._stop().reason)
            elif loop.time() >= deadline:
                ended = self._unstarted(
                    decision.step, StepState.CANCELLED, Reason.STEP_TIMEOUT, self._over()
                )
            else:
                ended = self._act(decision, setting) or await self._clean(deadline)
            self._ended.append(ended)

    def _over(self) -> str:
        return f"clean-up took longer than {self.assignment.limits.cleanup_seconds:g} s"

    async def _clean(self, deadline: float) -> Ended:
        """Wait for the clean-up step that was just started, until *deadline*."""
        ((task, step),) = self._running.items()
        stop = Stop(StepState.FAILED, Reason.STEP_TIMEOUT, self._over())
        loop = asyncio.get_running_loop()
        timer = loop.call_at(deadline, lambda: step.stop(stop, grace=0))
        try:
            return await task
        finally:
            timer.cancel()
            self._running.clear()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def _end(self, order: Order) -> None:
        if self._cancelled is not None:
            self._finish_cancelled()
            return
        if self._trouble is not None:
            self._finish(RunState.FAILED, self._trouble.reason, self._trouble.message)
            return
        fail = happened(self._plan.fails, order.past)
        if fail is not None:
            try:
                message = self._values.text(fail.reason)
            except Fault as fault:
                message = f"ctx.fail was reached, but its reason cannot be shown: {fault}"
            self._finish(RunState.FAILED, Reason.FAILED_BY_WORKFLOW, message)
            return
        failed = [
            ended
            for ended in self._ended
            if ended.state is StepState.FAILED and not ended.step.continue_on_error
        ]
        if failed:
            self._finish_failed(failed)
        elif self._plan.end is None:
            self._finish(RunState.FAILED, Reason.INVALID_PLAN, "the plan stopped without an end")
        else:
            self._finish_succeeded()

    def _finish_cancelled(self) -> None:
        frame = self._cancelled
        state = RunState.CANCELLED if frame is None else RunState(frame.state)
        self._finish(state, self._stop().reason, self._stop().message)

    def _finish_failed(self, failed: Sequence[Ended]) -> None:
        first = failed[0]
        full = any(ended.reason is Reason.DISK_FULL for ended in failed)
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        self._finish(
            RunState.FAILED,
            Reason.DISK_FULL if full else Reason.STEP_FAILED,
            f"{first.step.name!r} failed{more}: {first.message or first.reason}",
        )

    def _finish_succeeded(self) -> None:
        end = self._plan.end
        outputs: dict[str, JsonValue] = {}
        try:
            for name, value in ({} if end is None else end.outputs).items():
                if isinstance(value, dict):
                    outputs[name] = value["value"]
                else:
                    outputs[name] = self._values.text(value)
            check_sizes(outputs, self.assignment.limits)
        except Fault as fault:
            self._finish(RunState.FAILED, fault.reason, f"the run's outputs: {fault}")
            return
        self._finish(RunState.SUCCEEDED, Reason.SUCCEEDED, None, outputs)

    def _finish(
        self,
        state: RunState,
        reason: Reason,
        message: str | None,
        outputs: dict[str, JsonValue] | None = None,
    ) -> None:
        reached(Mark.R_FINISHED)
        masked = self._masker.json(outputs or {})
        self.finished = Finished(
            run=self.assignment.run,
            attempt=self.assignment.attempt,
            n=self.spool.last,
            state=state,
            reason=reason,
            message=None if message is None else short(self._masker.text(message)),
            outputs=masked if isinstance(masked, dict) else {},
        )
        self._wake()

    def halt(self) -> None:
        """Start, record and wait for nothing more; the caller kills what runs."""
        for task in self._running:
            task.cancel()
        self._journal.close()

    def lost(self, message: str) -> None:
        """Finish as lost, unless it is finished."""
        if self.finished is None:
            self._finish(RunState.FAILED, Reason.RUNNER_LOST, message)


def _check(plan: Plan) -> None:
    """Raise Fault when the plan is wrong, or asks for what this runner cannot do."""
    problem = fault_in(plan)
    if problem is not None:
        raise Fault(Reason.INVALID_PLAN, problem)
    for step in plan.steps:
        keyword = unknown_keyword(step.output_schema)
        if keyword is not None:
            raise Fault(
                Reason.UNSUPPORTED,
                f"the output schema of {step.name!r} uses {keyword!r}, which is not supported",
            )

"""A step that asks a model, through the gateway, once its inputs and its prompt are known."""

import asyncio
import hashlib
from collections.abc import Callable
from importlib import import_module
from time import monotonic
from typing import Any

from plue.wire.events import Reason, StepState
from plue.wire.model_access import StepClaim, step_token
from plue.wire.plan import Prompt, Step
from plue_runner.capture import Capture
from plue_runner.faults import Fault
from plue_runner.model.equipment import Equipment
from plue_runner.model.line import Line
from plue_runner.model.rendering import inputs_of, rendered_prompt
from plue_runner.model.telling import Teller
from plue_runner.model.tools import current_use
from plue_runner.outputs import check_sizes
from plue_runner.step import Ended, Setting, complete, journal_start
from plue_runner.trial import Stop, Trial

__all__ = ["PromptRun", "preload"]

DEFAULT_CLIENT = "anthropic/claude-sonnet"


class PromptRun:
    """One step with a prompt that runs now."""

    def __init__(self, step: Step, prompt: Prompt, setting: Setting) -> None:
        """Prepare to run *step*, whose action is *prompt*."""
        self._step = step
        self._prompt = prompt
        self._setting = setting
        self._loop = asyncio.get_running_loop()
        self._stop: asyncio.Future[Stop] = self._loop.create_future()
        self._waits_since: float | None = None
        self._waited = 0.0

    def stop(self, stop: Stop, *, grace: float) -> None:  # noqa: ARG002 - a call is aborted at once
        """End the step now; a call to the model is aborted."""
        if not self._stop.done():
            self._stop.set_result(stop)

    async def run(self) -> Ended:
        """Run the step to its end, with all its tries, and record it."""
        began = monotonic()
        last = await self._try(1)
        while self._may_try_again(last):
            last = await self._try(last.number + 1)
        return complete(self._step, self._setting, last, int((monotonic() - began) * 1000))

    def _may_try_again(self, last: Trial) -> bool:
        failed = last.began and last.state is StepState.FAILED
        return failed and not self._stop.done() and last.number <= self._step.retry

    async def _try(self, number: int) -> Trial:
        this = Trial(number)
        if self._stop.done():
            this.count_as(self._stop.result())
            return this
        this.began = True
        journal_start(self._step, self._setting, number)
        work = asyncio.ensure_future(self._perform(this))
        timer = asyncio.ensure_future(self._time())
        either: set[asyncio.Future[Any]] = {work, self._stop, timer}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            work.cancel()
            await asyncio.wait({work})
        if self._stop.done():
            this.count_as(self._stop.result())
        elif work.cancelled():
            this.count_as(
                Stop(
                    StepState.FAILED,
                    Reason.STEP_TIMEOUT,
                    f"it took longer than {self._step.timeout_seconds:g} s",
                )
            )
        elif (error := work.exception()) is not None:
            if not isinstance(error, Fault):
                raise error
            this.fail(error.reason, str(error))
        return this

    async def _time(self) -> None:
        """Return when the step's time is over; waiting for a budget does not count."""
        limit, began = self._step.timeout_seconds, self._loop.time()
        if limit is None:
            await asyncio.Event().wait()
            return
        while True:
            now = self._loop.time()
            waiting = 0.0 if self._waits_since is None else now - self._waits_since
            left = limit - (now - began - self._waited - waiting)
            if left <= 0:
                return
            await asyncio.sleep(max(left, 0.05))

    def _waits(self) -> None:
        if self._waits_since is None:
            self._waits_since = self._loop.time()

    def _goes_on(self) -> None:
        if self._waits_since is not None:
            self._waited += self._loop.time() - self._waits_since
            self._waits_since = None

    # ── the model ────────────────────────────────────────────────────────────────────────────────

    async def _perform(self, this: Trial) -> None:
        prompt, setting, step = self._prompt, self._setting, self._step
        values = inputs_of(prompt, setting.values)
        # Not in the loop's thread: a large prompt must not keep the lease from being renewed.
        text = await asyncio.to_thread(rendered_prompt, prompt, values, step.output_schema)
        text = setting.journal.masker.text(text)
        await _loaded()
        # The proxy knows a step that runs by its stored start.
        await setting.journal.known()
        assignment = setting.assignment
        claim = StepClaim(run=assignment.run, attempt=assignment.attempt, step=step.name)

        def line(tool: str | None = None) -> Line:
            return Line(
                base=setting.models.base,
                token=step_token(claim, setting.models.token),
                tell=Teller(setting.journal, step.name, assignment.attempt, this.number, tool=tool),
                run_name=assignment.run_name,
                step=step.name,
                waits=self._waits,
                goes_on=self._goes_on,
            )

        own = line()
        try:
            if prompt.kind == "llm":
                await self._answer(this, own, text)
            else:
                await self._agent(this, own, text, line)
        finally:
            own.tell.flush()
            await own.close()
        check_sizes(this.outputs, assignment.limits)

    async def _answer(self, this: Trial, line: Line, text: str) -> None:
        from plue_runner.model.answer import answer

        client = self._prompt.client or DEFAULT_CLIENT
        schema = self._step.output_schema
        fields, said = await answer(line, client=client, prompt=text, schema=schema)
        this.outputs.update(fields)
        self._keep(this, said)

    async def _agent(
        self, this: Trial, line: Line, text: str, another: Callable[[str], Line]
    ) -> None:
        from plue_runner.model.agent import MAX_TURNS, Agent

        setting, prompt = self._setting, self._prompt
        kept = setting.places.temporary / f"results-{self._key()}-{this.number}"
        equipment = Equipment(
            self._step, setting, this.number, kept, lambda: another(current_use()), DEFAULT_CLIENT
        )
        async with equipment.of(prompt) as (toolbox, server_tools):
            agent = Agent(
                line=line,
                client=prompt.client or DEFAULT_CLIENT,
                toolbox=toolbox,
                server_tools=server_tools,
                schema=self._step.output_schema,
                max_turns=prompt.max_turns or MAX_TURNS,
            )
            result = await agent.run(text)
        this.agent |= {"status": result.status, "summary": result.summary, "turns": result.turns}
        this.outputs.update(result.outputs)
        self._keep(this, result.summary)
        if result.fault is not None:
            raise result.fault

    def _key(self) -> str:
        return hashlib.sha256(self._step.name.encode()).hexdigest()[:12]

    def _keep(self, this: Trial, text: str) -> None:
        capture = Capture(self._setting.assignment.limits.stdout_bytes)
        capture.feed(self._setting.journal.masker.text(text))
        this.captures["stdout"] = capture


# ── the client library ───────────────────────────────────────────────────────────────────────────

_LOADING: list["asyncio.Future[Any]"] = []


def preload() -> None:
    """Begin to import the client library: it takes seconds, in which other steps can run."""
    if not _LOADING:
        _LOADING.append(asyncio.ensure_future(asyncio.to_thread(import_module, "anthropic")))


async def _loaded() -> None:
    preload()
    await asyncio.shield(_LOADING[0])

"""A step that asks a model, through the gateway, once its inputs and its prompt are known."""

import asyncio
import hashlib
from collections.abc import Mapping
from importlib import import_module
from time import monotonic
from typing import Any

from pydantic import JsonValue

from plue.schemas import filled, options_of, problems
from plue.templating.faults import FaultKind, TemplateFault
from plue.wire.events import Reason, StepState
from plue.wire.model_access import StepClaim, step_token
from plue.wire.plan import Prompt, Ref, Step
from plue_runner.capture import Capture
from plue_runner.faults import Fault
from plue_runner.model.equipment import toolbox_of
from plue_runner.model.line import Line
from plue_runner.model.telling import Teller
from plue_runner.outputs import check_sizes
from plue_runner.step import Ended, Setting, complete, journal_start
from plue_runner.trial import Stop, Trial
from plue_runner.values import Values

__all__ = ["PromptRun", "inputs_of", "preload", "rendered_prompt"]

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
        tell = Teller(setting.journal, step.name, assignment.attempt, this.number)
        line = Line(
            base=setting.models.base,
            token=step_token(claim, setting.models.token),
            tell=tell,
            run_name=assignment.run_name,
            waits=self._waits,
            goes_on=self._goes_on,
        )
        try:
            if prompt.kind == "llm":
                await self._answer(this, line, text)
            else:
                await self._agent(this, line, text)
        finally:
            tell.flush()
            await line.close()
        check_sizes(this.outputs, assignment.limits)

    async def _answer(self, this: Trial, line: Line, text: str) -> None:
        from plue_runner.model.answer import answer

        client = self._prompt.client or DEFAULT_CLIENT
        schema = self._step.output_schema
        fields, said = await answer(line, client=client, prompt=text, schema=schema)
        this.outputs.update(fields)
        self._keep(this, said)

    async def _agent(self, this: Trial, line: Line, text: str) -> None:
        from plue_runner.model.agent import MAX_TURNS, Agent

        setting, prompt = self._setting, self._prompt
        kept = setting.places.temporary / f"results-{self._key()}-{this.number}"
        toolbox, server_tools = toolbox_of(prompt, self._step, setting, this.number, kept)
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


# ── the prompt ───────────────────────────────────────────────────────────────────────────────────


def inputs_of(prompt: Prompt, values: Values) -> dict[str, JsonValue]:
    """Return the prompt's inputs as plain JSON, defaults filled in, checked by their schema.

    Raises Fault: MissingValue for what is absent or null and may not be, InvalidInput for what
    does not fit.
    """
    fields = prompt.inputs_schema.get("properties")
    schemas = fields if isinstance(fields, dict) else {}
    found: dict[str, JsonValue] = {}
    for name, given in prompt.inputs.items():
        value = values.json(given)
        schema = schemas.get(name)
        optional = isinstance(schema, dict) and options_of(schema)[1]
        if value is None and isinstance(given, Ref) and not optional:
            raise values.missing(given)
        found[name] = value
    problem = next(problems(prompt.inputs_schema, found, prompt.prompt), None)
    if problem is not None:
        raise Fault(
            Reason.INVALID_INPUT,
            problem,
            remedy=f"pass what the inputs of {prompt.template} declare",
        )
    whole = filled(prompt.inputs_schema, found, nulls=True)
    return whole if isinstance(whole, dict) else found


def rendered_prompt(
    prompt: Prompt, values: Mapping[str, JsonValue], schema: Mapping[str, JsonValue] | None
) -> str:
    """Return the text that the model is given. Raises Fault (PromptFailed) with file and line."""
    from plue.templating.rendering import render

    try:
        return render(prompt.template, prompt.sources, values, output_schema=schema)
    except TemplateFault as fault:
        limit = fault.kind is FaultKind.LIMIT
        raise Fault(
            Reason.VALUE_TOO_LARGE
            if limit and "characters" in fault.message
            else Reason.PROMPT_FAILED,
            f"{fault.file}:{fault.line}: {fault.message}",
            remedy=fault.remedy,
        ) from None

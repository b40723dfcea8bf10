"""The ``llm`` step, through the gateway's proxy, with exact events and exact usage."""

import asyncio
import json
from decimal import Decimal

from factories import a_step
from models.conftest import KEY, MakeBench, an_output, ask

from plue.domain.budget import Amount, Budgets, Limit, Scope
from plue.wire.events import EventType, Reason, RunState, StepState

REVIEW = an_output(approved="boolean", summary="string")
SAYS_YES = """
conversations:
  - turns:
      - json: {approved: true, summary: fine}
        usage: {input: 500, output: 40}
"""


async def test_an_answer_is_typed_streamed_and_counted(bench: MakeBench) -> None:
    """The answer's fields are the step's outputs; tokens, turn and usage are on record."""
    async with bench(SAYS_YES) as desk:
        events, steps = await desk.end(await desk.begin(ask(output=REVIEW)))
        (row,) = await desk.usage()
    step = steps["ask"]
    assert (step.state, step.outputs) == (
        StepState.SUCCEEDED,
        {"approved": True, "summary": "fine"},
    )
    of_step = [event.type for event in events if event.step == "ask"]
    assert of_step[0] is EventType.STEP_STARTED
    assert of_step[-2:] == [EventType.AGENT_TURN, EventType.STEP_COMPLETED]
    tokens = [json.loads(e.body) for e in events if e.type is EventType.LLM_TOKEN]
    assert json.loads("".join(t["text"] for t in tokens)) == step.outputs
    assert {(t["turn"], t["call"], t["kind"]) for t in tokens} == {(1, 1, "json")}
    turn = json.loads(next(e.body for e in events if e.type is EventType.AGENT_TURN))
    assert turn["usage"] == {"input": 500, "output": 40, "cache_read": 0, "cache_write": 0}
    assert (row["step"], row["turn"], row["input_tokens"], row["output_tokens"]) == (
        "ask",
        1,
        500,
        40,
    )


async def test_an_answer_that_does_not_fit_is_asked_for_again(bench: MakeBench) -> None:
    """A wrong answer is told what is wrong with it; the second one counts."""
    script = """
conversations:
  - turns:
      - json: {approved: "maybe", summary: fine}
      - json: {approved: false, summary: not fine}
"""
    async with bench(script) as desk:
        _, steps = await desk.end(await desk.begin(ask(output=REVIEW)))
        second = json.loads(desk.models.calls[1].body)
    assert steps["ask"].outputs["approved"] is False
    assert "approved" in second["messages"][2]["content"]
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]


async def test_three_wrong_answers_are_invalid_output(bench: MakeBench) -> None:
    """After two corrections the step fails, and says what was wrong with the last one."""
    script = "conversations: [{turns: [{text: no JSON, repeat: true}]}]"
    async with bench(script) as desk:
        run = await desk.begin(ask(output=REVIEW))
        _, steps = await desk.end(run)
        assert len(desk.models.calls) == 3
    assert (steps["ask"].state, steps["ask"].reason) == (StepState.FAILED, Reason.INVALID_OUTPUT)


async def test_a_refusal_is_a_failure_of_its_own(bench: MakeBench) -> None:
    """A model that refuses is not asked again."""
    async with bench("conversations: [{turns: [{text: sorry, refusal: cyber}]}]") as desk:
        _, steps = await desk.end(await desk.begin(ask(output=REVIEW)))
        assert len(desk.models.calls) == 1
    assert steps["ask"].reason is Reason.MODEL_REFUSED
    assert "cyber" in (steps["ask"].message or "")


async def test_overload_is_waited_for_where_people_see_it(bench: MakeBench) -> None:
    """While the provider is overloaded the step waits with a reason; then it goes on."""
    script = """
conversations:
  - turns:
      - {text: done, before: [{status: 529, retry_after_ms: 50, times: 3}]}
"""
    async with bench(script) as desk:
        events, steps = await desk.end(await desk.begin(ask()))
        rows = await desk.usage()
    waits = [json.loads(e.body) for e in events if e.type is EventType.STEP_WAITING]
    assert [w.get("reason") for w in waits] == ["ModelOverloaded", None]
    assert steps["ask"].state is StepState.SUCCEEDED
    assert [row["outcome"] for row in rows] == ["status 529"] * 3 + ["answered"]


async def test_a_step_waits_for_its_budget_and_goes_on(bench: MakeBench) -> None:
    """With no budget left the step waits, says so, keeps its time, and goes on when extended."""
    budgets = Budgets({Scope.RUN: Limit(calls=1)})
    steps = (ask("one"), ask("two", timeout_seconds=1.0, needs=("one",)))
    async with bench("conversations: [{turns: [{text: done}]}]", budgets=budgets) as desk:
        run = await desk.begin(*steps)
        await desk.until(run, EventType.STEP_WAITING)
        details = await desk.server.engine.details(run)
        waiting = {step.name: step for step in details.steps}["two"]
        assert (waiting.state, waiting.reason) == (StepState.WAITING, Reason.BUDGET)
        assert "plue run extend" in (waiting.message or "")
        await asyncio.sleep(1.2)
        await desk.server.engine.extend_budget(run, Amount(calls=1))
        _, ended = await desk.end(run)
    assert ended["two"].state is StepState.SUCCEEDED


async def test_a_step_waits_for_time_and_goes_on(bench: MakeBench) -> None:
    """A budget in seconds is waited for as others are, and extended by the words that it says.

    It is just enough for one answer of 512 tokens, at 20 a second after the first 120 seconds.
    """
    budgets = Budgets({Scope.RUN: Limit(seconds=Decimal("145.6"))})
    script = "conversations: [{turns: [{text: done, delay: 0.05}]}]"
    async with bench(script, budgets=budgets) as desk:
        run = await desk.begin(ask("one"), ask("two", needs=("one",)))
        waits = await desk.until(run, EventType.STEP_WAITING)
        message = json.loads(waits[-1].body)["message"]
        assert "the run's budget of 145.6 seconds" in message
        assert "--seconds …`" in message
        await desk.server.engine.extend_budget(run, Amount(seconds=Decimal(60)))
        _, ended = await desk.end(run)
        asked = [json.loads(call.body)["max_tokens"] for call in desk.models.calls]
    assert {step.state for step in ended.values()} == {StepState.SUCCEEDED}
    assert asked[0] == 512
    assert 512 < asked[1] < 512 + 60 * 20


async def test_a_cancel_aborts_the_call_at_once(bench: MakeBench) -> None:
    """Cancelled in the middle of an answer, the provider's connection ends as well."""
    script = "conversations: [{turns: [{text: a very long answer, chunk: 1, delay: 0.2}]}]"
    async with bench(script) as desk:
        run = await desk.begin(ask())
        await desk.until(run, EventType.LLM_TOKEN)
        await desk.server.engine.cancel(run)
        _, steps = await desk.end(run)
        (call,) = desk.models.calls
        await asyncio.wait_for(call.ended.wait(), 5)
        assert call.outcome == "abandoned"
        (row,) = await desk.usage()
    assert steps["ask"].state is StepState.CANCELLED
    assert (row["outcome"], row["estimated"]) == ("caller left", True)


async def test_a_step_that_takes_too_long_times_out(bench: MakeBench) -> None:
    """The step's timeout ends a model that says nothing more."""
    async with bench("conversations: [{turns: [{text: hello, before: [{hang: 3}]}]}]") as desk:
        _, steps = await desk.end(await desk.begin(ask(timeout_seconds=0.5)))
    assert steps["ask"].reason is Reason.STEP_TIMEOUT


async def test_no_key_is_anywhere_in_the_sandbox(bench: MakeBench) -> None:
    """The provider's key is in no environment, memory file, event or log of the run."""
    look = "env; tr '\\0' '\\n' < /proc/$PPID/environ; cat /proc/$PPID/cmdline | tr '\\0' ' '"
    async with bench(SAYS_YES) as desk:
        run = await desk.begin(a_step("look", look), ask(output=REVIEW, needs=("look",)))
        events, _ = await desk.end(run)
        assert desk.models.calls[0].headers["x-api-key"] == KEY
        for path in desk.folder.rglob("*"):
            if path.is_file() and "blobs" not in path.parts:
                assert KEY.encode() not in path.read_bytes(), path
    assert not any(KEY in event.body for event in events)
    assert any("PLUE_RUN_ID" in event.body for event in events)


async def test_a_run_without_a_provider_says_what_to_do(bench: MakeBench) -> None:
    """Without a provider the step fails, and says how one is set up."""
    async with bench(SAYS_YES) as desk:
        desk.server.gateway._models._provider = None
        run = await desk.begin(ask(output=REVIEW))
        _, steps = await desk.end(run)
        details = await desk.server.engine.details(run)
    assert steps["ask"].reason is Reason.MODEL_FAILED
    assert "ANTHROPIC_API_KEY" in (steps["ask"].message or "")
    assert details.run.state is RunState.FAILED

"""Steps that ask a model: inputs resolved and checked, the prompt rendered."""

from typing import Any

import pytest
from runner.conftest import Run
from runner.scripted import ScriptedGateway, a_plan, an_assignment, sh

from plue.wire.events import Reason, StepState
from plue.wire.plan import Fields, Items, Json, Lit, Prompt, Ref, Step, Template
from plue_runner.faults import Fault
from plue_runner.model.rendering import inputs_of, rendered_prompt
from plue_runner.values import Result, Values

MAIN = ".plue/prompts/review.prompt.md"
TEXT = {"type": "string"}


def a_prompt(body: str = "{{ diff }}", **fields: Any) -> Prompt:
    """Return a prompt with the inputs `diff` (text), `files` (a list) and `note` (optional)."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "diff": TEXT,
            "files": {"type": "array", "items": TEXT},
            "note": {"anyOf": [TEXT, {"type": "null"}]},
        },
        "required": ["diff"],
        "additionalProperties": False,
    }
    values: dict[str, Any] = {
        "kind": "llm",
        "prompt": "review",
        "digest": "0" * 64,
        "template": MAIN,
        "sources": {MAIN: Template(text=body, line=7)},
        "inputs_schema": schema,
    }
    return Prompt(**(values | fields))


def known() -> Values:
    """Return the values of two steps that have ended."""
    values = Values()
    outputs: dict[str, Any] = {"files": ["a.py"], "n": 3, "note": None}
    values.record("scan", Result(StepState.SUCCEEDED, outputs=outputs))
    values.record("fix", Result(StepState.SUCCEEDED, agent={"status": "done", "turns": 4}))
    return values


def test_inputs_keep_their_types() -> None:
    """A reference gives the value itself, text gives text, and lists may hold both."""
    files = Items(
        items=(Json(value="b"), (Lit(text="n"), Ref(ref="scan", field="outputs", path=("n",))))
    )
    prompt = a_prompt(inputs={"diff": (Lit(text="x"),), "files": files})
    assert inputs_of(prompt, known()) == {"diff": "x", "files": ["b", "n3"], "note": None}
    whole = a_prompt(
        inputs={"diff": (), "files": Ref(ref="scan", field="outputs", path=("files",))}
    )
    assert inputs_of(whole, known()) == {"diff": "", "files": ["a.py"], "note": None}


def test_values_of_agents_are_read() -> None:
    """An agent's status and turns are values like others."""
    value = Fields(fields={"s": Ref(ref="fix", field="status"), "t": Ref(ref="fix", field="turns")})
    assert known().json(value) == {"s": "done", "t": 4}


@pytest.mark.parametrize(
    ("inputs", "reason", "word"),
    [
        pytest.param({"diff": Ref(ref="scan", field="outputs", path=("x",))},
                     Reason.MISSING_VALUE, "scan.outputs.x", id="missing"),
        pytest.param({"diff": Ref(ref="scan", field="outputs", path=("note",))},
                     Reason.MISSING_VALUE, "scan.outputs.note", id="null"),
        pytest.param({"diff": Ref(ref="scan", field="outputs", path=("n",))},
                     Reason.INVALID_INPUT, "review.diff: 3 is not text", id="type"),
        pytest.param({"diff": (), "files": Items(items=(Json(value=1),))},
                     Reason.INVALID_INPUT, "review.files[0]: 1 is not text", id="element"),
        pytest.param({}, Reason.INVALID_INPUT, "review.diff is missing", id="absent"),
    ],
)  # fmt: skip
def test_inputs_are_checked_when_they_are_known(
    inputs: dict[str, Any], reason: Reason, word: str
) -> None:
    """What could not be checked when the plan was made is checked before the model is asked."""
    with pytest.raises(Fault) as caught:
        inputs_of(a_prompt(inputs=inputs), known())
    assert caught.value.reason == reason
    assert word in str(caught.value)


def test_an_optional_input_may_be_null() -> None:
    """A null that the schema allows is null in the template."""
    inputs: dict[str, Any] = {"diff": (), "note": Ref(ref="scan", field="outputs", path=("note",))}
    assert inputs_of(a_prompt(inputs=inputs), known())["note"] is None


def test_rendering_in_the_runner() -> None:
    """The runner renders with the values; an error names the prompt's file and line."""
    prompt = a_prompt("{{ diff }}\n{{ output_schema }}")
    assert rendered_prompt(prompt, {"diff": "d"}, {"type": "object"}).startswith("d\n{\n")
    with pytest.raises(Fault, match=r"review\.prompt\.md:8: `x` is not") as caught:
        rendered_prompt(a_prompt("a\n{{ x }}"), {}, None)
    assert caught.value.reason == Reason.PROMPT_FAILED
    with pytest.raises(Fault) as caught:
        rendered_prompt(a_prompt("{{ diff }}" * 30), {"diff": "x" * 100_000}, None)
    assert caught.value.reason == Reason.VALUE_TOO_LARGE


async def test_a_model_step_fails_with_a_reason(run: Run) -> None:
    """What a gateway without models refuses is a failure of its step that can be handled."""
    make = sh("make", "echo diff")
    inputs: dict[str, Any] = {"diff": (Ref(ref="make", field="stdout"),)}
    ask = Step(
        name="review", action=a_prompt(inputs=inputs), needs=("make",), continue_on_error=True
    )
    broken = Step(name="broken", action=a_prompt("{{ x }}", inputs=inputs), needs=("review",))
    plan = a_plan(make, ask, broken, sh("never", "true", needs=("broken",)))
    gateway = await run(ScriptedGateway(an_assignment(plan=plan)))
    review = gateway.completed("review")
    assert (review["state"], review["reason"]) == ("failed", Reason.MODEL_FAILED)
    assert gateway.completed("broken")["reason"] == Reason.PROMPT_FAILED
    assert gateway.completed("never")["reason"] == Reason.DEPENDENCY_FAILED

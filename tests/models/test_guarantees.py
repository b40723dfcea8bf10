"""What answers and inputs are guaranteed to fit: as much as the provider does, and no request more.

The model server refuses what is beyond, as the provider would.
"""

import json
from typing import Any

import pytest
from models.conftest import MakeBench, an_output, ask
from models.test_agents import finish, script, use
from models.test_own_tools import function

from plue.wire.events import StepState
from plue.wire.plan import Prompt
from plue_runner.model.schemas import Room, strict_schema

BUILT_IN = ("read_file", "write_file", "edit_file", "shell", "glob", "grep")


def wide(count: int) -> dict[str, Any]:
    """Return the schema of an object of so many fields, of which none is needed."""
    return {
        "type": "object",
        "properties": {f"f{number}": {"type": "string"} for number in range(count)},
        "required": [],
    }


async def test_an_answer_of_too_many_fields_is_asked_for_in_words(bench: MakeBench) -> None:
    """The model is shown the schema, and the answer is checked as any other."""
    async with bench(script({"json": {"f3": 1}}, {"json": {"f3": "x"}})) as desk:
        _, steps = await desk.end(await desk.begin(ask(output=wide(25))))
        first, second = (json.loads(call.body) for call in desk.models.calls)
    assert (steps["ask"].state, steps["ask"].outputs) == (StepState.SUCCEEDED, {"f3": "x"})
    assert "output_config" not in first
    said = first["messages"][0]["content"]
    assert json.loads(said.partition("that fits:\n")[2]) == wide(25)
    assert "answer.f3" in second["messages"][2]["content"]


async def test_an_answer_of_just_as_many_is_guaranteed(bench: MakeBench) -> None:
    """At the limit the provider is asked to keep to the schema."""
    async with bench(script({"json": {"f3": "x"}})) as desk:
        _, steps = await desk.end(await desk.begin(ask(output=wide(24))))
        (asked,) = (json.loads(call.body) for call in desk.models.calls)
    assert steps["ask"].outputs == {"f3": "x"}
    assert asked["output_config"]["format"]["schema"] == strict_schema(wide(24))


@pytest.mark.parametrize(
    ("output", "guaranteed"),
    [
        # Those built in have five fields that may be left out, and each function two.
        pytest.param(an_output(fixed="boolean"), [True] * 16 + [False], id="few"),
        pytest.param(wide(25), [False] + [True] * 15 + [False], id="many"),
    ],
)
async def test_an_agent_with_many_tools_is_not_refused(
    bench: MakeBench, output: dict[str, Any], guaranteed: list[bool]
) -> None:
    """What finishes comes first, then tools as they are named; the rest is checked here alone."""
    names = [f"//tools:t{number}" for number in range(10)]
    step = ask(kind="agent", output=output, tools=(*BUILT_IN, *names))
    assert isinstance(step.action, Prompt)
    equipment = {name: function("shout") for name in names}
    step = step.model_copy(
        update={"action": step.action.model_copy(update={"equipment": equipment})}
    )
    fixed = {"fixed": True} if "fixed" in output["properties"] else {"f3": "x"}
    wrong = {"tools": [use("t9", times="x")]}
    async with bench(script(wrong, finish(**fixed))) as desk:
        _, steps = await desk.end(await desk.begin(step))
        asked = [json.loads(call.body) for call in desk.models.calls]
        tools = {tool["name"]: tool["strict"] for tool in asked[0]["tools"]}
        (result,) = asked[1]["messages"][-1]["content"]
    assert steps["ask"].state is StepState.SUCCEEDED, steps["ask"].message
    assert steps["ask"].outputs == fixed
    order = ["finish", *BUILT_IN, *(f"t{number}" for number in range(10))]
    assert [tools[name] for name in order] == guaranteed
    assert result["is_error"]
    assert "wrong input: t9.times" in result["content"]


def test_room_is_taken_by_what_fits_and_by_nothing_else() -> None:
    """A schema that does not fit takes nothing: a smaller one behind it still does."""
    room = Room()
    assert room.takes(wide(20))
    assert not room.takes(wide(5))
    assert room.takes(wide(4))
    assert (room.tools, room.optional) == (18, 0)
    choice = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    fields = {f"f{number}": choice for number in range(17)}
    chosen: dict[str, Any] = {"type": "object", "properties": fields, "required": [*fields]}
    assert not Room().takes(chosen)
    assert Room(unions=17).takes(chosen)
    assert not Room(tools=0).takes(wide(0))
    assert Room(tools=0).takes(wide(0), tools=0)

"""Tools of the repository, used by an agent: functions, and prompts that are tools."""

from typing import Any

from models.conftest import Bench, MakeBench, an_output, ask
from models.test_agents import bodies, finish, results, script, use

from plue.domain.run import StepView, StoredEvent
from plue.wire.events import EventType, StepState
from plue.wire.plan import Equipment, Function, Prompt, Question, Template

SOURCE = '''
import os, subprocess, sys, time
from plue import tool

@tool
def shout(text: str, times: int = 1):
    """Shout."""
    print(f"heard {text}")
    return text.upper() * times

@tool(timeout="5m")
def facts():
    return {"cwd": sorted(os.listdir()), "step": os.environ["PLUE_STEP"], "é": None}

@tool
def printed(text):
    subprocess.run(["printf", "%s|", text, "x"])

@tool
def breaks(text):
    print("so far")
    raise ValueError(f"no {text}")

@tool
def leaves():
    sys.exit(3)

@tool
def hangs():
    subprocess.Popen(["sleep", "600"])
    time.sleep(600)

@tool
def floods():
    return "x" * 2_000_000

@tool
def odd():
    return {1, 2}

@tool
def reads():
    return sys.stdin.read()
'''
TEXT = {"type": "string"}


def function(name: str, seconds: float | None = None) -> Function:
    """Return one of the functions of SOURCE."""
    return Function(
        function=name,
        description="D",
        inputs_schema={
            "type": "object",
            "properties": {"text": TEXT, "times": {"type": "integer", "default": 1}},
            "required": [],
            "additionalProperties": False,
        },
        file=".plue/tools/own.py",
        source=SOURCE,
        timeout_seconds=seconds,
    )


async def work(desk: Bench, equipment: dict[str, Equipment]) -> tuple[list[StoredEvent], StepView]:
    """Run an agent that has these tools to its end."""
    step = ask(kind="agent", output=an_output(fixed="boolean"), tools=tuple(equipment))
    assert isinstance(step.action, Prompt)
    action = step.action.model_copy(update={"equipment": equipment})
    run = await desk.begin(step.model_copy(update={"action": action}), files={"app.py": ""})
    events, steps = await desk.end(run)
    return events, steps["ask"]


CALLS: list[tuple[str, dict[str, Any], bool, str]] = [
    ("shout", {"text": "hé", "times": 2}, True, "HÉHÉ"),
    ("facts", {}, True, '{"cwd": ["app.py"], "step": "ask", "é": null}'),
    ("printed", {"text": "'; $(id) `id`"}, True, "'; $(id) `id`|x|"),
    ("shout", {"times": "2"}, False, "wrong input"),
    ("breaks", {"text": "x"}, False, "ValueError: no x\n  File"),
    ("breaks", {"text": "x"}, False, "[it printed:]\nso far"),
    ("leaves", {}, False, "exit code 3"),
    ("hangs", {}, False, "it was ended after 1 s"),
    ("floods", {}, False, "larger than 1 MiB"),
    ("odd", {}, False, "not JSON serializable"),
    ("reads", {}, True, "(no output)"),
]


async def test_a_function_is_a_tool(bench: MakeBench) -> None:
    """What it returns, or prints, or how it fails is the result; nothing of it is shell text."""
    names = {name for name, *_ in CALLS}
    equipment: dict[str, Equipment] = {
        f"//tools:{n}": function(n, 1 if n == "hangs" else None) for n in names
    }
    uses = [use(name, **given) for name, given, *_ in CALLS]
    async with bench(script({"tools": uses}, finish(fixed=True))) as desk:
        events, step = await work(desk, equipment)
        told = results(desk, 1)
        assert sorted(p.name for p in (desk.folder / "tree").iterdir()) == ["app.py"]
    assert step.state is StepState.SUCCEEDED
    for (name, _, ok, said), result in zip(CALLS, told, strict=True):
        assert result.get("is_error", False) is not ok, (name, result)
        assert said in result["content"], (name, result)
    ends = {body["id"]: body["ok"] for body in bodies(events, EventType.TOOL_END)}
    assert [ends[result["tool_use_id"]] for result in told] == [ok for *_, ok, _ in CALLS]
    printed = "".join(b["text"] for b in bodies(events, EventType.STEP_OUTPUT))
    assert "heard hé" in printed


async def test_a_prompt_is_a_tool(bench: MakeBench) -> None:
    """Its answer is the result; its turn is told as the tool's, and its usage is the step's."""
    conversations = script(
        {"tools": [use("rank", note="a"), use("rank", note="b")]}, finish(fixed=True), match="Do it"
    ).replace(
        '"conversations": [',
        '"conversations": [{"match": "Rank a", "turns": [{"json": {"urgent": true}}]},'
        '{"match": "Rank b", "turns": [{"text": "no JSON", "repeat": true}]},',
    )
    file = ".plue/prompts/rank.prompt.md"
    rank = Prompt(
        kind="llm",
        prompt="rank",
        digest="1" * 64,
        template=file,
        sources={file: Template(text="Rank {{ note }}")},
        inputs_schema={
            "type": "object",
            "properties": {"note": TEXT},
            "required": ["note"],
            "additionalProperties": False,
        },
    )
    question = Question(description="D", prompt=rank, output_schema=an_output(urgent="boolean"))
    async with bench(conversations) as desk:
        events, step = await work(desk, {"//prompts:rank": question})
        rows = await desk.usage()
        first, second = await _last_results(desk)
    assert step.state is StepState.SUCCEEDED
    assert first["content"] == '{"urgent": true}'
    assert second["is_error"]
    assert "InvalidOutput" in second["content"] or "not JSON" in second["content"]
    turns = bodies(events, EventType.AGENT_TURN)
    uses = {
        b["id"]: b["input"]["note"]
        for b in bodies(events, EventType.TOOL_START)
        if b["name"] == "rank"
    }
    assert sorted(uses[t["tool"]] for t in turns if "tool" in t) == ["a", "b", "b", "b"]
    assert [t["tools"] for t in turns if "tool" not in t] == [["rank", "rank"], ["finish"]]
    tokens = "".join(b["text"] for b in bodies(events, EventType.LLM_TOKEN))
    assert "urgent" not in tokens
    assert [row["step"] for row in rows] == ["ask"] * 6


async def _last_results(desk: Bench) -> list[dict[str, Any]]:
    return results(desk, len(desk.models.calls) - 1)

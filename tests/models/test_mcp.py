"""MCP servers of a repository: a real program in the sandbox, and all that it can do wrong."""

import json
import sys
from pathlib import Path

import pytest
from models.conftest import Bench, MakeBench, an_output, ask
from models.test_agents import bodies, finish, results, script, use

from plue.domain.run import StepView, StoredEvent
from plue.wire.events import EventType, Reason, StepState
from plue.wire.plan import Lit, Prompt, Server
from plue_runner.process import COOKIE

PROGRAM = Path(__file__).with_name("mcp_server.py")


async def work(
    desk: Bench, how: str, *tools: str, seconds: float = 20
) -> tuple[list[StoredEvent], StepView]:
    """Run an agent with *tools* of a server that does *how*."""
    server = Server(
        command=(sys.executable, str(PROGRAM), how),
        env={"MODE": (Lit(text="test"),)},
        timeout_seconds=seconds,
    )
    step = ask(kind="agent", output=an_output(fixed="boolean"), tools=tools)
    assert isinstance(step.action, Prompt)
    action = step.action.model_copy(update={"equipment": {"mcp:tickets": server}})
    run = await desk.begin(step.model_copy(update={"action": action}), files={"app.py": ""})
    events, steps = await desk.end(run)
    return events, steps["ask"]


def call(name: str, **given: str) -> dict[str, object]:
    """Return one use of a tool of the server."""
    return use(f"mcp__tickets__{name}", **given)


@pytest.mark.parametrize("how", ["well", "new"])
async def test_the_tools_of_a_server_are_the_agents(bench: MakeBench, how: str) -> None:
    """Their results and errors are the model's; the server sees the workspace and its own names."""
    calls = [
        call("echo", text="'; $(id)"),
        call("env"),
        call("fails"),
        call("raises"),
        call("picture"),
        call("wrong_result"),
    ]
    async with bench(script({"tools": calls}, finish(fixed=True))) as desk:
        events, step = await work(desk, how, "mcp:tickets", "read_file")
        declared = json.loads(desk.models.calls[0].body)["tools"]
        echo, env, fails, raises, picture, wrong = results(desk, 1)
    assert step.state is StepState.SUCCEEDED, step.message
    # What has no schema of an object is left out, the others keep theirs.
    names = [tool["name"] for tool in declared]
    assert names[0] == "mcp__tickets__echo"
    # One such tool would have the provider refuse every call.
    for wrong_one in ("bad-schema", "one-of", "field"):
        assert f"mcp__tickets__{wrong_one}" not in names
    assert names[-2:] == ["read_file", "finish"]
    assert declared[0]["description"] == "Say it again"
    assert echo["content"] == "'; $(id)"
    seen = json.loads(env["content"])
    assert seen["cwd"] == ["app.py"]
    assert seen["MODE"] == "test"
    needed = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", COOKIE}
    assert set(seen) <= {"cwd", "MODE"} | needed
    assert (fails["content"], fails["is_error"]) == ("no such ticket", True)
    assert (raises["content"], raises["is_error"]) == ("cannot raises", True)
    assert "image: left out" in picture["content"]
    assert picture["content"].endswith("\nt")
    assert "not a result of a tool" in wrong["content"]
    assert len(bodies(events, EventType.TOOL_END)) == 7


async def test_a_server_that_hangs_is_not_waited_for(bench: MakeBench) -> None:
    """A call ends in time, and the model is told."""
    turns = [{"tools": [call(name)]} for name in ("hang", "echo")]
    async with bench(script(*turns, finish(fixed=True))) as desk:
        _, step = await work(desk, "well", "mcp:tickets/hang", "mcp:tickets/echo", seconds=1.5)
        (hang,), (echo,) = results(desk, 1), results(desk, 2)
    assert step.state is StepState.SUCCEEDED, step.message
    assert "did not answer within 1.5 s" in hang["content"]
    # It still sleeps: the next call is not answered either.
    assert "did not answer" in echo["content"]


async def test_an_answer_that_is_too_large_and_an_end_are_told(bench: MakeBench) -> None:
    """The one is refused and the server goes on; the other says with what code and last words."""
    turns = [{"tools": [call(name, text="x")]} for name in ("huge", "echo", "crash", "echo")]
    async with bench(script(*turns, finish(fixed=True))) as desk:
        events, step = await work(desk, "well", "mcp:tickets")
        huge, echo, crash, after = (results(desk, n)[0]["content"] for n in (1, 2, 3, 4))
    assert step.state is StepState.SUCCEEDED, step.message
    assert "larger than 4 MiB" in huge
    assert echo == "x"
    assert "ended with code 7; it said: I fall over" in crash
    assert "ended with code 7" in after
    printed = "".join(b["text"] for b in bodies(events, EventType.STEP_OUTPUT))
    assert printed == "I fall over\n"


@pytest.mark.parametrize(
    ("how", "tool", "said"),
    [
        ("ends", "mcp:tickets", "ended with code 1; it said: cannot find the tickets"),
        ("silent", "mcp:tickets", "it said nothing for 1.5 s"),
        ("bad-list", "mcp:tickets", "its list of tools is not one"),
        ("well", "mcp:tickets/ecko", "has no tool 'ecko'"),
        ("well", "mcp:tickets/bad-schema", "its input schema is not that of an object"),
        ("well", "mcp:tickets/one-of", "its input schema is a choice of several"),
        ("well", "mcp:tickets/field", "names are not all like"),
    ],
)
async def test_a_server_that_cannot_be_used_fails_the_step(
    bench: MakeBench, how: str, tool: str, said: str
) -> None:
    """Without its tools the agent does not begin: no model is asked, and the step says why."""
    async with bench(script(finish(fixed=True))) as desk:
        _, step = await work(desk, how, tool, seconds=1.5)
        assert desk.models.calls == []
    assert (step.state, step.reason) == (StepState.FAILED, Reason.CANNOT_START)
    assert said in (step.message or "")

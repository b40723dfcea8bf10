"""The ``agent`` step: turns, tools, ends, with exact events and exact usage."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from models.conftest import Bench, MakeBench, an_output, ask
from models.stories import bill, ended, paid, said, started, story, token, turn, use_of

from plue.domain.budget import Budgets, Limit, Scope
from plue.domain.run import RunId, StepView, StoredEvent
from plue.wire.events import EventType, Reason, RunState, StepState

FIXED = an_output(fixed="boolean")
FILES = {"app.py": "x = 1\ny = 2\n", "docs/a.md": "hello\n"}


def script(*turns: dict[str, Any], **more: Any) -> str:
    """Return a script of one conversation."""
    return json.dumps({"conversations": [{"turns": list(turns), **more}]})


def use(name: str, **given: Any) -> dict[str, Any]:
    """Return one use of a tool."""
    return {"name": name, "input": given}


def finish(**given: Any) -> dict[str, Any]:
    """Return the turn that ends the work."""
    return {"tools": [use("finish", **given)]}


async def work(desk: Bench, **fields: Any) -> tuple[list[StoredEvent], StepView, RunId]:
    """Run one agent on FILES to its end."""
    fields.setdefault("output", FIXED)
    run = await desk.begin(ask(kind="agent", **fields), files=FILES)
    events, steps = await desk.end(run)
    return events, steps["ask"], run


def bodies(events: list[StoredEvent], kind: EventType) -> list[dict[str, Any]]:
    """Return the bodies of the events of *kind*."""
    return [json.loads(event.body) for event in events if event.type is kind]


def with_links(folder: Path) -> Path:
    """Put links into the workspace that lead to a folder beside it; return that folder."""
    outside, tree = folder / "outside", folder / "tree"
    for made in (outside, tree):
        made.mkdir()
    (outside / "secret").write_text("hidden")
    (tree / "link").symlink_to(outside / "secret")
    (tree / "folder").symlink_to(outside)
    return outside


def results(desk: Bench, call: int) -> list[dict[str, Any]]:
    """Return the tool results that the model was given with its call number *call*."""
    content = json.loads(desk.models.calls[call].body)["messages"][-1]["content"]
    return [block for block in content if block["type"] == "tool_result"]


def kinds(events: list[StoredEvent]) -> list[str]:
    """Return the kinds of the step's events in order; pieces of text and output are left out."""
    pieces = {EventType.LLM_TOKEN, EventType.STEP_OUTPUT}
    return [e.type.value for e in events if e.step == "ask" and e.type not in pieces]


TURN = ("agent_turn", "tool_start", "tool_end")
USED = {"input": 100, "output": 7}


def booked(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return of each usage row: turn, tokens in and out, outcome, and whether it is an estimate."""
    names = ("turn", "input_tokens", "output_tokens", "outcome", "estimated")
    return [tuple(row[name] for name in names) for row in rows]


async def test_an_agent_edits_files_runs_commands_and_finishes(bench: MakeBench) -> None:
    """Each turn and tool is on record in order; the files are changed; the result is typed."""
    turns = script(
        {"text": "I look.", "tools": [use("read_file", path="app.py")]},
        {"tools": [use("edit_file", path="app.py", old="x = 1", new="x = 3")]},
        {"tools": [use("shell", command="echo out; echo err >&2; cat app.py; exit 3")]},
        {"tools": [use("write_file", path="new/b.txt", text="b\n")]},
        finish(fixed=True),
    )
    async with bench(turns) as desk:
        events, step, _ = await work(desk)
        rows = await desk.usage()
        tree = desk.folder / "tree"
        assert (tree / "app.py").read_text() == "x = 3\ny = 2\n"
        assert (tree / "new/b.txt").read_text() == "b\n"
        assert results(desk, 1)[0]["content"] == "     1\tx = 1\n     2\ty = 2"
        shell = results(desk, 3)[0]
    assert (step.state, step.outputs) == (StepState.SUCCEEDED, {"fixed": True})
    assert shell["content"].endswith("[exit code 3]")
    assert kinds(events) == ["step_started", *TURN * 5, "step_completed"]
    assert [t["tools"] for t in bodies(events, EventType.AGENT_TURN)] == [
        ["read_file"],
        ["edit_file"],
        ["shell"],
        ["write_file"],
        ["finish"],
    ]
    out = "".join(b["text"] for b in bodies(events, EventType.STEP_OUTPUT))
    assert {"out", "err", "x = 3"} <= set(out.split("\n"))
    assert [row["turn"] for row in rows] == [1, 2, 3, 4, 5]
    completed = bodies(events, EventType.STEP_COMPLETED)[0]
    assert completed["agent"] == {"status": "finished", "summary": "", "turns": 5}


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        pytest.param("read_file", {"path": "../secret"}, "not inside", id="dots"),
        pytest.param("read_file", {"path": "/etc/passwd"}, "not inside", id="absolute"),
        pytest.param("read_file", {"path": "link"}, "leads out", id="link"),
        pytest.param("write_file", {"path": "folder/x", "text": ""}, "leads out", id="link-folder"),
        pytest.param("read_file", {"path": "nope"}, "no file", id="no-file"),
        pytest.param("read_file", {}, "wrong input", id="no-path"),
        pytest.param("edit_file", {"path": "app.py", "old": "=", "new": ""}, "2 times", id="twice"),
        pytest.param(
            "edit_file", {"path": "app.py", "old": "z", "new": ""}, "not stand", id="none"
        ),
        pytest.param("fly", {}, "no tool", id="no-tool"),
        pytest.param("grep", {"pattern": "("}, "nmatched", id="bad-pattern"),
    ],
)
async def test_a_tool_that_cannot_tells_the_model(
    bench: MakeBench, name: str, given: dict[str, Any], said: str
) -> None:
    """A wrong use is an error that the model sees; nothing outside of the workspace is touched."""
    async with bench(script({"tools": [use(name, **given)]}, finish(fixed=False))) as desk:
        outside = with_links(desk.folder)
        events, step, _ = await work(desk)
        (result,) = results(desk, 1)
        assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert step.state is StepState.SUCCEEDED
    assert result["is_error"]
    assert said in result["content"]
    assert "hidden" not in result["content"]
    assert [b["ok"] for b in bodies(events, EventType.TOOL_END)] == [False, True]


async def test_tools_of_one_turn_run_side_by_side(bench: MakeBench) -> None:
    """Two commands that wait for each other both end, and each result has its own id."""
    first = "touch a; until test -e b; do sleep 0.01; done; echo one"
    second = "touch b; until test -e a; do sleep 0.01; done; echo two"
    turns = script(
        {"tools": [use("shell", command=first), use("shell", command=second)]}, finish(fixed=True)
    )
    async with bench(turns) as desk:
        events, step, _ = await work(desk)
        one, two = results(desk, 1)
    assert step.state is StepState.SUCCEEDED
    assert one["content"].startswith("one")
    assert two["content"].startswith("two")
    lines = [b["line"] for b in bodies(events, EventType.STEP_OUTPUT)]
    assert len(lines) == len(set(lines))


async def test_a_tool_that_hangs_is_ended(bench: MakeBench) -> None:
    """A command that runs too long is ended with all it started, and the model is told."""
    turns = script(
        {"tools": [use("shell", command="sleep 600 & sleep 600", timeout=1)], "usage": USED},
        {**finish(fixed=False), "usage": USED},
    )
    async with bench(turns) as desk:
        events, step, _ = await work(desk)
        (result,) = results(desk, 1)
        rows = await desk.usage()
    assert step.state is StepState.SUCCEEDED
    assert kinds(events) == ["step_started", *TURN * 2, "step_completed"]
    assert bodies(events, EventType.TOOL_END)[0]["duration_ms"] >= 1000
    assert booked(rows) == [(1, 100, 7, "answered", False), (2, 100, 7, "answered", False)]
    assert "ended after 1 s" in result["content"]


async def test_a_long_result_is_cut_and_kept(bench: MakeBench) -> None:
    """200 KB of output: the model sees both ends and where the whole is, and can read it there."""
    turns = script(
        {"tools": [use("shell", command="seq 1 40000")], "usage": USED},
        {**finish(fixed=True), "usage": USED},
    )
    async with bench(turns) as desk:
        run = await desk.begin(ask(kind="agent", output=FIXED), files=FILES)
        events, _ = await desk.end(run)
        (result,) = results(desk, 1)
        rows = await desk.usage()
    assert kinds(events) == ["step_started", *TURN * 2, "step_completed"]
    assert booked(rows) == [(1, 100, 7, "answered", False), (2, 100, 7, "answered", False)]
    text = result["content"]
    assert len(text) < 31_000
    assert text.startswith("1\n2\n")
    assert "characters left out" in text
    assert "read_file reads it" in text
    logged = "".join(b["text"] for b in bodies(events, EventType.STEP_OUTPUT))
    assert logged == "".join(f"{n}\n" for n in range(1, 40001))
    end = bodies(events, EventType.TOOL_END)[0]
    assert end["cut"]
    assert len(end["result"]) < 17_000


async def test_an_agent_that_stops_is_asked_again_and_then_fails(bench: MakeBench) -> None:
    """Stopping without the declared output is asked about twice, then it is the failure."""
    async with bench(script({"text": "All done!", "repeat": True})) as desk:
        events, step, _ = await work(desk)
        assert len(desk.models.calls) == 3
    assert (step.state, step.reason) == (StepState.FAILED, Reason.INVALID_OUTPUT)
    agent = bodies(events, EventType.STEP_COMPLETED)[0]["agent"]
    assert agent == {"status": "failed", "summary": "All done!", "turns": 3}


async def test_a_wrong_finish_is_asked_for_again(bench: MakeBench) -> None:
    """A result that does not fit its schema is an error of the tool, and work goes on."""
    async with bench(script(finish(fixed="perhaps"), finish(fixed=True))) as desk:
        _, step, _ = await work(desk)
        (result,) = results(desk, 1)
    assert result["is_error"]
    assert "fixed" in result["content"]
    assert step.outputs == {"fixed": True}


async def test_an_agent_out_of_turns_says_what_is_left(bench: MakeBench) -> None:
    """After its last turn the agent reports; the step fails as MaxTurns with that summary.

    The tools are those of the turns before, and none is forced: models would refuse either.
    """
    look = {"thinking": "I look.", "tools": [use("glob", pattern="**")]}
    report = {"text": "Done: looked\nLeft: the rest"}
    async with bench(script(look, look, report)) as desk:
        events, step, _ = await work(desk, max_turns=2)
        asked = [json.loads(call.body) for call in desk.models.calls]
    assert (step.state, step.reason) == (StepState.FAILED, Reason.MAX_TURNS)
    agent = bodies(events, EventType.STEP_COMPLETED)[0]["agent"]
    assert agent["status"] == "max_turns"
    assert agent["summary"] == "Done: looked\nLeft: the rest"
    assert [body.get("tool_choice") for body in asked] == [None, None, {"type": "none"}]
    assert asked[2]["tools"] == asked[0]["tools"]
    assert desk.models.calls[2].outcome == "answered"


async def test_a_tool_loop_ends_with_its_turns(bench: MakeBench) -> None:
    """An agent that does the same for ever is ended by max_turns, and every turn is counted."""
    loop = {"tools": [use("glob", pattern="*")], "usage": USED, "repeat": True}
    async with bench(script(loop)) as desk:
        events, step, _ = await work(desk, max_turns=5)
        rows = await desk.usage()
    assert step.reason is Reason.MAX_TURNS
    # After the five turns a report is asked for, whose tool is not run.
    assert kinds(events) == ["step_started", *TURN * 5, "agent_turn", "step_completed"]
    assert booked(rows) == [(turn, 100, 7, "answered", False) for turn in range(1, 7)]


async def test_a_paused_turn_goes_on(bench: MakeBench) -> None:
    """A turn that the provider paused is given back as it is."""
    search = {"name": "web_search", "server": True, "input": {"query": "x"}}
    turns = script({"tools": [search], "stop": "pause_turn"}, finish(fixed=True))
    async with bench(turns) as desk:
        _, step, _ = await work(desk)
        messages = json.loads(desk.models.calls[1].body)["messages"]
    assert step.state is StepState.SUCCEEDED
    assert [m["role"] for m in messages] == ["user", "assistant"]


async def test_an_agent_is_told_when_little_is_left(bench: MakeBench) -> None:
    """Near a budget's limit the agent is told, once."""
    look = {"tools": [use("glob", pattern="*")]}
    budgets = Budgets({Scope.STEP: Limit(calls=6)})
    async with bench(
        script(look, look, look, look, look, finish(fixed=True)), budgets=budgets
    ) as desk:
        await work(desk)
        told = [call.body.count(b"budget is left") for call in desk.models.calls]
    # After the fifth of six calls less than a fifth is left; the fourth left a third.
    assert told == [0, 0, 0, 0, 0, 1]


async def test_two_agents_side_by_side_have_their_own_records(bench: MakeBench) -> None:
    """They do work at the same time, each waits for the other; every event and row is its own's."""
    meet = {
        "one": "touch a; until test -e b; do sleep 0.01; done",
        "two": "touch b; until test -e a; do sleep 0.01; done",
    }
    conversations = [
        {
            "match": f"You are {name}",
            "turns": [
                {"text": "I wait.", "tools": [use("shell", command=command)], "usage": USED},
                {**finish(fixed=name == "one"), "usage": {"input": 150, "output": 5}},
            ],
        }
        for name, command in meet.items()
    ]
    async with bench(json.dumps({"conversations": conversations})) as desk:
        steps = [ask(name, f"You are {name}", kind="agent", output=FIXED) for name in meet]
        run = await desk.begin(*steps)
        events, _ = await desk.end(run)
        rows = await desk.usage()
        lines = await desk.server.engine.usage_of(run)
    for name, command in meet.items():
        assert story(events, name) == [
            started(),
            token(1, "I wait."),
            turn(1, "shell", used=USED),
            *use_of(1, 1, "shell", {"command": command}, "[exit code 0]"),
            turn(2, "finish", used={"input": 150, "output": 5}),
            *use_of(2, 2, "finish", {"fixed": name == "one"}, "the work ends here"),
            ended(
                outputs={"fixed": name == "one"},
                agent={"status": "finished", "summary": "", "turns": 2},
            ),
        ], name
        assert bill(rows, name) == [
            paid(1, (100, 7), step=name),
            paid(2, (150, 5), step=name),
        ]
    assert {(line.step, line.calls, line.tokens.total) for line in lines} == {
        (name, 2, 262) for name in meet
    }
    assert {event.step for event in events} == {None, *meet}


SPEAKS = {"text": "a very long answer", "usage": USED, "chunk": 7, "before": [{"hang": 5}]}
"""Two pieces of its answer are heard, then nothing more."""
HEARD = "a very long an"
BY_ITS_BYTES = 126
"""Tokens of what was heard, as they are estimated: three bytes each, the events' own included."""


async def spoken(desk: Bench, run: RunId) -> None:
    """Wait until all is on record that the model says."""
    found: list[StoredEvent] = []
    async with asyncio.timeout(30):
        async for batch in desk.server.engine.follow(run, after=0):
            found += batch
            if said(found).endswith(HEARD):
                return


async def test_a_cancel_in_the_middle_of_a_token_ends_all(bench: MakeBench) -> None:
    """Cancelled while the model speaks: the call is aborted, the step and the run are cancelled."""
    async with bench(script(SPEAKS)) as desk:
        run = await desk.begin(ask(kind="agent", output=FIXED), files=FILES)
        await spoken(desk, run)
        await desk.server.engine.cancel(run)
        events, _ = await desk.end(run)
        (call,) = desk.models.calls
        await asyncio.wait_for(call.ended.wait(), 5)
        details = await desk.server.engine.details(run)
        rows = await desk.usage()
    assert story(events) == [
        started(),
        token(1, HEARD),
        ended("cancelled", reason="Cancelled"),
    ]
    assert bill(rows) == [
        paid(1, (100, BY_ITS_BYTES), outcome="caller left", estimated=True),
    ]
    assert details.run.state is RunState.CANCELLED


async def test_a_runner_killed_in_a_turn_leaves_what_happened(bench: MakeBench) -> None:
    """The turns and tools before the loss are on record, and the words; the open call is settled.

    Nothing says how the step ended: nobody saw it. The run's own end says what is known.
    """
    look = {"tools": [use("glob", pattern="*.py")], "usage": USED}
    async with bench(script(look, SPEAKS)) as desk:
        run = await desk.begin(ask(kind="agent", output=FIXED), files=FILES)
        await spoken(desk, run)
        os.killpg(desk.pids[0], signal.SIGKILL)
        desk.server.host.lose(f"default-0x{os.getpid()}")
        events, steps = await desk.end(run)
        rows = await desk.usage()
        details = await desk.server.engine.details(run)
    assert details.run.reason is Reason.RUNNER_LOST
    assert story(events) == [
        started(),
        turn(1, "glob", used=USED),
        *use_of(1, 1, "glob", {"pattern": "*.py"}, "app.py"),
        token(2, HEARD),
    ]
    assert steps["ask"].state is StepState.CANCELLED
    assert bill(rows) == [
        paid(1, (100, 7)),
        paid(2, (100, BY_ITS_BYTES), outcome="caller left", estimated=True),
    ]


async def test_no_link_leads_a_tool_out_of_the_workspace(bench: MakeBench) -> None:
    """Nothing is read, listed, searched or written behind a link, to a file or to a folder."""
    tries: list[tuple[str, dict[str, Any], str]] = [
        ("read_file", {"path": "link"}, f"'link' {OUT}; {COPY}"),
        ("read_file", {"path": "folder/secret"}, f"'folder/secret' {OUT}; {COPY}"),
        ("edit_file", {"path": "link", "old": "h", "new": "x"}, f"'link' {OUT}; {COPY}"),
        ("write_file", {"path": "folder/x", "text": "x"}, f"'folder/x' {OUT}; {COPY}"),
        ("write_file", {"path": "link", "text": "x"}, "'link' cannot be written: it is a link"),
        ("grep", {"pattern": "h", "path": "folder"}, f"'folder' {OUT}; {COPY}"),
        ("grep", {"pattern": "h", "path": "link"}, f"'link' {OUT}; {COPY}"),
        ("read_file", {"path": "a/../../outside/secret"}, DOTS),
    ]
    fine: list[tuple[str, dict[str, Any], str]] = [
        ("glob", {"pattern": "**"}, "app.py\ndocs/a.md"),
        ("grep", {"pattern": "hidden"}, "nothing matches"),
    ]
    all_of_them = [*tries, *fine]
    turns = [{"tools": [use(name, **given)], "usage": USED} for name, given, _ in all_of_them]
    async with bench(script(*turns, {**finish(fixed=True), "usage": USED})) as desk:
        outside = with_links(desk.folder)
        events, _, _ = await work(desk)
        rows = await desk.usage()
        assert [path.name for path in outside.iterdir()] == ["secret"]
        assert (outside / "secret").read_text() == "hidden"
        assert b"hidden" not in b"".join(call.body for call in desk.models.calls[:-1])
    expected = [started()]
    for number, (name, given, result) in enumerate(all_of_them, 1):
        expected.append(turn(number, name, used=USED))
        ok = number > len(tries)
        expected += use_of(number, number, name, given, result, ok=ok)
    last = len(all_of_them) + 1
    assert story(events) == [
        *expected,
        turn(last, "finish", used=USED),
        *use_of(last, last, "finish", {"fixed": True}, "the work ends here"),
        ended(outputs={"fixed": True}, agent={"status": "finished", "summary": "", "turns": last}),
    ]
    assert bill(rows) == [paid(number, (100, 7)) for number in range(1, last + 1)]


OUT = "is a link that leads out of the workspace"
COPY = "copy the file into the workspace in a step"
DOTS = (
    "the path 'a/../../outside/secret' is not inside the workspace; write it relative to the"
    " workspace, without `..`"
)

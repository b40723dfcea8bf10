"""Conversations that grow too long: summed up on record, and never out of order."""

import json
from typing import Any

from models.conftest import Bench, MakeBench
from models.test_agents import bodies, finish, results, use, work

from plue.wire.events import EventType, Reason, StepState
from plue_runner.model.compaction import MOST_CHARACTERS, asked_for, begun_again

FULL = {"input": 1000, "cache_read": 200_000, "output": 10}
LOOK = use("glob", pattern="*.py")
READS_ALL = use("shell", command="cat $TMPDIR/results-*/1.txt")


def script(*conversations: tuple[str, list[dict[str, Any]]]) -> str:
    """Return a script: what an opening holds, and the turns then."""
    return json.dumps({"conversations": [{"match": m, "turns": t} for m, t in conversations]})


def bodies_asked(desk: Bench) -> list[dict[str, Any]]:
    """Return what the model was asked, in order."""
    return [json.loads(call.body) for call in desk.models.calls]


def shape(body: dict[str, Any]) -> list[str]:
    """Return a conversation's roles, with the tools that are used and answered in it."""
    found = []
    for message in body["messages"]:
        content = message["content"]
        kinds = ["text"] if isinstance(content, str) else [block["type"] for block in content]
        found.append(f"{message['role']}: {', '.join(dict.fromkeys(kinds))}")
    return found


async def test_a_long_conversation_is_summed_up_again_and_again(bench: MakeBench) -> None:
    """Each summary is a turn on record; the last results stay; the whole is in a file."""
    turns = script(
        ("so far.*grown too long", [{"text": "second summary"}]),
        ("grown too long", [{"text": "first summary"}]),
        ("second summary", [finish(), finish(fixed=True)]),
        ("first summary", [finish(), {"tools": [READS_ALL]}, {"tools": [LOOK], "usage": FULL}]),
        ("Do it", [{"thinking": "Hm.", "text": "I look", "tools": [LOOK, LOOK], "usage": FULL}]),
    )
    async with bench(turns) as desk:
        events, step, _ = await work(desk)
        asked = bodies_asked(desk)
        rows = await desk.usage()
        (read,) = results(desk, 3)
    assert step.state is StepState.SUCCEEDED, step.message
    assert [len(body["messages"]) for body in asked] == [1, 1, 3, 5, 1, 3]
    used = ["user: text", "assistant: text, tool_use", "user: tool_result"]
    assert shape(asked[2]) == used
    assert (
        "What happened so far]\nfirst summary\n[the whole conversation"
        in (asked[2]["messages"][0]["content"])
    )
    assert shape(asked[5]) == ["user: text", "assistant: tool_use", "user: tool_result"]
    assert "second summary" in asked[5]["messages"][0]["content"]
    # A summary is asked for without tools, with all that it is to be of.
    assert "tools" not in asked[1]
    assert shape(asked[4]) == ["user: text"]
    assert "first summary" in json.dumps(asked[4])
    # What the first summary left out can be read.
    assert "[user] Do it." in read["content"]
    assert 'used glob with {"pattern": "*.py"}' in read["content"]
    assert "result: app.py" in read["content"]
    told = bodies(events, EventType.AGENT_TURN)
    assert [t["turn"] for t in told] == [1, 2, 3, 4, 5, 6]
    assert [(t["turn"], t["text"]) for t in told if t.get("compacted")] == [
        (2, "first summary"),
        (5, "second summary"),
    ]
    assert [row["turn"] for row in rows] == [1, 2, 3, 4, 5, 6]
    tokens = bodies(events, EventType.LLM_TOKEN)
    assert {t["call"] for t in tokens} == {1}


async def test_a_window_that_is_exceeded_is_summed_up_once(bench: MakeBench) -> None:
    """An answer that found no room is summed up as well; if that does not help it is a failure."""
    full = {"text": "x", "usage": FULL, "stop": "model_context_window_exceeded"}
    turns = script(("grown too long", [{"text": "s"}]), ("Do it", [{**full, "repeat": True}]))
    async with bench(turns) as desk:
        events, step, _ = await work(desk)
        assert len(desk.models.calls) == 3
    assert (step.state, step.reason) == (StepState.FAILED, Reason.MODEL_FAILED)
    assert "a summary did not help" in (step.message or "")
    agent = bodies(events, EventType.STEP_COMPLETED)[0]["agent"]
    assert (agent["status"], agent["turns"]) == ("failed", 3)


def _round(number: int, size: int) -> list[dict[str, Any]]:
    call = {"type": "tool_use", "id": f"t{number}", "name": "shell", "input": {}}
    result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": f"{number}" * size}
    return [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]


def test_the_request_for_a_summary_is_bounded() -> None:
    """However long the conversation was: the task and the newest stay, and what is left out is."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "the task"}]
    for number in range(1000, 1500):
        messages += _round(number, 2000)
    (asked,) = asked_for(messages)
    texts = [block["text"] for block in asked["content"]]
    assert sum(map(len, texts)) < MOST_CHARACTERS + 2000
    assert texts[0] == "[user] the task"
    assert texts[1].endswith("older parts are left out]")
    # The last round is not summed up: it stays.
    assert texts[-2].startswith("[user] result: 1498")


def test_a_last_turn_that_is_too_long_does_not_stay() -> None:
    """Else the conversation would be as long as before."""
    start = [{"role": "user", "content": "the task"}]
    short, long = [*start, *_round(1, 10)], [*start, *_round(1, 100_000)]
    assert [m["role"] for m in begun_again(short, "t", "s", "")] == ["user", "assistant", "user"]
    assert [m["role"] for m in begun_again(long, "t", "s", "")] == ["user"]
    assert "1111" in asked_for(long)[0]["content"][-2]["text"]

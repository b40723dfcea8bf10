"""What goes wrong while models work: exact events, exact usage, and nothing is paid twice."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from factories import a_step
from models.conftest import KEY, MakeBench, an_output, ask
from models.stories import bill, ended, paid, started, story, token, turn, use_of, waits
from models.test_agents import bodies, finish, results, script, use

from plue.domain.budget import Amount, Budgets, Limit, Scope
from plue.local.secrets import LocalSecrets
from plue.wire.events import EventType, Reason, RunState, StepState
from plue.wire.plan import Secret

SECRET = "hunter2-and-more"
FIXED = an_output(fixed="boolean")
EVENTS = 8
"""Of an answer of two pieces: start, ping, block, piece, piece, block's end, delta, stop."""


async def test_a_stream_may_break_at_every_boundary(bench: MakeBench) -> None:
    """Cut, or ended by an error, after any event: the whole answer counts, and each call is paid.

    What was said before the break stays on record, as the first call's. The broken call is settled
    by what was heard of it, or where that is nothing by what was sent, and marked as an estimate.
    """
    places = [(fault, after) for fault in ("cut", "error") for after in range(EVENTS)]
    # With pauses, so that each event is heard before the break.
    answer: dict[str, Any] = {
        "text": "a long answer",
        "usage": {"input": 100, "output": 7},
        "delay": 0.02,
    }
    conversations = [
        {"match": f"Say {fault} {after}!", "turns": [{**answer, "before": [{fault: after}]}]}
        for fault, after in places
    ]
    steps = [ask(f"{fault}-{after}", f"Say {fault} {after}!") for fault, after in places]
    async with bench(json.dumps({"conversations": conversations})) as desk:
        events, _ = await desk.end(await desk.begin(*steps))
        rows = await desk.usage()
        sent = {
            f"{fault}-{after}": call.body
            for fault, after in places
            for call in desk.models.calls
            if f"Say {fault} {after}!".encode() in call.body
        }
        assert len(desk.models.calls) == 2 * len(places)
    for fault, after in places:
        name = f"{fault}-{after}"
        heard = {4: "a long answe"}.get(after, "a long answer" if after > 4 else "")
        why = "the answer was cut" if fault == "cut" else "from the script (overloaded_error)"
        assert [_shortened(event) for event in story(events, name)] == [
            started(),
            *([token(1, heard)] if heard else []),
            waits("ModelOverloaded", f"{why}; trying again in 0.5 s"),
            waits(),
            token(1, "a long answer", call=2),
            turn(1, stop="end_turn", used=answer["usage"]),
            ended(),
        ], name
        tokens = (100, _estimated(after)) if after else (len(sent[name]) // 2 + 1, 0)
        outcome = "cut" if fault == "cut" else "error overloaded_error"
        assert bill(rows, name) == [
            paid(1, tokens, step=name, outcome=outcome, estimated=True, heard=after > 2),
            paid(1, (100, 7), step=name),
        ], name


def _shortened(event: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return *event* without the words of the client's library for a connection that was cut."""
    kind, body = event
    if body.get("message", "").startswith("the answer was cut"):
        body = {
            **body,
            "message": re.sub(
                "^the answer was cut.*; try",
                "the answer was cut; try",
                body["message"],
                flags=re.DOTALL,
            ),
        }
    return kind, body


def _estimated(after: int) -> int:
    """Return the tokens of an answer of which so many events came: three bytes of content each.

    The first event tells of one token, the last but one of seven.
    """
    content = [
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})
            for text in ("a long answe", "r")
        ),
    ]
    size = sum(
        len(f"event: {kind}\ndata: {json.dumps({'type': kind, **rest})}")
        for kind, rest in content[: max(0, after - 2)]
    )
    return max(1 if after < 7 else 7, size // 3)


async def test_a_storm_that_does_not_end_is_a_failure(bench: MakeBench) -> None:
    """Two agents in a storm: one comes through, the other gives up, says so, and paid nothing."""
    statuses = (529, 429, 500, 503)
    storm = [{"status": status, "retry_after_ms": 1, "times": 3} for status in statuses]
    done = {**finish(fixed=True), "usage": {"input": 100, "output": 7}}
    through = [{"error": 2, "type": "overloaded_error"}, *storm[:2]]
    turns = json.dumps(
        {
            "conversations": [
                {"match": "Come through", "turns": [{**done, "before": through}]},
                {"match": "Give up", "turns": [{**done, "before": storm}]},
            ]
        }
    )
    both = [
        ask(name, text, kind="agent", output=FIXED)
        for name, text in (("one", "Come through"), ("two", "Give up"))
    ]
    async with bench(turns) as desk:
        events, _ = await desk.end(await desk.begin(*both))
        rows = await desk.usage()
    kinds = ("overloaded_error", "rate_limit_error", "api_error")
    # The same words are told once, however often it is tried.
    waited = [
        waits("ModelOverloaded", f"from the script ({kind}); trying again in 0.001 s")
        for kind in kinds
    ]
    assert story(events, "one") == [
        started(),
        waits("ModelOverloaded", "from the script (overloaded_error); trying again in 0.5 s"),
        *waited[:2],
        waits(),
        turn(1, "finish", used={"input": 100, "output": 7}),
        *use_of(1, 1, "finish", {"fixed": True}, "the work ends here"),
        ended(outputs={"fixed": True}, agent={"status": "finished", "summary": "", "turns": 1}),
    ]
    gave_up = "the model was asked 12 times: from the script (api_error)"
    assert story(events, "two") == [
        started(),
        *waited,
        ended(
            "failed",
            reason="ModelFailed",
            message=gave_up,
            agent={"status": "failed", "summary": gave_up, "turns": 1},
        ),
    ]
    refused = [f"status {status}" for status in statuses for _ in range(3)]
    assert bill(rows, "two") == [
        paid(1, step="two", outcome=outcome, heard=False) for outcome in refused
    ]
    broken = "error overloaded_error"
    assert bill(rows, "one") == [
        # What it was to read was told before it broke.
        paid(1, (100, 1), step="one", outcome=broken, estimated=True, heard=False),
        *(paid(1, step="one", outcome=outcome, heard=False) for outcome in refused[:6]),
        paid(1, (100, 7), step="one"),
    ]


async def test_an_agent_goes_on_when_its_budget_is_extended(bench: MakeBench) -> None:
    """In mid-work the step waits and says why; extended, it goes on where it was."""
    look = {"tools": [use("glob", pattern="*")], "usage": {"input": 10, "output": 2}}
    last = {**finish(fixed=True), "usage": {"input": 10, "output": 2}}
    budgets = Budgets({Scope.STEP: Limit(calls=2)})
    async with bench(script(look, look, last), budgets=budgets) as desk:
        run = await desk.begin(ask(kind="agent", output=FIXED))
        await desk.until(run, EventType.STEP_WAITING)
        details = await desk.server.engine.details(run)
        assert [(s.state, s.reason) for s in details.steps] == [(StepState.WAITING, Reason.BUDGET)]
        await desk.server.engine.extend_budget(run, Amount(calls=5), scope=Scope.STEP, step="ask")
        events, steps = await desk.end(run)
        rows = await desk.usage()
    assert steps["ask"].state is StepState.SUCCEEDED
    kinds = [
        event.type.value
        for event in events
        if event.step == "ask" and event.type is not EventType.LLM_TOKEN
    ]
    turn = ["agent_turn", "tool_start", "tool_end"]
    wait = ["step_waiting", "step_waiting"]
    assert kinds == ["step_started", *turn, *turn, *wait, *turn, "step_completed"]
    assert [
        (w.get("reason"), " --step ask --calls" in w.get("message", ""))
        for w in bodies(events, EventType.STEP_WAITING)
    ] == [("Budget", True), (None, False)]
    assert [(r["turn"], r["input_tokens"], r["output_tokens"], r["outcome"]) for r in rows] == [
        (n, 10, 2, "answered") for n in (1, 2, 3)
    ]


@pytest.mark.parametrize("scope", [Scope.WORKFLOW, Scope.DAY])
async def test_what_all_runs_spent_together_can_be_extended(bench: MakeBench, scope: Scope) -> None:
    """The step says whose budget it waits for; to extend the run's own would not help it."""
    turns = json.dumps({"conversations": [{"turns": [{"text": "done"}]}]})
    budgets = Budgets({scope: Limit(calls=1), Scope.RUN: Limit(calls=1)})
    async with bench(turns, budgets=budgets) as desk:
        await desk.end(await desk.begin(ask()))
        run = await desk.begin(ask())
        (wait,) = bodies(await desk.until(run, EventType.STEP_WAITING), EventType.STEP_WAITING)
        assert f"--scope {scope} --calls" in wait["message"]
        await desk.server.engine.extend_budget(run, Amount(calls=1), scope=scope)
        _, steps = await desk.end(run)
    assert steps["ask"].state is StepState.SUCCEEDED


async def test_one_huge_answer_leaves_nothing_and_is_counted_whole(bench: MakeBench) -> None:
    """An answer that used more than was reserved is recorded as it was; then nothing more fits."""
    huge, small = {"input": 90_000, "output": 400_000}, {"input": 5, "output": 1}
    conversations = [
        {"match": "First", "turns": [{"text": "x", "usage": huge}]},
        {"match": "Second", "turns": [{"text": "y", "usage": small}]},
    ]
    steps = (ask("one", "First"), ask("two", "Second", needs=("one",)))
    budgets = Budgets({Scope.RUN: Limit(tokens=100_000)})
    async with bench(json.dumps({"conversations": conversations}), budgets=budgets) as desk:
        run = await desk.begin(*steps)
        await desk.until(run, EventType.STEP_WAITING)
        assert len(desk.models.calls) == 1
        books = await desk.server.engine.budgets_of(run)
        await desk.server.engine.extend_budget(run, Amount(tokens=500_000))
        events, _ = await desk.end(run)
        rows = await desk.usage()
        name = (await desk.server.engine.details(run)).run.name
    assert [(one.scope.value, one.step, one.used.tokens) for one in books] == [
        ("step", "one", 490_000),
        ("step", "two", 0),
        *((scope, "", 490_000) for scope in ("run", "workflow", "day")),
    ]
    assert story(events, "one") == [
        started(),
        token(1, "x"),
        turn(1, stop="end_turn", used=huge),
        ended(),
    ]
    assert story(events, "two") == [
        started(),
        waits(
            "Budget",
            "the run's budget of 100000 tokens has 0 left, too little for the next call; extend it"
            f" with `plue run extend {name} --tokens …`",
        ),
        waits(),
        token(1, "y", call=2),
        turn(1, stop="end_turn", used=small),
        ended(),
    ]
    # 90,000 at 2 $ and 400,000 at 10 $ a million.
    assert rows[0]["cost_usd"] == Decimal("4.18")
    assert bill(rows, "one") == [paid(1, (90_000, 400_000), step="one")]
    assert bill(rows, "two") == [paid(1, (5, 1), step="two")]


LOOKS = """
import os, sys
key, token = (word[::-1].encode() for word in sys.argv[1:])
pid, name = os.getppid(), ""
while not name.startswith("python"):
    name = open(f"/proc/{pid}/comm").read()
    keys = tokens = 0
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in open(f"/proc/{pid}/maps"):
            place, rights, *_ = line.split()
            begin, end = (int(number, 16) for number in place.split("-"))
            if "r" in rights and "[v" not in line:
                try:
                    memory.seek(begin)
                    data = memory.read(end - begin)
                except OSError:
                    continue
                keys += data.count(key)
                tokens += data.count(token)
    pid = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
print(name.strip()[:6], "keys", keys, "tokens", tokens > 0)
"""


async def test_no_key_is_in_the_memory_of_a_runner_with_an_agent(
    bench: MakeBench, capfd: pytest.CaptureFixture[str]
) -> None:
    """A tool that reads its runner's memory finds no key; neither does who reads the log."""
    # Backwards, so that the command does not bring along what it looks for.
    words = " ".join(word[::-1] for word in (KEY, "plue-step."))
    command = f"python3 - {words} <<'EOF'\n{LOOKS}\nEOF\nenv"
    turns = script({"tools": [use("shell", command=command)]}, finish(fixed=True))
    async with bench(turns) as desk:
        run = await desk.begin(
            a_step("own", "env"), ask(kind="agent", output=FIXED, needs=("own",))
        )
        events, steps = await desk.end(run)
        details = await desk.server.engine.details(run)
        assert desk.models.calls[0].headers["x-api-key"] == KEY
        for path in desk.folder.rglob("*"):
            if path.is_file():
                assert KEY.encode() not in path.read_bytes(), path
    assert steps["ask"].state is StepState.SUCCEEDED
    assert details.run.state is RunState.SUCCEEDED
    result: dict[str, Any] = bodies(events, EventType.TOOL_END)[0]
    # It did look into the runner: the step's own token is there.
    assert result["result"].splitlines()[0] == "python keys 0 tokens True"
    assert not any(KEY in event.body for event in events)
    said = capfd.readouterr()
    assert KEY not in said.out + said.err


async def test_secrets_are_hidden_from_the_model_and_in_what_it_says(bench: MakeBench) -> None:
    """A file, a command's output, the model's own words in pieces: none of them shows one."""
    turns = script(
        {
            "tools": [
                use("read_file", path="note"),
                use("shell", command=f"cat note; echo {SECRET[:6]}\\\n{SECRET[6:]}"),
            ]
        },
        {
            "text": f"It is {SECRET}, I guess.",
            "chunk": 3,
            "tools": [use("grep", pattern=SECRET)],
        },
        finish(text=f"said {SECRET}"),
    )
    write = a_step("write", 'printf %s "$TOKEN" > note', env={"TOKEN": [Secret(secret="TOKEN")]})
    agent = ask(kind="agent", output=an_output(text="string"), needs=("write",))
    async with bench(turns) as desk:
        secrets = LocalSecrets(desk.folder, {"PLUE_SECRET_TOKEN": SECRET})
        desk.server.engine.context.secrets = secrets
        events, steps = await desk.end(await desk.begin(write, agent))
        sent = [call.body for call in desk.models.calls]
        read, said = results(desk, 1)
    assert steps["ask"].state is StepState.SUCCEEDED
    assert "***" in read["content"]
    assert said["content"].count("***") == 2
    # What the model itself made up it is given back as it said it: it must not be changed.
    assert SECRET.encode() not in sent[0] + sent[1]
    assert not any(SECRET in event.body for event in events)
    assert "It is ***, I guess." in "".join(
        body["text"] for body in bodies(events, EventType.LLM_TOKEN)
    )
    assert SECRET not in json.dumps(steps["ask"].outputs)

"""The real Messages API, by the whole way: runner, gateway, provider. Costs a few cents.

`make real-models` runs these; they are left out of every other target.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest
from models.conftest import Bench, an_output, ask
from models.test_agents import bodies
from models.test_own_tools import function
from server import QUICK, a_server

from plue.dev.model_server import ModelServer
from plue.dev.script import Script
from plue.gateway.llm.configuration import ModelFile, models_with, settings_of
from plue.gateway.llm.settings import CLIENTS
from plue.wire.events import EventType, StepState
from plue.wire.plan import Prompt, Step

HAIKU = "anthropic/claude-haiku"

pytestmark = [
    pytest.mark.real_api,
    pytest.mark.skipif(
        "ANTHROPIC_API_KEY" not in os.environ,
        reason="ANTHROPIC_API_KEY is not set: these ask the real API, and pay for it",
    ),
]


@pytest.fixture
async def desk(
    postgres_dsn: str, tmp_path: Path, zygote: Callable[[list[str], str], int]
) -> AsyncIterator[Bench]:
    """Give a server with the provider that the environment's key opens."""
    async with AsyncExitStack() as parts:
        models = await models_with(settings_of(ModelFile(), "run.usd=1"), os.environ, parts)
        server = await parts.enter_async_context(
            a_server(postgres_dsn, tmp_path, QUICK, models=models)
        )
        # Nobody asks it: a bench has one.
        nobody = ModelServer(Script.parse("conversations: [{turns: [{text: no}]}]"))
        yield Bench(server, nobody, postgres_dsn, tmp_path, zygote)


async def test_every_client_name_means_a_model(desk: Bench) -> None:
    """Each built-in name is answered, counted by the provider, and has a price."""
    steps = [
        _with(ask(f"ask-{number}", "Answer with the one word: yes"), client=client)
        for number, client in enumerate(CLIENTS)
    ]
    _, ended = await desk.end(await desk.begin(*steps))
    rows = await desk.usage()
    assert {step.state for step in ended.values()} == {StepState.SUCCEEDED}, ended
    assert {row["model"] for row in rows} == set(CLIENTS.values())
    assert all(row["cost_usd"] > 0 and not row["estimated"] for row in rows)


async def test_an_answer_fits_its_schema(desk: Bench) -> None:
    """Optional fields, choices, lists and objects are taken by guaranteed output."""
    schema = {
        "type": "object",
        "properties": {
            "verdict": {"enum": ["good", "bad"], "type": "string"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "issues": {"type": "array", "items": an_output(file="string", line="integer")},
        },
        "required": ["verdict", "issues"],
        "additionalProperties": False,
    }
    text = "Review `x = 1 / 0` in a.py, line 3. Find one issue."
    step = ask(text=text, output=schema)
    events, ended = await desk.end(await desk.begin(_with(step, client=HAIKU)))
    assert ended["ask"].state is StepState.SUCCEEDED, ended["ask"].message
    (issue,) = cast("list[dict[str, int]]", ended["ask"].outputs["issues"])
    assert issue["line"] == 3
    assert bodies(events, EventType.LLM_TOKEN)


async def test_an_agent_uses_built_in_tools_and_functions(desk: Bench) -> None:
    """Strict schemas of all tools are taken; the file is changed, and the work is ended."""
    text = (
        "1. Call the tool `shout` with the text hello. 2. Write what it returns into out.txt with"
        " write_file. 3. Read out.txt and finish."
    )
    tools = ("read_file", "write_file", "edit_file", "glob", "grep", "shell", "//tools:shout")
    step = ask(
        text=text, kind="agent", output=an_output(fixed="boolean"), tools=tools, max_turns=12
    )
    equipment = {"//tools:shout": function("shout")}
    step = _with(step, client=HAIKU, equipment=equipment)
    _, ended = await desk.end(await desk.begin(step, files={"README.md": "x"}))
    rows = await desk.usage()
    assert ended["ask"].state is StepState.SUCCEEDED, ended["ask"].message
    assert "HELLO" in (desk.folder / "tree" / "out.txt").read_text()
    assert [row["turn"] for row in rows] == list(range(1, len(rows) + 1))
    assert sum(row["cost_usd"] for row in rows) < Decimal("0.5")


def _with(step: Step, **fields: object) -> Step:
    assert isinstance(step.action, Prompt)
    return step.model_copy(update={"action": step.action.model_copy(update=fields)})

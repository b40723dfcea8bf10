"""Tools of a repository: what their text says, and what is wrong in it."""

import pytest
from authoring.sandboxed import Sandbox
from prompts.written import FOLDER, WORKFLOW

from plue.authoring.results import Description, Planned
from plue.wire.plan import Function, Prompt, Question, Secret, Server

TOOLS = '''
import subprocess
from typing import Annotated, Literal, Optional

from plue import tool


@tool(timeout="5m")
def lint(
    path: Annotated[str, "a folder"],
    level: Literal["low", "high"] = "low",
    names: list[str] | None = None,
    depth: "Optional[int]" = 3,
    *,
    deep: bool = False,
):
    """Lint one folder.

    As the linter does it.
    """
    return subprocess.run(["lint", path], check=True)


def helper(x):
    return x
'''
ASK = "---\nname: ask-me\ninputs:\n  what: string\n---\n{{ what }}\n"
CONFIG = """
mcp:
  tickets:
    command: [python3, tickets.py]
    env: {MODE: test}
    secrets: [TOKEN]
    timeout: 30s
"""
AGENT = """---
name: fix
type: agent
tools: [read_file, //tools:lint, //prompts:ask-me, mcp:tickets/find]
---
Fix.
"""
CALL = """
from plue import push, workflow
from plue.prompts import Fix


@workflow(triggers=[push()])
def ci(ctx):
    Fix({})
"""


def files(*, tools: str = TOOLS, agent: str = AGENT, call: str = "") -> dict[str, str]:
    """Return a project whose agent has all kinds of tools."""
    return {
        FOLDER + "fix.prompt.md": agent,
        FOLDER + "ask.prompt.md": ASK,
        ".plue/tools/checks.py": tools,
        ".plue/config.yaml": CONFIG,
        WORKFLOW: CALL.format(call),
    }


def described(sandbox: Sandbox, given: dict[str, str]) -> Description:
    """Return what lint finds."""
    return sandbox.call(sandbox.evaluator.describe(given))


def planned(sandbox: Sandbox, given: dict[str, str]) -> Planned:
    """Return the plan."""
    return sandbox.call(sandbox.evaluator.plan(given, "ci", inputs={}, event={"kind": "push"}))


def told(sandbox: Sandbox, given: dict[str, str]) -> list[tuple[str, str, int, str]]:
    """Return what lint tells, without what follows from it in workflow files."""
    found = described(sandbox, given).diagnostics
    return [
        (str(d.code), d.file.rpartition("/")[2], d.line, d.message)
        for d in found
        if d.code != "PLU721"
    ]


def test_a_plan_holds_what_the_tools_are(sandbox: Sandbox) -> None:
    """Schema, source and servers travel in the plan; a run needs nothing else of the project."""
    assert told(sandbox, files()) == []
    plan = planned(sandbox, files()).plan
    assert plan is not None
    action = plan.steps[0].action
    assert isinstance(action, Prompt)
    lint, ask, server = action.equipment.values()
    assert list(action.equipment) == ["//tools:lint", "//prompts:ask-me", "mcp:tickets"]
    assert isinstance(lint, Function)
    assert lint.description == "Lint one folder.\n\nAs the linter does it."
    assert (lint.source, lint.timeout_seconds) == (TOOLS, 300)
    text = {"type": "string"}
    assert lint.inputs_schema == {
        "type": "object",
        "properties": {
            "path": {**text, "description": "a folder"},
            "level": {**text, "enum": ["low", "high"], "default": "low"},
            "names": {"anyOf": [{"type": "array", "items": text}, {"type": "null"}]},
            "depth": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 3},
            "deep": {"type": "boolean", "default": False},
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    assert isinstance(ask, Question)
    assert (ask.prompt.prompt, ask.prompt.kind) == ("ask-me", "llm")
    assert isinstance(server, Server)
    assert (server.command, server.timeout_seconds) == (("python3", "tickets.py"), 30)
    assert server.env["TOKEN"] == (Secret(secret="TOKEN"),)


def test_a_revision_covers_the_tools(sandbox: Sandbox) -> None:
    """Another text of a tool, of a prompt that is one, or of the servers is another revision."""

    def revision(given: dict[str, str]) -> str:
        (info,) = described(sandbox, given).workflows
        assert ".plue/tools/checks.py" in info.files
        assert FOLDER + "ask.prompt.md" in info.files
        return info.revision

    whole = files()
    changed = [
        whole | {".plue/tools/checks.py": TOOLS + "\n"},
        whole | {FOLDER + "ask.prompt.md": ASK + "!"},
        whole | {".plue/config.yaml": CONFIG.replace("test", "other")},
    ]
    assert len({revision(given) for given in [whole, *changed]}) == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("//tools:lin", "there is no tool `lin` — did you mean `lint`?"),
        ("//prompts:ask", "there is no prompt `ask`"),
        ("//prompts:fix", "`fix` is an agent, and agents are no tools of agents"),
        ("mcp:ticket", "there is no MCP server `ticket` — did you mean `tickets`?"),
    ],
)
def test_an_unknown_tool_is_an_error_where_it_stands(
    sandbox: Sandbox, name: str, said: str
) -> None:
    """In front matter and in a call alike, with what was meant."""
    agent = AGENT.replace("read_file", name)
    assert told(sandbox, files(agent=agent))[0] == ("PLU731", "fix.prompt.md", 4, said)
    call = f'tools=["{name}"]'
    (found,) = planned(sandbox, files(call=call)).diagnostics
    assert (found.file, found.line) == (WORKFLOW, 8)
    assert said in found.message or "does not name" in found.message


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('def f(x):\n    """F."""', 2, "parameter `x` has no type"),
        ('def f(x: set[int]):\n    """F."""', 2, "`set[int]` is no type here"),
        ('def f(x: int = g()):\n    """F."""', 2, "the default of `x` is not written out"),
        ('def f(x: int = "a"):\n    """F."""', 2, "the default does not fit its type"),
        ('def f(*x: int):\n    """F."""', 2, "`x` cannot be given by name"),
        ('def f(x: int, /):\n    """F."""', 2, "`x` cannot be given by name"),
        ('async def f(x: int):\n    """F."""', 2, "tool `f` is async"),
        ("def f(x: int):\n    pass", 2, "tool `f` has no docstring"),
    ],
)
def test_a_tool_that_a_model_could_not_use_is_an_error(
    sandbox: Sandbox, text: str, line: int, said: str
) -> None:
    """What would leave the model guessing is told at its place."""
    found = told(sandbox, files(tools=f"@tool\n{text}\n", agent=ASK, call="what=1"))
    assert [(code, at) for code, _, at, _ in found if code == "PLU730"] == [("PLU730", line)]
    assert any(said in message for *_, message in found)


def test_wrong_options_and_broken_files_are_told(sandbox: Sandbox) -> None:
    """Options of the mark, doubles, and text that is no Python."""
    doc = '"""F."""'
    text = f"@tool(timout=3)\ndef f():\n    {doc}\n@tool(timeout='x')\ndef f():\n    {doc}\n"
    found = told(sandbox, files(tools=text, agent=AGENT.replace("lint", "f")))
    assert [message for code, *_, message in found if code == "PLU730"] == [
        "@tool has no option `timout`",
        "timeout='x' is not a duration",
        "tool `f` is also in .plue/tools/checks.py, line 2",
    ]
    found = told(sandbox, files(tools="def f(:\n", agent=AGENT.replace("//tools:lint, ", "")))
    assert [(code, file, line) for code, file, line, _ in found] == [("PLU001", "checks.py", 1)]


def test_two_tools_of_one_name_are_an_error(sandbox: Sandbox) -> None:
    """A model knows a tool by its last name only."""
    given = files(agent=AGENT.replace("//prompts:ask-me", "//prompts:lint"))
    given[FOLDER + "ask.prompt.md"] = ASK.replace("ask-me", "lint")
    messages = [message for *_, message in told(sandbox, given)]
    assert messages == ["the model would know two tools as `lint`"] * 2

"""Requests that the API refuses, each answered as the API answers, and those at the edge."""

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from dev.test_model_server import ASK, TOOL, TWO_TURNS, serving
from pydantic import BaseModel

from plue.dev.model_server import ModelServer
from plue.dev.script import Conversation, Fault, Turn

PAGE = Path(__file__).parents[2] / "docs/model-server.md"


def _user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def _said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _history(*messages: dict[str, Any]) -> dict[str, Any]:
    return {**ASK, "messages": [*ASK["messages"], *messages]}


_USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
_RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "fine"}
_TEXT = {"type": "text", "text": "?"}
_SAID = {"role": "assistant", "content": "Yes."}
_USED = {"role": "assistant", "content": [_USE]}
_STRICT = {**TOOL, "strict": True}
_MARK = {"cache_control": {"type": "ephemeral"}}
_HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
_SEARCH = {"type": "web_search_20260318", "name": "web_search"}
_SEARCHES = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
_FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}


def _thought(signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "x", "signature": signature}


def _assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def _asking(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {**ASK, "messages": [_user(*blocks)], **more}


def _tool(name: str = "look", **schema: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", **schema}}


def _format(**schema: Any) -> dict[str, Any]:
    closed = {"type": "object", "additionalProperties": False, **schema}
    return {**ASK, "output_config": {"format": {"type": "json_schema", "schema": closed}}}


def _fields(count: int, **field: Any) -> dict[str, Any]:
    return {f"f{number}": {"type": "string", **field} for number in range(count)}


REFUSED = {
    # ── fields ──
    "temperature": ({**ASK, "temperature": 1}, "temperature: Extra inputs are not permitted"),
    "top p": ({**ASK, "top_p": 1}, "top_p: Extra inputs are not permitted"),
    "top k": ({**ASK, "top_k": 1}, "top_k: Extra inputs are not permitted"),
    "unknown field": ({**ASK, "budget": 1}, "budget: Extra inputs are not permitted"),
    "mcp servers": ({**ASK, "mcp_servers": []}, "mcp_servers: Extra inputs are not permitted"),
    "no limit": ({"model": "m", "messages": []}, "max_tokens: Field required"),
    "no model": ({"max_tokens": 1, "messages": []}, "model: Field required"),
    "limit of nothing": ({**ASK, "max_tokens": 0}, "max_tokens: must be greater than or equal to"),
    "limit too high": (
        {**ASK, "max_tokens": 128_001},
        (
            "max_tokens: 128001 > 128000, which is the maximum allowed number of output tokens for"
            " claude-sonnet-5-5"
        ),
    ),
    "limit of text": ({**ASK, "max_tokens": "many"}, "max_tokens: Input should be"),
    "blank stop": (
        {**ASK, "stop_sequences": ["\n"]},
        "stop_sequences: each stop sequence must contain non-whitespace",
    ),
    "effort": ({**ASK, "output_config": {"effort": "most"}}, "output_config.effort"),
    # ── messages ──
    "no messages": ({**ASK, "messages": []}, "messages: "),
    "system role": ({**ASK, "messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
    "assistant first": ({**ASK, "messages": [_SAID]}, "first message must use the user role"),
    "prefill": (_history(_SAID), "This model does not support assistant message prefill."),
    "user twice": (_history(ASK["messages"][0]), "must alternate"),
    "no content": (_asking(), "messages.0: user messages must have non-empty content"),
    "no words": ({**ASK, "messages": [{"role": "user", "content": ""}]}, "must have non-empty"),
    "blank words": (
        {**ASK, "messages": [{"role": "user", "content": " \n"}]},
        "messages: text content blocks must contain non-whitespace text",
    ),
    "empty text": (
        _asking({"type": "text", "text": ""}),
        "messages: text content blocks must be non-empty",
    ),
    "blank text of the model": (
        _history(_assistant({"type": "text", "text": "\n\n"}), _user(_TEXT)),
        "messages: text content blocks must contain non-whitespace text",
    ),
    "empty system": (
        {**ASK, "system": [{"type": "text", "text": ""}]},
        "system: text content blocks must be non-empty",
    ),
    "unknown block": (_asking({"type": "video"}), "messages.0.content"),
    "unknown part of a block": (
        _asking({**_TEXT, "tone": "low"}),
        "messages.0.content.0.text.tone: Extra inputs are not permitted",
    ),
    "picture of the model": (
        _history(
            _assistant({"type": "image", "source": {"type": "url", "url": "https://x"}}),
            _user(_TEXT),
        ),
        "image blocks are not allowed in assistant messages",
    ),
    "picture of a kind": (
        _asking(
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/tiff", "data": "AA"},
            }
        ),
        "media_type",
    ),
    "use by the user": (_asking(_USE), "tool_use blocks are not allowed in user messages"),
    # ── results ──
    "no result": (
        _history(_USED, _user(_TEXT)),
        (
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after:"
            " toolu_1."
        ),
    ),
    "no use": (
        _history(_SAID, _user(_RESULT)),
        "messages.2: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1.",
    ),
    "another use": (_history(_USED, _user({**_RESULT, "tool_use_id": "x"})), "unexpected"),
    "two results": (
        _history(_USED, _user(_RESULT, _RESULT)),
        (
            "each tool_use must have a single result. Found multiple `tool_result` blocks with id:"
            " toolu_1"
        ),
    ),
    "text before a result": (_history(_USED, _user(_TEXT, _RESULT)), "without `tool_result`"),
    "one id twice": (
        _history(_assistant(_USE, _USE), _user(_RESULT)),
        "messages.1.content.1: `tool_use` ids must be unique",
    ),
    "one id in two turns": (
        _history(_USED, _user(_RESULT), _USED, _user(_RESULT)),
        "messages.3.content.0: `tool_use` ids must be unique",
    ),
    "id of another kind": (
        _history(_assistant({**_USE, "id": "a b"}), _user(_RESULT)),
        "String should match pattern",
    ),
    "search without a result": (
        _history(_assistant(_SEARCHES), _user(_TEXT)),
        (
            "messages.1: `web_search` tool use with id `srvtoolu_1` was found without a"
            " corresponding `web_search_tool_result` block"
        ),
    ),
    "result without a search": (
        _history(_assistant(_FOUND), _user(_TEXT)),
        (
            "messages.1.content.0: unexpected `tool_use_id` found in `web_search_tool_result`"
            " blocks: srvtoolu_1."
        ),
    ),
    # ── thinking ──
    "thinking made up": (
        _history(_assistant(_thought("y")), _user(_TEXT)),
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    ),
    "thinking cached": (
        _history(_assistant({**_thought("y"), **_MARK}), _user(_TEXT)),
        "cache_control: Extra inputs are not permitted",
    ),
    "thinking by the user": (_asking(_thought("y")), "thinking blocks are not allowed in user"),
    "thinking budget": (
        {**ASK, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"',
    ),
    "no thinking": (
        {**ASK, "thinking": {"type": "disabled"}},
        '"thinking.type.disabled" is not supported for this model.',
    ),
    "little thinking": (
        {**ASK, "model": "claude-opus-5-5", "thinking": {"type": "between_tools"}},
        '"thinking.type.between_tools" is not supported for this model.',
    ),
    "adaptive with a budget": (
        {**ASK, "thinking": {"type": "adaptive", "budget_tokens": 2000}},
        "budget_tokens: Extra inputs are not permitted",
    ),
    # ── tools ──
    "tool twice": ({**ASK, "tools": [TOOL, TOOL]}, "tools: Tool names must be unique: look"),
    "tool name": ({**ASK, "tools": [_tool("a b")]}, "String should match pattern"),
    "tool without a schema": ({**ASK, "tools": [{"name": "look"}]}, "input_schema: Field required"),
    "schema of text": (
        {**ASK, "tools": [{**TOOL, "input_schema": {"type": "string"}}]},
        "tools.0.custom.input_schema.type: Input should be 'object'",
    ),
    "schema of choices": (
        {**ASK, "tools": [_tool(anyOf=[{}])]},
        "input_schema does not support oneOf, allOf, or anyOf at the top level",
    ),
    "field name": (
        {**ASK, "tools": [_tool(properties={"größe": {}})]},
        "Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'",
    ),
    "own tool with uses": ({**ASK, "tools": [{**TOOL, "max_uses": 1}]}, "Extra inputs"),
    "search with a schema": ({**ASK, "tools": [{**_SEARCH, "input_schema": {}}]}, "Extra inputs"),
    "search of no day": ({**ASK, "tools": [{**_SEARCH, "type": "web_search"}]}, "tools.0"),
    "fetch called search": (
        {**ASK, "tools": [{**_SEARCH, "type": "web_fetch_20260318"}]},
        "Input should be 'web_fetch'",
    ),
    "search here and not there": (
        {**ASK, "tools": [{**_SEARCH, "allowed_domains": ["a"], "blocked_domains": ["b"]}]},
        "only one of `allowed_domains` and `blocked_domains`",
    ),
    "all deferred": (
        {**ASK, "tools": [{**TOOL, "defer_loading": True}]},
        "All tools have defer_loading set",
    ),
    "forced tool": (
        {**ASK, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
        'tool_choice: type "tool" and "any" are not supported for this model.',
    ),
    "any tool": ({**ASK, "tools": [TOOL], "tool_choice": {"type": "any"}}, "not supported for"),
    "choice of no tool": (
        {**ASK, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}},
        "Tool 'x' not found",
    ),
    "choice without tools": ({**ASK, "tool_choice": {"type": "auto"}}, "while providing tools"),
    # ── guaranteed output ──
    "not closed": (
        {**ASK, "tools": [_STRICT]},
        "tools.0.custom: For 'object' type, 'additionalProperties' must be explicitly set to false",
    ),
    "unknown keyword": (
        _format(properties={"a": {"type": "integer", "minimum": 1}}, required=["a"]),
        "property 'minimum' is not supported",
    ),
    "keyword of text": (
        _format(properties={"a": {"type": "string", "maxLength": 1}}, required=["a"]),
        "property 'maxLength' is not supported",
    ),
    "list of two": (
        _format(properties={"a": {"type": "array", "minItems": 2}}, required=["a"]),
        "'minItems' values other than 0 or 1 are not supported",
    ),
    "strict tools": (
        {
            **ASK,
            "tools": [
                {**_tool(f"t{n}", additionalProperties=False), "strict": True} for n in range(21)
            ],
        },
        "Too many strict tools (21). The maximum number of strict tools supported is 20.",
    ),
    "optional fields": (_format(properties=_fields(25)), "too many optional parameters (25)"),
    "unions": (
        _format(properties=_fields(17, anyOf=[]), required=[*_fields(17)]),
        "too many parameters with union types (17 parameters",
    ),
    # ── caching ──
    "marks": (
        _asking(*[{**_TEXT, **_MARK}] * 5),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "marks with that of all": (_asking(*[{**_TEXT, **_MARK}] * 4, **_MARK), "Found 5."),
    "long after short": (
        _asking({**_TEXT, **_HOUR}, tools=[{**TOOL, **_MARK}]),
        (
            "messages.0.content.0.cache_control.ttl: a ttl='1h' cache_control block must not come"
            " after a ttl='5m' cache_control block."
        ),
    ),
}


async def _answered(server: ModelServer, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{server.url}/v1/messages", json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


def test_the_page_has_each_of_them() -> None:
    """What the page says is refused is tried here, and the other way round; the words are these."""
    rows = re.findall(
        r"^\| ([a-z -]+) \| (?:`` (.+) ``|`(.+)`) \|$", PAGE.read_text(), re.MULTILINE
    )
    told = {name: ticked or plain for name, ticked, plain in rows}
    assert told == {name: said for name, (_, said) in REFUSED.items()}


@pytest.mark.parametrize(
    ("head", "part"),
    [("a conversation", Conversation), ("a turn", Turn), ("a fault", Fault)],
)
def test_the_page_has_each_key_of_a_script(head: str, part: type[BaseModel]) -> None:
    """A table for each part of a script, with all of its keys and no others."""
    _, _, table = PAGE.read_text().partition(f"| of {head} | |\n| --- | --- |\n")
    told = re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE)
    assert sorted(told) == sorted(field.alias or name for name, field in part.model_fields.items())


async def test_it_refuses_what_the_api_refuses() -> None:
    """Each wrong request is answered with 400 and the API's own words."""
    async with serving("conversations: [{turns: [{text: fine, repeat: true}]}]") as (server, _):
        for name, (body, said) in REFUSED.items():
            status, answer = await _answered(server, body)
            assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), name
            assert said in answer["error"]["message"], name


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_history(_USED, _user(_RESULT, _TEXT)), id="words-after-a-result"),
        pytest.param(
            _history(_assistant(_SEARCHES), _assistant(_FOUND, _TEXT), _user(_TEXT)),
            id="rest-of-a-paused-turn",
        ),
        pytest.param({**ASK, "thinking": {"type": "between_tools"}}, id="little-thinking"),
        pytest.param(
            {**ASK, "thinking": {"type": "adaptive", "display": "summarized"}}, id="shown-thinking"
        ),
        pytest.param({**ASK, "tools": [TOOL], "tool_choice": {"type": "none"}}, id="no-tool"),
        pytest.param({**ASK, "tools": [{**_SEARCH, "max_uses": 3}, TOOL]}, id="search"),
        pytest.param(_asking({**_TEXT, **_MARK}, tools=[{**TOOL, **_HOUR}]), id="long-then-short"),
        pytest.param(
            {**_asking(*[{**_TEXT, **_MARK}] * 3), **_MARK, "max_tokens": 128_000}, id="at-the-edge"
        ),
        pytest.param(_format(properties=_fields(24)), id="optional-fields"),
    ],
)
async def test_it_takes_what_the_api_takes(body: dict[str, Any]) -> None:
    """What is just right is answered."""
    async with serving("conversations: [{turns: [{text: fine, repeat: true}]}]") as (server, _):
        assert (await _answered(server, body))[0] == 200


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({"system": "You are somebody else."}, id="system"),
        pytest.param({"tools": [TOOL, _tool("more")]}, id="tools"),
        pytest.param({"messages": [_said("Another task: Review.")]}, id="first-message"),
    ],
)
async def test_a_thought_belongs_to_what_stood_before_it(edit: dict[str, Any]) -> None:
    """Given back after an edit of what came before, it is refused; moved marks are no edit."""
    async with serving(TWO_TURNS) as (server, client):
        first = await client.messages.create(**ASK, tools=[TOOL])
        said = first.model_dump(mode="json")["content"]
        result = _user({"type": "tool_result", "tool_use_id": said[2]["id"], "content": "fine"})
        said = [{k: v for k, v in block.items() if v is not None} for block in said]

        def again(**changed: Any) -> dict[str, Any]:
            body = {**ASK, "tools": [TOOL], **changed}
            return {**body, "messages": [*body["messages"], _assistant(*said), result]}

        marked = _user({"type": "text", "text": "Review the change.", **_MARK})
        assert (await _answered(server, again()))[0] == 200
        assert (await _answered(server, again(messages=[marked])))[0] == 200
        status, answer = await _answered(server, again(**edit))
        assert status == 400
        assert "belongs to another conversation" in answer["error"]["message"]
        said.insert(0, said.pop(1))
        status, answer = await _answered(server, again())
        assert status == 400
        assert "cannot be modified" in answer["error"]["message"]

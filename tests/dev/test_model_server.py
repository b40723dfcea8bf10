"""The model server, by the real client, and by requests that the API refuses."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from anthropic import APIError, APIStatusError, AsyncAnthropic, BadRequestError
from httpx2 import TransportError

from plue.dev.model_server import ModelServer
from plue.dev.script import Script
from plue.errors import RejectedError

Serve = Callable[..., AbstractAsyncContextManager[tuple[ModelServer, AsyncAnthropic]]]
PATIENCE = 5.0

ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Review the change."}],
}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {}}}


@asynccontextmanager
async def serving(
    script: str, *, retries: int = 0, **options: Any
) -> AsyncIterator[tuple[ModelServer, AsyncAnthropic]]:
    """Serve *script*, and give a client of the real SDK."""
    async with (
        ModelServer(Script.parse(script), **options) as server,
        AsyncAnthropic(api_key="key", base_url=server.url, max_retries=retries) as client,
    ):
        yield server, client


TWO_TURNS = """
conversations:
  - match: Review
    turns:
      - thinking: It may be short.
        text: I look at it.
        tools: [{name: look, input: {path: app.py}}]
        usage: {input: 1200, cache_read: 1000, cache_write: 50, output: 30}
      - json: {approved: true}
"""


async def test_a_turn_streams_thinking_text_and_tool_use_with_usage() -> None:
    """The real client assembles the whole turn from the stream, usage and stop reason included."""
    async with (
        serving(TWO_TURNS) as (_, client),
        client.messages.stream(**ASK, tools=[TOOL]) as stream,
    ):
        kinds = {event.type async for event in stream}
        message = await stream.get_final_message()
    assert {"message_start", "thinking", "text", "input_json", "message_stop"} <= kinds
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.stop_reason == "tool_use"
    assert message.content[2].input == {"path": "app.py"}
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (
        1200,
        1000,
        30,
    )


async def test_the_next_turn_answers_a_longer_history() -> None:
    """The number of assistant messages chooses the turn; what came back unchanged is accepted."""
    async with serving(TWO_TURNS) as (_, client):
        first = await client.messages.create(**ASK, tools=[TOOL])
        again = await client.messages.create(**ASK, tools=[TOOL])
        result = {"type": "tool_result", "tool_use_id": again.content[2].id, "content": "fine"}
        second = await client.messages.create(
            **{**ASK, "messages": [*ASK["messages"], again.to_param(), _user(result)]}, tools=[TOOL]
        )
    assert first.content[1].text == again.content[1].text
    assert second.content[0].text == '{"approved": true}'
    assert second.stop_reason == "end_turn"


def _user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def _said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


_SAID = {"role": "assistant", "content": "Yes."}


def _history(*messages: dict[str, Any]) -> dict[str, Any]:
    return {**ASK, "messages": [*ASK["messages"], *messages]}


async def test_it_wants_a_key() -> None:
    """A request without the key is answered with 401."""
    async with serving(TWO_TURNS, key="other") as (_, client):
        with pytest.raises(APIStatusError) as refused:
            await client.messages.create(**ASK)
    assert refused.value.status_code == 401


async def test_a_fault_is_met_once_and_the_client_tries_again() -> None:
    """After `before` faults, the same request gets its turn; the client waited and retried."""
    script = """
conversations:
  - turns:
      - text: done
        before: [{status: 529, retry_after_ms: 1, times: 2}, {status: 429, retry_after_ms: 1}]
"""
    async with serving(script, retries=4) as (server, client):
        message = await client.messages.create(**ASK)
    assert message.content[0].text == "done"
    assert [call.outcome for call in server.calls] == ["status 529"] * 2 + [
        "status 429",
        "answered",
    ]


@pytest.mark.parametrize("after", [0, 1, 3, 5, 7])
@pytest.mark.parametrize("fault", ["cut", "error"])
async def test_a_stream_breaks_where_the_script_says(fault: str, after: int) -> None:
    """A cut or an error event comes after exactly so many events, and only once."""
    script = (
        f"conversations: [{{turns: [{{text: a long answer, before: [{{{fault}: {after}}}]}}]}}]"
    )
    async with serving(script) as (server, client):
        with pytest.raises((APIError, TransportError)):
            async with client.messages.stream(**ASK) as stream:
                await stream.until_done()
        assert (server.calls[0].outcome, server.calls[0].events) == (fault, after)
        async with client.messages.stream(**ASK) as stream:
            assert await stream.get_final_text() == "a long answer"


async def test_a_client_that_leaves_is_noticed() -> None:
    """A call whose client leaves in the middle ends as abandoned."""
    script = "conversations: [{turns: [{text: a very long answer, chunk: 1, delay: 0.05}]}]"
    async with serving(script) as (server, client):
        async with client.messages.stream(**ASK) as stream:
            async for event in stream:
                if event.type == "text":
                    break
        await asyncio.wait_for(server.calls[0].ended.wait(), PATIENCE)
    assert server.calls[0].outcome == "abandoned"


async def test_a_hanging_stream_sends_nothing_more() -> None:
    """After `hang`, the client gets no event until it gives up."""
    script = "conversations: [{turns: [{text: hello, before: [{hang: 3}]}]}]"
    async with serving(script) as (server, client):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), client.messages.stream(**ASK) as stream:
                await stream.until_done()
    assert (server.calls[0].outcome, server.calls[0].events) == ("hung", 3)


async def test_refusal_pause_and_limit_have_their_stop_reasons() -> None:
    """Stop reasons are the API's own: refusal with a category, pause_turn, max_tokens."""
    script = """
conversations:
  - {match: one, turns: [{text: sorry, refusal: cyber}]}
  - match: two
    turns:
      - {tools: [{name: web_search, server: true, input: {query: x}}], stop: pause_turn}
      - {text: found}
  - {match: three, turns: [{text: "123456789"}]}
"""
    async with serving(script) as (_, client):
        one = await client.messages.create(**{**ASK, "messages": [_said("one")]})
        two = await client.messages.create(**{**ASK, "messages": [_said("two")]})
        found = await client.messages.create(**{**ASK, "messages": [_said("two"), two.to_param()]})
        three = await client.messages.create(
            **{**ASK, "messages": [_said("three")], "max_tokens": 2}
        )
    assert (one.stop_reason, one.stop_details and one.stop_details.category) == ("refusal", "cyber")
    assert two.stop_reason == "pause_turn"
    # The rest of a paused turn begins with what the search gave.
    assert [block.type for block in found.content] == ["web_search_tool_result", "text"]
    assert found.content[1].text == "found"
    assert (three.stop_reason, three.content[0].text) == ("max_tokens", "12345678")


async def test_a_conversation_that_the_script_lacks_is_an_error() -> None:
    """What no conversation fits, and a turn too many, are 400: nobody retries them."""
    async with serving(TWO_TURNS) as (_, client):
        with pytest.raises(BadRequestError, match="no conversation"):
            await client.messages.create(**{**ASK, "messages": [_said("Something else")]})
        with pytest.raises(BadRequestError, match="no turn 3"):
            await client.messages.create(
                **_history(_SAID, _said("Go on."), _SAID, _said("Go on.")),
            )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("conversations: []", "conversations", id="empty"),
        pytest.param("conversations: [{turns: [{txt: a}]}]", "turns.0.txt", id="unknown-key"),
        pytest.param("conversations: [{match: '(', turns: [{text: a}]}]", "regular", id="regex"),
        pytest.param("a: [", "script:1", id="yaml"),
        pytest.param("conversations: [{turns: [{before: [{}]}]}]", "exactly one", id="no-fault"),
    ],
)
def test_a_wrong_script_says_where(text: str, said: str) -> None:
    """A script that is wrong is refused with its place."""
    with pytest.raises(RejectedError, match=said):
        Script.parse(text)


def test_the_script_of_the_page_is_one() -> None:
    """What the page shows as a script is read, faults and all."""
    page = (Path(__file__).parents[2] / "docs/model-server.md").read_text()
    shown = re.search(r"^```yaml turns.yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown is not None
    first, second = Script.parse(shown[1]).conversations
    assert [fault.times for fault in first.turns[1].before] == [2, 1]
    assert first.turns[0].usage.cache_read == 300
    assert second.turns[0].delay == 0.05

"""The ``llm`` step: one question, one answer that fits its schema."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from plue.schemas import problems
from plue.wire.events import Reason
from plue_runner.faults import Fault
from plue_runner.model.line import Line, Reply
from plue_runner.model.schemas import Room, strict_schema

if TYPE_CHECKING:
    from anthropic.types import Message

__all__ = ["ANSWER_TOKENS", "answer", "given_back", "refusal", "text_of", "turn_body"]

ANSWER_TOKENS = 16_000
"""The most tokens of one answer: what a budget must have room for before the model is asked."""

_REASKS = 2
_PAUSES_IN_A_ROW = 10


async def answer(
    line: Line, *, client: str, prompt: str, schema: Mapping[str, JsonValue] | None
) -> tuple[dict[str, JsonValue], str]:
    """Return the fields of the model's answer, and its text.

    Raises Fault: ModelRefused, InvalidOutput after two corrections, ModelFailed.
    """
    messages: list[Any] = [{"role": "user", "content": prompt}]
    request: dict[str, Any] = {
        "model": client,
        "max_tokens": ANSWER_TOKENS,
        "messages": messages,
        "cache_control": {"type": "ephemeral"},
    }
    if schema is not None:
        fitting = strict_schema(schema)
        if Room().takes(fitting, tools=0):
            request["output_config"] = {"format": {"type": "json_schema", "schema": fitting}}
        else:
            # More than the provider guarantees; what comes is checked all the same.
            asked = f"{prompt}\n\nAnswer with nothing but JSON that fits:\n{json.dumps(schema)}"
            messages[0] = {"role": "user", "content": asked}
    turn, corrections = 0, 0
    while True:
        reply, turn = await _whole_turn(line, request, turn)
        text = text_of(reply.message)
        wrong, fields = _judged(reply.message, text, schema)
        if wrong is None:
            return fields, text
        if corrections == _REASKS:
            raise Fault(Reason.INVALID_OUTPUT, f"after {_REASKS} corrections: {wrong}")
        corrections += 1
        messages.append(given_back(reply.message))
        messages.append({"role": "user", "content": f"{wrong} Answer again, whole."})


async def _whole_turn(line: Line, request: dict[str, Any], turn: int) -> tuple[Reply, int]:
    """Ask, and ask again while the provider pauses its own turn."""
    for _ in range(_PAUSES_IN_A_ROW):
        turn += 1
        reply = await line.turn(turn, request)
        line.tell.turn(turn_body(reply))
        if reply.message.stop_reason == "refusal":
            raise refusal(reply.message)
        if reply.message.stop_reason != "pause_turn":
            return reply, turn
        request["messages"].append(given_back(reply.message))
    raise Fault(Reason.MODEL_FAILED, "the model paused its turn again and again")


def _judged(
    message: "Message", text: str, schema: Mapping[str, JsonValue] | None
) -> tuple[str | None, dict[str, JsonValue]]:
    """Return what is wrong with an answer, if something is, and its fields."""
    if message.stop_reason in {"max_tokens", "model_context_window_exceeded"}:
        return f"The answer was cut at the limit of {ANSWER_TOKENS} tokens. Be shorter.", {}
    if schema is None:
        return None, {}
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"The answer is not JSON: {error}.", {}
    problem = next(problems(schema, value, "answer"), None)
    if problem is not None:
        return f"The answer does not fit its schema: {problem}.", {}
    return None, value if isinstance(value, dict) else {"value": value}


def refusal(message: "Message") -> Fault:
    """Return the fault of a model that will not answer."""
    details = message.stop_details
    category = None if details is None else details.category
    return Fault(
        Reason.MODEL_REFUSED,
        f"the model refused to answer{f' ({category})' if category else ''}",
        remedy="change the prompt; a refusal is not tried again",
    )


def given_back(message: "Message") -> dict[str, Any]:
    """Return a turn as the model is given it back: unchanged, as thoughts must be.

    But a text of nothing may not be sent, nor a turn of nothing.
    """
    content: list[Any] = [
        block for block in message.content if block.type != "text" or block.text.strip()
    ]
    return {"role": "assistant", "content": content or [{"type": "text", "text": "(nothing)"}]}


def text_of(message: "Message") -> str:
    """Return the text of a turn."""
    return "".join(block.text for block in message.content if block.type == "text")


def turn_body(reply: Reply) -> dict[str, JsonValue]:
    """Return what is recorded of a turn: how it stopped, its tools and what it used."""
    message = reply.message
    usage = message.usage
    tools: list[JsonValue] = [
        block.name for block in message.content if block.type in {"tool_use", "server_tool_use"}
    ]
    used: dict[str, JsonValue] = {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_input_tokens or 0,
        "cache_write": usage.cache_creation_input_tokens or 0,
    }
    body: dict[str, JsonValue] = {
        "model": str(message.model),
        "stop": message.stop_reason,
        "usage": used,
    }
    return body | ({"tools": tools} if tools else {})

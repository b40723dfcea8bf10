"""What becomes of a conversation that grows too long for its model.

The task stays, a summary that the model itself writes takes the place of what was done, and the
last turn with its results stays as it is, where that is short: so every use of a tool keeps its
result beside it. The whole conversation is kept as a file, which the agent can read.
"""

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["ASKED", "asked_for", "begun_again", "transcript"]

ASKED = """\
The conversation has grown too long. Write down all that is needed to go on without it: the task, \
what was found, what was changed and where, what is left to do, and what was tried in vain."""

MOST_CHARACTERS = 400_000
"""Of a conversation that is to be summed up: about 100,000 tokens, below every model's window."""

_BLOCK_CHARACTERS = 8_000
_TAIL_CHARACTERS = 60_000
_SUMMARY_CHARACTERS = 60_000

Message = dict[str, Any]


def asked_for(messages: Sequence[Message]) -> list[Message]:
    """Return the request for a summary of what comes before the part that stays."""
    past = messages[: len(messages) - len(_tail(messages))] or messages
    parts = [text[:_BLOCK_CHARACTERS] for text in _lines(past)]
    # The task, and the newest of what followed: what is left out is told.
    kept: list[str] = []
    room = MOST_CHARACTERS - len(parts[0])
    for text in reversed(parts[1:]):
        room -= len(text)
        if room < 0:
            break
        kept.append(text)
    missing = len(parts) - 1 - len(kept)
    gap = [f"[{missing} older parts are left out]"] if missing else []
    content = [parts[0], *gap, *reversed(kept), ASKED]
    return [{"role": "user", "content": [_words(text) for text in content]}]


def begun_again(
    messages: Sequence[Message], prompt: str, summary: str, notice: str
) -> list[Message]:
    """Return the conversation that goes on: task, *summary*, and the last turn with its results."""
    said = f"{prompt}\n\n[What happened so far]\n{summary[:_SUMMARY_CHARACTERS]}{notice}"
    return [{"role": "user", "content": said}, *map(_without_thoughts, _tail(messages))]


def transcript(messages: Sequence[Message]) -> str:
    """Return all of a conversation as text."""
    return "\n\n".join(_lines(messages)) + "\n"


def _tail(messages: Sequence[Message]) -> list[Message]:
    """Return the last turn and its results; nothing where they are long, or stand otherwise."""
    if len(messages) < 3 or [m["role"] for m in messages[-2:]] != ["assistant", "user"]:  # noqa: PLR2004
        return []
    tail = list(messages[-2:])
    return tail if sum(map(len, _lines(tail))) <= _TAIL_CHARACTERS else []


def _without_thoughts(message: Message) -> Message:
    """Return *message* without what was thought: thoughts are bound to what stood before them."""
    content = message["content"]
    if isinstance(content, str):
        return message
    kept = [block for block in content if _kind(block) not in {"thinking", "redacted_thinking"}]
    return {**message, "content": kept}


def _kind(block: Any) -> Any:
    # What the model said is given back as the library's own objects.
    return block["type"] if isinstance(block, dict) else block.type


def _words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _lines(messages: Sequence[Message]) -> list[str]:
    """Return each block of a conversation as text."""
    found: list[str] = []
    for message in messages:
        content = message["content"]
        for block in [_words(content)] if isinstance(content, str) else content:
            # What the model said is given back as the library's own objects.
            text = _as_text(block if isinstance(block, dict) else block.model_dump())
            if text:
                found.append(f"[{message['role']}] {text}")
    return found


def _as_text(block: Any) -> str:
    match block["type"]:
        case "text":
            return str(block["text"])
        case "tool_use" | "server_tool_use":
            given = json.dumps(block["input"], ensure_ascii=False)
            return f"used {block['name']} with {given}"
        case "tool_result":
            return f"result: {block['content']}"
        case _:
            return ""

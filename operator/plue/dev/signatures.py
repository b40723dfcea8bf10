"""What a thinking block must be given back with, and in the conversation that it was thought in.

Current models bind a block to all that stood before it: after an edit of the system prompt, the
tools or an earlier message the API takes it back no more. Words beside it, moved cache marks and
another model are no edits.
"""

import hashlib
import json
from typing import Any, Self

from plue.dev.shapes import Message, Request

__all__ = ["Prefix", "signature_of"]


class Prefix:
    """All of a conversation up to a place, as a hash that grows with each message."""

    def __init__(self, request: Request) -> None:
        """Begin with the system prompt and the tools of *request*."""
        tools = [tool.model_dump(mode="json", exclude_defaults=True) for tool in request.tools]
        self._hash = hashlib.sha256(_canonical([_blocks(request.system), tools]))

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return the prefix of what answers *request*."""
        prefix = cls(request)
        for message in request.messages:
            prefix.add(message)
        return prefix

    def add(self, message: Message) -> None:
        """Go on behind *message*."""
        self._hash.update(_canonical([message.role, _blocks(message.content)]))

    def digest(self) -> bytes:
        """Return what stands for all of it."""
        return self._hash.digest()


def signature_of(thinking: str, prefix: Prefix) -> str:
    """Return the signature of a thought: its own part, and that of where it was thought."""
    own = hashlib.sha256(b"thinking\0" + thinking.encode()).hexdigest()
    return f"{own}.{hashlib.sha256(own.encode() + prefix.digest()).hexdigest()}"


def _blocks(content: Any) -> list[Any]:
    """Return content as the blocks that it stands for."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block.model_dump(mode="json", exclude_defaults=True) for block in content]


def _canonical(value: Any) -> bytes:
    return json.dumps(_unmarked(value), sort_keys=True).encode() + b"\0"


def _unmarked(value: Any) -> Any:
    match value:
        case dict():
            return {k: _unmarked(v) for k, v in value.items() if k != "cache_control"}
        case list():
            return [_unmarked(item) for item in value]
        case _:
            return value

"""What the contents of a call may be: words, and pictures that come with it.

A source that the provider fetches by address is a way out of the sandbox, and one that it keeps
under an id belongs to the key and not to the step. What comes along has its bytes to count it by,
except for pictures and pages, which cost by their size.
"""

from collections.abc import Iterator
from typing import Any

__all__ = ["IMAGE_TOKENS", "PAGES_TOKENS", "ContentError", "tokens_beside_the_bytes"]

IMAGE_TOKENS = 5_000
"""More than an image costs, which the provider scales down first; a blank one has few bytes."""

PAGES_TOKENS = 1_000_000
"""Of a PDF: as many pages as a model's window holds, for few bytes may be many pages."""

_BLOCKS = frozenset(
    {
        "text", "image", "document", "search_result", "thinking", "redacted_thinking",
        "tool_use", "tool_result", "server_tool_use",
    }
)  # fmt: skip
_SOURCES = frozenset({"base64", "text", "content"})


class ContentError(Exception):
    """Something in it may not be sent; the message says where and why."""


def tokens_beside_the_bytes(body: dict[str, Any]) -> int:
    """Return how many tokens the contents of *body* may cost beyond what their bytes tell.

    Raises ContentError for what reaches out of the sandbox. What is no content at all is left to
    the provider to refuse.
    """
    tokens = 0
    for place, block in _blocks(body):
        kind = block.get("type")
        if not isinstance(kind, str) or (kind not in _BLOCKS and not _is_result(kind)):
            raise ContentError(f"{place}: blocks of type {kind!r} may not be sent by a step")
        for inner in _sourced(block):
            source = inner["source"]
            if not isinstance(source, dict) or source.get("type") not in _SOURCES:
                what = source.get("type") if isinstance(source, dict) else source
                raise ContentError(
                    f"{place}: a source of type {what!r} is fetched by the provider, which is a way"
                    " out of the sandbox; send the content itself"
                )
            if source["type"] == "base64":
                tokens += IMAGE_TOKENS if inner.get("type") == "image" else PAGES_TOKENS
    return tokens


def _is_result(kind: str) -> bool:
    """Tell whether *kind* is what a provider's tool gave; that is given back unchanged."""
    return kind.endswith("_tool_result")


def _blocks(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each block of the system's words and the messages, with its place."""
    yield from _listed("system", body.get("system"))
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            yield from _listed(f"messages.{index}.content", message.get("content"))


def _listed(place: str, content: object) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, block in enumerate(content if isinstance(content, list) else ()):
        if isinstance(block, dict):
            yield f"{place}.{index}", block


def _sourced(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield *block* and what is within, where it is a picture, a document, or would be one.

    The input of a tool is data, whatever it looks like; a search result's source is a name.
    """
    waiting: list[Any] = [block]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            kind = found.get("type")
            if kind in {"tool_use", "server_tool_use"}:
                continue
            if "source" in found and kind != "search_result":
                yield found
            waiting += [value for value in found.values() if isinstance(value, dict | list)]

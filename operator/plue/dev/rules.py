"""What the Messages API refuses of a request whose fields are right, in the API's own words.

The rules are those of the models that Plue's clients mean: they know no prefill, no sampling
parameters, no tool that is forced and no thinking that is turned off. Where an older model would
take a request, a client that moves on would find out late, so it is refused all the same. Some
rules are stricter than any model's and say so.
"""

import re
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import JsonValue

from plue.dev.shapes import CustomTool, Message, Request, WebTool
from plue.dev.signatures import Prefix, signature_of

__all__ = ["problems_of"]

MOST_TOKENS = 128_000
"""Of an answer of any current model."""
MOST_CACHED = 4
MOST_STRICT_TOOLS, MOST_OPTIONAL, MOST_UNIONS = 20, 24, 16
"""Of all schemas of guaranteed output in one request together."""

_KEY = re.compile(r"^[a-zA-Z0-9_.-]{1,64}$")
_UNGUARANTEED = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "maxItems", "uniqueItems", "minProperties", "maxProperties", "oneOf",
)  # fmt: skip
_SAY_EFFORT = (
    'is not supported for this model. Use "thinking.type.adaptive" and "output_config.effort" to'
    " control thinking behavior."
)


def problems_of(request: Request) -> Iterator[str]:
    """Yield what is wrong with *request*; the API tells the first."""
    yield from _settings(request)
    yield from _order(request.messages)
    yield from _texts(request)
    yield from _ids(request.messages)
    yield from _results(request.messages)
    yield from _server_results(request.messages)
    yield from _thinking(request)
    yield from _tools(request)
    yield from _guaranteed(request)
    yield from _caching(request)


def _settings(request: Request) -> Iterator[str]:
    if request.max_tokens < 1:
        yield "max_tokens: must be greater than or equal to 1"
    if request.max_tokens > MOST_TOKENS:
        yield (
            f"max_tokens: {request.max_tokens} > {MOST_TOKENS}, which is the maximum allowed number"
            f" of output tokens for {request.model}"
        )
    if any(not one.strip() for one in request.stop_sequences):
        yield "stop_sequences: each stop sequence must contain non-whitespace"
    kind = None if request.thinking is None else request.thinking.type
    little = kind == "between_tools" and "sonnet" in request.model
    if kind not in {None, "adaptive"} and not little:
        yield f'"thinking.type.{kind}" {_SAY_EFFORT}'
    elif getattr(request.thinking, "budget_tokens", None) is not None:
        yield "thinking.adaptive.budget_tokens: Extra inputs are not permitted"


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


def _order(messages: tuple[Message, ...]) -> Iterator[str]:
    if messages[0].role != "user":
        yield "messages: first message must use the user role"
    for index in range(1, len(messages)):
        # Stricter than the API, which joins them: a client that sends them has lost count. Only a
        # turn that was paused is followed by the rest of itself.
        rest = messages[index].role == "assistant" and _is_paused(messages[index - 1])
        if messages[index].role == messages[index - 1].role and not rest:
            yield f"messages.{index}: roles must alternate between user and assistant"
    if messages[-1].role == "assistant" and not _is_paused(messages[-1]):
        yield (
            "This model does not support assistant message prefill. The conversation must end"
            " with a user message."
        )
    wrong = {
        "user": {"tool_use", "thinking", "redacted_thinking", "server_tool_use"},
        "assistant": {"tool_result", "image", "document", "search_result"},
    }
    for index, position, block in _placed(messages):
        role = messages[index].role
        if block.type in wrong[role]:
            yield (
                f"messages.{index}.content.{position}: {block.type} blocks are not allowed in"
                f" {role} messages"
            )


def _texts(request: Request) -> Iterator[str]:
    for index, message in enumerate(request.messages):
        if not message.content:
            yield f"messages.{index}: {message.role} messages must have non-empty content"
        elif isinstance(message.content, str) and not message.content.strip():
            yield "messages: text content blocks must contain non-whitespace text"
    system = () if isinstance(request.system, str) else request.system
    said = [("messages", block) for _, _, block in _placed(request.messages)]
    for place, block in [*(("system", block) for block in system), *said]:
        if block.type == "text" and not block.text:
            yield f"{place}: text content blocks must be non-empty"
        elif block.type == "text" and not block.text.strip():
            yield f"{place}: text content blocks must contain non-whitespace text"


def _ids(messages: tuple[Message, ...]) -> Iterator[str]:
    seen: set[str] = set()
    for index, position, block in _placed(messages):
        if block.type in {"tool_use", "server_tool_use"}:
            if block.id in seen:
                yield f"messages.{index}.content.{position}: `tool_use` ids must be unique"
            seen.add(block.id)


def _results(messages: tuple[Message, ...]) -> Iterator[str]:
    waiting: list[str] = []
    for index, message in enumerate(messages):
        types = [block.type for block in message.blocks]
        given = [block.tool_use_id for block in message.blocks if block.type == "tool_result"]
        for name in given:
            if name not in waiting:
                yield (
                    f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks:"
                    f" {name}. Each `tool_result` block must have a corresponding `tool_use` block"
                    " in the previous message."
                )
            if given.count(name) > 1:
                yield (
                    f"messages.{index}: each tool_use must have a single result. Found multiple"
                    f" `tool_result` blocks with id: {name}"
                )
        # Only those that come before anything else are results of what was used.
        first = given if types[: len(given)] == ["tool_result"] * len(given) else []
        missing = [name for name in waiting if name not in first]
        if missing:
            yield (
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks"
                f" immediately after: {', '.join(missing)}. Each `tool_use` block must have a"
                " corresponding `tool_result` block in the next message."
            )
        waiting = [block.id for block in message.blocks if block.type == "tool_use"]
    if waiting:
        yield f"messages.{len(messages) - 1}: `tool_use` ids were found without results"


def _server_results(messages: tuple[Message, ...]) -> Iterator[str]:
    open_uses: dict[str, str] = {}
    for index, message in enumerate(messages):
        if message.role == "user":
            for use, name in open_uses.items():
                yield (
                    f"messages.{index - 1}: `{name}` tool use with id `{use}` was found without a"
                    f" corresponding `{name}_tool_result` block"
                )
            open_uses = {}
        for position, block in enumerate(message.blocks):
            if block.type == "server_tool_use":
                open_uses[block.id] = block.name
            elif block.type in {"web_search_tool_result", "web_fetch_tool_result"}:
                if block.tool_use_id not in open_uses:
                    yield (
                        f"messages.{index}.content.{position}: unexpected `tool_use_id` found in"
                        f" `{block.type}` blocks: {block.tool_use_id}. Each `{block.type}` block"
                        " must have a corresponding `server_tool_use` block before it."
                    )
                open_uses.pop(block.tool_use_id, None)


def _thinking(request: Request) -> Iterator[str]:
    prefix = Prefix(request)
    for index, message in enumerate(request.messages):
        said = False
        for position, block in enumerate(message.blocks):
            said = said or block.type in {"text", "tool_use"}
            if block.type != "thinking":
                continue
            place = f"messages.{index}.content.{position}"
            right = signature_of(block.thinking, prefix)
            if block.signature.partition(".")[0] != right.partition(".")[0]:
                yield f"{place}: Invalid `signature` in `thinking` block"
            elif block.signature != right:
                # Ours: the API calls it a prefix mismatch, in words that are not on record.
                yield (
                    f"{place}: this `thinking` block belongs to another conversation: the system"
                    " prompt, the tools or a message before it were changed since"
                )
            elif said:
                yield (
                    f"{place}: `thinking` or `redacted_thinking` blocks in the latest assistant"
                    " message cannot be modified. These blocks must remain as they were in the"
                    " original response."
                )
        prefix.add(message)


def _is_paused(message: Message) -> bool:
    return any(block.type == "server_tool_use" for block in message.blocks)


def _placed(messages: tuple[Message, ...]) -> Iterator[tuple[int, int, Any]]:
    """Yield (message's index, block's position, block)."""
    for index, message in enumerate(messages):
        for position, block in enumerate(message.blocks):
            yield index, position, block


# ── tools ────────────────────────────────────────────────────────────────────────────────────────


def _tools(request: Request) -> Iterator[str]:
    names = Counter(tool.name for tool in request.tools)
    for name, count in names.items():
        if count > 1:
            yield f"tools: Tool names must be unique: {name}"
    for index, tool in enumerate(request.tools):
        if isinstance(tool, CustomTool):
            yield from _input(tool.input_schema, f"tools.{index}.custom.input_schema")
        else:
            yield from _web(tool, f"tools.{index}.{tool.type}")
    if request.tools and all(tool.defer_loading for tool in request.tools):
        yield "All tools have defer_loading set"
    yield from _choice(request, names.keys())


def _choice(request: Request, names: AbstractSet[str]) -> Iterator[str]:
    choice = request.tool_choice
    if choice is None:
        return
    if not names:
        yield "tool_choice: tool_choice may only be specified while providing tools"
    elif choice.type == "tool" and choice.name not in names:
        yield f"tool_choice.name: Tool '{choice.name}' not found in provided tools"
    elif choice.type in {"any", "tool"}:
        yield 'tool_choice: type "tool" and "any" are not supported for this model.'


def _web(tool: WebTool, place: str) -> Iterator[str]:
    if not tool.type.startswith(f"{tool.name}_"):
        yield f"{place}.name: Input should be '{tool.type[:-9]}'"
    if tool.allowed_domains is not None and tool.blocked_domains is not None:
        yield f"{place}: only one of `allowed_domains` and `blocked_domains` can be given"


def _input(schema: dict[str, JsonValue], place: str) -> Iterator[str]:
    if any(key in schema for key in ("oneOf", "allOf", "anyOf")):
        yield f"{place}: input_schema does not support oneOf, allOf, or anyOf at the top level"
    if schema.get("type") != "object":
        yield f"{place}.type: Input should be 'object'"
    properties = schema.get("properties")
    if isinstance(properties, dict) and not all(map(_KEY.match, properties)):
        yield f"{place}.properties: Property keys should match pattern '{_KEY.pattern}'"


def _guaranteed(request: Request) -> Iterator[str]:
    """Yield what is wrong with the schemas that answers and inputs are guaranteed to fit."""
    strict = [
        (f"tools.{index}.custom", tool.input_schema)
        for index, tool in enumerate(request.tools)
        if isinstance(tool, CustomTool) and tool.strict
    ]
    if len(strict) > MOST_STRICT_TOOLS:
        yield (
            f"Too many strict tools ({len(strict)}). The maximum number of strict tools supported"
            f" is {MOST_STRICT_TOOLS}. Try reducing the number of tools marked as strict."
        )
    if request.output_config is not None and request.output_config.format is not None:
        strict.append(("output_config.format.schema", request.output_config.format.schema_))
    optional = unions = 0
    for place, schema in strict:
        for part in _parts(schema):
            yield from _closed(part, place)
            properties, required = part.get("properties"), part.get("required")
            names = set(properties) if isinstance(properties, dict) else set()
            optional += len(names - set(map(str, required if isinstance(required, list) else ())))
            unions += "anyOf" in part or isinstance(part.get("type"), list)
    if optional > MOST_OPTIONAL:
        yield (
            f"Schemas contains too many optional parameters ({optional}), which would make grammar"
            f" compilation inefficient. (limit: {MOST_OPTIONAL})"
        )
    if unions > MOST_UNIONS:
        yield (
            f"Schemas contains too many parameters with union types ({unions} parameters with type"
            f" arrays or anyOf). (limit: {MOST_UNIONS} parameters with unions)"
        )


def _closed(schema: dict[str, JsonValue], place: str) -> Iterator[str]:
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        yield (
            f"{place}: For 'object' type, 'additionalProperties' must be explicitly set to false"
        )
    for name in _UNGUARANTEED:
        if name in schema:
            yield f"{place}: For this schema, property '{name}' is not supported"
    if schema.get("minItems", 0) not in {0, 1}:
        yield f"{place}: For 'array' type, 'minItems' values other than 0 or 1 are not supported"


def _parts(schema: JsonValue) -> Iterator[dict[str, JsonValue]]:
    """Yield a schema and the schemas in it; the names of properties are none of its keywords."""
    if isinstance(schema, list):
        for item in schema:
            yield from _parts(item)
    if not isinstance(schema, dict):
        return
    yield schema
    for key, value in schema.items():
        if key in {"properties", "$defs", "definitions"} and isinstance(value, dict):
            for inner in value.values():
                yield from _parts(inner)
        elif key in {"items", "anyOf", "allOf", "oneOf", "additionalProperties"}:
            yield from _parts(value)


# ── caching ──────────────────────────────────────────────────────────────────────────────────────


def _caching(request: Request) -> Iterator[str]:
    system = () if isinstance(request.system, str) else request.system
    marked = [
        *((f"tools.{index}", tool) for index, tool in enumerate(request.tools)),
        *((f"system.{index}", block) for index, block in enumerate(system)),
        *(
            (f"messages.{index}.content.{position}", block)
            for index, position, block in _placed(request.messages)
        ),
    ]
    marks = [
        (place, block.cache_control.ttl)
        for place, block in marked
        if getattr(block, "cache_control", None) is not None
    ]
    # The one of the whole request is put at its last block.
    whole = [] if request.cache_control is None else [("cache_control", request.cache_control.ttl)]
    found = [*marks, *whole]
    if len(found) > MOST_CACHED:
        yield (
            f"A maximum of {MOST_CACHED} blocks with cache_control may be provided. Found"
            f" {len(found)}."
        )
    short = False
    for place, ttl in found:
        if ttl == "1h" and short:
            yield (
                f"{place}.cache_control.ttl: a ttl='1h' cache_control block must not come after a"
                " ttl='5m' cache_control block. Note that blocks are processed in the following"
                " order: tools, system, messages."
            )
        short = short or ttl == "5m"

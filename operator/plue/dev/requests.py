"""What the Messages API refuses, refused in its words: fields, order of turns, tool results.

The rules are those of the API reference for models that know no prefill and no sampling
parameters. One is stricter than the API: it joins consecutive messages of one role, and here they
are refused, because a client that sends them has lost count.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

__all__ = ["BadRequestError", "Request", "opening_of", "read_request", "signature_of"]


class BadRequestError(Exception):
    """The request is one that the API answers with 400 ``invalid_request_error``."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _CacheControl(_Part):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class _Cacheable(_Part):
    cache_control: _CacheControl | None = None


class _Text(_Cacheable):
    type: Literal["text"]
    text: Annotated[str, Field(min_length=1)]
    citations: JsonValue = None


class _Image(_Cacheable):
    type: Literal["image", "document"]
    source: dict[str, JsonValue]
    title: str | None = None


class _Thinking(_Part):
    type: Literal["thinking"]
    thinking: str
    signature: str


class _RedactedThinking(_Part):
    type: Literal["redacted_thinking"]
    data: str


class _ToolUse(_Cacheable):
    type: Literal["tool_use", "server_tool_use"]
    id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    input: dict[str, JsonValue]
    caller: JsonValue = None


class _ToolResult(_Cacheable):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | tuple[Annotated[_Text | _Image, Field(discriminator="type")], ...] = ""
    is_error: bool = False


class _ServerToolResult(_Cacheable):
    type: Literal["web_search_tool_result", "web_fetch_tool_result"]
    tool_use_id: str
    content: JsonValue
    caller: JsonValue = None


_Block = Annotated[
    _Text | _Image | _Thinking | _RedactedThinking | _ToolUse | _ToolResult | _ServerToolResult,
    Field(discriminator="type"),
]


class _Message(_Part):
    role: Literal["user", "assistant"]
    content: Annotated[str, Field(min_length=1)] | Annotated[tuple[_Block, ...], Field()]

    @property
    def blocks(self) -> tuple[Any, ...]:
        return () if isinstance(self.content, str) else self.content


class _Tool(_Cacheable):
    """One of the client's tools, or with ``type`` one of the server's."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, JsonValue] | None = None
    strict: bool = False
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    input_examples: tuple[JsonValue, ...] | None = None
    allowed_callers: tuple[str, ...] | None = None
    max_uses: Annotated[int, Field(ge=1)] | None = None
    allowed_domains: tuple[str, ...] | None = None
    blocked_domains: tuple[str, ...] | None = None
    user_location: JsonValue = None


class _ToolChoice(_Part):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class _Format(_Part):
    type: Literal["json_schema"]
    schema_: dict[str, JsonValue] = Field(alias="schema")


class _OutputConfig(_Part):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class _Adaptive(_Part):
    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None


class _Metadata(_Part):
    user_id: str | None = None


class Request(_Part):
    """A request for one message."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Field(ge=1, le=128_000)]
    messages: Annotated[tuple[_Message, ...], Field(min_length=1, max_length=100_000)]
    system: str | tuple[_Text, ...] = ""
    stream: bool = False
    tools: tuple[_Tool, ...] = ()
    tool_choice: _ToolChoice | None = None
    stop_sequences: tuple[str, ...] = ()
    cache_control: _CacheControl | None = None
    output_config: _OutputConfig | None = None
    thinking: _Adaptive | None = None
    metadata: _Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None


def read_request(body: bytes) -> Request:
    """Parse and check a request. Raises BadRequestError with the API's message."""
    try:
        request = Request.model_validate_json(body)
    except ValidationError as error:
        raise BadRequestError(_said(error)) from error
    for problem in _problems(request):
        raise BadRequestError(problem)
    return request


def opening_of(request: Request) -> str:
    """Return the text that a conversation begins with: the system prompt and the first message."""
    system = request.system if isinstance(request.system, str) else _text_of(request.system)
    first = request.messages[0]
    said = first.content if isinstance(first.content, str) else _text_of(first.content)
    return f"{system}\n{said}"


def signature_of(thinking: str) -> str:
    """Return the signature that a thinking block must be given back with."""
    return hashlib.sha256(b"thinking\0" + thinking.encode()).hexdigest()


def _text_of(blocks: tuple[Any, ...]) -> str:
    return "\n".join(block.text for block in blocks if isinstance(block, _Text))


def _said(error: ValidationError) -> str:
    first = error.errors()[0]
    # A union's tag stands in the path of the error, and not in the request.
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{place}: Extra inputs are not permitted"
    if first["type"] == "missing":
        return f"{place}: Field required"
    return f"{place}: {first['msg']}" if place else first["msg"]


def _problems(request: Request) -> Iterator[str]:
    yield from _order(request.messages)
    yield from _results(request.messages)
    yield from _thinking(request.messages)
    yield from _tools(request)


def _order(messages: tuple[_Message, ...]) -> Iterator[str]:
    if messages[0].role != "user":
        yield "messages: first message must use the user role"
    for index in range(1, len(messages)):
        if messages[index].role == messages[index - 1].role:
            yield f"messages.{index}: roles must alternate between user and assistant"
    last = messages[-1]
    paused = any(getattr(block, "type", "") == "server_tool_use" for block in last.blocks)
    if last.role == "assistant" and not paused:
        yield (
            "This model does not support assistant message prefill. The conversation must end"
            " with a user message."
        )
    for index, message in enumerate(messages):
        if not message.content:
            yield f"messages.{index}: all messages must have non-empty content"
        for position, block in enumerate(message.blocks):
            wrong = {"user": ("tool_use", "thinking"), "assistant": ("tool_result", "image")}
            if block.type in wrong[message.role]:
                yield (
                    f"messages.{index}.content.{position}: {block.type} blocks are not allowed in"
                    f" {message.role} messages"
                )


def _results(messages: tuple[_Message, ...]) -> Iterator[str]:
    waiting: list[str] = []
    for index, message in enumerate(messages):
        given = [block.tool_use_id for block in message.blocks if block.type == "tool_result"]
        for name in given:
            if name not in waiting:
                yield (
                    f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks:"
                    f" {name}. Each `tool_result` block must have a corresponding `tool_use` block"
                    " in the previous message."
                )
            if given.count(name) > 1:
                yield f"messages.{index}: each tool_use must have a single result: {name}"
        missing = [name for name in waiting if name not in given]
        if missing:
            yield (
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks"
                f" immediately after: {', '.join(missing)}. Each `tool_use` block must have a"
                " corresponding `tool_result` block in the next message."
            )
        types = [block.type for block in message.blocks]
        if "tool_result" in types and types[: len(given)] != ["tool_result"] * len(given):
            yield f"messages.{index}: `tool_result` blocks must come first in the content"
        waiting = [block.id for block in message.blocks if block.type == "tool_use"]
    if waiting:
        yield f"messages.{len(messages) - 1}: `tool_use` ids were found without results"


def _thinking(messages: tuple[_Message, ...]) -> Iterator[str]:
    for index, message in enumerate(messages):
        for position, block in enumerate(message.blocks):
            if block.type == "thinking" and block.signature != signature_of(block.thinking):
                yield (
                    f"messages.{index}.content.{position}: Invalid `signature` in `thinking` block"
                )


def _tools(request: Request) -> Iterator[str]:
    names = [tool.name for tool in request.tools]
    for index, tool in enumerate(request.tools):
        if names.count(tool.name) > 1:
            yield f"tools: Tool names must be unique: {tool.name}"
        if tool.type in {None, "custom"}:
            if tool.input_schema is None:
                yield f"tools.{index}.custom.input_schema: Field required"
            elif tool.input_schema.get("type") != "object":
                yield f"tools.{index}.custom.input_schema.type: Input should be 'object'"
            elif tool.strict:
                yield from _strict(tool.input_schema, f"tools.{index}.custom")
    choice = request.tool_choice
    if choice is not None and choice.type == "tool" and choice.name not in names:
        yield f"tool_choice.name: Tool '{choice.name}' not found in provided tools"
    if choice is not None and not names:
        yield "tool_choice: tool_choice may only be specified while providing tools"
    if request.output_config is not None and request.output_config.format is not None:
        yield from _strict(request.output_config.format.schema_, "output_config.format.schema")


def _strict(schema: JsonValue, place: str) -> Iterator[str]:
    """Yield what a schema for guaranteed output must not have."""
    if isinstance(schema, list):
        for item in schema:
            yield from _strict(item, place)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        yield (
            f"{place}: For 'object' type, 'additionalProperties' must be explicitly set to false"
        )
    for name in ("minimum", "maximum", "minLength", "maxLength", "maxItems"):
        if name in schema and not isinstance(schema[name], dict):
            yield f"{place}: For this schema, property '{name}' is not supported"
    for value in schema.values():
        yield from _strict(value, place)

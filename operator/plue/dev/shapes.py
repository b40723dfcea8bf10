"""Requests of the Messages API as their fields and types go; what else holds is in ``rules``.

Fields that the API has and that Plue's own proxy does not let through are unknown here as well.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

__all__ = ["BLOCKS", "WORDS", "CustomTool", "Message", "Request", "WebTool"]

WORDS, BLOCKS = "words", "blocks"
"""The two forms of content: they stand in an error's place, and not in the request."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _CacheControl(_Part):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class _Cacheable(_Part):
    cache_control: _CacheControl | None = None


# ── content ──────────────────────────────────────────────────────────────────────────────────────


def _form(content: object) -> str:
    return WORDS if isinstance(content, str) else BLOCKS


class _Text(_Cacheable):
    type: Literal["text"]
    text: str
    citations: JsonValue = None


class _Picture(_Part):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[str, Field(min_length=1)]


class _Pages(_Part):
    type: Literal["base64"]
    media_type: Literal["application/pdf"]
    data: Annotated[str, Field(min_length=1)]


class _Plain(_Part):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


class _Parts(_Part):
    type: Literal["content"]
    content: JsonValue


class _Address(_Part):
    type: Literal["url"]
    url: Annotated[str, Field(min_length=1)]


class _File(_Part):
    type: Literal["file"]
    file_id: Annotated[str, Field(min_length=1)]


class _Image(_Cacheable):
    type: Literal["image"]
    source: Annotated[_Picture | _Address | _File, Field(discriminator="type")]


class _Document(_Cacheable):
    type: Literal["document"]
    source: Annotated[_Pages | _Plain | _Parts | _Address | _File, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None
    citations: JsonValue = None


class _SearchResult(_Cacheable):
    type: Literal["search_result"]
    source: str
    title: str
    content: tuple[_Text, ...]
    citations: JsonValue = None


class _Thinking(_Part):
    type: Literal["thinking"]
    thinking: str
    signature: str


class _RedactedThinking(_Part):
    type: Literal["redacted_thinking"]
    data: str


class _ToolUse(_Cacheable):
    type: Literal["tool_use"]
    id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    input: dict[str, JsonValue]
    caller: JsonValue = None


class _ServerToolUse(_Cacheable):
    type: Literal["server_tool_use"]
    id: Annotated[str, Field(pattern=r"^srvtoolu_[a-zA-Z0-9_]+$")]
    name: Literal["web_search", "web_fetch"]
    input: dict[str, JsonValue]
    caller: JsonValue = None


_Shown = Annotated[_Text | _Image | _Document | _SearchResult, Field(discriminator="type")]


class _ToolResult(_Cacheable):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[
        Annotated[str, Tag(WORDS)] | Annotated[tuple[_Shown, ...], Tag(BLOCKS)],
        Discriminator(_form),
    ] = ""
    is_error: bool = False


class _ServerToolResult(_Cacheable):
    type: Literal["web_search_tool_result", "web_fetch_tool_result"]
    tool_use_id: str
    content: JsonValue
    caller: JsonValue = None


_Block = Annotated[
    _Text
    | _Image
    | _Document
    | _SearchResult
    | _Thinking
    | _RedactedThinking
    | _ToolUse
    | _ServerToolUse
    | _ToolResult
    | _ServerToolResult,
    Field(discriminator="type"),
]


class Message(_Part):
    """A turn of the conversation."""

    role: Literal["user", "assistant"]
    content: Annotated[
        Annotated[str, Tag(WORDS)] | Annotated[tuple[_Block, ...], Tag(BLOCKS)],
        Discriminator(_form),
    ]

    @property
    def blocks(self) -> tuple[Any, ...]:
        """Return the content's blocks; words alone are none."""
        return () if isinstance(self.content, str) else self.content


# ── tools ────────────────────────────────────────────────────────────────────────────────────────


class _AnyTool(_Cacheable):
    strict: bool = False
    defer_loading: bool = False
    allowed_callers: tuple[str, ...] | None = None


class CustomTool(_AnyTool):
    """One of the client's own tools."""

    type: Literal["custom"] | None = None
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    description: str | None = None
    input_schema: dict[str, JsonValue]
    eager_input_streaming: bool | None = None
    input_examples: tuple[dict[str, JsonValue], ...] | None = None


class WebTool(_AnyTool):
    """One of the provider's tools."""

    type: Annotated[str, Field(pattern=r"^web_(search|fetch)_20\d{6}$")]
    name: Literal["web_search", "web_fetch"]
    max_uses: Annotated[int, Field(ge=1)] | None = None
    allowed_domains: tuple[str, ...] | None = None
    blocked_domains: tuple[str, ...] | None = None
    user_location: JsonValue = None
    response_inclusion: Literal["full", "excluded"] | None = None
    max_content_tokens: Annotated[int, Field(ge=1)] | None = None
    citations: JsonValue = None
    use_cache: bool | None = None


def _whose(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "custom" if kind in {None, "custom"} else "server"


_Tool = Annotated[
    Annotated[CustomTool, Tag("custom")] | Annotated[WebTool, Tag("server")], Discriminator(_whose)
]


class _Choice(_Part):
    type: Literal["auto", "any"]
    disable_parallel_tool_use: bool = False


class _OneTool(_Part):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool = False


class _NoTool(_Part):
    type: Literal["none"]


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────


class _Format(_Part):
    type: Literal["json_schema"]
    schema_: dict[str, JsonValue] = Field(alias="schema")


class _OutputConfig(_Part):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class _Thought(_Part):
    type: Literal["adaptive", "enabled"]
    display: Literal["summarized", "omitted"] | None = None
    budget_tokens: int | None = None


class _LittleThought(_Part):
    type: Literal["disabled", "between_tools"]


class _Metadata(_Part):
    user_id: str | None = None


class Request(_Part):
    """A request for one message."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_tokens: int
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=100_000)]
    system: Annotated[
        Annotated[str, Tag(WORDS)] | Annotated[tuple[_Text, ...], Tag(BLOCKS)],
        Discriminator(_form),
    ] = ""
    stream: bool = False
    tools: tuple[_Tool, ...] = ()
    tool_choice: Annotated[_Choice | _OneTool | _NoTool, Field(discriminator="type")] | None = None
    stop_sequences: tuple[str, ...] = ()
    cache_control: _CacheControl | None = None
    output_config: _OutputConfig | None = None
    thinking: Annotated[_Thought | _LittleThought, Field(discriminator="type")] | None = None
    metadata: _Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

"""What of a call is let through: fields by allow-list, models by name, server tools by pool."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from plue.domain.budget import seconds_of
from plue.gateway.llm.content import ContentError, tokens_beside_the_bytes
from plue.gateway.llm.settings import ModelSettings

__all__ = ["Admitted", "NotAdmittedError", "admit"]

_FIELDS = frozenset(
    {
        "model", "max_tokens", "messages", "system", "tools", "tool_choice", "stream",
        "stop_sequences", "cache_control", "output_config", "thinking",
    }
)  # fmt: skip
"""Fields of the Messages API that a step may set; what is not here could reach out of it."""


MAX_USES = 100
"""How often a call may have one of the provider's tools used."""


class NotAdmittedError(Exception):
    """The call may not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call as it goes on to the provider."""

    body: bytes
    client: str
    model: str
    stream: bool
    output_tokens: int
    beside: int = 0
    """Tokens that bytes do not tell of: pictures and pages."""
    searches: int = 0
    """The most searches that the provider may make."""
    uses: int = 0
    """The most uses of all its tools, searches among them."""

    @property
    def seconds(self) -> Decimal:
        """For how long the call may last; then it is ended."""
        return seconds_of(self.output_tokens, self.uses)

    @property
    def input_tokens(self) -> int:
        """The most tokens that the input can be: no tokenizer makes less than two bytes of one.

        What the provider's own tools read on the way is known only when it has answered.
        """
        return len(self.body) // 2 + 1 + self.beside


def admit(raw: bytes, *, pool: str, settings: ModelSettings) -> Admitted:
    """Check a call and put the model's id into it. Raises NotAdmittedError."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NotAdmittedError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise NotAdmittedError("the body is not an object")
    unknown = sorted(body.keys() - _FIELDS)
    if unknown:
        raise NotAdmittedError(f"{unknown[0]}: this field may not be set by a step")
    client = _client(body, pool, settings)
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise NotAdmittedError("max_tokens: a whole number of tokens is needed")
    if limit > settings.output_tokens:
        raise NotAdmittedError(f"max_tokens: at most {settings.output_tokens} are allowed")
    searches, uses = _check_tools(body.get("tools"), settings.of_pool(pool).server_tools, pool)
    try:
        beside = tokens_beside_the_bytes(body)
    except ContentError as error:
        raise NotAdmittedError(str(error)) from error
    model = settings.clients[client]
    stream = body.get("stream", False) is True
    sent = json.dumps({**body, "model": model}, ensure_ascii=False, separators=(",", ":"))
    sent_bytes = sent.encode("utf-8", "surrogatepass")
    return Admitted(sent_bytes, client, model, stream, limit, beside, searches, uses)


def _client(body: dict[str, Any], pool: str, settings: ModelSettings) -> str:
    client = body.get("model")
    if not isinstance(client, str) or client not in settings.clients:
        known = ", ".join(sorted(settings.clients))
        raise NotAdmittedError(f"model: there is no client {client!r}; there are: {known}")
    allowed = settings.of_pool(pool).clients
    if allowed is not None and client not in allowed:
        known = ", ".join(sorted(allowed)) or "none"
        raise NotAdmittedError(f"model: pool {pool!r} may not use {client!r}; it may use: {known}")
    return client


def _check_tools(tools: object, allowed: frozenset[str], pool: str) -> tuple[int, int]:
    """Return how many searches, and uses of tools in all, the provider may make.

    Raises NotAdmittedError.
    """
    searches, all_uses = 0, 0
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind in {None, "custom"}:
            continue
        name = str(tool.get("name"))
        if name not in allowed or not str(kind).startswith(f"{name}_"):
            raise NotAdmittedError(
                f"tools.{index}: {name} runs at the provider, which is a way out of the sandbox;"
                f" pool {pool!r} does not allow it: an administrator adds it to"
                f" pools.{pool}.server_tools of the model settings"
            )
        uses = tool.get("max_uses")
        if not isinstance(uses, int) or isinstance(uses, bool) or not 1 <= uses <= MAX_USES:
            raise NotAdmittedError(
                f"tools.{index}.max_uses: a whole number up to {MAX_USES} is needed, which is what"
                " the budget must have room for"
            )
        searches += uses if name == "web_search" else 0
        all_uses += uses
    return searches, all_uses

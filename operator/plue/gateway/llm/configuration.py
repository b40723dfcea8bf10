"""Model settings as servers are given them: a file, budgets in one line, and a key.

The file is YAML, the same on a laptop and in a cluster (there a mounted ConfigMap)::

    clients: {anthropic/claude-sonnet: claude-sonnet-5-5}   # beside the names that are built in
    pools:
      default: {clients: [anthropic/claude-haiku], server_tools: [web_search]}
    budgets: {run: {usd: 5}, day: {usd: 50, tokens: 10000000}}
    prices: {claude-sonnet-5-5: {input: 2, output: 10, cache_read: 0.1}}   # $ a million tokens
    output_tokens: 32000
    base_url: https://api.anthropic.com

Keys are never in it: the environment has them, or names a file (a mounted Secret).
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import yaml
from aiohttp import ClientSession, TCPConnector
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plue.domain.budget import Budgets, Limit, Scope
from plue.errors import UsageError
from plue.gateway.llm.providers import API, AnthropicProvider, credentials_from
from plue.gateway.llm.settings import CLIENTS, Models, ModelSettings, PoolModels

__all__ = ["ModelFile", "models_with", "parse_budgets", "read_file", "settings_of"]

SERVER_TOOLS = frozenset({"web_search", "web_fetch"})

_LONGEST = Decimal(10**9)
"""Seconds: some thirty years, which the books can still write down."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Limit(_Part):
    usd: Annotated[Decimal, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    calls: Annotated[int, Field(ge=0)] | None = None
    seconds: Annotated[Decimal, Field(ge=0, le=_LONGEST)] | None = None


class _Pool(_Part):
    clients: frozenset[str] | None = None
    server_tools: frozenset[str] = frozenset()


class ModelFile(_Part):
    """What the file says; what it does not say is as without it."""

    clients: dict[str, Annotated[str, Field(min_length=1)]] = {}
    pools: dict[str, _Pool] = {}
    budgets: dict[Scope, _Limit] | None = None
    prices: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = {}
    output_tokens: Annotated[int, Field(ge=1)] = ModelSettings().output_tokens
    base_url: str | None = None


def read_file(path: Path | None) -> ModelFile:
    """Return what the file at *path* says. Raises UsageError that names the place in it."""
    if path is None:
        return ModelFile()
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = ModelFile.model_validate({} if said is None else said)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _wrong(path, str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise _wrong(path, f"{place}: {first['msg']}") from error
    known = {*CLIENTS, *found.clients}
    for pool, may in found.pools.items():
        for wrong in sorted((may.clients or frozenset()) - known):
            names = ", ".join(sorted(known))
            raise _wrong(path, f"pools.{pool}.clients: there is no {wrong!r}; there are: {names}")
        for wrong in sorted(may.server_tools - SERVER_TOOLS):
            raise _wrong(
                path,
                f"pools.{pool}.server_tools: there is no {wrong!r};"
                f" there are: {', '.join(sorted(SERVER_TOOLS))}",
            )
    return found


def _wrong(path: Path, what: str) -> UsageError:
    return UsageError(f"the model settings {path}: {what}", field="models")


def settings_of(file: ModelFile, budgets: str) -> ModelSettings:
    """Return the proxy's settings; the file's budgets outrank those of the line *budgets*.

    Raises UsageError for a line that is wrong.
    """
    limits = parse_budgets(budgets)
    if file.budgets is not None:
        given = {scope: Limit(**limit.model_dump()) for scope, limit in file.budgets.items()}
        limits = Budgets(given)
    pools = {n: PoolModels(pool.clients, pool.server_tools) for n, pool in file.pools.items()}
    return ModelSettings(
        clients={**CLIENTS, **file.clients},
        pools=pools,
        budgets=limits,
        prices=file.prices,
        output_tokens=file.output_tokens,
    )


async def models_with(
    settings: ModelSettings,
    environment: Mapping[str, str],
    parts: AsyncExitStack,
    *,
    base_url: str | None = None,
) -> Models:
    """Return *settings* with the provider whose key is in *environment*, or with none.

    What that needs is closed with *parts*.
    """
    address = base_url or environment.get("ANTHROPIC_BASE_URL", API)
    credentials = credentials_from(environment, address, parts)
    if credentials is None:
        return Models(settings)
    # Without a bound on connections: what waited for a free one would be a stream that hangs.
    http = await parts.enter_async_context(ClientSession(connector=TCPConnector(limit=0)))
    return Models(settings, AnthropicProvider(http, credentials, address))


def parse_budgets(text: str) -> Budgets:
    """Return the budgets of a setting such as ``run.usd=5, day.tokens=1000000``.

    Raises UsageError that names the part that is wrong.
    """
    limits: dict[Scope, Limit] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, amount = part.partition("=")
        scope, _, unit = name.strip().partition(".")
        try:
            before = limits.get(Scope(scope), Limit())
            limits[Scope(scope)] = _limited(before, unit, Decimal(amount.strip()))
        except (ArithmeticError, ValueError) as error:
            raise UsageError(
                f"the budget {part!r} is not SCOPE.UNIT=AMOUNT",
                field="budgets",
                remedy="write run.usd=5; scopes are step, run, workflow and day, units are usd,"
                " tokens, calls and seconds",
            ) from error
    return Budgets(limits)


def _limited(limit: Limit, unit: str, amount: Decimal) -> Limit:
    if not amount.is_finite() or amount < 0:
        raise ValueError(amount)
    amounts: dict[str, Any] = {
        "usd": amount,
        "tokens": int(amount),
        "calls": int(amount),
        "seconds": min(amount, _LONGEST),
    }
    if unit not in amounts:
        raise ValueError(unit)
    return replace(limit, **{unit: amounts[unit]})

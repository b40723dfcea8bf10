"""Who answers for models on a laptop: a script, or the provider whose key the environment has."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal

from aiohttp import ClientSession

from plue.dev.model_server import ModelServer
from plue.dev.script import load_script
from plue.domain.budget import Budgets, Limit, Scope
from plue.errors import UsageError
from plue.gateway.llm.providers import API, AnthropicProvider, credentials_from
from plue.gateway.llm.settings import Models, ModelSettings
from plue.settings import Settings

__all__ = ["open_models", "parse_budgets"]

_SCRIPTED_KEY = "scripted"


async def open_models(settings: Settings, parts: AsyncExitStack) -> Models:
    """Return who answers for models; what that needs is closed with *parts*.

    Raises RejectedError when the script or a budget is wrong.
    """
    environment: Mapping[str, str] = os.environ
    base_url = environment.get("ANTHROPIC_BASE_URL", API)
    if settings.model_server is not None:
        server = ModelServer(load_script(settings.model_server), key=_SCRIPTED_KEY)
        await parts.enter_async_context(server)
        base_url, environment = server.url, {"ANTHROPIC_API_KEY": _SCRIPTED_KEY}
    credentials = credentials_from(environment, base_url)
    if credentials is None:
        return Models()
    http = await parts.enter_async_context(ClientSession())
    budgets = parse_budgets(settings.budgets)
    return Models(ModelSettings(budgets=budgets), AnthropicProvider(http, credentials, base_url))


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
                " tokens and calls",
            ) from error
    return Budgets(limits)


def _limited(limit: Limit, unit: str, amount: Decimal) -> Limit:
    if not amount.is_finite() or amount < 0:
        raise ValueError(amount)
    match unit:
        case "usd":
            return replace(limit, usd=amount)
        case "tokens":
            return replace(limit, tokens=int(amount))
        case "calls":
            return replace(limit, calls=int(amount))
        case _:
            raise ValueError(unit)

"""Who answers for models on a laptop: a script, or the provider whose key the environment has."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack

from aiohttp import ClientSession

from plue.dev.model_server import ModelServer
from plue.dev.script import load_script
from plue.gateway.llm.providers import API, AnthropicProvider, credentials_from
from plue.gateway.llm.settings import Models, ModelSettings
from plue.settings import Settings

__all__ = ["open_models"]

_SCRIPTED_KEY = "scripted"


async def open_models(settings: Settings, parts: AsyncExitStack) -> Models:
    """Return who answers for models; what that needs is closed with *parts*.

    Raises RejectedError when the script is wrong.
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
    return Models(ModelSettings(), AnthropicProvider(http, credentials, base_url))

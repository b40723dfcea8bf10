"""Who answers for models on a laptop: a script, or the provider whose key the environment has."""

import os
from contextlib import AsyncExitStack

from plue.dev.model_server import ModelServer
from plue.dev.script import load_script
from plue.gateway.llm.configuration import models_with, read_file, settings_of
from plue.gateway.llm.settings import Models
from plue.settings import Settings

__all__ = ["open_models"]

_SCRIPTED_KEY = "scripted"


async def open_models(settings: Settings, parts: AsyncExitStack) -> Models:
    """Return who answers for models; what that needs is closed with *parts*.

    Raises RejectedError when the script, the model settings or a budget is wrong.
    """
    file = read_file(settings.models)
    chosen = settings_of(file, settings.budgets)
    if settings.model_server is None:
        return await models_with(chosen, os.environ, parts, base_url=file.base_url)
    server = ModelServer(load_script(settings.model_server), key=_SCRIPTED_KEY)
    await parts.enter_async_context(server)
    key = {"ANTHROPIC_API_KEY": _SCRIPTED_KEY}
    return await models_with(chosen, key, parts, base_url=server.url)

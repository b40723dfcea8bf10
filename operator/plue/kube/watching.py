"""kopf, embedded: it watches, and tells our caches. Its handlers do nothing else.

No finalizers, no annotations, no status of its own: kopf's bookkeeping would cost a write per
object. What it does not tell of, deletions during a gap of the watch, our own lists find.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import kopf

from plue.kube.login import Login
from plue.kube.pod_template import POOL_LABEL
from plue.resources.crds import GROUP, RUNNER_POOL, VERSION, WORKFLOW, WORKFLOW_RUN, Kind

__all__ = ["Saw", "watch"]

Saw = Callable[[Mapping[str, Any], bool], None]
"""Takes an object of the API, and whether it was deleted."""


async def watch(
    login: Login,
    *,
    workflows: Saw,
    runs: Saw,
    pools: Saw,
    pods: Saw,
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Watch until *stop*; *ready* is set when the watches have begun."""
    registry = kopf.OperatorRegistry()
    sessions: list[aiohttp.ClientSession] = []
    _register_login(registry, login, sessions)
    for kind, saw in ((WORKFLOW, workflows), (WORKFLOW_RUN, runs), (RUNNER_POOL, pools)):
        _register(registry, kind, saw)
    _register_pods(registry, pods)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        await kopf.operator(
            registry=registry,
            settings=_settings(),
            standalone=True,  # a Lease elects; kopf's peering would freeze everybody
            clusterwide=True,
            stop_flag=stop,
            ready_flag=ready,
        )
    finally:
        for session in sessions:
            await session.close()


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 5
    settings.watching.label_selectors["pods"] = POOL_LABEL
    settings.queueing.worker_limit = 100
    settings.queueing.idle_timeout = 1.0
    settings.networking.request_timeout = 30
    settings.execution.default_backoff = 2
    return settings


def _register_login(
    registry: kopf.OperatorRegistry, login: Login, sessions: list[aiohttp.ClientSession]
) -> None:
    @kopf.on.login(registry=registry)
    async def sign_in(**_: object) -> kopf.AiohttpSession:
        # A session of its own every time: kopf asks again when the one before was refused.
        session = login.session(agent="plue-watch", timeout=aiohttp.ClientTimeout(total=None))
        sessions.append(session)
        return kopf.AiohttpSession(
            server=login.server, aiohttp_session=session, default_namespace=login.namespace
        )


def _register(registry: kopf.OperatorRegistry, kind: Kind, saw: Saw) -> None:
    @kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=f"saw-{kind.plural}")
    async def told(event: Mapping[str, Any], **_: object) -> None:
        saw(event["object"], event["type"] == "DELETED")


def _register_pods(registry: kopf.OperatorRegistry, saw: Saw) -> None:
    @kopf.on.event("", "v1", "pods", registry=registry, id="saw-pods")
    async def told(event: Mapping[str, Any], **_: object) -> None:
        saw(event["object"], event["type"] == "DELETED")

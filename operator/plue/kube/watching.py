"""kopf, embedded: it watches, and tells our caches. Its handlers do nothing else.

No finalizers, no annotations, no status of its own: kopf's bookkeeping would cost a write per
object. What it does not tell of, deletions during a gap of the watch, our own lists find.
"""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

import aiohttp
import kopf
import structlog
from kopf._cogs.clients import errors
from kopf._cogs.clients import watching as kopf_watching

from plue.ending import end_tasks
from plue.kube.login import Login
from plue.kube.pod_template import POOL_LABEL
from plue.kube.signals import take_signals_back
from plue.resources.crds import GROUP, RUNNER_POOL, VERSION, WORKFLOW, WORKFLOW_RUN, Kind

__all__ = ["Saw", "Takes", "watch"]

Saw = Callable[[Mapping[str, Any], bool], None]
"""Takes an object of the API, and whether it was deleted."""

Takes = Callable[[Mapping[str, Any]], bool]
"""Takes an object of a list if it need only be known; False, and nothing done, for any other."""

_log = structlog.get_logger(__name__)

_END_WITHIN = 5.0
_PAGE = 200
"""Objects of a list that come together. kopf's own is all of them: of ten thousand runs in one
answer, what is kept of each lies scattered among the rest, whose memory is then never given back.
"""

_of_lists: ContextVar[Mapping[str, Takes]] = ContextVar("of_lists")
"""By plural: of the watch that a task belongs to, since kopf hands nothing of ours through."""

_WORKER_STAYS = 0.01
"""Seconds that kopf's worker of one object waits for more of it, and keeps its place meanwhile.

Of a list, a hundred objects are told in this time. Not 0: Python's ``wait_for`` then never gets an
item.
"""


async def watch(
    login: Login,
    *,
    namespace: str,
    workflows: Saw,
    runs: Saw,
    ended_runs: Takes,
    pools: Saw,
    pods: Saw,
    nodes: Saw,
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Watch until *stop*; *ready* is set when the watches have begun.

    Workflows, runs and nodes are watched everywhere, pools and pods in *namespace* alone: we have
    no right to see those of others. kopf takes one scope per operator, so there are two of it.

    Each run of a list is offered to *ended_runs* first, and goes through kopf only if that does
    not take it: kopf spends 3 ms on each and remembers it, and of ten thousand finished runs
    nothing more is wanted than that they are there. What changes them later goes through kopf.
    """
    everywhere, here = kopf.OperatorRegistry(), kopf.OperatorRegistry()
    _register(everywhere, WORKFLOW, workflows)
    _register(everywhere, WORKFLOW_RUN, runs)
    _register(here, RUNNER_POOL, pools)
    _register_core(here, "pods", pods)
    _register_core(everywhere, "nodes", nodes)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    _stand_between()
    _of_lists.set({WORKFLOW_RUN.plural: ended_runs})
    begun = [asyncio.Event(), asyncio.Event()]
    both = [
        asyncio.create_task(_operate(login, everywhere, [], stop=stop, ready=begun[0])),
        asyncio.create_task(_operate(login, here, [namespace], stop=stop, ready=begun[1])),
    ]
    saying = asyncio.create_task(_say(begun, ready))
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Half a watch is none.
        stop.set()
        await asyncio.wait(both, timeout=_END_WITHIN)
        await end_tasks([saying, *both])
    for task in both:
        if not task.cancelled():
            task.result()


def _stand_between() -> None:
    """Stand between kopf and its stream of events: in two points it does what we cannot use.

    What a list holds goes to who takes it; kopf knows no way around its workers.

    When a watch, or a page of a list, is answered with the status 410, it begins anew: kopf 1.45.2
    does so for a 410 inside of the stream alone; as the status of the answer it ends the whole
    operator, although both say the same: this version is too old. Whatever ends this one stream
    without an error has kopf list and watch anew, after its pause.
    """
    kopfs = kopf_watching.continuous_watch
    if hasattr(kopfs, "__wrapped__"):
        return  # done already in this process

    @functools.wraps(kopfs)
    async def patient(**how: Any) -> AsyncIterator[Any]:
        resource = how["resource"]
        takes = _of_lists.get({}).get(resource.plural)
        try:
            async for event in kopfs(**how):
                if takes is None or not _is_taken(event, takes):
                    yield event
        except errors.APIClientError as error:
            if error.status != HTTPStatus.GONE:
                raise
            _log.info("watch_begins_anew", resource=str(resource))

    kopf_watching.continuous_watch = patient


def _is_taken(event: Any, takes: Takes) -> bool:
    """Offer what kopf read in a list; beside events its stream has marks."""
    return isinstance(event, dict) and event["type"] is None and takes(event["object"])


async def _say(begun: Sequence[asyncio.Event], ready: asyncio.Event) -> None:
    for one in begun:
        await one.wait()
    ready.set()


async def _operate(
    login: Login,
    registry: kopf.OperatorRegistry,
    namespaces: Sequence[str],
    *,
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    sessions: list[aiohttp.ClientSession] = []
    _register_login(registry, login, sessions)
    try:
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(),
            standalone=True,  # a Lease elects; kopf's peering would freeze everybody
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=stop,
            ready_flag=ready,
        )
        take_signals_back()  # before the loop turns: no signal comes to kopf
        await _until_one_ends(tasks)
    finally:
        for session in sessions:
            await session.close()


async def _until_one_ends(tasks: Collection[asyncio.Task[None]]) -> None:
    """Return when one of kopf's root tasks and then all have ended. Raises what one of them raised.

    Instead of ``kopf.run_tasks``, which takes every task of the process for one of kopf's: it
    waits 5 s for them to end, and then cancels them, the engine's too.
    """
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Once: it tidies up when it is cancelled, and a second time breaks that off.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_END_WITHIN)
        await end_tasks(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = _PAGE
    settings.watching.label_selectors["pods"] = POOL_LABEL
    settings.queueing.worker_limit = 100
    settings.queueing.idle_timeout = _WORKER_STAYS
    settings.networking.request_timeout = 30
    settings.execution.default_backoff = 2
    settings.process.ultimate_exiting_timeout = None  # whoever started us sees to that
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


def _register_core(registry: kopf.OperatorRegistry, plural: str, saw: Saw) -> None:
    @kopf.on.event("", "v1", plural, registry=registry, id=f"saw-{plural}")
    async def told(event: Mapping[str, Any], **_: object) -> None:
        saw(event["object"], event["type"] == "DELETED")

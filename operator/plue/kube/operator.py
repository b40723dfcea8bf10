"""The operator put together: engine, gateway and API on a Postgres, and a cluster's resources.

Parts start in the order in which they need each other and end in the opposite one. Nothing acts
before the runners' pods were listed: what was not looked at is not gone.
"""

import asyncio
import contextlib
import secrets
import socket

import structlog

from plue.api.models import Health
from plue.ending import end_tasks
from plue.engine.loop import Loop
from plue.engine.service import Engine
from plue.gateway.app import Gateway
from plue.kube.announcing import Announcer
from plue.kube.client import ApiClient
from plue.kube.foundation import Foundation, health_of
from plue.kube.git_sources import GitSources
from plue.kube.identity import PodIdentity
from plue.kube.lease import Leadership
from plue.kube.login import Login
from plue.kube.nodes import Nodes
from plue.kube.objects import POOLS, RUNS, WORKFLOWS
from plue.kube.pod_template import RunnerPlacing
from plue.kube.pods import PodHost
from plue.kube.pools import Pools
from plue.kube.pruning import prune
from plue.kube.runs import Runs
from plue.kube.secrets import ClusterSecrets
from plue.kube.servers import cluster_api, serve_egress
from plue.kube.settings import OperatorOptions
from plue.kube.trees import Trees
from plue.kube.watching import watch
from plue.kube.workflows import Workflows

__all__ = ["Operator"]

_log = structlog.get_logger(__name__)

_RELIST_EVERY = 600.0
_POLL = 2.0


class Operator:
    """All parts of one operator process, between ``start`` and ``close``."""

    def __init__(self, options: OperatorOptions, login: Login) -> None:
        """Prepare an operator for the cluster of *login*."""
        self._options = options
        self._login = login
        self._base = Foundation(options, login)
        self._parts = self._base.parts
        self._watching: asyncio.Task[None] | None = None
        self._leadership: Leadership | None = None
        self._is_ready = False
        self._nodes = Nodes()

    async def start(self) -> None:
        """Start all parts. Raises PlueError; nothing stays then."""
        try:
            await self._start()
        except BaseException:
            await self._parts.aclose()
            raise

    async def close(self) -> None:
        """End cleanly; runs, runners and resources stay as they are."""
        await self._parts.aclose()

    async def run(self, stop: asyncio.Event) -> None:
        """Return at *stop*, when the database is another one, or when watch or leadership ended."""
        if self._watching is None or self._leadership is None:
            return
        ended = asyncio.create_task(self._base.until(stop, self._leadership.lost))
        await asyncio.wait({ended, self._watching}, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks([ended])

    async def _start(self) -> None:
        options = self._options
        api = await self._base.open_api()
        placing = RunnerPlacing(options.gateway_url, options.service_account)
        nodes = self._nodes
        host = PodHost(api, namespace=options.namespace, placing=placing, nodes=nodes)
        nodes.on_change = lambda: host.on_change()  # noqa: PLW0108 - the engine sets it later
        self._parts.push_async_callback(host.close)
        engine = await self._base.open_engine(hosts=[host])
        api.count_in(engine.context.metrics)
        if options.alone:
            await self._base.serve_health(lambda: self._health(engine), engine.metrics)
        else:
            models = await self._base.open_models()
            identity = PodIdentity(api, host=host, namespace=options.namespace)
            gateway = Gateway(engine=engine, identity=identity, models=models)
            await self._base.serve(gateway.app, options.gateway_listen)
            self._parts.push_async_callback(gateway.close)
            await serve_egress(self._base, engine)
            app = cluster_api(engine, api, lambda: self._health(engine), options=options)
            await self._base.serve(app, options.api_listen)
        await self._start_passes(engine, host, api)

    async def _health(self, engine: Engine) -> Health:
        health = await health_of(engine)
        resources = "listed" if self._is_ready else "not listed yet"
        checks = {**health.checks, "resources": resources}
        return Health(ok=health.ok and self._is_ready, checks=checks)

    async def _start_passes(self, engine: Engine, host: PodHost, api: ApiClient) -> None:
        namespace = self._options.namespace
        announcer = Announcer(api)
        credentials = ClusterSecrets(api).of_workflow
        git = GitSources(engine.fetch, credentials)
        self._parts.push_async_callback(git.close)
        trees = Trees(engine.clone, engine.archives, credentials)
        self._parts.push_async_callback(trees.close)
        workflows = Workflows(api, engine=engine, announcer=announcer, git=git)
        pools = Pools(
            api, context=engine.context, host=host, announcer=announcer, namespace=namespace
        )
        runs = Runs(
            api,
            engine=engine,
            workflows=workflows,
            trees=trees,
            may_use=pools.may_use,
            announcer=announcer,
        )

        async def relist() -> None:
            await host.relist()
            await prune(api, WORKFLOWS, workflows)
            await prune(api, POOLS, pools, namespace=namespace)
            await prune(api, RUNS, runs)
            await runs.find_deleted()

        metrics = engine.context.metrics
        loops = {
            "workflows": Loop("workflows", workflows.pass_, every=_POLL, metrics=metrics),
            "pools": Loop("pools", pools.pass_, every=_POLL, metrics=metrics),
            "protect": Loop("protect", pools.protect, every=_POLL, metrics=metrics),
            "relist": Loop("relist", relist, every=_RELIST_EVERY, metrics=metrics),
        }
        workflows.wake, pools.wake = loops["workflows"].wake, loops["pools"].wake
        await self._start_watch(workflows, pools, runs, host)
        await host.relist()
        await engine.start()
        self._parts.push_async_callback(engine.close)
        self._is_ready = True
        _log.info("operator_started", namespace=namespace, gateway=self._options.gateway_url)
        self._parts.push_async_callback(runs.close)
        for loop in loops.values():
            self._parts.push_async_callback(loop.close)
        # Engine and gateway work in every operator, made safe by transactions; what writes to
        # resources works in the elected one alone, to save writes.
        identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._leadership = Leadership(api, namespace=namespace, identity=identity)
        self._parts.push_async_callback(self._leadership.close)

        async def act() -> None:
            await self._elected()
            for loop in loops.values():
                loop.start()
            git.start()
            runs.start()

        acting = asyncio.create_task(act(), name="act")
        self._parts.push_async_callback(end_tasks, [acting])
        self._leadership.start()

    async def _elected(self) -> None:
        if self._leadership is not None:
            await self._leadership.elected.wait()

    async def _start_watch(
        self, workflows: Workflows, pools: Pools, runs: Runs, host: PodHost
    ) -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        self._watching = asyncio.create_task(
            watch(
                self._login,
                namespace=self._options.namespace,
                workflows=lambda body, gone: workflows.saw(body, deleted=gone),
                runs=lambda body, gone: runs.saw(body, deleted=gone),
                ended_runs=runs.took,
                pools=lambda body, gone: pools.saw(body, deleted=gone),
                pods=lambda body, gone: host.saw(body, deleted=gone),
                nodes=lambda body, gone: self._nodes.saw(body, deleted=gone),
                stop=stop,
                ready=ready,
            ),
            name="watch",
        )
        self._parts.push_async_callback(_end_watch, self._watching, stop)
        begun = asyncio.create_task(_set(ready))
        await asyncio.wait({begun, self._watching}, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks([begun])


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _end_watch(watching: asyncio.Task[None], stop: asyncio.Event) -> None:
    stop.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.wait([watching])
    await end_tasks([watching])

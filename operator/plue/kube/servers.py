"""The processes beside the operator: the API, the gateway and the evaluator, each by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog
from aiohttp import web
from typing_extensions import override

from plue import __version__
from plue.api.app import make_api
from plue.api.models import Health, ServerInfo
from plue.authoring.evaluator import Evaluator
from plue.engine.service import Engine
from plue.gateway.app import Gateway
from plue.gateway.egress import EgressProxy
from plue.kube.client import ApiClient
from plue.kube.entrance import cluster_access
from plue.kube.evaluating import evaluator_app
from plue.kube.foundation import Foundation, health_of
from plue.kube.identity import PodIdentity
from plue.kube.login import Login
from plue.kube.making import ClusterRuns
from plue.kube.pod_template import RunnerPlacing
from plue.kube.pods import PodHost
from plue.kube.settings import EvaluatorOptions, OperatorOptions, address_of, reach_of
from plue.store.access import AccessStore

__all__ = [
    "API_PASSES",
    "GATEWAY_PASSES",
    "ApiServer",
    "EvaluatorServer",
    "GatewayServer",
    "cluster_api",
    "serve_egress",
]

_log = structlog.get_logger(__name__)

GATEWAY_PASSES = frozenset({"claim", "unaccepted", "deadline", "stages", "archives"})
"""Its archives lie in its own folder. Not `lost`: whoever judges a silent runner must be able to
see whether its pod is there."""

API_PASSES = frozenset({"claim", "archives"})
"""Its archives lie in its own folder. Submission, evaluation and claim happen in one process."""


class _Server:
    """A server process that ends when it is told to."""

    def __init__(self, options: OperatorOptions, login: Login) -> None:
        """Prepare a process for the cluster of *login*."""
        self._base = Foundation(options, login)

    async def start(self) -> None:
        """Start all parts. Raises PlueError; nothing stays then."""
        try:
            await self._start()
        except BaseException:
            await self._base.parts.aclose()
            raise

    async def run(self, stop: asyncio.Event) -> None:
        """Return at *stop*, or when the database is another one."""
        await self._base.until(stop)

    async def close(self) -> None:
        """End cleanly; runs, runners and resources stay as they are."""
        await self._base.parts.aclose()

    async def _start(self) -> None:
        raise NotImplementedError


class GatewayServer(_Server):
    """`plue gateway`: the runners' side. A runner may come back to any of several."""

    @override
    async def _start(self) -> None:
        base, options = self._base, self._base.options
        api = await base.open_api()
        placing = RunnerPlacing(options.gateway_url, options.service_account)
        host = PodHost(api, namespace=options.namespace, placing=placing)
        base.parts.push_async_callback(host.close)
        identity = PodIdentity(api, host=host, namespace=options.namespace)
        engine = await base.open_engine(passes=GATEWAY_PASSES)
        api.count_in(engine.context.metrics)
        gateway = Gateway(engine=engine, identity=identity, models=await base.open_models())
        await engine.start()
        base.parts.push_async_callback(engine.close)
        await base.serve(gateway.app, options.gateway_listen)
        base.parts.push_async_callback(gateway.close)
        await serve_egress(base, engine)

        async def ready() -> Health:
            # Not the store's health: when that is away no replica is better than this one, and
            # the runners' sessions must stay where they are.
            return Health(ok=True)

        await base.serve_health(ready, engine.metrics)
        _log.info("gateway_started", listen=options.gateway_listen)


class ApiServer(_Server):
    """`plue api`: the users' side."""

    @override
    async def _start(self) -> None:
        base, options = self._base, self._base.options
        api = await base.open_api()
        engine = await base.open_engine(passes=API_PASSES)
        api.count_in(engine.context.metrics)
        await engine.start()
        base.parts.push_async_callback(engine.close)

        async def ready() -> Health:
            return await health_of(engine)

        await base.serve(cluster_api(engine, api, ready, options=options), options.api_listen)
        await base.serve_health(ready, engine.metrics)
        _log.info("api_started", listen=options.api_listen)


class EvaluatorServer:
    """`plue evaluator`: evaluates workflow code; knows no cluster and no database."""

    def __init__(self, options: EvaluatorOptions) -> None:
        """Prepare to listen as *options* say."""
        self._options = options
        self._evaluator = Evaluator(reach=reach_of(options))
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Start the evaluator's process, and serve it."""
        await self._evaluator.start()
        app = evaluator_app(self._evaluator, token=self._options.evaluator_token.get_secret_value())
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, *address_of(self._options.evaluator_listen)).start()
        found = self._evaluator.isolation
        _log.info("evaluator_started", missing=list(found.notes) if found else [])

    async def run(self, stop: asyncio.Event) -> None:
        """Return at *stop*."""
        await stop.wait()

    async def close(self) -> None:
        """End the server and the evaluator's process."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._evaluator.close()


async def serve_egress(base: Foundation, engine: Engine) -> None:
    """Connect runs to the hosts that their pool allows, from now on."""
    proxy = EgressProxy(engine.context)
    await proxy.start(*address_of(base.options.egress_listen))
    base.parts.push_async_callback(proxy.close)


def cluster_api(
    engine: Engine,
    api: ApiClient,
    ready: Callable[[], Awaitable[Health]],
    *,
    options: OperatorOptions,
) -> web.Application:
    """Return the users' API of a cluster."""
    store = AccessStore(engine.context.database)
    info = ServerInfo(version=__version__, mode="cluster", started_at=datetime.now(UTC))
    return make_api(
        engine=engine,
        archives=engine.archives,
        access=cluster_access(options, api, store),
        info=info,
        metrics=engine.metrics,
        ready=ready,
        local_tree=None,
        audit=store,
        maker=ClusterRuns(api, engine=engine),
    )

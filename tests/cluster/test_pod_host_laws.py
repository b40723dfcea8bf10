"""Pods as runners keep the laws of hosts, at a real API server and on a played node."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from cluster.operating import RUNNERS, Cluster
from cluster.played import PlayedNode
from host_laws import Hosted, HostLaws

from plue.engine.ports import Host
from plue.kube.client import ApiClient
from plue.kube.login import Login, find_login
from plue.kube.pod_template import RunnerPlacing
from plue.kube.pods import PodHost
from plue.kube.watching import watch

_POOL = "laws"


@pytest.fixture
async def hosted(bare: Cluster, node: PlayedNode) -> AsyncIterator[Hosted]:
    """Give a host that watches its pods as an operator does; there is no operator."""
    assert node.failure is None
    await asyncio.to_thread(bare.pool, _POOL, warm=0, maximum=4)
    login = find_login({"KUBECONFIG": bare.kubeconfig})
    async with ApiClient(login) as api, contextlib.AsyncExitStack() as ends:

        async def another() -> Host:
            await ends.aclose()
            host = PodHost(api, namespace=RUNNERS, placing=RunnerPlacing("http://127.0.0.1:9"))
            await ends.enter_async_context(_watching(login, host))
            await host.relist()
            return host

        hosted = Hosted(await another(), another, pool=_POOL)
        yield hosted
    gone = ["--ignore-not-found", "--wait=false", "-n", RUNNERS]
    if hosted.made:
        await asyncio.to_thread(
            bare.kubectl, "delete", "pod", *hosted.made, "--grace-period=1", *gone
        )
    await asyncio.to_thread(bare.kubectl, "delete", "rp", _POOL, *gone)


@contextlib.asynccontextmanager
async def _watching(login: Login, host: PodHost) -> AsyncIterator[None]:
    """Have *host* told of its pods as the operator's watch tells.

    In a loop of its own: the watch ends with a process, and takes all tasks of its loop along.
    """
    ours, begun = asyncio.get_running_loop(), asyncio.Event()
    ending: list[Callable[[], object]] = []

    def saw(body: Mapping[str, Any], gone: bool) -> None:
        ours.call_soon_threadsafe(lambda: host.saw(body, deleted=gone))

    async def follow() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        ending.append(lambda: loop.call_soon_threadsafe(stop.set))
        watching = asyncio.create_task(
            watch(
                login,
                namespace=RUNNERS,
                workflows=_ignore,
                runs=_ignore,
                ended_runs=lambda _: False,
                pools=_ignore,
                nodes=_ignore,
                pods=saw,
                stop=stop,
                ready=ready,
            )
        )
        await ready.wait()
        ours.call_soon_threadsafe(begun.set)
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(follow())

    thread = threading.Thread(target=run, name="watch", daemon=True)
    thread.start()
    async with asyncio.timeout(30):
        await begun.wait()
    try:
        yield
    finally:
        ending[0]()
        await asyncio.to_thread(thread.join, 20)


def _ignore(_body: object, _gone: object) -> None: ...


# The watch's library ends with its process, and leaves its connections to it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestPodHost(HostLaws):
    """The suite of all hosts."""

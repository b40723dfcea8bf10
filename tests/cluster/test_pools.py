"""RunnerPools on a real node: made, scaled, replaced, and explained when they are short."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
from cluster.bed.node import GATEWAY
from cluster.operating import RUNNERS, Cluster, Operator, until, workflow_run

from plue.wire import frames

HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""


def _ready(cluster: Cluster, pool: str) -> dict[str, Any]:
    for condition in cluster.get("rp", pool, RUNNERS).get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            found: dict[str, Any] = condition
            return found
    return {}


def _pods(cluster: Cluster, pool: str) -> list[dict[str, Any]]:
    return cluster.items("pod", RUNNERS, "-l", f"plue.dev/pool={pool}")


def test_pod_is_confined(cluster: Cluster, operator: Operator) -> None:
    """A runner's pod is as small and closed as the design says."""
    pod = _pods(cluster, "default")[0]
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert spec["runtimeClassName"] == "gvisor"
    assert spec["automountServiceAccountToken"] is False
    assert spec["dnsPolicy"] == "None"
    assert spec["securityContext"]["runAsUser"] == 1000
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "RunnerPool"


def test_pool_is_scaled(cluster: Cluster, operator: Operator) -> None:
    """`kubectl scale` makes a pool larger and smaller; its pods follow."""
    name = f"scaled-{uuid4().hex[:6]}"
    cluster.pool(name, warm=1, maximum=4)
    cluster.wait("condition=Ready", "rp", name, 60, RUNNERS)
    for warm in (3, 0):
        cluster.kubectl("scale", "rp", name, "-n", RUNNERS, f"--replicas={warm}")
        cluster.wait(f"jsonpath={{.status.warm}}={warm}", "rp", name, 60, RUNNERS)
        until("the pods follow", lambda warm=warm: len(_pods(cluster, name)) == warm)
    cluster.kubectl("delete", "rp", name, "-n", RUNNERS)


def test_deleted_pool_takes_its_pods_along(cluster: Cluster, operator: Operator) -> None:
    """A pool's end is its pods' end, and runs of it say that there is no such pool."""
    name = f"brief-{uuid4().hex[:6]}"
    cluster.pool(name, warm=1, maximum=1)
    cluster.wait("condition=Ready", "rp", name, 60, RUNNERS)
    cluster.kubectl("delete", "rp", name, "-n", RUNNERS)
    until("the pods are gone", lambda: not _pods(cluster, name))
    run = workflow_run(HELLO, pool=name, queueTimeoutSeconds=600)
    cluster.apply(run)
    cluster.wait("jsonpath={.status.reason}=NoSuchPool", "wfr", run["metadata"]["name"])
    cluster.kubectl("delete", "wfr", run["metadata"]["name"])


def test_missing_image_is_said(cluster: Cluster, operator: Operator) -> None:
    """A pool whose image cannot be had says so in its condition."""
    name = f"noimage-{uuid4().hex[:6]}"
    cluster.pool(name, warm=1, maximum=1, image="localhost/no-such-image:1")
    until("it is said", lambda: _ready(cluster, name).get("reason") == "ImagePull")
    assert "no-such-image" in _ready(cluster, name)["message"]
    cluster.kubectl("delete", "rp", name, "-n", RUNNERS)


def test_impossible_node_is_said(cluster: Cluster, operator: Operator) -> None:
    """A pool whose pods fit on no node says what the scheduler says."""
    name = f"nonode-{uuid4().hex[:6]}"
    cluster.pool(name, warm=1, maximum=1, pod={"nodeSelector": {"no-such": "node"}})
    until("it is said", lambda: _ready(cluster, name).get("reason") == "Unschedulable")
    cluster.kubectl("delete", "rp", name, "-n", RUNNERS)


def test_quota_is_said(cluster: Cluster, operator: Operator) -> None:
    """A pool that a quota keeps from its pods says so."""
    name = f"quota-{uuid4().hex[:6]}"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": RUNNERS},
        "spec": {"hard": {"pods": "0"}},
    }
    cluster.apply(quota)
    try:
        cluster.pool(name, warm=1, maximum=1)
        until("it is said", lambda: _ready(cluster, name).get("reason") == "Quota")
    finally:
        cluster.kubectl("delete", "resourcequota", name, "-n", RUNNERS)
    # Left alone, it recovers by itself; that it backs off is its business.
    cluster.wait("condition=Ready", "rp", name, 90, RUNNERS)
    cluster.kubectl("delete", "rp", name, "-n", RUNNERS)


def test_run_of_another_namespace_is_refused(cluster: Cluster, operator: Operator) -> None:
    """A pool is for the namespaces that it names."""
    name = f"private-{uuid4().hex[:6]}"
    cluster.pool(name, warm=0, maximum=1, allowedNamespaces=["team-a"])
    until("the pool is known", lambda: _ready(cluster, name))
    run = workflow_run(HELLO, pool=name)
    cluster.apply(run)
    cluster.wait("condition=Failed", "wfr", run["metadata"]["name"])
    status = cluster.get("wfr", run["metadata"]["name"])["status"]
    assert "does not allow runs of namespace 'default'" in status["message"]
    cluster.kubectl("delete", "rp", name, "-n", RUNNERS)


def test_changed_template_replaces_the_pods(cluster: Cluster, operator: Operator) -> None:
    """A pool whose template changes replaces its idle pods, and runs go on meanwhile."""
    name = f"rolled-{uuid4().hex[:6]}"
    cluster.pool(name, warm=2, maximum=6)
    cluster.wait("condition=Ready", "rp", name, 60, RUNNERS)
    before = {pod["metadata"]["name"] for pod in _pods(cluster, name)}
    runs = [workflow_run(HELLO, pool=name) for _ in range(4)]
    cluster.pool(name, warm=2, maximum=6, tmpSize="2Gi")
    cluster.apply(*runs)
    for run in runs:
        cluster.wait("condition=Complete", "wfr", run["metadata"]["name"], 90)

    def is_replaced() -> bool:
        now = {pod["metadata"]["name"] for pod in _pods(cluster, name)}
        return not (now & before)

    until("the pods are replaced", is_replaced, seconds=90)
    cluster.wait("condition=Ready", "rp", name, 60, RUNNERS)
    cluster.kubectl("delete", "rp", name, "-n", RUNNERS)


async def _hello(runner: str, token: str) -> type[object] | int | None:
    """Say hello as *runner*; what comes: the type of the first frame, or the code of the end."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://{GATEWAY}:8701/runner/v1/session") as socket,
    ):
        hello = frames.Hello(protocol=frames.PROTOCOL, runner=runner, token=token)
        await socket.send_str(hello.model_dump_json())
        async with asyncio.timeout(10):
            message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return type(frames.from_gateway(message.data))
        return socket.close_code


def test_gateway_refuses_whom_no_pod_vouches_for(cluster: Cluster, operator: Operator) -> None:
    """A token of another pod, of another audience, or made up lets nobody in as a runner."""
    pod = _pods(cluster, "default")[0]["metadata"]["name"]

    def token(*more: str) -> str:
        return cluster.kubectl("create", "token", "plue-runner", "-n", RUNNERS, *more).strip()

    other = _pods(cluster, "default")[1]
    bound = (
        "--bound-object-kind=Pod",
        f"--bound-object-name={other['metadata']['name']}",
        f"--bound-object-uid={other['metadata']['uid']}",
    )
    for wrong in (
        "made-up",
        token("--audience=plue-gateway"),
        token("--audience=plue-gateway", *bound),
        token("--audience=another"),
    ):
        assert asyncio.run(_hello(pod, wrong)) == 4401


def test_pods_own_token_is_good_once(cluster: Cluster, operator: Operator) -> None:
    """What a step can read in its pod lets it in nowhere: the token was reviewed once."""
    pod = _pods(cluster, "default")[0]
    bound = cluster.kubectl(
        "create",
        "token",
        "plue-runner",
        "-n",
        RUNNERS,
        "--audience=plue-gateway",
        "--bound-object-kind=Pod",
        f"--bound-object-name={pod['metadata']['name']}",
        f"--bound-object-uid={pod['metadata']['uid']}",
    ).strip()
    assert asyncio.run(_hello(pod["metadata"]["name"], bound)) == 4401

"""How pods end is what their runs say, within seconds: on a played node, with real API objects."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from cluster.operating import RUNNERS, Cluster, Operator, until, workflow_run
from cluster.played import NODE, PlayedNode

LONG = """
from plue import workflow

@workflow(timeout="5m")
def ci(ctx):
    ctx.run("work", "echo started; sleep 100")
"""

HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""


@pytest.fixture(scope="module", autouse=True)
def ageing(bare: Cluster, at_work: Operator) -> Iterator[tuple[str, set[str]]]:
    """Give a pool whose runner grows old from the first of these tests on, and its pod.

    Its minute goes by while the others do something.
    """
    name = f"old-{uuid4().hex[:6]}"
    bare.pool(name, warm=1, maximum=2, recycleSeconds=60)
    bare.wait("condition=Ready", "rp", name, 60, RUNNERS)
    yield name, _pods_of(bare, name)
    bare.kubectl("delete", "rp", name, "-n", RUNNERS, "--wait=false")


def _pods_of(cluster: Cluster, pool: str) -> set[str]:
    pods = cluster.items("pod", RUNNERS, "-l", f"plue.dev/pool={pool}")
    return {pod["metadata"]["name"] for pod in pods}


def _running(cluster: Cluster, **spec: Any) -> tuple[str, str]:
    """Apply a run and wait until its step runs; return its name and its pod's."""
    run = workflow_run(LONG, **spec)
    name = run["metadata"]["name"]
    cluster.apply(run)
    until(
        "the step runs",
        lambda: cluster.get("wfr", name).get("status", {}).get("stepCounts", {}).get("running"),
    )
    return name, cluster.get("wfr", name)["status"]["runner"]


def _tell(cluster: Cluster, pod: str, status: dict[str, Any]) -> None:
    """Write the status of a pod, as its node would."""
    cluster.kubectl(
        *("patch", "pod", pod, "-n", RUNNERS, "--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": status})),
    )


def _terminated(reason: str, code: int) -> list[dict[str, Any]]:
    state = {"terminated": {"exitCode": code, "reason": reason}}
    return [
        {
            "name": "runner",
            "image": "played",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
    ]


ENDS = [
    pytest.param(
        {"phase": "Failed", "containerStatuses": _terminated("OOMKilled", 137)},
        ("Failed", "OOMKilled"),
        id="out-of-memory",
    ),
    pytest.param(
        {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"},
        ("Failed", "Evicted"),
        id="evicted",
    ),
    pytest.param(
        {"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"},
        ("Failed", "RunTimeout"),
        id="deadline",
    ),
    pytest.param(
        {"phase": "Failed", "reason": "NodeShutdown", "message": "the node shuts down"},
        ("Failed", "NodeLost"),
        id="node-shut-down",
    ),
]


@pytest.mark.parametrize(("status", "expected"), ENDS)
def test_end_of_a_pod_is_its_runs_reason(
    bare: Cluster,
    at_work: Operator,
    node: PlayedNode,
    status: dict[str, Any],
    expected: tuple[str, str],
) -> None:
    """The run fails with the pod's reason in seconds, and an event on it says so."""
    name, pod = _running(bare)
    # As when a kernel or a kubelet ends it: the runner says nothing any more.
    node.kill(pod, quietly=True)
    _tell(bare, pod, status)
    bare.wait("condition=Failed", "wfr", name, 20)
    found = bare.get("wfr", name)["status"]
    assert (found["phase"], found["reason"]) == expected
    said = bare.kubectl("describe", "wfr", name)
    assert f"Warning  {expected[1]}" in said


def test_pod_deleted_by_hand_is_said(bare: Cluster, at_work: Operator) -> None:
    """Who deletes the pod ends the run, and the run says why."""
    name, pod = _running(bare)
    bare.kubectl("delete", "pod", pod, "-n", RUNNERS, "--wait=false")
    bare.wait("condition=Failed", "wfr", name, 30)
    assert bare.get("wfr", name)["status"]["reason"] == "PodDeleted"


def test_claimed_pod_is_protected_and_has_an_end(bare: Cluster, at_work: Operator) -> None:
    """Once claimed, no autoscaler evicts a pod; its run is named; it cannot outlive its run."""
    name, pod = _running(bare)
    uid = bare.get("wfr", name)["metadata"]["uid"]
    found = until(
        "the pod is protected",
        lambda: (
            (seen := bare.get("pod", pod, RUNNERS))["metadata"]["labels"].get("plue.dev/run")
            and seen
        ),
    )
    assert found["metadata"]["labels"]["plue.dev/run"] == uid
    annotations = found["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    # Five minutes of the run, its clean-up and the engine's margins, from the pod's start on.
    assert 300 < found["spec"]["activeDeadlineSeconds"] < 900
    idle = [p for p in bare.items("pod", RUNNERS) if "plue.dev/run" not in p["metadata"]["labels"]]
    assert idle
    assert all("activeDeadlineSeconds" not in p["spec"] for p in idle)
    bare.kubectl("delete", "wfr", name)


def test_missing_image_is_said_at_the_pool(bare: Cluster, at_work: Operator) -> None:
    """The pool says that its image cannot be had; so does `kubectl describe`."""
    name = f"image-{uuid4().hex[:6]}"
    bare.pool(name, warm=1, maximum=1, image="localhost/no-such-image:1")
    until(
        "it is said",
        lambda: "ImagePull" in str(bare.get("rp", name, RUNNERS).get("status", {})),
    )
    until(
        "an event says it",
        lambda: "ImagePull" in bare.kubectl("describe", "rp", name, "-n", RUNNERS),
    )
    bare.kubectl("delete", "rp", name, "-n", RUNNERS)


def test_pool_at_its_maximum_is_said(bare: Cluster, at_work: Operator) -> None:
    """Runs beyond the maximum wait with that reason, no more pods are made, and all are run."""
    name = f"full-{uuid4().hex[:6]}"
    bare.pool(name, warm=1, maximum=1)
    bare.wait("condition=Ready", "rp", name, 60, RUNNERS)
    first, _ = _running(bare, pool=name)
    waiting = workflow_run(HELLO, pool=name)
    bare.apply(waiting)
    waits = waiting["metadata"]["name"]
    bare.wait("jsonpath={.status.reason}=PoolAtMaximum", "wfr", waits)
    assert len(bare.items("pod", RUNNERS, "-l", f"plue.dev/pool={name}")) == 1
    bare.kubectl("patch", "wfr", first, "--type=merge", "-p", '{"spec":{"cancel":true}}')
    bare.wait("condition=Complete", "wfr", waits, 60)
    bare.kubectl("delete", "rp", name, "-n", RUNNERS)


def test_pool_whose_runners_are_on_a_lost_node_says_so(
    bare: Cluster, at_work: Operator, node: PlayedNode
) -> None:
    """A runner that nobody hears of counts, so no other may be made; the pool names its node."""
    lost = pool = f"lost-{uuid4().hex[:6]}"
    bare.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": lost}})
    _say_of_node(bare, lost, "True")
    node.name = lost
    try:
        bare.pool(pool, warm=1, maximum=1)
        bare.wait("condition=Ready", "rp", pool, 60, RUNNERS)
        node.name = NODE
        node.silent.add(lost)
        _say_of_node(bare, lost, "Unknown")
        told = f"there are 1, the maximum; 1 of them on nodes that do not answer any more: {lost}"
        until("it is said", lambda: told in str(bare.get("rp", pool, RUNNERS)["status"]))
        node.silent.discard(lost)
        _say_of_node(bare, lost, "True")
        bare.wait("condition=Ready", "rp", pool, 60, RUNNERS)
    finally:
        node.name = NODE
        node.silent.discard(lost)
        bare.kubectl("delete", "rp", pool, "-n", RUNNERS, "--wait=false")
        bare.kubectl("delete", "node", lost, "--wait=false")


NOTED = """
from plue import workflow

@workflow(timeout="10m", attempts=ATTEMPTS)
def ci(ctx):
    ctx.run("work", "echo once >> NOTES; test $(wc -l < NOTES) -ge 2 || sleep 400")
"""

_LEASE = 120.0
_RENEWED = 40.0
"""Seconds that a lease may be old when its runner falls silent."""


def _say_of_node(cluster: Cluster, name: str, ready: str) -> None:
    """Write what the node controller writes of a node."""
    taints = [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]
    spec = {"taints": taints if ready == "Unknown" else None}
    condition = {"type": "Ready", "status": ready, "reason": "NodeStatusUnknown"}
    cluster.kubectl("patch", "node", name, "--type=merge", "-p", json.dumps({"spec": spec}))
    status = json.dumps({"status": {"conditions": [condition]}})
    cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", status)


def _runs_on(cluster: Cluster, pool: str, node: str) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in cluster.items("pod", RUNNERS, "-l", f"plue.dev/pool={pool}")
        if pod["spec"].get("nodeName") == node and pod["status"].get("phase") == "Running"
    ]


def test_node_that_falls_silent(
    bare: Cluster, at_work: Operator, node: PlayedNode, tmp_path: Path
) -> None:
    """Its idle pods are replaced elsewhere; its runs end, or begin anew, when their lease is over.

    Nobody deletes its pods. What comes back with the node goes on with nothing.
    """
    lost = pool = f"silent-{uuid4().hex[:6]}"
    bare.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": lost}})
    _say_of_node(bare, lost, "True")
    node.name = lost
    halted: list[psutil.Process] = []
    try:
        bare.pool(pool, warm=1, maximum=6)
        runs, notes = [], [tmp_path / "one", tmp_path / "two"]
        for attempts, file in enumerate(notes, start=1):
            source = NOTED.replace("ATTEMPTS", str(attempts)).replace("NOTES", str(file))
            runs.append(workflow_run(source, pool=pool))
            bare.apply(runs[-1])
        once, again = (run["metadata"]["name"] for run in runs)
        for file in notes:
            until("the step runs", file.exists)
        until("a third one waits", lambda: len(_runs_on(bare, pool, lost)) == 3)
        bare.wait("condition=Ready", "rp", pool, 60, RUNNERS)
        node.name = NODE
        node.silent.add(lost)
        for pod in _runs_on(bare, pool, lost):
            halted += node.freeze(pod)
        _say_of_node(bare, lost, "Unknown")
        silent_since = time.monotonic()
        until("the idle pod is replaced", lambda: _runs_on(bare, pool, NODE), seconds=60)
        until(
            "its lease is over",
            lambda: bare.get("wfr", once)["status"]["phase"] == "Failed",
            seconds=240,
        )
        waited = time.monotonic() - silent_since
        assert _LEASE - _RENEWED < waited < _LEASE + 60
        found = bare.get("wfr", once)["status"]
        assert found["reason"] == "NodeLost"
        assert f"its node {lost} does not answer any more" in found["message"]
        bare.wait("condition=Complete", "wfr", again, 120)
        node.silent.discard(lost)
        for process in halted:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        _say_of_node(bare, lost, "True")
        until("its pods are gone", lambda: not _runs_on(bare, pool, lost), seconds=60)
        psutil.wait_procs(halted, timeout=30)
        assert not any(process.is_running() for process in halted)
        assert bare.get("wfr", once)["status"]["reason"] == "NodeLost"
        assert [file.read_text().split() for file in notes] == [["once"], ["once"] * 2]
        events = at_work.events(bare.get("wfr", again)["metadata"]["uid"])
        assert [e["type"] for e in events].count("run_completed") == 1
    finally:
        node.name = NODE
        node.silent.discard(lost)
        for process in halted:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        bare.kubectl("delete", "rp", pool, "-n", RUNNERS, "--wait=false")
        bare.kubectl("delete", "node", lost, "--wait=false")


def test_old_idle_runners_are_replaced(bare: Cluster, ageing: tuple[str, set[str]]) -> None:
    """A runner that has waited too long is replaced by a fresh one."""
    name, before = ageing
    until("it is replaced", lambda: not before & _pods_of(bare, name), seconds=120)
    bare.wait("condition=Ready", "rp", name, 60, RUNNERS)

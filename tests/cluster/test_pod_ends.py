"""How pods end is what their runs say, within seconds: on a played node, with real API objects."""

import json
from typing import Any
from uuid import uuid4

import pytest
from cluster.operating import RUNNERS, Cluster, Operator, until, workflow_run
from cluster.played import PlayedNode

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


def test_old_idle_runners_are_replaced(bare: Cluster, at_work: Operator) -> None:
    """A runner that has waited too long is replaced by a fresh one."""
    name = f"old-{uuid4().hex[:6]}"
    bare.pool(name, warm=1, maximum=2, recycleSeconds=60)
    bare.wait("condition=Ready", "rp", name, 60, RUNNERS)
    selector = ("-l", f"plue.dev/pool={name}")
    before = {pod["metadata"]["name"] for pod in bare.items("pod", RUNNERS, *selector)}
    until(
        "it is replaced",
        lambda: not before & {p["metadata"]["name"] for p in bare.items("pod", RUNNERS, *selector)},
        seconds=120,
    )
    bare.wait("condition=Ready", "rp", name, 60, RUNNERS)
    bare.kubectl("delete", "rp", name, "-n", RUNNERS)


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

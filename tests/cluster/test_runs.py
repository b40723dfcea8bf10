"""WorkflowRuns on a real node: applied, executed in a warm gVisor pod, reported."""

from typing import Any
from uuid import uuid4

from cluster.operating import RUNNERS, Cluster, Operator, a_workflow, until, workflow_run

HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello from the sandbox; dmesg | head -1; id -u")
"""


def test_run_completes_in_a_warm_pod(cluster: Cluster, operator: Operator) -> None:
    """`kubectl apply` of a run ends `Complete`, in gVisor, and its events are in the API."""
    run = workflow_run(HELLO)
    name = run["metadata"]["name"]
    cluster.apply(run)
    cluster.wait("condition=Complete", "wfr", name)
    made = cluster.get("wfr", name)
    status = made["status"]
    assert status["phase"] == "Succeeded"
    assert status["progress"] == "1/1"
    events = operator.events(made["metadata"]["uid"])
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    text = "".join(e["body"]["text"] for e in events if e["type"] == "step_output")
    assert "hello from the sandbox" in text
    assert "Starting gVisor..." in text
    assert events[-1]["type"] == "run_completed"
    assert status["lastEvent"] == events[-1]["n"]


def test_api_refuses_strangers(cluster: Cluster, operator: Operator) -> None:
    """Who is unknown, or has a token for somebody else, is not answered; a reader is."""
    for token, path, method, expected in (
        ("made-up", "/api/v1/runs", "GET", 401),
        (cluster.kubectl("create", "token", "watcher").strip(), "/api/v1/runs", "GET", 401),
        (operator.token(), "/api/v1/runs", "GET", 200),
    ):
        assert operator.status(path, token=token, method=method) == expected, (path, method)


LONG = """
from plue import workflow

@workflow(timeout="5m")
def ci(ctx):
    ctx.run("first", "echo started; sleep 120")
    ctx.run("second", "echo never")
"""

GREEDY = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("eat", "python3 -c 'x = [bytearray(1 << 24) for _ in range(200)]; print(len(x))'")
"""

WRONG = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("a", open("/etc/passwd"))
"""


def _phase(cluster: Cluster, name: str) -> str:
    return str(cluster.get("wfr", name).get("status", {}).get("phase"))


def _condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    for condition in found.get("status", {}).get("conditions", []):
        if condition["type"] == kind:
            result: dict[str, Any] = condition
            return result
    return {}


def _started(cluster: Cluster, source: str = LONG, **spec: Any) -> dict[str, Any]:
    """Apply a run and wait until it runs."""
    run = workflow_run(source, **spec)
    cluster.apply(run)
    name = run["metadata"]["name"]
    cluster.wait("jsonpath={.status.phase}=Running", "wfr", name)
    return cluster.get("wfr", name)


def test_run_is_cancelled_by_a_patch(cluster: Cluster, operator: Operator) -> None:
    """`spec.cancel: true` ends a run; it has failed, with the reason Cancelled."""
    name = _started(cluster)["metadata"]["name"]
    cluster.kubectl("patch", "wfr", name, "--type=merge", "-p", '{"spec":{"cancel":true}}')
    cluster.wait("condition=Failed", "wfr", name)
    status = cluster.get("wfr", name)["status"]
    assert (status["phase"], status["reason"]) == ("Cancelled", "Cancelled")


def test_wrong_source_is_refused_with_its_place(cluster: Cluster, operator: Operator) -> None:
    """What admission cannot know ends in Accepted=False, with file and line."""
    run = workflow_run(WRONG)
    cluster.apply(run)
    name = run["metadata"]["name"]
    cluster.wait("condition=Failed", "wfr", name)
    found = cluster.get("wfr", name)
    accepted = _condition(found, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidPlan")
    assert ".plue/workflows/ci.py:6" in accepted["message"]
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]


def test_run_waits_for_its_workflow(cluster: Cluster, operator: Operator) -> None:
    """A run whose Workflow is not there yet says so, and goes on when it comes."""
    reference = f"late-{uuid4().hex[:6]}"
    run = workflow_run(HELLO)
    run["spec"] = {"workflowRef": {"name": reference}}
    cluster.apply(run)
    name = run["metadata"]["name"]
    cluster.wait("jsonpath={.status.reason}=WorkflowNotFound", "wfr", name)
    assert _phase(cluster, name) == "Pending"
    cluster.apply(a_workflow(reference, HELLO))
    cluster.wait("condition=Complete", "wfr", name)


def test_workflow_says_what_is_wrong(cluster: Cluster, operator: Operator) -> None:
    """`Ready` is False with each error's file and line, and True when the source is mended."""
    name = f"mended-{uuid4().hex[:6]}"
    cluster.apply(a_workflow(name, WRONG))
    cluster.wait("condition=Ready=False", "wf", name)
    ready = _condition(cluster.get("wf", name), "Ready")
    assert ready["reason"] == "InvalidSource"
    assert ".plue/workflows/ci.py:6" in ready["message"]
    cluster.apply(a_workflow(name, HELLO))
    cluster.wait("condition=Ready", "wf", name)
    status = cluster.get("wf", name)["status"]
    assert status["function"] == "ci"
    assert len(status["revision"]) == 64


def test_deleted_run_is_cancelled(cluster: Cluster, operator: Operator) -> None:
    """A run whose resource is deleted ends, and its runner with it."""
    found = _started(cluster)
    cluster.kubectl("delete", "wfr", found["metadata"]["name"])
    events = operator.events(found["metadata"]["uid"])
    assert events[-1]["body"]["state"] == "cancelled"
    runner = found["status"]["runner"]
    until("the pod is gone", lambda: not cluster.get("pod", runner, RUNNERS))


def test_pod_deleted_by_hand_is_the_runs_reason(cluster: Cluster, operator: Operator) -> None:
    """Who deletes a runner's pod ends its run within seconds, and the run says why."""
    found = _started(cluster)
    until(
        "the step runs",
        lambda: cluster.get("wfr", found["metadata"]["name"])["status"]["stepCounts"]["running"],
    )
    pod = found["status"]["runner"]
    cluster.kubectl("delete", "pod", pod, "-n", RUNNERS, "--wait=false")
    cluster.wait("condition=Failed", "wfr", found["metadata"]["name"], 40)
    status = cluster.get("wfr", found["metadata"]["name"])["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "PodDeleted"), status["message"]


def test_runner_out_of_memory_is_the_runs_reason(cluster: Cluster, operator: Operator) -> None:
    """A step that eats more than the pool allows ends its run with OOMKilled."""
    run = workflow_run(GREEDY)
    cluster.apply(run)
    name = run["metadata"]["name"]
    cluster.wait("condition=Failed", "wfr", name, 90)
    assert cluster.get("wfr", name)["status"]["reason"] == "OOMKilled"


def test_finished_run_is_deleted_in_time(cluster: Cluster, operator: Operator) -> None:
    """`ttlSecondsAfterFinished` deletes the resource; the run stays in the API."""
    run = workflow_run(HELLO, ttlSecondsAfterFinished=2)
    cluster.apply(run)
    name = run["metadata"]["name"]
    uid = cluster.get("wfr", name)["metadata"]["uid"]
    until("the resource is gone", lambda: not cluster.get("wfr", name))
    assert operator.events(uid)[-1]["body"]["state"] == "succeeded"

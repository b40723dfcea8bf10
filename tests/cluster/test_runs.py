"""WorkflowRuns on a real node: applied, executed in a warm gVisor pod, reported."""

from cluster.operating import Cluster, Operator, workflow_run

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

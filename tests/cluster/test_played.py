"""Runs of a real API server on a played node: what the operator does, without a real node."""

from uuid import uuid4

from cluster.operating import Cluster, Operator, a_workflow, run_of, workflow_run

HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""


def test_run_completes(bare: Cluster, at_work: Operator) -> None:
    """A run that is applied is executed and ends Complete."""
    run = workflow_run(HELLO)
    name = run["metadata"]["name"]
    bare.apply(run)
    bare.wait("condition=Complete", "wfr", name)
    events = at_work.events(bare.get("wfr", name)["metadata"]["uid"])
    assert events[-1]["body"]["state"] == "succeeded"


def test_runs_of_a_suspended_workflow_wait(bare: Cluster, at_work: Operator) -> None:
    """They say why, and run when it goes on; nothing else of the namespace waits."""
    assert at_work.token()
    name = f"wf-{uuid4().hex[:8]}"
    bare.apply(a_workflow(name, HELLO, suspend=True))
    run = run_of(name)
    bare.apply(run)
    bare.wait("jsonpath={.status.reason}=WorkflowSuspended", "wfr", run["metadata"]["name"])
    bare.apply(a_workflow(name, HELLO))
    bare.wait("condition=Complete", "wfr", run["metadata"]["name"])

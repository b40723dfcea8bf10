"""Runs of a real API server on a played node: what the operator does, without a real node."""

from cluster.operating import Cluster, Operator, workflow_run

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

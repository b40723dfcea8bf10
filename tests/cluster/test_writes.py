"""What one warm run costs the API server: by the operator's count, and by the API server's own."""

from cluster.counting import MEASURER, everybodys, ours
from cluster.operating import RUNNERS, Cluster, Operator, workflow_run

HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""

RUNS = 10


def test_a_run_costs_few_writes(bare: Cluster, at_work: Operator) -> None:
    """At most eight mutating requests a run, reviews, refill and clean-up included; no list."""
    bare.apply(*MEASURER)
    before, before_all = ours(at_work), everybodys(bare)
    for _ in range(RUNS):
        bare.wait("condition=Ready", "rp", "default", 60, RUNNERS)
        run = workflow_run(HELLO)
        bare.apply(run)
        bare.wait("condition=Complete", "wfr", run["metadata"]["name"])
    bare.wait("condition=Ready", "rp", "default", 60, RUNNERS)
    spent, spent_all = ours(at_work) - before, everybodys(bare) - before_all
    writes = {k: n / RUNS for k, n in spent.items() if k[0] != "GET"}
    arrived = {
        k: n / RUNS for k, n in spent_all.items() if k[0] in {"POST", "PUT", "PATCH", "DELETE"}
    }
    print(f"ours {sum(writes.values())}: {writes}")  # noqa: T201 - shown with -s
    print(f"all {sum(arrived.values())}: {arrived}")  # noqa: T201 - shown with -s
    assert sum(writes.values()) <= 8, writes
    # What we count is what arrived: the API server knows of no write less.
    assert arrived["PATCH", "workflowruns/status"] >= writes["PATCH", "workflowruns"]
    reads = {k: n for k, n in spent.items() if k[0] == "GET"}
    assert sum(reads.values()) <= RUNS * 0.5, reads

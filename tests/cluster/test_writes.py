"""What one warm run costs the API server: by the operator's count, and by the API server's own."""

import re
from collections import Counter

from cluster.operating import RUNNERS, Cluster, Operator, workflow_run

HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""

RUNS = 10
_OURS = re.compile(
    r'^plue_kubernetes_requests_total\{resource="(?P<resource>\w+)",verb="(?P<verb>\w+)"\}'
    r" (?P<count>\S+)",
    re.MULTILINE,
)
_ALL = re.compile(
    r'^apiserver_request_total\{.*,resource="(?P<resource>\w*)".*verb="(?P<verb>\w+)".*\}'
    r" (?P<count>\S+)",
    re.MULTILINE,
)
_MEASURER = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "measurer"},
        "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "measurer"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "measurer",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "watcher", "namespace": "default"}],
    },
]

Counts = Counter[tuple[str, str]]
"""Requests by verb and resource; leases are renewed by the clock and not by runs."""


def _counted(pattern: re.Pattern[str], text: str) -> Counts:
    counts: Counts = Counter()
    for found in pattern.finditer(text):
        if found["resource"] != "leases":
            counts[found["verb"], found["resource"]] += round(float(found["count"]))
    return counts


def _ours(operator: Operator) -> Counts:
    return _counted(_OURS, operator.ask("/metrics", accept="text/plain").decode())


def _everybodys(cluster: Cluster) -> Counts:
    return _counted(_ALL, cluster.kubectl("get", "--raw", "/metrics"))


def test_a_run_costs_few_writes(bare: Cluster, at_work: Operator) -> None:
    """At most eight mutating requests a run, reviews, refill and clean-up included; no list."""
    bare.apply(*_MEASURER)
    before, before_all = _ours(at_work), _everybodys(bare)
    for _ in range(RUNS):
        bare.wait("condition=Ready", "rp", "default", 60, RUNNERS)
        run = workflow_run(HELLO)
        bare.apply(run)
        bare.wait("condition=Complete", "wfr", run["metadata"]["name"])
    bare.wait("condition=Ready", "rp", "default", 60, RUNNERS)
    spent, spent_all = _ours(at_work) - before, _everybodys(bare) - before_all
    writes = {k: n / RUNS for k, n in spent.items() if k[0] != "GET"}
    everybodys = {
        k: n / RUNS for k, n in spent_all.items() if k[0] in {"POST", "PUT", "PATCH", "DELETE"}
    }
    print(f"ours {sum(writes.values())}: {writes}")  # noqa: T201 - shown with -s
    print(f"all {sum(everybodys.values())}: {everybodys}")  # noqa: T201 - shown with -s
    assert sum(writes.values()) <= 8, writes
    # What we count is what arrived: the API server knows of no write less.
    assert everybodys["PATCH", "workflowruns"] >= writes["PATCH", "workflowruns"]
    reads = {k: n for k, n in spent.items() if k[0] == "GET"}
    assert sum(reads.values()) <= RUNS * 0.5, reads

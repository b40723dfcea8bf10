"""Requests to the API server: by the operator's count, and by the API server's own."""

import re
from collections import Counter

from cluster.operating import Cluster, Operator

__all__ = ["MEASURER", "Counts", "everybodys", "ours"]

Counts = Counter[tuple[str, str]]
"""Requests by verb and resource, as ``("PATCH", "workflowruns/status")``; the operator's count has
no subresources, and calls a list GET. Leases are renewed by the clock and not by runs."""

MEASURER = [
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
"""What lets a test read the operator's metrics."""

_OURS = re.compile(
    r'^plue_kubernetes_requests_total\{resource="(?P<resource>\w+)",verb="(?P<verb>\w+)"\}'
    r" (?P<count>\S+)",
    re.MULTILINE,
)
_ALL = re.compile(
    r'^apiserver_request_total\{.*,resource="(?P<resource>\w*)".*,subresource="(?P<sub>\w*)"'
    r'.*verb="(?P<verb>\w+)".*\} (?P<count>\S+)',
    re.MULTILINE,
)


def ours(operator: Operator) -> Counts:
    """Return what the operator says that it asked, the lists and watches of kopf left out."""
    return _counted(_OURS, operator.ask("/metrics", accept="text/plain").decode())


def everybodys(cluster: Cluster) -> Counts:
    """Return what the API server says that it was asked, by whomever."""
    return _counted(_ALL, cluster.kubectl("get", "--raw", "/metrics"))


def _counted(pattern: re.Pattern[str], text: str) -> Counts:
    counts: Counts = Counter()
    for found in pattern.finditer(text):
        sub = found.groupdict().get("sub")
        if found["resource"] not in {"", "leases"}:
            resource = f"{found['resource']}/{sub}" if sub else found["resource"]
            counts[found["verb"], resource] += round(float(found["count"]))
    return counts

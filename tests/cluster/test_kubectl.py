"""What people see of the resources through kubectl."""

import subprocess
from pathlib import Path

import pytest
from cluster.bed.build import find_kubectl
from cluster.test_resource_rules import PLACES, REFERENCE, _object

from plue.kube.client import ApiClient


def kubectl(kubeconfig: Path, *arguments: str) -> str:
    """Return what kubectl says; an error of it fails the test."""
    command = [find_kubectl(), f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("wfr.spec.cancel", "Set to true to end the run", id="cancel"),
        pytest.param("wf.spec.source", "text is: exactly one", id="source"),
        pytest.param("rp.spec.warm", "Runners that wait, started, for a run.", id="warm"),
        pytest.param("wfr.status.conditions", "kubectl wait --for=condition", id="conditions"),
    ],
)
def test_explain_teaches(api_server: Path, path: str, expected: str) -> None:
    """`kubectl explain` answers with what the declaration says."""
    said = " ".join(kubectl(api_server, "explain", path).split())
    assert expected in said


async def test_get_reads_well(api_server: Path, api: ApiClient) -> None:
    """`kubectl get wfr` shows what a person asks first."""
    made = await api.create(PLACES["WorkflowRun"], "default", _object("WorkflowRun", REFERENCE))
    name = made["metadata"]["name"]
    status = {"phase": "Running", "workflow": "ci", "progress": "2/5", "reason": None}
    await api.patch(PLACES["WorkflowRun"], "default", name, {"status": status}, sub="status")
    head, row = kubectl(api_server, "get", "wfr", name).splitlines()
    assert head.split() == ["NAME", "WORKFLOW", "PHASE", "STEPS", "REASON", "DURATION", "AGE"]
    assert row.split()[:4] == [name, "ci", "Running", "2/5"]


def test_category_lists_everything(api_server: Path) -> None:
    """`kubectl get plue` asks for all three kinds."""
    said = kubectl(api_server, "api-resources", "--categories=plue", "-o", "name").split()
    assert said == ["runnerpools.plue.dev", "workflowruns.plue.dev", "workflows.plue.dev"]

"""Plue as its chart installs it on the real node: helm, values, and what a user would look at."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cluster.bed.build import build_helm
from cluster.bed.machine import INTERFACE
from cluster.bed.node import GATEWAY
from cluster.bed.places import REPOSITORY, places
from cluster.bed.state import Running
from cluster.operating import RUNNERS, Cluster, until, workflow_run

__all__ = [
    "CHART",
    "NAMESPACE",
    "STEP",
    "Installed",
    "NodeCluster",
    "helm",
    "installed",
    "node_has",
    "node_values",
]

CHART = REPOSITORY / "helm" / "plue"
NAMESPACE = "plue-system"
RELEASE = "plue"

STEP = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("try", {command!r}{options})
"""
"""A workflow of one step."""

_READER: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "reader", "namespace": "default"},
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "reader"},
        "rules": [
            {"apiGroups": ["plue.dev"], "resources": ["workflowruns"], "verbs": ["get", "list"]}
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "reader",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    },
]


def helm(kubeconfig: str | Path, *arguments: str | Path, check: bool = True) -> str:
    """Return what helm says, on both of its channels. An error of it fails the test."""
    done = subprocess.run(
        [str(build_helm(places())), *map(str, arguments)],
        env={"KUBECONFIG": str(kubeconfig), "HOME": str(places().work), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 or not check, said
    return said


class NodeCluster(Cluster):
    """The real node, with what the chart's tests need to know of it."""

    def __init__(self, running: Running) -> None:
        """Speak to the cluster that is up."""
        super().__init__(running.inner_kubeconfig, image=running.runner_image, gateway=GATEWAY)
        self.running = running


@contextmanager
def node_has(address: str) -> Iterator[None]:
    """Give the node one more address, for what a test serves there as a host outside."""
    words = (f"{address}/32", "dev", INTERFACE)
    subprocess.run(["ip", "address", "add", *words], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "address", "del", *words], check=True)


def node_values(cluster: NodeCluster) -> dict[str, Any]:
    """Return the values with which the chart works on the test's node: its images, its API server.

    There is no DNS on that node, and no provisioner of volumes.
    """

    def image(name: str) -> dict[str, str]:
        repository, _, tag = name.rpartition(":")
        return {"repository": repository, "tag": tag, "pullPolicy": "Never"}

    small = {
        "requests": {"cpu": "10m", "memory": "64Mi"},
        "limits": {"cpu": "2", "memory": "512Mi", "ephemeral-storage": "1Gi"},
    }
    return {
        "image": image(cluster.running.server_image),
        "postgres": {"enabled": True, "persistent": False},
        "secretsFrom": ["default"],
        "runners": {
            "image": image(cluster.running.runner_image),
            "pools": {"default": {"warm": 2, "max": 8, "resources": small}},
        },
        "networkPolicies": {
            "apiServer": {"cidrs": [f"{GATEWAY}/32"], "ports": [6443]},
            "models": {"dns": False},
        },
    }


@dataclass
class Installed:
    """A release of the chart, and a reader of runs."""

    cluster: NodeCluster
    folder: Path
    values: dict[str, Any]
    _token: str = field(default="")

    def install(self) -> None:
        """Install it as the README says, into a namespace that admits `restricted` pods only."""
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": NAMESPACE,
                    "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
                },
            }
        )
        self.cluster.apply(*_READER)
        self._helm("install", RELEASE, CHART)
        self.wait_until_warm()

    def upgrade(self, chart: Path = CHART) -> None:
        """Upgrade to *chart*, and wait until all replicas are of it."""
        self._helm("upgrade", RELEASE, chart)

    def helm(self, *arguments: str | Path) -> str:
        """Run helm in the release's namespace."""
        kubeconfig = self.cluster.running.inner_kubeconfig
        return helm(kubeconfig, *arguments, "--namespace", NAMESPACE)

    def _helm(self, verb: str, *arguments: str | Path) -> None:
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(self.values))
        self.helm(verb, *arguments, "--values", file, "--wait", "--timeout", "240s")

    def wait_until_warm(self, pool: str = "default", seconds: float = 90) -> None:
        """Wait until as many runners wait as are wanted."""
        self.cluster.wait("condition=Ready", "rp", pool, seconds, RUNNERS)

    def uninstall(self) -> None:
        """Uninstall it, and what the tests left."""
        self.cluster.kubectl("delete", "wfr,wf", "--all", "-n", "default")
        self.helm("uninstall", RELEASE, "--wait", "--timeout", "120s", "--ignore-not-found")
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")

    # ── what a user does ─────────────────────────────────────────────────────────────────────────

    def apply(self, source: str, count: int = 1, **spec: Any) -> list[str]:
        """Apply runs of this source; return their names."""
        runs = [workflow_run(source, **spec) for _ in range(count)]
        self.cluster.apply(*runs)
        return [run["metadata"]["name"] for run in runs]

    def ended(self, name: str, seconds: float = 60) -> dict[str, Any]:
        """Return the status of a run once it has ended."""

        def status() -> dict[str, Any] | None:
            found: dict[str, Any] = self.cluster.get("wfr", name).get("status", {})
            over = {"Succeeded", "Failed", "Cancelled", "TimedOut"}
            return found if found.get("phase") in over else None

        found: dict[str, Any] = until(f"the end of {name}", status, seconds=seconds)
        return found

    def all_ended(self, names: Sequence[str], seconds: float = 120) -> dict[str, dict[str, Any]]:
        """Return the runs by name, once all have ended."""
        over = {"Succeeded", "Failed", "Cancelled", "TimedOut"}
        end = time.monotonic() + seconds
        while True:
            runs = {run["metadata"]["name"]: run for run in self.cluster.items("wfr", "default")}
            found = {name: runs[name] for name in names if name in runs}
            open_ones = {
                name: run.get("status", {})
                for name, run in found.items()
                if run.get("status", {}).get("phase") not in over
            }
            if len(found) == len(names) and not open_ones:
                return found
            assert time.monotonic() < end, f"not ended within {seconds:.0f} s: {open_ones}"
            # One list a second: many questions would take the time of what is asked about.
            time.sleep(1)

    def tried(self, command: str, options: str = "", **spec: Any) -> tuple[dict[str, Any], str]:
        """Run *command* as a step; return the run's status and all that it printed."""
        (name,) = self.apply(STEP.format(command=command, options=options), **spec)
        status = self.ended(name, 90)
        return status, self.log(name)

    def phases(self) -> dict[str, str]:
        """Return the phase of every run, by name."""
        runs = self.cluster.items("wfr", "default")
        return {run["metadata"]["name"]: run.get("status", {}).get("phase", "") for run in runs}

    def log(self, name: str) -> str:
        """Return all that a run's steps have printed, as the API tells it."""
        uid = self.cluster.get("wfr", name)["metadata"]["uid"]
        return self.ask(f"/api/v1/runs/{uid}/logs", accept="text/plain").decode()

    def events(self, name: str, uid: str = "") -> list[dict[str, Any]]:
        """Return all events of a run that has ended."""
        uid = uid or self.cluster.get("wfr", name)["metadata"]["uid"]
        said = self.ask(f"/api/v1/runs/{uid}/events", accept="application/x-ndjson")
        return [json.loads(line) for line in said.splitlines() if line.strip()]

    def token(self) -> str:
        """Return the token of somebody who may read runs."""
        self._token = (
            self._token
            or self.cluster.kubectl("create", "token", "reader", "--audience=plue-api").strip()
        )
        return self._token

    def ask(self, path: str, *, accept: str = "application/json", seconds: float = 30) -> bytes:
        """Return what the API answers to who may read runs; asks again while it is away."""
        request = urllib.request.Request(
            f"http://{self.service('api')}{path}",
            headers={"Authorization": f"Bearer {self.token()}", "Accept": accept},
        )
        end = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    body: bytes = answer.read()
                    return body
            except (urllib.error.URLError, OSError) as error:
                permanent = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if permanent or time.monotonic() > end:
                    raise
            time.sleep(0.5)

    # ── what the platform engineer sees ──────────────────────────────────────────────────────────

    def service(self, component: str) -> str:
        """Return the cluster's address of a component's Service."""
        found = self.cluster.get("service", f"{RELEASE}-{component}", NAMESPACE)
        return str(found["spec"]["clusterIP"])

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component that are not ending."""
        label = f"app.kubernetes.io/component={component}"
        found = self.cluster.items("pod", NAMESPACE, "-l", label)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def runner_pods(self) -> list[dict[str, Any]]:
        """Return the pods of runners."""
        return self.cluster.items("pod", RUNNERS)

    def assert_each_ran_once(self, names: Sequence[str], seconds: float = 120) -> None:
        """Fail unless every run succeeded, its step began once and its events have no gap."""
        runs = self.all_ended(names, seconds)
        for name, run in runs.items():
            assert run["status"]["phase"] == "Succeeded", (name, run["status"])
        for name, run in runs.items():
            events = self.events(name, run["metadata"]["uid"])
            kinds = [event["type"] for event in events]
            assert (kinds.count("step_started"), kinds.count("run_completed")) == (1, 1), kinds
            assert [event["n"] for event in events] == list(range(1, len(events) + 1))


@contextmanager
def installed(cluster: NodeCluster, folder: Path) -> Iterator[Installed]:
    """Give a release that is installed, and uninstall it afterwards."""
    release = Installed(cluster, folder, node_values(cluster))
    release.install()
    try:
        yield release
    finally:
        release.uninstall()

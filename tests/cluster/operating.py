"""An operator at work on the real node: how tests start it, speak to it and end it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from cluster.bed.build import find_kubectl

__all__ = ["RUNNERS", "RUNTIME", "Cluster", "Operator", "a_workflow", "run_of", "workflow_run"]

RUNNERS = "plue-runners"

_STANDING: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": RUNNERS}},
    {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "plue-runner", "namespace": RUNNERS},
    },
    {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "watcher", "namespace": "default"},
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "watcher"},
        "rules": [
            {"apiGroups": ["plue.dev"], "resources": ["workflowruns"], "verbs": ["get", "list"]}
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "watcher"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "watcher",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "watcher", "namespace": "default"}],
    },
]

RUNTIME = [
    {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "gvisor"},
        "handler": "runsc",
    },
]
"""What a node brings along and a cluster without one lacks."""


def workflow_run(source: str, **spec: Any) -> dict[str, Any]:
    """Return a WorkflowRun of this source alone, with a name of its own."""
    return {
        "apiVersion": "plue.dev/v1alpha1",
        "kind": "WorkflowRun",
        "metadata": {"name": f"run-{uuid4().hex[:8]}", "namespace": "default"},
        "spec": {"source": {"inline": {"workflows": {"ci.py": source}}}, **spec},
    }


def run_of(workflow: str, **spec: Any) -> dict[str, Any]:
    """Return a WorkflowRun of a Workflow, with a name of its own."""
    run = workflow_run("", **spec)
    run["spec"] = {"workflowRef": {"name": workflow}, **spec}
    return run


def a_workflow(name: str, source: str, **spec: Any) -> dict[str, Any]:
    """Return a Workflow of this source."""
    return {
        "apiVersion": "plue.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"source": {"inline": {"workflows": {"ci.py": source}}}, **spec},
    }


class Cluster:
    """A cluster as a test uses it; a real node's from within its network."""

    def __init__(self, kubeconfig: str, *, image: str, gateway: str) -> None:
        """Speak to the cluster of *kubeconfig*; pods of *image* find a gateway at that host."""
        self.kubeconfig = kubeconfig
        self.image = image
        self.gateway = gateway

    def kubectl(self, *arguments: str, given: Any = None, check: bool = True) -> str:
        """Return what kubectl says; *given* goes in as JSON. An error of it fails the test."""
        done = subprocess.run(
            [find_kubectl(), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """Return an object; empty when there is none."""
        said = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", check=False)
        found: dict[str, Any] = json.loads(said or "{}")
        return found

    def items(self, kind: str, namespace: str, *more: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        said = json.loads(self.kubectl("get", kind, "-n", namespace, "-o", "json", *more))
        items: list[dict[str, Any]] = said["items"]
        return items

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects."""
        self.kubectl(
            "apply", "-f", "-", given={"kind": "List", "apiVersion": "v1", "items": objects}
        )

    def wait(
        self, condition: str, kind: str, name: str, seconds: float = 60, ns: str = "default"
    ) -> None:
        """Wait as a person would: `kubectl wait --for=condition=…`."""
        self.kubectl(
            "wait", f"--for={condition}", f"{kind}/{name}", "-n", ns, f"--timeout={seconds:.0f}s"
        )

    def install(self, crds: Path) -> None:
        """Install the resources and what stands around them."""
        # The chart's tests leave its definitions, which are helm's.
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crds))
        for file in crds.glob("*.yaml"):
            name = yaml.safe_load(file.read_text())["metadata"]["name"]
            self.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
        self.apply(*_STANDING)

    def pool(self, name: str, *, warm: int, maximum: int, **spec: Any) -> None:
        """Apply a pool of small runners of this repository's image."""
        self.apply(
            {
                "apiVersion": "plue.dev/v1alpha1",
                "kind": "RunnerPool",
                "metadata": {"name": name, "namespace": RUNNERS},
                "spec": {
                    "warm": warm,
                    "max": maximum,
                    "image": self.image,
                    "imagePullPolicy": "Never",
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "64Mi"},
                        "limits": {"cpu": "2", "memory": "512Mi", "ephemeral-storage": "1Gi"},
                    },
                    **spec,
                },
            }
        )


@dataclass(slots=True)
class Operator:
    """One `plue operator` process in the cluster's own network."""

    cluster: Cluster
    dsn: str
    folder: Path
    api_port: int = 8700
    gateway_port: int = 8701
    egress_port: int = 8704
    kubeconfig: str = ""
    """Another way to the API server than the cluster's own."""
    _process: subprocess.Popen[bytes] | None = None
    _token: str = field(default="")

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "operator.log").read_text(errors="replace")

    @property
    def is_alive(self) -> bool:
        """Whether its process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def memory(self) -> tuple[int, int]:
        """Return the resident memory of its process in bytes: now, and at its peak."""
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        now, peak = (int(found[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return now, peak

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.begin()
        until("the operator is ready", self._is_ready, seconds=60, but=self._check)

    def begin(self) -> None:
        """Start it, and wait for nothing."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PLUE_")
        } | {
            "KUBECONFIG": self.kubeconfig or self.cluster.kubeconfig,
            "PLUE_DATABASE": self.dsn,
            "PLUE_DATA": str(self.folder / "data"),
            "PLUE_GATEWAY_URL": f"http://{self.cluster.gateway}:{self.gateway_port}",
            "PLUE_GATEWAY_LISTEN": f"{self.cluster.gateway}:{self.gateway_port}",
            "PLUE_EGRESS_LISTEN": f"{self.cluster.gateway}:{self.egress_port}",
            "PLUE_API_LISTEN": f"127.0.0.1:{self.api_port}",
            "PLUE_GIT_LOOPBACK": "true",
        }
        program = "from plue.cli.main import main; main()"
        with (self.folder / "operator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, "operator"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Tell it to end; it does so cleanly, within seconds."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            code = self._process.wait(timeout=30)
            self._process = None
            assert code == 0, self.log[-3000:]

    def _check(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self.log[-3000:]

    def _is_ready(self) -> bool:
        try:
            address = f"http://127.0.0.1:{self.api_port}/readyz"
            with urllib.request.urlopen(address, timeout=2) as said:
                return bool(said.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def token(self) -> str:
        """Return the token of a caller who may read runs."""
        self._token = (
            self._token
            or self.cluster.kubectl("create", "token", "watcher", "--audience=plue-api").strip()
        )
        return self._token

    def ask(
        self, path: str, *, token: str | None = None, accept: str = "application/json"
    ) -> bytes:
        """Return what the API answers to a caller who may read runs."""
        token = self.token() if token is None else token
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_port}{path}",
            headers={"Authorization": f"Bearer {token}", "Accept": accept},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: bytes = answer.read()
            return body

    def status(self, path: str, *, token: str, method: str) -> int:
        """Return the status of the API's answer to a request with an empty JSON body."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_port}{path}",
            method=method,
            data=b"{}" if method == "POST" else None,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def state(self, run: str) -> str:
        """Return the state of a run, as the API says it."""
        found: str = json.loads(self.ask(f"/api/v1/runs/{run}"))["state"]
        return found

    def events(self, run: str) -> list[dict[str, Any]]:
        """Return all events of a run that has ended."""
        lines = self.ask(f"/api/v1/runs/{run}/events", accept="application/x-ndjson").splitlines()
        return [json.loads(line) for line in lines if line.strip()]


def until(
    what: str,
    true: Callable[[], Any],
    *,
    seconds: float = 30,
    but: Callable[[], None] = lambda: None,
) -> Any:
    """Ask *true* until it gives something; fails the test after *seconds*."""
    end = time.monotonic() + seconds
    while True:
        if found := true():
            return found
        but()
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@contextmanager
def operator_at(
    cluster: Cluster, dsn: str, folder: Path, *, port: int = 8700, kubeconfig: str = ""
) -> Iterator[Operator]:
    """Give an operator that is ready, at *port* and the next ones, or at free ones for 0.

    It is ended afterwards; *kubeconfig* is another way to the API server than the cluster's own.
    """
    ports = (port, port + 1, port + 4) if port else _free_ports()
    operator = Operator(cluster, dsn, folder, *ports, kubeconfig=kubeconfig)
    try:
        operator.start()
        yield operator
    finally:
        operator.kill()


def _free_ports() -> tuple[int, int, int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as a,
        socket.create_server(("127.0.0.1", 0)) as b,
        socket.create_server(("127.0.0.1", 0)) as c,
    ):
        return a.getsockname()[1], b.getsockname()[1], c.getsockname()[1]

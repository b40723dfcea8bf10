"""etcd and the API server, and the way to talk to them.

Alone on loopback they are what tests of the resources need; ``node`` adds the rest. All
credentials are tokens in a file: the cluster is thrown away, and nobody else can reach it.
"""

import os
import secrets
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.bed.build import build_control
from cluster.bed.places import Places, places
from cluster.bed.processes import Processes, wait_for
from cluster.bed.say import BedError

__all__ = [
    "SERVICE_RANGE",
    "ControlPlane",
    "Listening",
    "control_programs",
    "without_a_node",
    "write_kubeconfig",
]

SERVICE_RANGE = "10.96.0.0/16"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the control plane listens; *advertised* is where pods find the API server."""

    bind: str = "127.0.0.1"
    advertised: str = "127.0.0.1"
    api: int = 6443
    etcd: int = 2379
    etcd_peers: int = 2380

    @classmethod
    def anywhere(cls) -> "Listening":
        """Return free ports of loopback."""
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        api, etcd, peers = (s.getsockname()[1] for s in sockets)
        for s in sockets:
            s.close()
        return cls(api=api, etcd=etcd, etcd_peers=peers)


def control_programs(places: Places) -> dict[str, list[str]]:
    """Return the commands of etcd and of the API server: prebuilt ones first."""
    names = ("etcd", "kube-apiserver")
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        found = {name: [str(Path(assets) / name)] for name in names}
        missing = [command[0] for command in found.values() if not Path(command[0]).exists()]
        if missing:
            raise BedError(f"KUBEBUILDER_ASSETS is set, but there is no {', '.join(missing)}")
        return found
    control = str(build_control(places))
    return {name: [control, name] for name in (*names, "kube-controller-manager")}


_AUDIT_POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts:plue-system"]
- level: None
"""
"""Only what Plue's own components ask is written down, for the test of their rights."""


class ControlPlane:
    """One etcd and one API server, between ``start`` and ``stop``."""

    def __init__(
        self,
        folder: Path,
        *,
        programs: dict[str, list[str]],
        processes: Processes,
        listening: Listening,
    ) -> None:
        """Keep everything in *folder*."""
        self._folder = folder
        self._programs = programs
        self._processes = processes
        self._at = listening
        self.token = secrets.token_hex(16)
        self.node_token = secrets.token_hex(16)
        self.kubeconfig = folder / "kubeconfig"
        self.service_account_key = folder / "service-account.key"
        self.audit_log = folder / "audit.log"

    @property
    def certificate(self) -> Path:
        """The API server's own certificate, which is its authority too."""
        return self._folder / "certificates" / "apiserver.crt"

    @property
    def url(self) -> str:
        """The API server's address on this machine."""
        return f"https://127.0.0.1:{self._at.api}"

    def start(self, *, node: str) -> None:
        """Start both and wait until they are ready. Raises BedError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_credentials(node)
        self._start_etcd()
        self._start_api_server()
        write_kubeconfig(self.kubeconfig, self.url, self.token)
        wait_for("the API server", self._is_ready, seconds=90, check=self._processes.check)

    def start_controllers(self, *names: str) -> None:
        """Start these controllers of Kubernetes, where their program is at hand."""
        program = self._programs.get("kube-controller-manager")
        if program is None:
            return
        self._processes.start(
            "kube-controller-manager",
            [
                *program,
                f"--kubeconfig={self.kubeconfig}",
                "--leader-elect=false",
                f"--controllers={','.join(names)}",
                "--secure-port=0",
            ],
        )

    def _write_credentials(self, node: str) -> None:
        (self._folder / "tokens.csv").write_text(
            f'{self.token},admin,admin,"system:masters"\n'
            f'{self.node_token},system:node:{node},node,"system:nodes"\n'
        )
        subprocess.run(
            ["openssl", "genrsa", "-out", str(self.service_account_key), "2048"],
            check=True,
            capture_output=True,
        )

    def _start_etcd(self) -> None:
        clients = f"http://127.0.0.1:{self._at.etcd}"
        peers = f"http://127.0.0.1:{self._at.etcd_peers}"
        self._processes.start(
            "etcd",
            [
                *self._programs["etcd"],
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls={clients}",
                f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
                "--unsafe-no-fsync",  # what a crash of this machine loses is nobody's loss
                "--log-level=warn",
            ],
        )

    def _start_api_server(self) -> None:
        key = self.service_account_key
        policy = self._folder / "audit-policy.yaml"
        policy.write_text(_AUDIT_POLICY)
        self._processes.start(
            "kube-apiserver",
            [
                *self._programs["kube-apiserver"],
                f"--etcd-servers=http://127.0.0.1:{self._at.etcd}",
                f"--cert-dir={self._folder / 'certificates'}",
                f"--secure-port={self._at.api}",
                f"--bind-address={self._at.bind}",
                f"--advertise-address={self._at.advertised}",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--authorization-mode=Node,RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-mode=blocking",
                "--endpoint-reconciler-type=none",
                "--kubelet-preferred-address-types=InternalIP",
                "--enable-priority-and-fairness=true",
            ],
        )

    def _is_ready(self) -> bool:
        unverified = ssl._create_unverified_context()  # noqa: S323 - it made its certificate itself
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.token}"}
        )
        try:
            with urllib.request.urlopen(request, context=unverified, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def without_a_node(folder: Path) -> Iterator[ControlPlane]:
    """Give an API server of one's own that has no node, on free ports. Raises BedError."""
    processes = Processes(folder / "logs")
    try:
        plane = ControlPlane(
            folder,
            programs=control_programs(places()),
            processes=processes,
            listening=Listening.anywhere(),
        )
        plane.start(node="none")
        plane.start_controllers("namespace-controller", "garbage-collector-controller")
        yield plane
    finally:
        processes.stop()


def write_kubeconfig(path: Path, url: str, token: str) -> None:
    """Write a kubeconfig for *token* that does not verify the self-made certificate."""
    path.write_text(
        f"""apiVersion: v1
kind: Config
current-context: plue-test-bed
clusters:
- name: plue-test-bed
  cluster: {{server: "{url}", insecure-skip-tls-verify: true}}
users:
- name: admin
  user: {{token: "{token}"}}
contexts:
- name: plue-test-bed
  context: {{cluster: plue-test-bed, user: admin}}
"""
    )
    path.chmod(0o600)

"""The cluster inside its namespaces: network, control plane, and its first machine.

This is the first process of its PID namespace. When it ends, the kernel ends everything else in
it, and the mounts, interfaces and packet filters of its namespaces are gone with them.

No packet leaves: the network namespace has a loopback, the node's own address and the pods' ends of
their pairs, and nothing else. Every packet of a pod is routed, also to the pod beside it, so that
the agent of network policies sees all of them.
"""

import json
import os
import subprocess
from pathlib import Path

from cluster.bed.control_plane import SERVICE_RANGE, ControlPlane, Listening
from cluster.bed.machine import (
    INTERFACE,
    POD_RANGE,
    Machine,
    PodImages,
    Station,
    do,
    own_mounts,
)
from cluster.bed.places import Places
from cluster.bed.processes import Processes, wait_for

__all__ = ["GATEWAY", "NODE", "Node"]

NODE = "plue-node"
GATEWAY = "10.244.0.1"
"""The node's address: what a test binds there, pods can reach where no policy forbids it."""

_QUEUE = 100
"""The packet queue at which the agent of network policies judges new connections."""


class Node:
    """Everything of one cluster, started in this process's namespaces."""

    def __init__(self, places: Places, *, control: Path, cgroup: str) -> None:
        """Use the programs of *places*; *cgroup* is the name of the pods' control groups' root."""
        self._places = places
        self._state = places.state
        self._control = str(control)
        self._processes = Processes(places.state / "logs")
        self._machine = Machine(
            Station(
                name=NODE,
                address=GATEWAY,
                folder=places.state,
                cgroup=cgroup,
                first_pod="10.244.0.2",
                last_pod="10.244.127.254",
            ),
            programs=places.programs,
            control=self._control,
            processes=self._processes,
        )
        self._plane = ControlPlane(
            places.state / "control-plane",
            programs={n: [self._control, n] for n in ("etcd", "kube-apiserver")},
            processes=self._processes,
            listening=Listening(bind="0.0.0.0", advertised=GATEWAY),  # noqa: S104 - its own network
        )

    def start(self, images: PodImages) -> None:
        """Start all of it, and return when a pod could run. Raises BedError."""
        self._prepare_mounts()
        self._prepare_network()
        self._plane.start(node=NODE)
        self._start_controllers()
        self._machine.start_containerd(images)
        text = self._plane.kubeconfig.read_text()
        self._machine.start_kubelet(text.replace(self._plane.token, self._plane.node_token))
        self._wait_until_ready()
        self._start_network()

    def check(self) -> None:
        """Raise BedError when a part has ended."""
        self._processes.check()

    @property
    def token(self) -> str:
        """The administrator's token."""
        return self._plane.token

    # ── namespaces ───────────────────────────────────────────────────────────────────────────────

    def _prepare_mounts(self) -> None:
        own_mounts()
        hosts = self._state / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{GATEWAY} {NODE}\n")
        do("mount", "--bind", str(hosts), "/etc/hosts")

    def _prepare_network(self) -> None:
        do("ip", "link", "set", "lo", "up")
        # The address is there before any pod: each pod's pair of interfaces has it too.
        do("ip", "link", "add", INTERFACE, "type", "bridge")
        do("ip", "address", "add", f"{GATEWAY}/32", "dev", INTERFACE)
        do("ip", "link", "set", INTERFACE, "up")
        # What is sent from here to a Service needs a way before kube-proxy gives it another.
        do("ip", "route", "add", SERVICE_RANGE, "dev", INTERFACE)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        # The API server has no endpoints as far as kube-proxy knows: one rule leads pods to it.
        redirect = ("-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination")
        service = ("-i", "veth+", "-d", "10.96.0.1")
        do("iptables", "-t", "nat", "-I", "PREROUTING", *service, *redirect, f"{GATEWAY}:6443")

    # ── processes ────────────────────────────────────────────────────────────────────────────────

    def _start_controllers(self) -> None:
        config = str(self._plane.kubeconfig)
        self._processes.start(
            "kube-controller-manager",
            [
                self._control,
                "kube-controller-manager",
                f"--kubeconfig={config}",
                "--leader-elect=false",
                f"--service-account-private-key-file={self._plane.service_account_key}",
                f"--root-ca-file={self._plane.certificate}",
                "--node-monitor-period=1s",
                "--node-monitor-grace-period=12s",
            ],
        )
        self._processes.start(
            "kube-scheduler",
            [
                self._control,
                "kube-scheduler",
                f"--kubeconfig={config}",
                "--leader-elect=false",
            ],
        )

    def _start_network(self) -> None:
        """Start what gives Services their addresses, and what enforces NetworkPolicies."""
        self._processes.start(
            "kube-proxy",
            [
                self._control,
                "kube-proxy",
                f"--kubeconfig={self._plane.kubeconfig}",
                "--proxy-mode=iptables",
                f"--hostname-override={NODE}",
                f"--cluster-cidr={POD_RANGE}",
                "--conntrack-max-per-core=0",  # limits of the whole machine are not ours
                "--conntrack-tcp-timeout-established=0s",
                "--conntrack-tcp-timeout-close-wait=0s",
                "--iptables-min-sync-period=100ms",
            ],
        )
        # The agent knows only how to find the API server from within a pod.
        account = Path("/run/secrets/kubernetes.io/serviceaccount")
        account.mkdir(parents=True)
        (account / "token").write_text(self._plane.token)
        (account / "ca.crt").write_text(self._plane.certificate.read_text())
        api = {"KUBERNETES_SERVICE_HOST": GATEWAY, "KUBERNETES_SERVICE_PORT": "6443"}
        self._processes.start(
            "policies",
            [
                self._places.programs / "policies",
                f"--hostname-override={NODE}",
                f"--nfqueue-id={_QUEUE}",
                "--disable-nri",
                "--netfilter-bug-1766-fix=false",
                "--metrics-bind-address=127.0.0.1:9080",
            ],
            environment=os.environ | api,
        )
        # Its own rules need a kernel with nft_queue, and say nothing about what is for the node
        # itself, where the API server and the kubelet are. These ask it about both.
        known = ("-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "RETURN")
        ask = ("-j", "NFQUEUE", "--queue-num", str(_QUEUE))
        mangle = ("iptables", "-t", "mangle", "-A")
        do(*mangle, "POSTROUTING", *known)
        do(*mangle, "POSTROUTING", "-m", "owner", "--uid-owner", "0", "-j", "RETURN")
        do(*mangle, "POSTROUTING", "-o", "veth+", *ask)
        do(*mangle, "INPUT", *known)
        do(*mangle, "INPUT", "-i", "veth+", *ask)

    def _wait_until_ready(self) -> None:
        template = "{.status.conditions[?(@.type=='Ready')].status}"

        def node_is_ready() -> bool:
            return self._kubectl("get", "node", NODE, "-o", f"jsonpath={template}") == "True"

        def account_is_there() -> bool:
            return bool(self._kubectl("get", "serviceaccount", "default", "-o", "name"))

        wait_for("the node", node_is_ready, seconds=90, check=self._processes.check)
        wait_for("service accounts", account_is_there, seconds=30, check=self._processes.check)
        self._kubectl("apply", "-f", "-", given=json.dumps(_RUNTIME_CLASS))

    def _kubectl(self, *arguments: str, given: str = "") -> str:
        command = ["kubectl", f"--kubeconfig={self._plane.kubeconfig}", *arguments]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout.strip()


_RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "gvisor"},
    "handler": "runsc",
}

"""The cluster inside its namespaces: network, mounts, control plane, containerd and kubelet.

This is the first process of its PID namespace. When it ends, the kernel ends everything else in
it, and the mounts, interfaces and packet filters of its namespaces are gone with them.

No packet leaves: the network namespace has a loopback, the node's own address and the pods' ends of
their pairs, and nothing else. Every packet of a pod is routed, also to the pod beside it, so that
the agent of network policies sees all of them.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.bed.control_plane import SERVICE_RANGE, ControlPlane, Listening
from cluster.bed.places import Places
from cluster.bed.processes import Processes, wait_for
from cluster.bed.say import BedError

__all__ = ["NODE", "Node", "PodImages"]

NODE = "plue-node"
_INTERFACE = "plue0"
POD_RANGE = "10.244.0.0/16"
GATEWAY = "10.244.0.1"
"""The node's address: what a test binds there, pods can reach where no policy forbids it."""

_QUEUE = 100
"""The packet queue at which the agent of network policies judges new connections."""

_SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True, slots=True)
class PodImages:
    """Archives to import, with the names that pods use."""

    archives: Sequence[Path]
    pause: str = "localhost/pause:1"


class Node:
    """Everything of one cluster, started in this process's namespaces."""

    def __init__(self, places: Places, *, control: Path, cgroup: str) -> None:
        """Use the programs of *places*; *cgroup* is the name of the pods' control groups' root."""
        self._places = places
        self._state = places.state
        self._control = str(control)
        self._cgroup = cgroup
        self._processes = Processes(places.state / "logs")
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
        self._start_containerd(images)
        self._start_kubelet()
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
        # First nobody outside sees our mounts, then our own children see each other's.
        _do("mount", "--make-rprivate", "/")
        _do("mount", "--make-rshared", "/")
        _do("mount", "-t", "proc", "proc", "/proc")
        for folder in ("/run", "/var/log", "/var/lib/cni", "/opt"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        hosts = self._state / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{GATEWAY} {NODE}\n")
        _do("mount", "--bind", str(hosts), "/etc/hosts")

    def _prepare_network(self) -> None:
        _do("ip", "link", "set", "lo", "up")
        # The address is there before any pod: each pod's pair of interfaces has it too.
        _do("ip", "link", "add", _INTERFACE, "type", "bridge")
        _do("ip", "address", "add", f"{GATEWAY}/32", "dev", _INTERFACE)
        _do("ip", "link", "set", _INTERFACE, "up")
        # What is sent from here to a Service needs a way before kube-proxy gives it another.
        _do("ip", "route", "add", SERVICE_RANGE, "dev", _INTERFACE)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        # The API server has no endpoints as far as kube-proxy knows: one rule leads pods to it.
        redirect = ("-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination")
        service = ("-i", "veth+", "-d", "10.96.0.1")
        _do("iptables", "-t", "nat", "-I", "PREROUTING", *service, *redirect, f"{GATEWAY}:6443")
        cni = self._state / "cni"
        cni.mkdir(parents=True, exist_ok=True)
        (cni / "10-plue.conflist").write_text(json.dumps(_CNI))

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

    def _start_containerd(self, images: PodImages) -> None:
        folder = self._state / "containerd"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "runsc.toml").write_text('[runsc_config]\n  platform = "systrap"\n')
        (folder / "config.toml").write_text(_containerd_config(folder, self._state / "cni", images))
        path = f"{self._places.programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        self._processes.start(
            "containerd",
            [self._places.programs / "containerd", "--config", folder / "config.toml"],
            environment=os.environ | {"PATH": path},
        )
        wait_for("containerd", Path(_SOCKET).is_socket, seconds=30, check=self._processes.check)
        for archive in images.archives:
            self._ctr("--namespace", "k8s.io", "images", "import", "--local", str(archive))

    def _ctr(self, *arguments: str) -> None:
        _do(str(self._places.programs / "ctr"), "--address", _SOCKET, *arguments)

    def _start_kubelet(self) -> None:
        folder = self._state / "kubelet"
        folder.mkdir(parents=True, exist_ok=True)
        for hierarchy in _hierarchies():
            (hierarchy / self._cgroup).mkdir(exist_ok=True)
        _inherit_cpuset(self._cgroup)
        config = folder / "config.json"
        config.write_text(json.dumps(_kubelet_config(f"/{self._cgroup}")))
        kubeconfig = folder / "kubeconfig"
        text = self._plane.kubeconfig.read_text()
        kubeconfig.write_text(text.replace(self._plane.token, self._plane.node_token))
        self._processes.start(
            "kubelet",
            [
                self._control,
                "kubelet",
                f"--config={config}",
                f"--kubeconfig={kubeconfig}",
                f"--root-dir={folder / 'root'}",
                f"--cert-dir={folder / 'certificates'}",
                f"--hostname-override={NODE}",
                f"--node-ip={GATEWAY}",
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
        _do(*mangle, "POSTROUTING", *known)
        _do(*mangle, "POSTROUTING", "-m", "owner", "--uid-owner", "0", "-j", "RETURN")
        _do(*mangle, "POSTROUTING", "-o", "veth+", *ask)
        _do(*mangle, "INPUT", *known)
        _do(*mangle, "INPUT", "-i", "veth+", *ask)

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


_CNI = {
    "cniVersion": "0.4.0",
    "name": "plue",
    "plugins": [
        {
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_RANGE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}

_RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "gvisor"},
    "handler": "runsc",
}


def _containerd_config(folder: Path, cni: Path, images: PodImages) -> str:
    return f"""version = 3
root = "{folder / "root"}"
state = "/run/containerd"

[grpc]
  address = "{_SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{images.pause}"

[plugins."io.containerd.cri.v1.runtime"]
  # Lowering oom_score_adj is refused where CAP_SYS_RESOURCE is missing.
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{cni}"
[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runsc]
  runtime_type = "io.containerd.runsc.v1"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runsc.options]
  TypeUrl = "io.containerd.runsc.v1.options"
  ConfigPath = "{folder / "runsc.toml"}"
"""


def _kubelet_config(cgroup: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},  # reachable from within the namespace only
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "containerRuntimeEndpoint": f"unix://{_SOCKET}",
        "resolvConf": "",
        "podLogsDir": "/var/log/pods",
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 8,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "syncFrequency": "10s",
        "shutdownGracePeriod": "0s",
    }


def _hierarchies() -> list[Path]:
    """Return the control group hierarchies: one on version 2, one per controller on version 1."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    return [folder for folder in root.iterdir() if (folder / "cgroup.procs").exists()]


def _inherit_cpuset(cgroup: str) -> None:
    """Give a version-1 cpuset its parent's processors: without any, nothing can enter it."""
    parent = Path("/sys/fs/cgroup/cpuset")
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (parent / name).exists():
            (parent / cgroup / name).write_text((parent / name).read_text())


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BedError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")

"""One machine of the cluster: containerd and kubelet, in this process's namespaces.

The first one is beside the control plane; `second` starts another that a test can lose.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.bed.processes import Processes, wait_for
from cluster.bed.say import BedError

__all__ = [
    "INTERFACE",
    "POD_RANGE",
    "SOCKET",
    "Machine",
    "PodImages",
    "Station",
    "do",
    "own_mounts",
]

INTERFACE = "plue0"
POD_RANGE = "10.244.0.0/16"
SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True, slots=True)
class PodImages:
    """Archives to import, with the names that pods use."""

    archives: Sequence[Path]
    pause: str = "localhost/pause:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """What one machine has for itself among those of a cluster."""

    name: str
    address: str
    folder: Path
    """Where containerd and kubelet keep their files."""
    cgroup: str
    """The root of its pods' control groups."""
    first_pod: str
    last_pod: str
    """Its part of the pods' addresses."""
    kubelet_port: int = 10250
    health_port: int = 10248
    taints: str = ""
    """As `--register-with-taints` takes them."""


class Machine:
    """containerd and kubelet."""

    def __init__(
        self, station: Station, *, programs: Path, control: str, processes: Processes
    ) -> None:
        """Use the programs of that folder, and *control* as the kubelet."""
        self._station = station
        self._programs = programs
        self._control = control
        self._processes = processes
        station.folder.mkdir(parents=True, exist_ok=True)

    def start_containerd(self, images: PodImages) -> None:
        """Start it, and import what pods use. Raises BedError."""
        cni = self._station.folder / "cni"
        cni.mkdir(exist_ok=True)
        (cni / "10-plue.conflist").write_text(json.dumps(_cni(self._station)))
        folder = self._station.folder / "containerd"
        folder.mkdir(exist_ok=True)
        (folder / "runsc.toml").write_text('[runsc_config]\n  platform = "systrap"\n')
        (folder / "config.toml").write_text(_containerd_config(folder, cni, images))
        path = f"{self._programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        self._processes.start(
            "containerd",
            [self._programs / "containerd", "--config", folder / "config.toml"],
            environment=os.environ | {"PATH": path},
        )
        wait_for("containerd", Path(SOCKET).is_socket, seconds=30, check=self._processes.check)
        for archive in images.archives:
            do(
                *(str(self._programs / "ctr"), "--address", SOCKET, "--namespace", "k8s.io"),
                *("images", "import", "--local", str(archive)),
            )

    def start_kubelet(self, kubeconfig: str) -> None:
        """Start it with the text of a kubeconfig."""
        station = self._station
        folder = station.folder / "kubelet"
        folder.mkdir(exist_ok=True)
        for hierarchy in _hierarchies():
            (hierarchy / station.cgroup).mkdir(exist_ok=True)
        _inherit_cpuset(station.cgroup)
        config = folder / "config.json"
        config.write_text(json.dumps(_kubelet_config(station)))
        login = folder / "kubeconfig"
        login.write_text(kubeconfig)
        self._processes.start(
            "kubelet",
            [
                self._control,
                "kubelet",
                f"--config={config}",
                f"--kubeconfig={login}",
                f"--root-dir={folder / 'root'}",
                f"--cert-dir={folder / 'certificates'}",
                f"--hostname-override={station.name}",
                f"--node-ip={station.address}",
                *([f"--register-with-taints={station.taints}"] if station.taints else []),
            ],
        )


def own_mounts() -> None:
    """Give what runs here folders of its own, and processes that it sees."""
    # First nobody outside sees our mounts, then our own children see each other's.
    do("mount", "--make-rprivate", "/")
    do("mount", "--make-rshared", "/")
    do("mount", "-t", "proc", "proc", "/proc")
    for folder in ("/run", "/var/log", "/var/lib/cni", "/opt"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)


def _cni(station: Station) -> Mapping[str, object]:
    pods = {"subnet": POD_RANGE, "rangeStart": station.first_pod, "rangeEnd": station.last_pod}
    return {
        "cniVersion": "0.4.0",
        "name": "plue",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[pods]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _containerd_config(folder: Path, cni: Path, images: PodImages) -> str:
    return f"""version = 3
root = "{folder / "root"}"
state = "/run/containerd"

[grpc]
  address = "{SOCKET}"

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


def _kubelet_config(station: Station) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},  # reachable from within the namespace only
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{station.cgroup}",
        "port": station.kubelet_port,
        "healthzPort": station.health_port,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
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


def do(*command: str) -> None:
    """Run a command. Raises BedError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BedError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")

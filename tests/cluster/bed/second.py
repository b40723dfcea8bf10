"""Another machine of the cluster, that a test can lose and have back.

It has mounts, processes, containerd, a kubelet and a part of the pods' addresses of its own, and
shares the network namespace of the first: the same kube-proxy and the same agent of network
policies serve both. What runs on it is known by nobody else, so that it ends with it at once.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.bed.__main__ import cgroup_of
from cluster.bed.build import build_control
from cluster.bed.images import PAUSE
from cluster.bed.machine import INTERFACE, SOCKET, Machine, PodImages, Station, do, own_mounts
from cluster.bed.places import REPOSITORY, places
from cluster.bed.processes import Processes
from cluster.bed.state import Running

__all__ = ["SECOND", "TAINT", "SecondNode", "second_node"]

SECOND = "plue-second"
TAINT = "plue.dev/test-of-loss"
"""Only what tolerates it comes here: Plue itself stays where it is."""

_ADDRESS = "10.247.0.2"


class SecondNode:
    """The machine as a test sees it; it is started, lost and started again."""

    def __init__(self, running: Running) -> None:
        """Be of this cluster."""
        self._running = running
        self._folder = places().state / "second"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start it: as after a loss, with what is on its disk. Its node becomes Ready."""
        self._folder.mkdir(exist_ok=True)
        images = self._folder / "images.tar"
        if not images.exists():
            self._save_images(images)
        # The shell's number within the cluster is that of `unshare`, with which all of it ends.
        script = f'echo $$ > {self._pid_file}; exec unshare --mount --pid --fork --kill-child "$@"'
        program = [sys.executable, "-m", "cluster.bed.second", self._running.inner_kubeconfig]
        with (self._folder / "second.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._into("-n"), "sh", "-c", script, "sh", *program],
                env=os.environ | {"PYTHONPATH": str(REPOSITORY / "tests")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def lose(self) -> None:
        """End all that runs on it, at once and without a word to anybody."""
        if self._process is None:
            return
        kill = ["kill", "-KILL", self._pid_file.read_text().strip()]
        subprocess.run([*self._into(), *kill], check=False)
        self._process.wait(timeout=30)
        self._process = None

    @property
    def _pid_file(self) -> Path:
        return self._folder / "pid"

    def _into(self, *more: str) -> Sequence[str]:
        return ["nsenter", "-t", str(self._running.init), "-m", "-p", *more, "--"]

    def _save_images(self, file: Path) -> None:
        ctr = [str(places().programs / "ctr"), "--address", SOCKET, "--namespace", "k8s.io"]
        names = [PAUSE, self._running.runner_image]
        subprocess.run(
            [*self._into(), *ctr, "images", "export", "--local", str(file), *names], check=True
        )


@contextmanager
def second_node(running: Running) -> Iterator[SecondNode]:
    """Give a second machine that is being started, and take it away afterwards."""
    node = SecondNode(running)
    node.start()
    try:
        yield node
    finally:
        node.lose()


def main() -> None:
    """Be the first process on that machine: start its parts, then reap what is orphaned."""
    where = places()
    folder = where.state / "second"
    own_mounts()
    do("ip", "address", "replace", f"{_ADDRESS}/32", "dev", INTERFACE)
    station = Station(
        name=SECOND,
        address=_ADDRESS,
        folder=folder,
        cgroup=f"{cgroup_of(where)}/second",
        first_pod="10.244.128.1",
        last_pod="10.244.255.254",
        kubelet_port=10350,
        health_port=10348,
        taints=f"{TAINT}=:NoSchedule",
    )
    machine = Machine(
        station,
        programs=where.programs,
        control=str(build_control(where)),
        processes=Processes(folder / "logs"),
    )
    machine.start_containerd(PodImages([folder / "images.tar"], pause=PAUSE))
    machine.start_kubelet(Path(sys.argv[1]).read_text())
    while True:
        os.waitpid(-1, 0)


if __name__ == "__main__":
    main()

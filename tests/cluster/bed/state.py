"""The one running cluster of a state folder: how it is found, and how it is reached."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from cluster.bed.places import Places

__all__ = ["OurImages", "Running", "find_running"]

_FILE = "running.json"


@dataclass(frozen=True, slots=True)
class OurImages:
    """The names of the images that this repository makes."""

    runner: str
    server: str


@dataclass(frozen=True, slots=True)
class Running:
    """A cluster that is up. Process ids are this machine's; ``init`` is the first one inside."""

    pid: int
    started: str
    init: int
    kubeconfig: str
    """For commands on this machine."""
    inner_kubeconfig: str
    """For what runs in the cluster's network."""
    runner_image: str
    server_image: str

    @classmethod
    def of(cls, pid: int, init: int, kubeconfig: str, inner: str, images: OurImages) -> Self:
        """Describe the cluster that process *pid* holds."""
        return cls(pid, _birth(pid), init, kubeconfig, inner, images.runner, images.server)

    def is_alive(self) -> bool:
        """Return whether that very process is still there."""
        return _birth(self.pid) == self.started != ""

    def record(self) -> Mapping[str, object]:
        """Return what is written down."""
        return asdict(self)

    def save(self, places: Places) -> None:
        """Write it where ``find_running`` looks."""
        fresh = places.state / f".{_FILE}"
        fresh.write_text(json.dumps(self.record()))
        fresh.rename(places.state / _FILE)


def find_running(places: Places) -> Running | None:
    """Return the cluster that is up, or None."""
    try:
        running = Running(**json.loads((places.state / _FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return running if running.is_alive() else None


def _birth(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks; empty when it is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]

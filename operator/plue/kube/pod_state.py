"""What a pod's status says about its runner: present, or gone and why. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plue.wire.events import Reason

__all__ = ["PodEnd", "Shortage", "end_of", "shortage_of"]


@dataclass(frozen=True, slots=True)
class PodEnd:
    """How a pod ended; ``reason`` is None for a runner that went when its work was done."""

    reason: Reason | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a pod is not there yet, as its pool's condition says it."""

    reason: str
    message: str


_POD_REASONS = {
    "Evicted": Reason.EVICTED,
    "DeadlineExceeded": Reason.RUN_TIMEOUT,
    "NodeLost": Reason.NODE_LOST,
    "NodeShutdown": Reason.NODE_LOST,
    "Terminated": Reason.NODE_LOST,
    "Preempting": Reason.EVICTED,
}

_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_BY_KILL = (137, 128)
"""Exit codes of a container that the kernel killed; runsc reports the second."""


def end_of(pod: Mapping[str, Any]) -> PodEnd | None:
    """Return how the pod ended; None while something of it may still execute."""
    status = pod.get("status") or {}
    if status.get("phase") not in {"Succeeded", "Failed"}:
        return None
    named = _POD_REASONS.get(status.get("reason", ""))
    if named is not None:
        return PodEnd(named, status.get("message") or f"the pod was {status['reason']}")
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if ended is not None and (end := _container_end(ended)) is not None:
            return end
    if status["phase"] == "Failed":
        return PodEnd(Reason.RUNNER_LOST, status.get("message") or "the pod failed")
    return PodEnd(None, None)


def _container_end(ended: Mapping[str, Any]) -> PodEnd | None:
    code = int(ended.get("exitCode", 0))
    if ended.get("reason") == "OOMKilled":
        return PodEnd(Reason.OOM_KILLED, "the runner used more memory than its limit")
    if ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        return PodEnd(Reason.CANNOT_START, str(ended.get("message") or "it did not start")[:1000])
    if code == 0:
        return None
    said = str(ended.get("message") or "").strip()[-500:]
    how = "was killed" if code in _BY_KILL else f"ended with code {code}"
    return PodEnd(Reason.RUNNER_LOST, f"the runner {how}" + (f": {said}" if said else ""))


def shortage_of(pod: Mapping[str, Any]) -> Shortage | None:
    """Return why a pod that was made does not run yet; None when nothing is wrong."""
    status = pod.get("status") or {}
    if status.get("phase") not in {None, "", "Pending"}:
        return None
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _PULLING:
            return Shortage("ImagePull", _waiting(waiting))
        if waiting.get("reason") in {"CreateContainerError", "CreateContainerConfigError"}:
            return Shortage("CannotStart", _waiting(waiting))
    return _unscheduled(status.get("conditions") or ())


def _unscheduled(conditions: Sequence[Mapping[str, Any]]) -> Shortage | None:
    for condition in conditions:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Shortage("Unschedulable", str(condition.get("message") or "")[:1000])
    return None


def _waiting(waiting: Mapping[str, Any]) -> str:
    return f"{waiting['reason']}: {str(waiting.get('message') or '')[:1000]}"

"""The nodes as the watch tells of them: which are lost, and which take nothing more."""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Nodes"]


class Nodes:
    """What is known of nodes; one that nobody told of is well."""

    def __init__(self) -> None:
        """Know of none."""
        self.on_change: Callable[[], None] = lambda: None
        self._lost: set[str] = set()
        self._closed: set[str] = set()

    def saw(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take in what the watch says about a node."""
        name = body["metadata"]["name"]
        before = name in self._lost, name in self._closed
        _put(self._lost, name, is_in=deleted or not _is_heard_of(body))
        _put(self._closed, name, is_in=bool((body.get("spec") or {}).get("unschedulable")))
        if before != (name in self._lost, name in self._closed):
            self.on_change()

    def is_lost(self, name: str | None) -> bool:
        """Return whether nobody can say what its containers do: it is gone, or silent."""
        return name in self._lost

    def is_closed(self, name: str | None) -> bool:
        """Return whether it was cordoned: what waits there shall go elsewhere."""
        return name in self._closed


def _put(names: set[str], name: str, *, is_in: bool) -> None:
    if is_in:
        names.add(name)
    else:
        names.discard(name)


def _is_heard_of(body: Mapping[str, Any]) -> bool:
    """Return whether its kubelet reports; that it reports trouble is no silence."""
    for condition in (body.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return bool(condition.get("status") != "Unknown")
    return True

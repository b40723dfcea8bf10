"""The nodes as the watch tells of them: which are lost, and which take nothing more."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

__all__ = ["Nodes"]


class Nodes:
    """What is known of nodes; one that nobody told of is well."""

    def __init__(self) -> None:
        """Know of none."""
        self.on_change: Callable[[], None] = lambda: None
        self._lost: set[str] = set()
        self._closed: set[str] = set()
        self._gone: set[str] = set()
        self._long_gone: set[str] = set()

    def saw(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take in what the watch says about a node."""
        name = body["metadata"]["name"]
        before = name in self._lost, name in self._closed
        _put(self._lost, name, is_in=deleted or not _is_heard_of(body))
        closed = not deleted and (body.get("spec") or {}).get("unschedulable")
        _put(self._closed, name, is_in=bool(closed))
        _put(self._gone, name, is_in=deleted)
        self._long_gone.discard(name)
        if before != (name in self._lost, name in self._closed):
            self.on_change()

    def is_lost(self, name: str | None) -> bool:
        """Return whether nobody can say what its containers do: it is gone, or silent."""
        return name in self._lost

    def forget(self, used: Collection[str]) -> None:
        """Forget the nodes that were gone at the last call already, but those *used* by pods.

        Not at once: that a pod came to a node may be told after that node's end.
        """
        forgotten = self._long_gone.difference(used)
        self._gone -= forgotten
        self._lost -= forgotten
        self._long_gone = set(self._gone)

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

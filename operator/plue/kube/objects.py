"""Resources as the operator keeps them, and how their status is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plue.errors import ConflictError, NotFoundError
from plue.kube.client import ApiClient, Json, Place
from plue.resources.crds import API_VERSION

__all__ = ["POOLS", "RUNS", "WORKFLOWS", "Known", "is_gone", "renew", "write_status"]

WORKFLOWS = Place(API_VERSION, "workflows")
RUNS = Place(API_VERSION, "workflowruns")
POOLS = Place(API_VERSION, "runnerpools")


@dataclass(slots=True)
class Known:
    """One object as it was last seen."""

    namespace: str
    name: str
    uid: str
    generation: int
    version: str
    created: str
    spec: Json
    status: Json

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Known":
        """Take the parts of an object of the API."""
        metadata = body["metadata"]
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=int(metadata.get("generation", 0)),
            version=metadata["resourceVersion"],
            created=metadata["creationTimestamp"],
            spec=dict(body.get("spec") or {}),
            status=dict(body.get("status") or {}),
        )

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.namespace, self.name)


async def write_status(api: ApiClient, place: Place, known: Known, status: Json) -> bool:
    """Write what differs of *status* into exactly the version that is known; True if written.

    Fields that are None are taken away. The object's version and status in *known* are renewed.
    Raises ConflictError after reading the newer version, UnavailableError, and NotFoundError, which
    only ``is_gone`` turns into knowledge about the object.
    """
    changed = {k: v for k, v in status.items() if known.status.get(k) != v}
    if not changed:
        return False
    body = {
        "metadata": {"resourceVersion": known.version, "uid": known.uid},
        "status": changed,
    }
    try:
        answer = await api.patch(place, known.namespace, known.name, body, sub="status")
    except ConflictError:
        fresh = await api.get(place, known.namespace, known.name)
        if fresh["metadata"]["uid"] != known.uid:
            # Made again under the same name: ours is gone for good.
            raise NotFoundError(details={"name": known.name}) from None
        renew(known, fresh)
        raise
    renew(known, answer)
    return True


def is_gone(error: NotFoundError, name: str) -> bool:
    """Return whether it is the object that is not found, and not its whole kind."""
    return error.details.get("name") == name


def renew(known: Known, body: Mapping[str, Any]) -> None:
    """Take in a newer version of the object."""
    fresh = Known.of(body)
    known.generation, known.version = fresh.generation, fresh.version
    known.spec, known.status = fresh.spec, fresh.status

"""Finding what was deleted while nobody watched.

kopf does not tell of objects that went during a gap of its watch. So our own paged list is compared
with what is known; and because a list may be stale, and a right or a definition may have been
lost, an object is gone only when a GET says so: 404 for that very name, or another UID.
"""

from collections.abc import Mapping
from typing import Protocol

import structlog

from plue.errors import NotFoundError
from plue.kube.client import ApiClient, Place
from plue.kube.objects import is_gone

__all__ = ["Cache", "prune"]

_log = structlog.get_logger(__name__)


class Cache(Protocol):
    """What is known of the objects of one kind."""

    def identities(self) -> Mapping[str, tuple[str, str]]:
        """Return UID → (namespace, name) of all objects that are known."""

    def gone(self, uid: str) -> None:
        """Take in that the object of this UID does not exist any more."""


async def prune(api: ApiClient, place: Place, cache: Cache, *, namespace: str | None = None) -> int:
    """Tell *cache* what is gone, of all namespaces or of *namespace*; return how many.

    Raises NotFoundError without the definition.
    """
    known = dict(cache.identities())
    listed: set[str] = set()
    async for page in api.pages(place, namespace=namespace, metadata_only=True):
        listed.update(item["metadata"]["uid"] for item in page["items"])
    gone = [uid for uid in known.keys() - listed if await _is_gone(api, place, uid, known[uid])]
    for uid in gone:
        cache.gone(uid)
    if gone:
        _log.info("pruned", kind=place.plural, count=len(gone))
    return len(gone)


async def _is_gone(api: ApiClient, place: Place, uid: str, at: tuple[str, str]) -> bool:
    namespace, name = at
    try:
        found = await api.get(place, namespace, name)
    except NotFoundError as error:
        return is_gone(error, name)
    return bool(found["metadata"]["uid"] != uid)

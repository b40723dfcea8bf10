"""The application's typed keys: what handlers may reach, and nothing else is global."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from plue.api.models import Health, ServerInfo
from plue.api.streams import OpenStreams
from plue.engine.ports import Repository
from plue.engine.service import Engine
from plue.store.archives import Archives

__all__ = ["ARCHIVES", "DOCUMENT", "ENGINE", "HOUSE", "STREAMS", "TREE", "ApiLimits", "House"]


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Bounds that a deployment may want to set.

    ``blob_bytes`` is the largest upload; ``unread`` is how long a stream's client may leave what
    it was sent unread before it is closed; ``sweep`` is how often streams are searched for
    clients that left.
    """

    blob_bytes: int = 2 * 1024**3
    unread: timedelta = timedelta(seconds=30)
    sweep: timedelta = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class House:
    """What the server can say about itself."""

    info: ServerInfo
    limits: ApiLimits
    metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None
    ready: Callable[[], Awaitable[Health]]


ENGINE: web.AppKey[Engine] = web.AppKey("plue.engine", Engine)
ARCHIVES: web.AppKey[Archives] = web.AppKey("plue.archives", Archives)
TREE: web.AppKey[Repository | None] = web.AppKey("plue.tree")
HOUSE: web.AppKey[House] = web.AppKey("plue.house", House)
STREAMS: web.AppKey[OpenStreams] = web.AppKey("plue.streams", OpenStreams)
DOCUMENT: web.AppKey[bytes] = web.AppKey("plue.openapi", bytes)

"""Kubernetes Events, where `kubectl describe` looks for them: few, and each only once.

An event's name is made of what it says, so that a repeat is a conflict and no second event.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

import structlog

from plue.errors import ConflictError, PlueError
from plue.kube.client import CORE, ApiClient, Place
from plue.kube.conditions import timestamp
from plue.kube.objects import Known
from plue.resources.crds import API_VERSION

__all__ = ["Announcer"]

_log = structlog.get_logger(__name__)

_EVENTS = Place(CORE, "events")
_MESSAGE = 1000
_REMEMBERED = 1000
"""What was said lately and is not even tried again."""


class Announcer:
    """Writes events about our resources; that one could not be written stops nothing."""

    def __init__(
        self, api: ApiClient, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Write at *api*."""
        self._api = api
        self._clock = clock
        self._said: OrderedDict[str, None] = OrderedDict()

    async def say(
        self,
        kind: str,
        known: Known,
        type_: Literal["Normal", "Warning"],
        reason: str,
        message: str,
    ) -> None:
        """Write one event about an object, unless the same was said before."""
        message = message[:_MESSAGE] or reason
        said = f"{known.uid} {known.generation} {reason} {message}"
        if said in self._said:
            return
        self._said[said] = None
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        now = timestamp(self._clock())
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{known.name[:200]}.{digest}", "namespace": known.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": kind,
                "namespace": known.namespace,
                "name": known.name,
                "uid": known.uid,
                "resourceVersion": known.version,
            },
            "type": type_,
            "reason": reason,
            "message": message,
            "source": {"component": "plue"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with suppress(ConflictError):
            try:
                await self._api.create(_EVENTS, known.namespace, body)
            except ConflictError:
                raise
            except PlueError as error:
                _log.warning("event_not_written", reason=reason, error=error.message)

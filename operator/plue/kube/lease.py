"""Which of several operators is the active one: a Lease of coordination.k8s.io.

Elected for economy and not for safety: every write carries a precondition, so that two active
operators do no harm, and a lease could not keep a paused one from waking up late.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from plue.ending import end_tasks
from plue.errors import ConflictError, NotFoundError, PlueError
from plue.kube.client import ApiClient, Json, Place

__all__ = ["LEASES", "Leadership"]

_log = structlog.get_logger(__name__)

LEASES = Place("coordination.k8s.io/v1", "leases")

_SECONDS = 10
"""How long a lease stands after it was last renewed."""

_RENEW_EVERY = 3.0
_LOOK_EVERY = 2.0


class Leadership:
    """Stands for election, and renews while it is elected."""

    def __init__(
        self, api: ApiClient, *, namespace: str, identity: str, name: str = "plue"
    ) -> None:
        """Stand as *identity* for the Lease *name*."""
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._name = name
        self.elected = asyncio.Event()
        self.lost = asyncio.Event()
        """Set when the lease was lost; whoever acts on it must end."""
        self._seen: tuple[str, float] = ("", 0.0)
        self._held: Json | None = None
        """The lease as we last wrote it; renewed without being read."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to stand."""
        self._task = asyncio.create_task(self._forever(), name="lease")

    async def close(self) -> None:
        """Resign, so that the next one need not wait."""
        await end_tasks([self._task])
        if self.elected.is_set() and not self.lost.is_set():
            with suppress(PlueError):
                lease = await self._api.get(LEASES, self._namespace, self._name)
                if lease["spec"].get("holderIdentity") == self._identity:
                    await self._write(lease, holder="")

    async def _forever(self) -> None:
        while not self.lost.is_set():
            try:
                if await self._try():
                    if not self.elected.is_set():
                        _log.info("elected", identity=self._identity)
                        self.elected.set()
                elif self.elected.is_set():
                    self._lose("another holds the lease")
            except (ConflictError, PlueError) as error:
                # Who cannot ask is not voted out: only a lease that another holds ends us. That
                # two act meanwhile does no harm; that all end with the API server would.
                _log.warning("lease_not_renewed", error=error.message)
            await asyncio.sleep(_RENEW_EVERY if self.elected.is_set() else _LOOK_EVERY)

    def _lose(self, why: str) -> None:
        _log.error("lease_lost", why=why)
        self.lost.set()

    async def _try(self) -> bool:
        """Renew or take the lease; whether it is ours now."""
        if self._held is not None:
            held, self._held = self._held, None
            await self._write(held, holder=self._identity)
            return True
        try:
            lease = await self._api.get(LEASES, self._namespace, self._name)
        except NotFoundError:
            body = self._body(self._identity)
            self._held = await self._api.create(LEASES, self._namespace, body)
            return True
        holder = lease["spec"].get("holderIdentity")
        if holder and holder != self._identity and not self._has_expired(lease):
            return False
        await self._write(lease, holder=self._identity)
        return True

    def _has_expired(self, lease: Json) -> bool:
        """Return whether it was not renewed for its length, by our own clock alone."""
        version = str(lease["metadata"]["resourceVersion"])
        if version != self._seen[0]:
            self._seen = (version, _now())
        return _now() - self._seen[1] > _SECONDS

    async def _write(self, lease: Json, *, holder: str) -> None:
        body = self._body(holder)
        body["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
        self._held = await self._api.replace(LEASES, self._namespace, self._name, body)

    def _body(self, holder: str) -> Json:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": _SECONDS,
                "renewTime": _micro_time(datetime.now(UTC)),
            },
        }


def _micro_time(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _now() -> float:
    return asyncio.get_running_loop().time()

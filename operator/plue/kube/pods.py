"""Runners as pods: the Host of a cluster.

Pods are created with their row's name, so that a repeat is a conflict and no second pod. What is
known of them comes from a watch and from paged lists; a pod is gone only when its containers were
seen ended, or when the API server says that there never was one.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

import structlog
from pydantic import ValidationError

from plue.domain.run import RunnerId
from plue.ending import end_tasks
from plue.engine.ports import NewRunner, SeenRunner
from plue.errors import (
    ConflictError,
    NotFoundError,
    PlueError,
    RejectedError,
    UnavailableError,
)
from plue.kube.client import CORE, ApiClient, Json, Place
from plue.kube.nodes import Nodes
from plue.kube.objects import POOLS
from plue.kube.pod_state import PodEnd, Shortage, end_of, shortage_of
from plue.kube.pod_template import (
    POOL_LABEL,
    RUN_LABEL,
    RUNNER_LABEL,
    TEMPLATE_ANNOTATION,
    PoolIdentity,
    RunnerPlacing,
    runner_pod,
)
from plue.resources.runner_pool import RunnerPoolSpec
from plue.wire.events import Reason

__all__ = ["PODS", "KnownPool", "PodHost"]

_log = structlog.get_logger(__name__)

PODS = Place(CORE, "pods")

_REMEMBERED = 1000
"""Runners that have gone and are still listed."""

_BELIEVED_AFTER = 150.0
"""Seconds after which a pod that vanished without its containers being seen ended counts as gone:
longer than a runner may work without its lease."""

_SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
_LABELS = frozenset({POOL_LABEL, RUNNER_LABEL, RUN_LABEL})
_STATUS_KEYS = ("phase", "reason", "message", "conditions", "containerStatuses", "startTime")


@dataclass(frozen=True, slots=True)
class KnownPool:
    """A RunnerPool of which pods can be made."""

    identity: PoolIdentity
    spec: RunnerPoolSpec


class PodHost:
    """Makes, sees and ends runner pods; implements ``engine.ports.Host``."""

    kind = "pod"
    refill_after = 0.0

    def __init__(
        self,
        api: ApiClient,
        *,
        namespace: str,
        placing: RunnerPlacing,
        nodes: Nodes | None = None,
    ) -> None:
        """Keep the pods in *namespace*; ``relist`` must succeed once before anything is seen."""
        self._nodes = nodes or Nodes()
        self.on_change: Callable[[], None] = _nobody
        self.pools: dict[str, KnownPool] = {}
        self.placing = placing
        self._api = api
        self._namespace = namespace
        self._pods: dict[RunnerId, Json] = {}
        self._gone: OrderedDict[RunnerId, SeenRunner] = OrderedDict()
        self._vanished: dict[RunnerId, float] = {}
        self._removed: set[RunnerId] = set()
        self._asked: dict[RunnerId, int] = {}
        """Seconds of grace with which a pod's deletion was accepted."""
        self._told: set[RunnerId] = set()
        self._troubles: dict[str, Shortage] = {}
        self._is_complete = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End what is under way; the pods stay."""
        await end_tasks(list(self._tasks))

    # ── engine.ports.Host ────────────────────────────────────────────────────────────────────────

    async def create(self, runner: NewRunner) -> None:
        """Create the runner's pod; that it is there is success. Raises UnavailableError."""
        pool = self.pools.get(runner.pool) or await self._pool(runner.pool)
        body = runner_pod(runner.id, pool.identity, pool.spec, self.placing)
        try:
            made = await self._api.create(PODS, self._namespace, body)
        except ConflictError:
            return
        except RejectedError as error:
            reason = "Quota" if "exceeded quota" in error.message else "PodRefused"
            self._troubles[runner.pool] = Shortage(reason, error.message)
            raise UnavailableError(error.message) from error
        except UnavailableError as error:
            self._troubles[runner.pool] = Shortage("ApiUnavailable", error.message)
            raise
        self._troubles.pop(runner.pool, None)
        self._pods.setdefault(runner.id, _slim(made))

    def take_pool(self, body: Mapping[str, Any]) -> KnownPool:
        """Take in how a pool's pods are to be made. Raises UnavailableError when nobody can say."""
        metadata = body["metadata"]
        try:
            spec = RunnerPoolSpec.model_validate(body["spec"])
        except ValidationError as error:
            raise UnavailableError(f"the RunnerPool {metadata['name']}: {error}") from error
        identity = PoolIdentity(metadata["name"], metadata["namespace"], metadata["uid"])
        pool = self.pools[metadata["name"]] = KnownPool(identity, spec)
        return pool

    async def _pool(self, name: str) -> KnownPool:
        """Read a pool that the watch did not tell of yet, but perhaps another operator's."""
        try:
            return self.take_pool(await self._api.get(POOLS, self._namespace, name))
        except NotFoundError as error:
            raise UnavailableError(f"there is no RunnerPool {name} (any more)") from error

    async def observe(self) -> Sequence[SeenRunner]:
        """Return the runners as their pods' states say. Raises UnavailableError before a list."""
        if not self._is_complete:
            raise UnavailableError("the runners' pods were not listed yet")
        self._believe()
        seen = [self._standing(runner, pod) for runner, pod in self._pods.items()]
        self._clear_away([s.id for s in seen if s.state == "gone"])
        vanished = [SeenRunner(runner, "present") for runner in self._vanished]
        return [*seen, *vanished, *self._gone.values()]

    async def unknown(self, runners: Sequence[RunnerId]) -> Sequence[RunnerId]:
        """Return those of which the API server says that there is no pod."""
        missing = []
        for runner in runners:
            try:
                self._pods[runner] = _slim(await self._api.get(PODS, self._namespace, runner))
            except NotFoundError:
                missing.append(runner)
        return missing

    async def remove(self, runner: RunnerId, *, grace: timedelta) -> None:
        """Delete the runner's pod; what was asked for already is not asked for again."""
        seconds = max(1, int(grace.total_seconds()))
        if seconds >= self._asked.get(runner, seconds + 1):
            return
        self._removed.add(runner)
        await self._api.delete(PODS, self._namespace, runner, grace=seconds)
        self._asked[runner] = seconds

    async def uid(self, runner: RunnerId) -> str | None:
        """Return the UID of a runner's pod; None when there is none. Raises UnavailableError."""
        pod = self._pods.get(runner)
        if pod is None:
            try:
                pod = _slim(await self._api.get(PODS, self._namespace, runner))
            except NotFoundError:
                return None
        uid: str = pod["metadata"]["uid"]
        return uid

    # ── what is seen ─────────────────────────────────────────────────────────────────────────────

    def saw(self, pod: Mapping[str, Any], *, deleted: bool) -> None:
        """Take in what a watch says about a pod."""
        runner = RunnerId(pod["metadata"]["name"])
        known = self._pods.get(runner)
        if deleted:
            if known is None or known["metadata"]["uid"] == pod["metadata"]["uid"]:
                self._vanish(runner, pod)
                self.on_change()
            return
        if runner in self._gone:
            return
        self._pods[runner] = _slim(pod)
        self._vanished.pop(runner, None)
        if end_of(pod) is not None:
            self.on_change()

    async def relist(self) -> None:
        """Compare what is known with the API server's list; a missed deletion is found here."""
        since = set(self._pods)
        listed: set[RunnerId] = set()
        async for page in self._api.pages(PODS, namespace=self._namespace, labels=POOL_LABEL):
            for pod in page["items"]:
                listed.add(RunnerId(pod["metadata"]["name"]))
                self.saw(pod, deleted=False)
        self._is_complete = True
        for runner in await self.unknown(sorted(since - listed)):
            if (known := self._pods.get(runner)) is not None:
                self._vanish(runner, known)
        self._nodes.forget({pod["spec"]["nodeName"] for pod in self._pods.values()})
        self.on_change()

    def outdated(self, pool: str, template: str, born_before: datetime) -> Sequence[RunnerId]:
        """Return the pool's pods that are to be replaced when they are idle.

        Those that were made from another template, or too long ago, or wait on a node that is
        closed or lost: what nobody hears of is no reserve.
        """
        return [
            runner
            for runner, pod in self._pods.items()
            if pod["metadata"]["labels"].get(POOL_LABEL) == pool
            and (
                pod["metadata"]["annotations"].get(TEMPLATE_ANNOTATION) != template
                or datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) < born_before
                or self._nodes.is_closed(pod["spec"]["nodeName"])
                or self._nodes.is_lost(pod["spec"]["nodeName"])
            )
        ]

    async def protect(self, runner: RunnerId, run: str, until: datetime) -> None:
        """Mark the pod of a claimed runner: no autoscaler evicts it, and *until* it must end.

        Once per pod; a deadline that the API server keeps also when no operator is there.
        """
        pod = self._pods.get(runner)
        started = None if pod is None else pod["status"].get("startTime")
        if pod is None or started is None or RUN_LABEL in pod["metadata"]["labels"]:
            return
        seconds = ceil((until - datetime.fromisoformat(started)).total_seconds())
        body = {
            "metadata": {
                "uid": pod["metadata"]["uid"],
                "labels": {RUN_LABEL: run},
                "annotations": {_SAFE_TO_EVICT: "false"},
            },
            "spec": {"activeDeadlineSeconds": max(1, seconds)},
        }
        with suppress(NotFoundError):
            self._pods[runner] = _slim(await self._api.patch(PODS, self._namespace, runner, body))

    def shortage(self, pool: str) -> Shortage | None:
        """Return why the pool's pods are not there; None when nothing is known to be wrong."""
        if (trouble := self._troubles.get(pool)) is not None:
            return trouble
        for pod in self._pods.values():
            if pod["metadata"]["labels"].get(POOL_LABEL) == pool:
                found = shortage_of(pod)
                if found is not None:
                    return found
        return None

    def on_lost_nodes(self, pool: str) -> Mapping[str, int]:
        """Return how many of the pool's pods nobody hears of, by their node."""
        return Counter(
            pod["spec"]["nodeName"]
            for pod in self._pods.values()
            if pod["metadata"]["labels"].get(POOL_LABEL) == pool
            and end_of(pod) is None
            and self._nodes.is_lost(pod["spec"]["nodeName"])
        )

    def _standing(self, runner: RunnerId, pod: Json) -> SeenRunner:
        end = end_of(pod)
        if end is None:
            node = pod["spec"]["nodeName"]
            if self._nodes.is_lost(node):
                silence = f"its node {node} does not answer any more"
                return SeenRunner(runner, "unreachable", Reason.NODE_LOST, silence)
            return SeenRunner(runner, "present")
        reason, message = self._explained(runner, pod, end)
        return SeenRunner(runner, "gone", reason, message)

    def _explained(
        self, runner: RunnerId, pod: Mapping[str, Any], end: PodEnd
    ) -> tuple[Reason | None, str | None]:
        """Return why a runner is gone, where somebody else or we ourselves deleted its pod."""
        if runner in self._removed:
            return None, None
        if end.reason is Reason.RUNNER_LOST and pod["metadata"].get("deletionTimestamp"):
            return Reason.POD_DELETED, "the runner's pod was deleted"
        return end.reason, end.message

    def _vanish(self, runner: RunnerId, pod: Mapping[str, Any]) -> None:
        self._pods.pop(runner, None)
        end = end_of(pod) or (_unscheduled_end(pod))
        if end is None:
            # Deleted by force, or with its node: its containers may still be at work.
            self._vanished[runner] = time.monotonic()
        else:
            self._bury(runner, *self._explained(runner, pod, end))

    def _believe(self) -> None:
        """Count as gone what vanished so long ago that its lease has ended."""
        latest = time.monotonic() - _BELIEVED_AFTER
        for runner in [r for r, at in self._vanished.items() if at < latest]:
            del self._vanished[runner]
            self._bury(runner, Reason.NODE_LOST, "the pod vanished with its node")

    def _bury(self, runner: RunnerId, reason: Reason | None, message: str | None) -> None:
        self._removed.discard(runner)
        self._asked.pop(runner, None)
        self._told.discard(runner)
        self._gone[runner] = SeenRunner(runner, "gone", reason, message)
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    def _clear_away(self, ended: Sequence[RunnerId]) -> None:
        """Delete pods that have ended, once their end was told: it is recorded by now."""
        for runner in ended:
            if runner in self._told and runner not in self._removed:
                self._removed.add(runner)
                self._spawn(self._delete(runner))
            self._told.add(runner)

    async def _delete(self, runner: RunnerId) -> None:
        try:
            await self._api.delete(PODS, self._namespace, runner, grace=0)
        except PlueError as error:
            self._removed.discard(runner)  # and again at the next pass
            _log.warning("pod_not_deleted", runner=runner, error=error.message)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unscheduled_end(pod: Mapping[str, Any]) -> PodEnd | None:
    """Return the end of a pod that never came to a node: nothing of it ever executed."""
    if (pod.get("spec") or {}).get("nodeName"):
        return None
    return PodEnd(Reason.POD_DELETED, "the runner's pod was deleted before it was scheduled")


def _slim(pod: Mapping[str, Any]) -> Json:
    """Return the parts of a pod that are ever looked at."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    return {
        "metadata": {
            "name": metadata["name"],
            "uid": metadata["uid"],
            "deletionTimestamp": metadata.get("deletionTimestamp"),
            "creationTimestamp": metadata.get("creationTimestamp"),
            "labels": {k: v for k, v in labels.items() if k in _LABELS},
            "annotations": {k: v for k, v in annotations.items() if k == TEMPLATE_ANNOTATION},
        },
        "spec": {"nodeName": (pod.get("spec") or {}).get("nodeName")},
        "status": {key: status[key] for key in _STATUS_KEYS if key in status},
    }


def _nobody() -> None:
    """Wake nobody: no engine is there yet."""

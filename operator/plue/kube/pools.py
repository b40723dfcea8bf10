"""The pool pass of the operator: RunnerPools become the engine's pools, and say how they stand."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from plue.domain.run import RunnerId
from plue.engine.context import EngineContext
from plue.errors import ConflictError, NotFoundError, PlueError, UnavailableError
from plue.kube.announcing import Announcer
from plue.kube.client import ApiClient
from plue.kube.conditions import Fact, conditions_of
from plue.kube.objects import POOLS, Known, is_gone, write_status
from plue.kube.pod_state import Shortage
from plue.kube.pod_template import POOL_LABEL, template_hash
from plue.kube.pods import PodHost
from plue.resources.parts import ConditionType
from plue.resources.runner_pool import RunnerPoolSpec

__all__ = ["Pools", "at_maximum"]

_log = structlog.get_logger(__name__)

_PASSING = frozenset({"Starting", "AtMaximum", "ApiUnavailable"})
"""Reasons that come and go while all is well: no event tells of them."""

_SPARE = timedelta(seconds=60)
"""What a pod may live longer than its run can take, so that the run's own timeout is first."""

_NODES_SAID = 5

_SURGE = 4
"""A quarter of a pool's warm runners is replaced at a time when its template changes."""


class Pools:
    """The RunnerPools of the runners' namespace, as the watch tells of them."""

    def __init__(
        self,
        api: ApiClient,
        *,
        context: EngineContext,
        host: PodHost,
        announcer: Announcer,
        namespace: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Keep the engine's pools and *host* as the resources in *namespace* say."""
        self._api = api
        self._context = context
        self._host = host
        self._announcer = announcer
        self._namespace = namespace
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._recorded: dict[str, tuple[int, int, tuple[str, ...]]] = {}
        self.wake: Callable[[], None] = lambda: None

    def saw(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take in what the watch says about a pool."""
        known = Known.of(body)
        if known.namespace != self._namespace:
            # Said once in the log and not in a status: we have no business elsewhere.
            _log.warning("pool_elsewhere", pool=known.name, namespace=known.namespace)
            return
        if deleted:
            self.gone(known.uid)
            return
        before = self._known.get(known.name)
        self._known[known.name] = known
        with suppress(UnavailableError):  # the pass says in its status what is wrong
            self._host.take_pool(body)
        if before is None or (before.uid, before.generation) != (known.uid, known.generation):
            # What we wrote into the status ourselves must not make us look for more to write.
            self.wake()

    def identities(self) -> Mapping[str, tuple[str, str]]:
        """Return UID → (namespace, name) of all pools that are known."""
        return {known.uid: known.key for known in self._known.values()}

    def gone(self, uid: str) -> None:
        """Take in that a pool was deleted."""
        for name in [name for name, known in self._known.items() if known.uid == uid]:
            del self._known[name]
            self._host.pools.pop(name, None)
        self.wake()

    def may_use(self, pool: str, namespace: str) -> bool:
        """Return whether runs of *namespace* may use *pool*; an unknown pool forbids nothing."""
        known = self._host.pools.get(pool)
        if known is None:
            return True
        allowed = known.spec.allowed_namespaces
        return "*" in allowed or namespace in allowed

    async def protect(self) -> None:
        """Give the pods of claimed runners their deadline; see PodHost.protect.

        A run that was over before anybody looked costs no write.
        """
        margin = self._context.settings.grace + self._context.settings.cancel_margin + _SPARE
        for runner, run, until in await self._context.runners.claimed_until(self._host.kind):
            await self._host.protect(runner, run, until + margin)

    async def pass_(self) -> None:
        """Make the engine's pools what the resources say, and report."""
        for name, known in list(self._known.items()):
            try:
                await self._one(known)
            except PlueError as error:
                # The others must not wait for one that cannot be reported.
                _log.warning("pool_pass_failed", pool=name, error=error.message)
        for name in self._recorded.keys() - self._known.keys():
            await self._context.runners.forget_pool(name)
            del self._recorded[name]

    async def _one(self, known: Known) -> None:
        try:
            spec = RunnerPoolSpec.model_validate(known.spec)
        except ValidationError as error:
            await self._report(known, Fact.unready("Invalid", str(error)), {})
            return
        wanted = (min(spec.warm, spec.max), spec.max, tuple(spec.egress))
        if self._recorded.get(known.name) != wanted:
            await self._context.runners.record_pool(
                known.name,
                host=self._host.kind,
                warm=wanted[0],
                maximum=wanted[1],
                egress=wanted[2],
            )
            self._recorded[known.name] = wanted
            self._context.wake_pools()
        await self._replace_outdated(known.name, spec)
        await self._status(known, spec)

    async def _replace_outdated(self, name: str, spec: RunnerPoolSpec) -> None:
        """Retire idle runners that are to be replaced, some at a time, so that some stay warm."""
        template = template_hash(spec, self._host.placing)
        born_before = self._clock() - timedelta(seconds=spec.recycle_seconds)
        outdated = set(self._host.outdated(name, template, born_before))
        if not outdated:
            return
        seen = await self._context.runners.view(name)
        if seen is None:
            return
        under_way = sum(
            r.state in {"starting", "retired"} and r.id not in outdated for r in seen.runners
        )
        idle: Sequence[RunnerId] = [
            r.id for r in seen.runners if r.id in outdated and r.state in {"idle", "starting"}
        ]
        for runner in idle[: max(0, max(1, spec.warm // _SURGE) - under_way)]:
            if await self._context.runners.retire(runner, "Outdated"):
                self._context.attend_everywhere()
                self._context.wake_pools()

    async def _status(self, known: Known, spec: RunnerPoolSpec) -> None:
        seen = await self._context.runners.view(known.name)
        if seen is None:
            return
        states = [runner.state for runner in seen.runners]
        counts: dict[str, object] = {
            "warm": sum(r.state == "idle" and r.connected for r in seen.runners),
            "starting": sum(r.state == "starting" for r in seen.runners),
            "claimed": states.count("claimed"),
            "retiring": states.count("retired"),
            "failed": seen.failures,
            "queued": seen.queued,
            "selector": f"{POOL_LABEL}={known.name}",
            "templateHash": template_hash(spec, self._host.placing),
        }
        full = len(states) >= spec.max
        shortage = self._host.shortage(known.name)
        if shortage is None and full:
            shortage = at_maximum(spec.max, self._host.on_lost_nodes(known.name))
        fact = _readiness(counts, spec, shortage=shortage)
        await self._report(known, fact, counts)

    async def _report(self, known: Known, ready: Fact, counts: dict[str, object]) -> None:
        facts = (
            ready,
            Fact(
                ConditionType.RECONCILING,
                holds=not ready.holds,
                reason=ready.reason,
                message=ready.message,
            ),
        )
        conditions = conditions_of(
            facts,
            known.status.get("conditions") or (),
            generation=known.generation,
            now=self._clock(),
        )
        status = {"observedGeneration": known.generation, "conditions": conditions, **counts}
        try:
            await write_status(self._api, POOLS, known, status)
        except ConflictError:
            self.wake()
        except NotFoundError as error:
            if not is_gone(error, known.name):
                raise
            self.gone(known.uid)
        else:
            if not ready.holds and ready.reason not in _PASSING:
                await self._announcer.say(
                    "RunnerPool", known, "Warning", ready.reason, ready.message
                )


def at_maximum(maximum: int, lost: Mapping[str, int]) -> Shortage:
    """Return why a full pool is short; *lost* says of how many of its pods nobody hears, by node.

    Such a pod counts until it is known to have ended: its containers may be at work.
    """
    message = f"there are {maximum}, the maximum"
    if lost:
        nodes = ", ".join(sorted(lost)[:_NODES_SAID]) + (", …" if len(lost) > _NODES_SAID else "")
        message += f"; {sum(lost.values())} of them on nodes that do not answer any more: {nodes}"
    return Shortage("AtMaximum", message)


def _readiness(
    counts: Mapping[str, object], spec: RunnerPoolSpec, *, shortage: Shortage | None
) -> Fact:
    warm = counts["warm"]
    if isinstance(warm, int) and warm >= spec.warm:
        return Fact.ready("Warm", f"{warm} runners wait")
    missing = f"{warm} of {spec.warm} runners wait"
    if shortage is not None:
        return Fact.unready(shortage.reason, f"{missing}: {shortage.message}")
    return Fact.unready("Starting", missing)

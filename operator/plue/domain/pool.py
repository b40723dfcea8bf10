"""How many runners a pool makes or retires: a plan, judged only from what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from plue.domain.run import RunnerId

__all__ = ["PoolPlan", "PoolView", "RunnerView", "plan_pool"]


@dataclass(frozen=True, slots=True)
class RunnerView:
    """A runner whose row still counts. Ages in seconds; ``retired_age`` is None before that."""

    id: RunnerId
    state: Literal["starting", "idle", "claimed", "retired"]
    connected: bool
    age: float
    retired_age: float | None = None


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool, its runners and the length of its queue at one moment.

    ``failures`` counts the runners that went lately without ever having connected;
    ``last_failure_age`` is in seconds.
    """

    warm: int
    maximum: int
    queued: int
    runners: Sequence[RunnerView]
    failures: int = 0
    last_failure_age: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What closes the gap between what is there and what is wanted.

    ``retire`` names idle runners that are too many, ``remove`` runners that must be ended by
    their host: those that never connected, and those retired that do not go by themselves.
    """

    create: int = 0
    retire: Sequence[RunnerId] = ()
    remove: Sequence[RunnerId] = ()


START_DEADLINE = 60.0
"""Seconds in which a runner must have connected."""

FAILURES_FORGIVEN = 2
"""Runners that may fail to start before the pool makes new ones more slowly."""

SLOWEST = 30.0
"""Seconds between two tries of a pool whose runners all fail to start."""

RETIRED_GRACE = 10.0
"""Seconds that a retired runner has to end by itself."""


def plan_pool(seen: PoolView) -> PoolPlan:
    """Plan the pool: free runners for the queue and the warm reserve, never above the maximum."""
    overdue = [r for r in seen.runners if _is_overdue(r)]
    free = [r for r in seen.runners if r.state in {"starting", "idle"} and r not in overdue]
    wanted = max(seen.warm, seen.queued)
    room = seen.maximum - len(seen.runners)
    if len(free) < wanted:
        missing = wanted - len(free)
        create = 0 if _is_backing_off(seen) else max(0, min(missing, room))
        return PoolPlan(create=create, remove=tuple(r.id for r in overdue))
    surplus = sorted(free, key=_removal_rank)[: len(free) - wanted]
    return PoolPlan(retire=tuple(r.id for r in surplus), remove=tuple(r.id for r in overdue))


def _is_backing_off(seen: PoolView) -> bool:
    """Return whether the next try has to wait: 2, 4, 8 … 30 s after the last failure."""
    counted = seen.failures - FAILURES_FORGIVEN
    return counted > 0 and seen.last_failure_age < min(SLOWEST, 2.0 ** min(counted, 10))


def _is_overdue(runner: RunnerView) -> bool:
    if runner.state == "retired":
        return runner.retired_age is not None and runner.retired_age > RETIRED_GRACE
    return runner.state == "starting" and runner.age > START_DEADLINE


def _removal_rank(runner: RunnerView) -> tuple[bool, float, str]:
    """Order for shrinking: not yet connected first, then youngest; the name ends ties."""
    return (runner.connected, runner.age, runner.id)

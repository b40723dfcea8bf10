"""The pool pass: observe the host's runners, plan, make and end them."""

import secrets
from datetime import timedelta

from plue.domain.pool import PoolPlan, plan_pool
from plue.domain.run import RunnerId
from plue.engine.context import EngineContext
from plue.engine.ports import Host, NewRunner
from plue.errors import UnavailableError
from plue.marks import Mark, reached
from plue.wire.events import Reason

__all__ = ["host_pass", "pool_pass"]

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_FORGOTTEN_AFTER = 30.0
"""Seconds after which a row that its host does not list was never made: whoever inserted it died
before it could ask the host."""


async def host_pass(context: EngineContext, host: Host) -> None:
    """Record which runners are gone. Nothing is gone only because nobody answered."""
    seen = {runner.id: runner for runner in await host.observe()}
    gone: list[tuple[RunnerId, Reason | None, str | None]] = []
    unlisted: list[RunnerId] = []
    for runner, _, age in await context.runners.present(host.kind):
        standing = seen.get(runner)
        if standing is None and age > _FORGOTTEN_AFTER:
            unlisted.append(runner)
        elif standing is not None and standing.state == "gone":
            gone.append((runner, standing.reason, standing.message))
    if unlisted:
        unknown = await host.unknown(unlisted)
        gone += [(r, Reason.RUNNER_LOST, "its host does not know the runner") for r in unknown]
    if gone:
        reached(Mark.RUNNER_SEEN_GONE)
    if gone and await context.runners.gone(gone):
        reached(Mark.RUNNER_GONE)
        context.wake_lost()
        context.wake_pools()


async def pool_pass(context: EngineContext, host: Host) -> None:
    """Close the gap between the runners that are there and those that are wanted."""
    for pool in await context.runners.pools_of(host.kind):
        seen = await context.runners.view(pool)
        if seen is not None:
            await _apply(context, host, pool, plan_pool(seen))


async def _apply(context: EngineContext, host: Host, pool: str, plan: PoolPlan) -> None:
    for runner in plan.retire:
        if await context.runners.retire(runner, "Surplus"):
            context.attend_everywhere()
    for runner in plan.remove:
        await host.remove(runner, grace=timedelta(seconds=2))
    if plan.create:
        await _create(context, host, pool, plan.create)


async def _create(context: EngineContext, host: Host, pool: str, count: int) -> None:
    fresh = [(_name(pool), secrets.token_urlsafe(32)) for _ in range(count)]
    # The rows first, under the pool's lock: two passes never exceed the maximum together.
    inserted = await context.runners.insert(fresh, pool=pool, host=host.kind)
    for runner, token in fresh[:inserted]:
        reached(Mark.RUNNER_INSERTED)
        try:
            await host.create(NewRunner(runner, pool, token))
        except UnavailableError as error:
            context.log.warning("runner_not_created", runner=runner, error=error.message)
            await context.runners.gone([(runner, Reason.CANNOT_START, error.message)])


def _name(pool: str) -> RunnerId:
    return RunnerId(f"{pool}-" + "".join(secrets.choice(_LETTERS) for _ in range(10)))

"""The claim pass: queued runs and idle runners are bound, and what was not accepted comes back."""

from plue.engine.context import EngineContext
from plue.marks import Mark, reached
from plue.store.queue import Claim

__all__ = ["claim_pass", "unaccepted_pass"]


async def claim_pass(context: EngineContext) -> None:
    """Bind all that can be bound now. Any number of processes may do so at once."""
    for pool in await context.queue.pools_with_work():
        while claims := await context.queue.claim(pool, limit=context.settings.claim_batch):
            reached(Mark.CLAIMED)
            _deliver(context, pool, claims)
            # The pool refills at the moment of the claim, not when the run has ended.
            context.wake_pools()
            if len(claims) < context.settings.claim_batch:
                break


def _deliver(context: EngineContext, pool: str, claims: list[Claim]) -> None:
    here = [c for c in claims if context.sessions and c.gateway == context.sessions.name]
    if here and context.sessions:
        context.sessions.assign([c.key.runner for c in here])
    for gateway in {c.gateway for c in claims if c not in here}:
        context.database.tell(f"gateway:{gateway}")
    context.publish([c.event for c in claims])
    for claim in claims:
        context.metrics.queue_seconds.labels(pool).observe(claim.queue_seconds)


async def unaccepted_pass(context: EngineContext) -> None:
    """Queue again what no runner accepted in time; its runner can never start it."""
    returned = await context.queue.return_unaccepted(context.settings.accept_timeout)
    if returned:
        reached(Mark.UNACCEPTED_RETURNED)
        context.metrics.claims_unaccepted.inc(len(returned))
        context.log.warning("claims_unaccepted", runners=[runner for _, runner in returned])
        context.attend_everywhere()
        context.wake_queue()
        context.wake_pools()
    for run in await context.queue.explain_waiting():
        context.news_of(run)

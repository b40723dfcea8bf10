"""What is kept, and for how long: days of the log, runs, caches, archives.

Partitions of the log are made ahead of their day and dropped after their time. An archive is kept
as long as a kept run or a cache uses it, and a day longer than it was last looked at, because one
that was just uploaded is used by nothing yet.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from plue.engine.context import EngineContext
from plue.store.archives import Archives
from plue.store.blobs import Blobs

__all__ = ["archives_pass", "forget_caches", "retention_pass"]

_ARCHIVE_UNUSED = timedelta(days=1)
_ARCHIVES_AT_ONCE = 1000

_DEFINITION_DAYS = 3
"""How much longer than runs versions of workflows are kept; their time is known to within two."""


async def retention_pass(context: EngineContext) -> None:
    """Make the log's next partitions; drop old ones, old runs and the rows of gone runners."""
    await context.lifecycle.ensure_partitions()
    dropped = await context.lifecycle.drop_logs(days=context.settings.log_days)
    if dropped:
        context.log.info("log_partitions_dropped", names=dropped)
    while await context.lifecycle.delete_runs(days=context.settings.run_days):
        pass
    await context.lifecycle.delete_gone_runners()
    await context.usage.forget_budgets(days=context.settings.run_days)
    # Later than the runs that were made from them, and than what another process has just used.
    await context.definitions.forget(days=context.settings.run_days + _DEFINITION_DAYS)


async def archives_pass(context: EngineContext, archives: Archives) -> None:
    """Forget old caches, and remove archives that nothing uses any more."""
    blobs = archives.blobs
    await forget_caches(context, blobs)
    removed = await archives.forget(_ARCHIVE_UNUSED)
    old = await asyncio.to_thread(blobs.unused, _ARCHIVE_UNUSED)
    for at in range(0, len(old), _ARCHIVES_AT_ONCE):
        batch = await context.caches.unreferenced(
            old[at : at + _ARCHIVES_AT_ONCE], copies=archives.shared
        )
        removed += await asyncio.to_thread(blobs.remove, batch, unused=_ARCHIVE_UNUSED)
    if removed:
        context.log.info("archives_removed", archives=removed)


async def forget_caches(context: EngineContext, blobs: Blobs) -> None:
    """Forget caches that are old or too many, and remove their archives at once."""
    settings = context.settings
    forgotten: Sequence[str] = await context.caches.forget(
        days=settings.cache_days,
        most=settings.repository_cache_bytes,
        most_of_all=settings.all_cache_bytes,
    )
    if forgotten:
        free = await context.caches.unreferenced(list(dict.fromkeys(forgotten)))
        await asyncio.to_thread(blobs.remove, free, unused=timedelta(0))
        context.log.info("caches_forgotten", caches=len(forgotten))

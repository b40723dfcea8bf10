"""The retention pass: partitions are made ahead of their day and dropped after their time."""

from plue.engine.context import EngineContext

__all__ = ["retention_pass"]

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

"""Runs by the clock: schedules follow the tree, and each of their times makes one run.

Any number of engines may do this for one tree: a run's idempotency key names workflow, schedule
and time, so that the second submission finds the first one's run.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from plue.authoring.results import Description
from plue.domain.event import with_tree
from plue.domain.run import RunId, Submission
from plue.domain.schedules import DueSchedule, fires
from plue.engine.context import EngineContext
from plue.engine.ports import Repository
from plue.errors import RejectedError

__all__ = ["LOOK_EVERY", "Scheduler"]

LOOK_EVERY: Final = 10.0
"""Seconds between two looks at the tree for schedules that came or went."""


class Scheduler:
    """The schedules of one tree."""

    def __init__(
        self,
        context: EngineContext,
        repository: Repository,
        *,
        describe: Callable[[], Awaitable[Description]],
        submit: Callable[[Submission], Awaitable[RunId]],
    ) -> None:
        """Watch what *describe* finds in *repository*; make runs by *submit*."""
        self._context = context
        self._repository = repository
        self._scope = str(repository.root)
        self._describe = describe
        self._submit = submit
        self._recorded: set[tuple[str, str]] | None = None

    async def look(self) -> None:
        """Record the schedules that the tree declares now. A broken file keeps what it had."""
        description = await self._describe()
        wanted = {
            (info.name, str(trigger.options["cron"]))
            for info in description.workflows
            for trigger in info.triggers
            if trigger.kind == "schedule"
        }
        if any(one.severity == "error" for one in description.diagnostics):
            wanted |= self._recorded or set()
        if wanted != self._recorded:
            await self._context.schedules.record(self._scope, sorted(wanted))
            self._recorded = wanted
            self._context.log.info("schedules_recorded", count=len(wanted))

    async def fire(self) -> None:
        """Make a run for each schedule whose time has come, and move it on."""
        if not self._recorded:
            return
        for due in await self._context.schedules.due(self._scope):
            run = await self._run(due) if fires(due) else None
            if not await self._context.schedules.advance(self._scope, due, run):
                continue
            event = "schedule_fired" if run else "schedule_skipped"
            late = round((due.now - due.at).total_seconds(), 3)
            self._context.log.info(event, workflow=due.workflow, cron=due.cron, late=late, run=run)

    async def _run(self, due: DueSchedule) -> RunId | None:
        at = due.at.isoformat()
        try:
            return await self._submit(
                Submission(
                    workflow=due.workflow,
                    files=await self._repository.files(),
                    trigger="schedule",
                    event=with_tree(
                        {"schedule": {"cron": due.cron, "time": at}},
                        await self._repository.facts(),
                    ),
                    workspace=await self._repository.snapshot(),
                    idempotency_key=f"schedule {self._scope} {due.workflow} {due.cron} {at}",
                )
            )
        except RejectedError as error:
            # It would be rejected again: its next time may find it repaired.
            self._context.log.warning(
                "schedule_rejected", workflow=due.workflow, cron=due.cron, error=error.message
            )
            return None

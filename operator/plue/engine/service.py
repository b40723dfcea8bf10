"""The engine's face for the API and the operator: submit, cancel, rerun, describe, read."""

from collections.abc import AsyncIterator, Mapping, Sequence

from plue.authoring.results import Description, Planned
from plue.domain.run import RunDetails, RunFilter, RunId, RunPageOf, StoredEvent, Submission

__all__ = ["Engine"]


class Engine:
    """One engine of perhaps many on the same database; all are harmless to one another."""

    async def describe(self, files: Mapping[str, str] | None = None) -> Description:
        """Return what *files* declare, or what the server's own tree declares now.

        Raises NotFoundError without files and without a tree.
        """
        raise NotImplementedError

    async def submit(self, submission: Submission) -> RunId:
        """Pin the revision, evaluate stage 1, record and queue the run; safe to repeat by id.

        Raises RejectedError (with ``details["diagnostics"]``, a list of Diagnostic as dicts, where
        the workflow or an input is wrong), NotFoundError for an unknown workflow,
        UnavailableError when the store or the evaluator is away.
        """
        raise NotImplementedError

    async def plan(self, submission: Submission) -> Planned:
        """Evaluate as ``submit`` would, and record nothing."""
        raise NotImplementedError

    async def cancel(self, run: RunId, *, reason: str | None = None, now: bool = False) -> None:
        """Ask for the run's end; a run that has ended already stays as it is."""
        raise NotImplementedError

    async def rerun(self, run: RunId) -> RunId:
        """Make a new run of the same revision, inputs and workspace."""
        raise NotImplementedError

    async def find(self, reference: str) -> RunId:
        """Return the id of a run given by id, name (``ci-42``), number or ``latest``."""
        raise NotImplementedError

    async def details(self, run: RunId) -> RunDetails:
        """Return the run and its steps. Raises NotFoundError."""
        raise NotImplementedError

    async def runs(self, which: RunFilter) -> RunPageOf:
        """Return one page of runs, newest first."""
        raise NotImplementedError

    async def events(self, run: RunId, *, after: int, limit: int) -> Sequence[StoredEvent]:
        """Return stored events with numbers above *after*, at most *limit*, in order.

        Raises GoneError when that part of the log was dropped by retention.
        """
        raise NotImplementedError

    def follow(self, run: RunId, *, after: int) -> AsyncIterator[Sequence[StoredEvent]]:
        """Yield batches of events above *after* as they come; ends after ``run_completed``.

        An empty batch is yielded every 15 s without events, so that the caller can send a
        heartbeat. A slow caller holds up nobody: batches are read when it asks for the next one.
        """
        raise NotImplementedError

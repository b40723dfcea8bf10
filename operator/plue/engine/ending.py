"""The passes that end runs: deadlines, cancels that nobody answered, runners that are lost."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from plue.domain.lost import EndRun, LostRun, NextAttempt, SameAttempt, verdict_on_lost
from plue.domain.run import RunId, RunnerId
from plue.engine.context import EngineContext
from plue.engine.ports import Host, SeenRunner
from plue.marks import Mark, reached
from plue.store.events import RunEnd
from plue.store.lifecycle import OverdueRun
from plue.store.queue import ClaimKey
from plue.wire.events import Reason, RunState

__all__ = ["deadline_pass", "lost_pass", "request_cancel"]


async def deadline_pass(context: EngineContext) -> None:
    """End what is past a deadline; ask runners to end what runs too long."""
    overdue = await context.lifecycle.overdue()
    for run in overdue:
        if run.run_overdue and run.cancel is None:
            await request_cancel(
                context,
                run.run,
                state=RunState.TIMED_OUT,
                reason=Reason.RUN_TIMEOUT,
                message="the run took longer than its timeout",
            )
    await context.end([end for run in overdue if (end := _forced_end(run))])


def _forced_end(run: OverdueRun) -> RunEnd | None:
    if run.cancel is not None and (run.cancel_overdue or run.state is not RunState.RUNNING):
        state, reason, message = run.cancel
        return RunEnd(run.run, run.attempt, state, reason, message)
    if run.queue_overdue:
        return RunEnd(
            run.run,
            run.attempt,
            RunState.TIMED_OUT,
            Reason.QUEUE_TIMEOUT,
            "no runner took the run within its queue timeout",
        )
    return None


async def request_cancel(
    context: EngineContext,
    run: RunId,
    *,
    state: RunState,
    reason: Reason,
    message: str | None,
    now: bool = False,
) -> None:
    """Ask for a run's end; what has no runner at work yet ends at once."""
    standing = await context.lifecycle.request_cancel(
        run,
        state=state,
        reason=reason,
        message=message,
        now=now,
        grace=context.settings.grace,
        margin=context.settings.cancel_margin if not now else timedelta(seconds=5),
    )
    reached(Mark.CANCEL_RECORDED)
    if standing is RunState.RUNNING:
        context.attend_everywhere()
    elif standing is not None:
        attempt = (await context.runs.get(run)).attempt
        await context.end([RunEnd(run, attempt, state, reason, message)])


async def _lost_or_silent(context: EngineContext) -> list[tuple[ClaimKey, LostRun, bool]]:
    """Look for lost runs, and at the clock that leases are counted by."""
    settings, time = context.settings, asyncio.get_running_loop().time
    asked = time()
    now, found = await context.lifecycle.lost(
        lease_counts=context.lease_counts(),
        not_after=context.clock.latest(asked),
        margin=settings.lease_margin,
    )
    if context.clock.observe(now, asked=asked, answered=time()):
        context.log.warning("store_clock_jumped", now=now.isoformat())
    await context.lifecycle.correct_times(
        lease=settings.lease, grace=settings.grace, margin=settings.cancel_margin
    )
    return found


async def _ended_by_hosts(hosts: Sequence[Host], silent: Collection[RunnerId]) -> set[RunnerId]:
    """End those *silent* runners that a host still sees; return them: they are waited for.

    A lease that ran out proves only that the runner should have killed its steps. One that is
    halted could not; where a host can end it and see it gone, that is the proof.
    """
    seen = [(host, runner.id) for host in hosts for runner in await _present_at(host)]
    ours = [(host, runner) for host, runner in seen if runner in silent]
    for host, runner in ours:
        await host.remove(runner, grace=timedelta(0))
    return {runner for _, runner in ours}


async def _unreachable(hosts: Sequence[Host]) -> dict[RunnerId, SeenRunner]:
    """Return the runners of which nobody can say what they do, and why."""
    seen = [runner for host in hosts for runner in await host.observe()]
    return {runner.id: runner for runner in seen if runner.state == "unreachable"}


def _explained(run: LostRun, seen: SeenRunner | None) -> LostRun:
    if seen is None or seen.reason is None or run.runner_reason is not None:
        return run
    return replace(run, runner_reason=seen.reason, runner_message=seen.message)


async def _present_at(host: Host) -> list[SeenRunner]:
    return [runner for runner in await host.observe() if runner.state == "present"]


async def lost_pass(context: EngineContext, *hosts: Host) -> None:
    """Decide what becomes of runs whose runner surely executes nothing any more."""
    found = await _lost_or_silent(context)
    silent = {key.runner for key, _, gone in found if not gone}
    awaited = await _ended_by_hosts(hosts, silent) if silent else set()
    known = await _unreachable(hosts) if silent - awaited else {}
    lost = [
        (key, _explained(run, known.get(key.runner)))
        for key, run, _ in found
        if key.runner not in awaited
    ]
    for key, run in lost:
        reached(Mark.LOSS_DECIDED)
        match verdict_on_lost(run):
            case SameAttempt():
                await context.lifecycle.requeue(key, Reason.RUNNER_DID_NOT_ACCEPT)
            case NextAttempt(reason):
                if await context.lifecycle.next_attempt(key, reason):
                    reached(Mark.NEXT_ATTEMPT)
                    context.metrics.attempts_lost.labels(reason.value).inc()
            case EndRun(state, reason, message):
                if await context.end([RunEnd(key.run, key.attempt, state, reason, message)]):
                    context.metrics.attempts_lost.labels(reason.value).inc()
        context.log.warning("runner_lost", run=key.run, attempt=key.attempt, runner=key.runner)
    if lost:
        for key, _ in lost:
            context.news_of(key.run)
        context.attend_everywhere()
        context.wake_queue()
        context.wake_pools()

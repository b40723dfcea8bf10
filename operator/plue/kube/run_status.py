"""What a WorkflowRun's status says of the engine's run: small, and a pure function of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from plue.domain.run import RunDetails, RunView, StepView
from plue.kube.conditions import Fact, conditions_of, timestamp
from plue.resources.parts import ConditionType
from plue.resources.workflow_run import MAX_STEPS_SHOWN, Phase
from plue.wire.events import RunState, StepState

__all__ = ["pending_status", "refused_status", "status_of"]

_MESSAGE = 4096


def status_of(
    run: RunDetails, before: Mapping[str, Any], *, generation: int, now: datetime
) -> dict[str, Any]:
    """Return the whole status; fields that do not apply are None, which a merge takes away."""
    view = run.run
    return {
        "observedGeneration": generation,
        "phase": Phase.of(view.state).value,
        "reason": _reason(view),
        "message": None if view.message is None else view.message[:_MESSAGE],
        "conditions": conditions_of(
            _facts(view), before.get("conditions") or (), generation=generation, now=now
        ),
        "runId": view.id,
        "runName": view.name,
        "revision": view.revision,
        "workflow": view.workflow,
        "pool": view.pool,
        "runner": run.runner,
        "attempt": view.attempt,
        "lastEvent": view.last_event,
        **_steps(run.steps),
        "waiting": _waiting(view),
        "queuedAt": timestamp(view.queued_at),
        "startedAt": _time(view.started_at),
        "endedAt": _time(view.ended_at),
        "duration": None if view.duration is None else _duration(view.duration),
    }


def refused_status(
    reason: str, message: str, before: Mapping[str, Any], *, generation: int, now: datetime
) -> dict[str, Any]:
    """Return the status of a run that can never be: what admission could not know."""
    facts = (
        Fact(ConditionType.ACCEPTED, holds=False, reason=reason, message=message),
        Fact(ConditionType.COMPLETE, holds=False, reason=reason),
        Fact(ConditionType.FAILED, holds=True, reason=reason, message=message),
        Fact(ConditionType.RECONCILING, holds=False, reason="Ended"),
        Fact(ConditionType.STALLED, holds=True, reason=reason, message=message),
    )
    return {
        "observedGeneration": generation,
        "phase": Phase.FAILED.value,
        "reason": reason,
        "message": message[:_MESSAGE],
        "conditions": conditions_of(
            facts, before.get("conditions") or (), generation=generation, now=now
        ),
        "endedAt": timestamp(now),
    }


def pending_status(
    reason: str, message: str, before: Mapping[str, Any], *, generation: int, now: datetime
) -> dict[str, Any]:
    """Return the status of a run that cannot be submitted yet, and says what it waits for."""
    facts = (
        Fact(ConditionType.ACCEPTED, holds=False, reason=reason, message=message),
        Fact(ConditionType.RECONCILING, holds=True, reason=reason, message=message),
    )
    return {
        "observedGeneration": generation,
        "phase": Phase.PENDING.value,
        "reason": reason,
        "message": message[:_MESSAGE],
        "conditions": conditions_of(
            facts, before.get("conditions") or (), generation=generation, now=now
        ),
    }


def _facts(view: RunView) -> Sequence[Fact]:
    reason, message = _reason(view) or "Running", view.message or ""
    ended, good = view.state.is_end, view.state is RunState.SUCCEEDED
    bad = ended and not good
    return (
        Fact(ConditionType.ACCEPTED, holds=True, reason="Submitted"),
        Fact(ConditionType.COMPLETE, holds=good, reason=reason),
        Fact(ConditionType.FAILED, holds=bad, reason=reason, message=message if bad else ""),
        Fact(ConditionType.RECONCILING, holds=not ended, reason="Ended" if ended else reason),
        Fact(ConditionType.STALLED, holds=bad, reason=reason, message=message if bad else ""),
    )


def _reason(view: RunView) -> str | None:
    word = view.waiting_reason if view.reason is None else view.reason
    return None if word is None else word.value


def _waiting(view: RunView) -> dict[str, Any] | None:
    if view.waiting_reason is None or view.waiting_since is None:
        return None
    return {"reason": view.waiting_reason.value, "since": timestamp(view.waiting_since)}


def _steps(steps: Sequence[StepView]) -> dict[str, Any]:
    ended = sum(step.state.is_end for step in steps)
    return {
        "progress": f"{ended}/{len(steps)}",
        "stepCounts": {
            "total": len(steps),
            "ended": ended,
            "running": sum(step.state is StepState.RUNNING for step in steps),
            "failed": sum(step.state is StepState.FAILED for step in steps),
        },
        "steps": [_step(step) for step in steps[:MAX_STEPS_SHOWN]],
    }


def _step(step: StepView) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": step.name[:253], "state": step.state.value}
    if step.reason is not None:
        shown["reason"] = step.reason.value
    if step.exit_code is not None:
        shown["exitCode"] = step.exit_code
    if step.duration_ms is not None:
        shown["durationMs"] = step.duration_ms
    return shown


def _time(when: datetime | None) -> str | None:
    return None if when is None else timestamp(when)


def _duration(length: timedelta) -> str:
    """Return a length of time as people read it: 840ms, 12.3s, 4m10s, 2h5m."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{rest}s"

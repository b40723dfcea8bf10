"""Values for tests: each gives a whole, valid thing, and takes what the test is about."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from plue.domain.run import LOCAL, RunId
from plue.store.runs import NewRun
from plue.wire.frames import Workspace
from plue.wire.plan import End, Plan, Shell, Step

__all__ = ["a_plan", "a_run", "a_step"]


def a_step(name: str = "hello", script: str = "echo hello", **fields: Any) -> Step:
    """Return a shell step."""
    return Step(name=name, action=Shell(script=script, shown=script), **fields)


def a_plan(*steps: Step, **fields: Any) -> Plan:
    """Return a whole plan of *steps*, or of one that says hello."""
    return Plan(workflow="ci", revision="0" * 64, steps=steps or (a_step(),), end=End(), **fields)


def a_run(*steps: Step, **fields: Any) -> NewRun:
    """Return a run that may be recorded."""
    values: dict[str, Any] = {
        "id": RunId(str(uuid.uuid4())),
        "namespace": LOCAL,
        "workflow": "ci",
        "revision": "0" * 64,
        "plan": a_plan(*steps),
        "inputs": {},
        "event": {},
        "trigger": "manual",
        "workspace": Workspace(),
        "env": {},
        "pool": "default",
        "priority": 0,
        "run_timeout": timedelta(minutes=5),
        "queue_timeout": None,
        "cleanup_timeout": timedelta(seconds=5),
        "attempts": 1,
        "rerun_of": None,
        "idempotency_key": None,
    }
    return NewRun(**(values | fields))


def names(things: Sequence[Any]) -> list[str]:
    """Return the names of *things*."""
    return [thing.name for thing in things]

"""What a runner is told, put together from the rows of its run."""

from typing import Any

from plue.engine.ports import Secrets
from plue.engine.secrets import secrets_for
from plue.engine.settings import EngineSettings
from plue.store.queue import OpenAssignment
from plue.wire.frames import Assignment, Limits, Workspace
from plue.wire.plan import Plan

__all__ = ["assignment_of"]


async def assignment_of(
    found: OpenAssignment, settings: EngineSettings, secrets: Secrets
) -> Assignment:
    """Return the assignment. Identity and secrets arrive with the claim: a warm runner has none."""
    row: Any = found.row
    plan = Plan.model_validate(row["plan"])
    return Assignment(
        run=found.key.run,
        run_name=row["name"],
        attempt=found.key.attempt,
        plan=plan,
        secrets=dict(await secrets_for(secrets, plan.steps, row["secrets_from"])),
        env=row["env"],
        workspace=Workspace.model_validate(row["workspace"]),
        limits=Limits(
            lease_seconds=settings.lease.total_seconds(),
            grace_seconds=settings.grace.total_seconds(),
            cleanup_seconds=row["cleanup_timeout"].total_seconds(),
        ),
        event=row["event"],
        egress=settings.egress_port if row["egress"] else None,
        variables={
            "PLUE": "true",
            "PLUE_RUN_ID": found.key.run,
            "PLUE_RUN_NAME": row["name"],
            "PLUE_RUN_NUMBER": str(row["number"]),
            "PLUE_WORKFLOW": row["workflow"],
            "PLUE_TRIGGER": row["trigger"],
        },
    )

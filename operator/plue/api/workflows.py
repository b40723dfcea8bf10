"""Workflows: what the server's tree declares, and what given source would."""

from plue.api.callers import place_of
from plue.api.keys import ENGINE
from plue.api.models import ParseRequest, ParseResult
from plue.api.problems import did_you_mean
from plue.api.queries import PlaceQuery
from plue.api.routes import Call, Nothing, Outcome
from plue.api.views import diagnostic_bodies, workflow_body, workflow_list
from plue.authoring.results import Diagnostic, Planned
from plue.domain.event import event_of
from plue.domain.run import Submission
from plue.errors import NotFoundError, RejectedError

__all__ = ["get_workflow", "list_workflows", "parse_workflows"]


async def list_workflows(call: Call[Nothing, Nothing]) -> Outcome:
    """List the workflows as their files declare them now."""
    return workflow_list(await call.request.app[ENGINE].describe())


async def get_workflow(call: Call[Nothing, Nothing]) -> Outcome:
    """Show one workflow."""
    description = await call.request.app[ENGINE].describe()
    name = call.part("name")
    for info in description.workflows:
        if info.name == name:
            return workflow_body(info, description.diagnostics)
    known = [info.name for info in description.workflows]
    broken = any(one.severity == "error" for one in description.diagnostics)
    remedy = did_you_mean(name, known)
    if remedy is None and broken:
        remedy = "files with errors declare none: see `diagnostics` of GET /api/v1/workflows"
    raise NotFoundError(f"there is no workflow `{name}`", field="name", remedy=remedy)


async def _planned(call: Call[PlaceQuery, ParseRequest], workflow: str) -> Planned:
    """Plan *workflow*; what is wrong with it is part of the answer, not an error of the call."""
    body = call.body
    return await call.request.app[ENGINE].plan(
        Submission(
            workflow=workflow,
            files=body.files,
            inputs=body.inputs,
            text_inputs=body.text_inputs,
            event=event_of(body.trigger, body.event or {}),
            trigger=body.trigger,
        )
    )


async def parse_workflows(call: Call[PlaceQuery, ParseRequest]) -> Outcome:
    """Check source without running or storing it."""
    await place_of(call.request, call.query.namespace)
    body = call.body
    described = await call.request.app[ENGINE].describe(body.files)
    diagnostics: list[Diagnostic] = list(described.diagnostics)
    plan = None
    if body.workflow is None and (body.inputs or body.event):
        raise RejectedError(
            "`inputs` and `event` belong to a workflow that is planned", field="workflow"
        )
    if body.workflow is not None:
        names = [info.name for info in described.workflows]
        if body.workflow not in names and not any(d.severity == "error" for d in diagnostics):
            raise RejectedError(
                f"the source declares no workflow `{body.workflow}`",
                field="workflow",
                remedy=did_you_mean(body.workflow, names),
            )
        if body.workflow in names:
            planned = await _planned(call, body.workflow)
            diagnostics += [one for one in planned.diagnostics if one not in diagnostics]
            plan = planned.plan
    return ParseResult(
        workflows=[workflow_body(info, diagnostics) for info in described.workflows],
        diagnostics=diagnostic_bodies(diagnostics),
        plan=None if plan is None else plan.model_dump(mode="json"),
    )

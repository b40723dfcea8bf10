"""The engine's values as the API's bodies: pure, one function a body."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta

from plue.api.models import (
    AnswerBody,
    AwaitBody,
    DiagnosticBody,
    PromptBody,
    RunDetail,
    RunPage,
    RunPlan,
    RunSummary,
    StageBody,
    StepBody,
    TriggerBody,
    Waiting,
    WorkflowBody,
    WorkflowList,
)
from plue.authoring.results import Description, Diagnostic, PromptInfo, WorkflowInfo
from plue.domain.growth import GrownPlan, shown_ref
from plue.domain.run import RunDetails, RunPageOf, RunView, StageView, StepView
from plue.wire.events import Reason
from plue.wire.plan import Await
from plue.wire.stages import Standing

__all__ = [
    "diagnostic_bodies",
    "prompt_body",
    "run_detail",
    "run_page",
    "run_plan",
    "run_summary",
    "workflow_body",
    "workflow_list",
]

_WHAT_ENDS_IT = {
    Reason.NO_IDLE_RUNNER: "starts when a runner of the pool is idle; all are busy or starting",
    Reason.POOL_AT_MAXIMUM: "starts when a runner ends; the pool may not make more of them",
    Reason.NO_SUCH_POOL: "starts when the pool exists that the workflow names",
    Reason.CLAIMED: "starts when its runner answers, or goes to another runner in two seconds",
    Reason.RUNNER_DID_NOT_ACCEPT: "starts on another runner; the first one did not answer",
    Reason.EVALUATION: "goes on when its workflow's code has been evaluated with what is known",
    Reason.LEASE: "starts again when the runner that was lost has surely stopped",
}


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration / timedelta(milliseconds=1))


def _waiting(view: RunView) -> Waiting | None:
    if view.waiting_reason is None:
        return None
    return Waiting(
        reason=view.waiting_reason,
        since=view.waiting_since or view.queued_at,
        message=_WHAT_ENDS_IT.get(view.waiting_reason, view.message or ""),
    )


def run_summary(view: RunView) -> RunSummary:
    """Return a row of the run list."""
    return RunSummary(
        id=view.id,
        number=view.number,
        name=view.name,
        namespace=view.namespace,
        workflow=view.workflow,
        revision=view.revision,
        state=view.state,
        reason=view.reason,
        message=view.message,
        trigger=view.trigger,
        pool=view.pool,
        priority=view.priority,
        attempt=view.attempt,
        created_at=view.created_at,
        started_at=view.started_at,
        ended_at=view.ended_at,
        duration_ms=_milliseconds(view.duration),
        cancel_requested_at=view.cancel_requested_at,
        waiting=_waiting(view),
        last_event=view.last_event,
    )


def run_page(page: RunPageOf) -> RunPage:
    """Return a page of the run list; the cursor is text, so that it may change its form."""
    cursor = None if page.next is None else str(page.next)
    return RunPage(runs=[run_summary(view) for view in page.runs], next=cursor)


def _step(view: StepView) -> StepBody:
    return StepBody(
        name=view.name,
        kind=view.kind,
        state=view.state,
        reason=view.reason,
        message=view.message,
        needs=list(view.needs),
        branch=list(view.branch),
        group=list(view.group),
        cleanup=view.cleanup,
        shown=view.shown,
        exit_code=view.exit_code,
        tries=view.tries,
        started_at=view.started_at,
        ended_at=view.ended_at,
        duration_ms=view.duration_ms,
        outputs=dict(view.outputs),
        stage=view.stage,
        why=[AnswerBody.model_validate(answer.json()) for answer in view.why],
    )


def _stage(stage: StageView, standing: Mapping[Await, Standing]) -> StageBody:
    return StageBody(
        number=stage.number,
        digest=stage.digest,
        created_at=stage.created_at,
        awaits=[
            AwaitBody(
                value=shown_ref(one),
                file=one.site.file if one.site else None,
                line=one.site.line if one.site else None,
                standing=found.value if (found := standing.get(one)) else None,
            )
            for one in stage.awaits
        ],
        reason=stage.reason,
        message=stage.message,
    )


def run_plan(grown: GrownPlan) -> RunPlan:
    """Return a run's plan with what is known of its steps."""
    return RunPlan(
        workflow=grown.plan.workflow,
        inputs=dict(grown.inputs),
        event=dict(grown.event),
        plan=grown.plan.model_dump(mode="json"),
        known=grown.results.known(),
    )


def run_detail(details: RunDetails) -> RunDetail:
    """Return a run with its steps."""
    return RunDetail(
        **dict(run_summary(details.run)),
        inputs=dict(details.inputs),
        event=dict(details.event),
        outputs=dict(details.outputs),
        rerun_of=details.rerun_of,
        runner=details.runner,
        steps=[_step(step) for step in details.steps],
        stages=[_stage(stage, details.standings(stage)) for stage in details.stages],
    )


def diagnostic_bodies(diagnostics: Sequence[Diagnostic]) -> list[DiagnosticBody]:
    """Return diagnostics in the API's form."""
    known = DiagnosticBody.model_fields
    return [
        DiagnosticBody(**{k: v for k, v in asdict(one).items() if k in known})
        for one in diagnostics
    ]


def workflow_body(info: WorkflowInfo, diagnostics: Sequence[Diagnostic]) -> WorkflowBody:
    """Return a workflow with what is wrong in its file."""
    return WorkflowBody(
        name=info.name,
        file=info.file,
        line=info.line,
        description=info.description,
        revision=info.revision,
        triggers=[TriggerBody(kind=t.kind, options=dict(t.options)) for t in info.triggers],
        pool=info.pool,
        timeout_seconds=info.timeout_seconds,
        inputs=dict(info.inputs_schema),
        diagnostics=diagnostic_bodies([one for one in diagnostics if one.file == info.file]),
    )


def workflow_list(description: Description) -> WorkflowList:
    """Return all workflows; diagnostics of files that gave none stand apart."""
    files = {info.file for info in description.workflows}
    return WorkflowList(
        workflows=[workflow_body(w, description.diagnostics) for w in description.workflows],
        diagnostics=diagnostic_bodies(
            [one for one in description.diagnostics if one.file not in files]
        ),
    )


def prompt_body(info: PromptInfo) -> PromptBody:
    """Return a prompt."""
    return PromptBody(
        name=info.name,
        import_name=info.import_name,
        file=info.file,
        line=info.line,
        kind=info.kind,
        description=info.description,
        client=info.client,
        inputs=dict(info.inputs_schema),
        output=None if info.output_schema is None else dict(info.output_schema),
        tools=list(info.tools),
        max_turns=info.max_turns,
        files=list(info.files),
        digest=info.digest,
        broken=info.broken,
    )

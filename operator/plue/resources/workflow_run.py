"""The WorkflowRun resource: one execution that is wanted, and a small report of how it goes."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from plue.resources.parts import (
    Conditions,
    Message,
    ObjectName,
    Part,
    ReasonWord,
    Rule,
    cel_name,
    checked,
    unchanging,
)
from plue.resources.workflow import Function, GitRef, GitUrl, InlineSource
from plue.wire.events import RunState, StepState

__all__ = [
    "MAX_STEPS_SHOWN",
    "Phase",
    "Repository",
    "RunSource",
    "RunWorkspace",
    "StepCounts",
    "StepStatus",
    "Waiting",
    "WorkflowReference",
    "WorkflowRunSpec",
    "WorkflowRunStatus",
]

MAX_STEPS_SHOWN = 100
"""Steps that a status lists; the rest is in the API, and only counted here."""

_WEEK = 7 * 86400


class Phase(StrEnum):
    """A run's state in one word, for people; programs read the conditions."""

    PENDING = "Pending"
    QUEUED = "Queued"
    CLAIMED = "Claimed"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"

    @classmethod
    def of(cls, state: RunState) -> "Phase":
        """Return the word for the engine's *state*."""
        return cls("".join(word.capitalize() for word in state.value.split("_")))

    @property
    def is_end(self) -> bool:
        """Whether a run in this phase never changes again."""
        return self in {Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.TIMED_OUT}


class WorkflowReference(Part):
    """A Workflow of the same namespace."""

    name: ObjectName = Field(description="The Workflow's name.")


class RunWorkspace(Part):
    """The files that the run's steps see."""

    blob: str = Field(
        min_length=64,
        max_length=64,
        pattern=r"^[0-9a-f]{64}$",
        description="The SHA-256 of a tar archive that was uploaded to the API.",
    )


class Repository(Part):
    """Code that a run works on: a shallow clone of one commit, as its working directory."""

    url: GitUrl | None = Field(
        default=None,
        description="The repository's address, https or ssh; without it the Workflow's own. What"
        " asks for credentials must be the Workflow's own, whose Secret is used.",
    )
    ref: GitRef | None = Field(
        default=None,
        description="A branch or a tag. Without it and sha: of the Workflow's own repository the"
        " commit that its source was read at, of another one the default branch.",
    )
    sha: str | None = Field(
        default=None,
        min_length=40,
        max_length=40,
        pattern=r"^[0-9a-f]+$",
        description="The commit, if it is to be another one than ref has now.",
    )


class RunSource(Part):
    """Source that belongs to this run alone."""

    inline: InlineSource = Field(description="The text itself.")


_SETTLED = (
    "workflowRef",
    "source",
    "rerunOf",
    "function",
    "pool",
    "inputs",
    "workspace",
    "repository",
    "trigger",
    "event",
    "priority",
    "timeoutSeconds",
    "queueTimeoutSeconds",
    "ttlSecondsAfterFinished",
)

InputText = Annotated[str, Field(max_length=65536)]


def _input_names() -> dict[str, JsonValue]:
    return checked(
        Rule(
            "self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]{0,99}$'))",
            "inputs are named like Python arguments",
        )
    )


class WorkflowRunSpec(Part):
    """What is to be run. Only cancel can be changed afterwards."""

    model_config = ConfigDict(
        json_schema_extra=checked(
            Rule(
                "[has(self.workflowRef), has(self.source), has(self.rerunOf)].exists_one(x, x)",
                "give exactly one of workflowRef, source and rerunOf",
            ),
            Rule(
                "!has(self.rerunOf)"
                " || !(has(self.inputs) || has(self.workspace) || has(self.repository)"
                " || has(self.event))",
                "a rerun has the inputs, the event and the code of the run that it repeats",
                field="rerunOf",
            ),
            Rule(
                "!(has(self.repository) && has(self.workspace))",
                "give one of repository and workspace",
                field="repository",
            ),
            Rule(
                "!has(self.repository) || has(self.repository.url) || has(self.workflowRef)",
                "name the repository's url: only a Workflow has one of its own",
                field="repository",
            ),
            Rule(
                f"!has(self.{cel_name('function')}) || has(self.source)",
                "function goes with source; a Workflow names its own",
                field="function",
            ),
            *unchanging(_SETTLED, "a run is what it was made with; make a new one"),
        )
    )

    workflow_ref: WorkflowReference | None = Field(
        default=None,
        description="The Workflow to run. Its source is pinned when the run is submitted.",
    )
    source: RunSource | None = Field(
        default=None, description="Source of this run alone, in the place of a Workflow."
    )
    rerun_of: str | None = Field(
        default=None,
        min_length=36,
        max_length=36,
        pattern=r"^[0-9a-f-]+$",
        description="The id of a run of this namespace: its revision, inputs and workspace are"
        " taken again.",
    )
    function: Function | None = Field(
        default=None,
        description="The function to run. May be left out when the source has only one.",
    )
    pool: ObjectName | None = Field(
        default=None,
        description="The RunnerPool to run on; without it the Workflow's, else the decorator's.",
    )
    inputs: dict[str, InputText] | None = Field(
        default=None,
        max_length=64,
        description="The workflow's inputs by name, each as text: it is read by the input's"
        ' declared type, so that "3" is a number where a number is declared.',
        json_schema_extra=_input_names(),
    )
    workspace: RunWorkspace | None = Field(
        default=None,
        description="The files that its steps see. Without it and repository: the repository of a"
        " Workflow from git, at the commit that its source was read at; else an empty folder.",
    )
    repository: Repository | None = Field(
        default=None,
        description="The repository that its steps work in, in the place of workspace.",
    )
    trigger: str = Field(
        default="manual",
        min_length=1,
        max_length=63,
        pattern=r"^[a-z][a-z0-9_]*$",
        description="What made this run, as lists and metrics name it.",
    )
    event: str | None = Field(
        default=None,
        min_length=2,
        max_length=262144,
        description="What ctx.event has, as the text of a JSON object: ref, sha, actor …",
    )
    priority: int = Field(
        default=0,
        ge=-1000,
        le=1000,
        description="Among the queued runs of a pool the higher goes first.",
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=_WEEK,
        description="Seconds the run may take from its start; without it the workflow's timeout.",
    )
    queue_timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=_WEEK,
        description="Seconds the run may wait for a runner; without it the workflow's.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=365 * 86400,
        description="Seconds after its end at which this resource is deleted. Unset: never."
        " Leave it unset where a GitOps tool would make it again.",
    )
    cancel: bool = Field(
        default=False,
        description="Set to true to end the run: its steps get TERM, then KILL after a grace.",
        json_schema_extra=checked(
            Rule("!oldSelf || self", "a cancel cannot be taken back; make a new run")
        ),
    )


class StepStatus(Part):
    """One step in short."""

    name: str = Field(max_length=253, description="The step's name.")
    state: StepState = Field(description="How the step stands.")
    reason: ReasonWord | None = Field(default=None, description="Why it ended so, or waits.")
    exit_code: int | None = Field(
        default=None, ge=-1024, le=1024, description="What its command ended with."
    )
    duration_ms: int | None = Field(default=None, ge=0, description="Milliseconds it took.")


class StepCounts(Part):
    """How many steps stand how."""

    total: int = Field(default=0, ge=0, description="Steps that are planned so far.")
    ended: int = Field(default=0, ge=0, description="Steps that have ended, however.")
    running: int = Field(default=0, ge=0, description="Steps that run now.")
    failed: int = Field(default=0, ge=0, description="Steps that failed.")


class Waiting(Part):
    """Why a run does not go on, and since when."""

    reason: ReasonWord = Field(description="What it waits for.")
    since: datetime = Field(description="Since when.")


class WorkflowRunStatus(Part):
    """How the run goes, in short; its events and logs are in the API."""

    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that this status is about."
    )
    phase: Phase | None = Field(default=None, description="The run's state in one word.")
    reason: ReasonWord | None = Field(
        default=None, description="Why it ended as it did, or what it waits for."
    )
    message: Message | None = Field(default=None, description="The same for people.")
    conditions: Conditions | None = Field(
        default=None,
        description="Accepted, then Complete or Failed; Reconciling while it goes, Stalled when"
        " it ended badly. kubectl wait --for=condition=Complete waits for success.",
    )
    run_id: str | None = Field(
        default=None, max_length=64, description="The run's id in the API: this object's UID."
    )
    run_name: str | None = Field(
        default=None, max_length=256, description="The run's short name in the API and the CLI."
    )
    revision: str | None = Field(
        default=None, max_length=128, description="SHA-256 of the source that it executes."
    )
    workflow: str | None = Field(
        default=None, max_length=256, description="The function that it executes."
    )
    pool: str | None = Field(default=None, max_length=63, description="The pool it runs on.")
    runner: str | None = Field(
        default=None, max_length=253, description="The runner, which is the pod's name."
    )
    attempt: int | None = Field(default=None, ge=1, description="The attempt, from 1.")
    last_event: int = Field(
        default=0, ge=0, description="The number of the last event that this status reports."
    )
    progress: str | None = Field(
        default=None, max_length=32, description="Ended steps of planned steps, such as 2/5."
    )
    step_counts: StepCounts | None = Field(default=None, description="How many steps stand how.")
    steps: list[StepStatus] | None = Field(
        default=None,
        max_length=MAX_STEPS_SHOWN,
        description=f"The first {MAX_STEPS_SHOWN} steps in short.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    waiting: Waiting | None = Field(default=None, description="Why it does not go on.")
    queued_at: datetime | None = Field(default=None, description="When it was queued.")
    started_at: datetime | None = Field(default=None, description="When it first started.")
    ended_at: datetime | None = Field(default=None, description="When it ended.")
    duration: str | None = Field(
        default=None, max_length=32, description="How long it took, from start to end."
    )

"""The bodies of the users' API, declared once: they validate, and OpenAPI is made from them.

Times are RFC 3339 in UTC; durations are milliseconds unless the name says otherwise.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from plue.wire.events import EventType, Reason, RunState, StepState

__all__ = [
    "AuditBody",
    "AuditPage",
    "Blob",
    "CancelRun",
    "CreateRun",
    "CreateToken",
    "DiagnosticBody",
    "EventBody",
    "EventFrame",
    "ExtendBudget",
    "FieldError",
    "Health",
    "LogLine",
    "MadeToken",
    "ParseRequest",
    "ParseResult",
    "Problem",
    "Rerun",
    "RunDetail",
    "RunPage",
    "RunSummary",
    "ServerInfo",
    "SessionBody",
    "StepBody",
    "TokenBody",
    "TokenList",
    "TriggerBody",
    "UsageLineBody",
    "UsageReport",
    "Waiting",
    "WorkflowBody",
    "WorkflowList",
    "WorkspaceBody",
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DiagnosticBody(_Response):
    """One thing that is wrong in a workflow file."""

    code: str = Field(description="A stable code such as PLU012.")
    severity: Literal["error", "warning"]
    message: str = Field(description="What is wrong.")
    remedy: str | None = Field(default=None, description="What to write instead.")
    file: str
    line: int
    column: int = 1
    end_column: int | None = None
    source: str | None = Field(default=None, description="The line of the file itself.")


class FieldError(_Response):
    """One field of a request that has the wrong form."""

    field: str
    message: str


class Problem(_Response):
    """RFC 9457 problem details, served as application/problem+json."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="urn:plue:problem:<kind>, stable.")
    title: str
    status: int
    detail: str | None = None
    field: str | None = Field(default=None, description="Path of the offending field.")
    remedy: str | None = Field(default=None, description="What to do next.")
    diagnostics: list[DiagnosticBody] = []
    errors: list[FieldError] = Field(
        default=[], description="Every offending field, when the request has the wrong form."
    )
    id: str | None = Field(default=None, description="Of a fault: what the log has it under.")


class TriggerBody(_Response):
    """When a workflow runs by itself, or what a manual run may be given."""

    kind: Literal["manual", "push", "pull_request", "schedule"]
    options: dict[str, JsonValue] = {}


class WorkflowBody(_Response):
    """A workflow as its file declares it now."""

    name: str
    file: str
    line: int
    description: str | None = None
    revision: str
    triggers: list[TriggerBody] = []
    pool: str = "default"
    timeout_seconds: float | None = None
    inputs: dict[str, Any] = Field(
        default_factory=dict,
        description="JSON Schema 2020-12 of the inputs: an object with `properties`, `required`.",
    )
    diagnostics: list[DiagnosticBody] = []


class WorkflowList(_Response):
    """All workflows, and what is wrong in files that gave none."""

    workflows: list[WorkflowBody]
    diagnostics: list[DiagnosticBody] = []


class ParseRequest(_Request):
    """Workflow source to check without running or storing it."""

    files: dict[str, str] = Field(
        description="Path under the repository → text.", min_length=1, max_length=2000
    )
    workflow: str | None = Field(default=None, description="Also plan this one.", max_length=200)
    inputs: dict[str, JsonValue] = {}
    trigger: Literal["manual", "push", "pull_request", "schedule"] = "manual"
    event: dict[str, JsonValue] | None = None
    text_inputs: bool = False


class ParseResult(_Response):
    """What the source declares; `plan` is the first stage of the workflow that was asked for."""

    workflows: list[WorkflowBody]
    diagnostics: list[DiagnosticBody]
    plan: dict[str, JsonValue] | None = None


class PromptBody(_Response):
    """A prompt as its front matter declares it, with what it extends."""

    name: str
    import_name: str = Field(description="Its name in `from plue.prompts import`.")
    file: str
    line: int
    kind: Literal["llm", "agent"]
    description: str | None = None
    client: str | None = None
    inputs: dict[str, Any] = Field(
        default_factory=dict, description="JSON Schema 2020-12 of the inputs: an object."
    )
    output: dict[str, Any] | None = Field(
        default=None, description="JSON Schema 2020-12 of the answer; null when there is none."
    )
    tools: list[str] = []
    max_turns: int | None = None
    files: list[str] = Field(default=[], description="What it is made of, itself included.")
    digest: str = Field(description="SHA-256 over these files.")
    broken: bool = Field(default=False, description="It has errors; no workflow can import it.")


class ParsePrompts(_Request):
    """Prompts to check; without `files`, those of the server's own tree."""

    files: dict[str, str] | None = Field(
        default=None,
        description="Path under the repository → text: `.plue/prompts/review.prompt.md`.",
        min_length=1,
        max_length=2000,
    )


class PromptsResult(_Response):
    """What the files declare, and all that is wrong in them."""

    prompts: list[PromptBody]
    diagnostics: list[DiagnosticBody]


class RenderPrompt(ParsePrompts):
    """A prompt to be rendered with inputs, as a runner would."""

    prompt: str = Field(min_length=1, max_length=200, description="Its name, or its import name.")
    inputs: dict[str, JsonValue] = Field(default={}, max_length=200)
    text_inputs: bool = Field(
        default=False, description="Inputs are a command line's text, parsed by declared type."
    )


class RenderedPrompt(_Response):
    """The text that a model would be given; null when a diagnostic is an error."""

    text: str | None
    prompt: PromptBody | None
    inputs: dict[str, JsonValue] = Field(
        default={}, description="As the template saw them: parsed, defaults filled in."
    )
    diagnostics: list[DiagnosticBody]


class WorkspaceBody(_Request):
    """The files that the run sees.

    `tree` (the default): a copy, made now, of the server's working tree without what git ignores;
    `none`: an empty folder; `blob`: an archive uploaded with POST /blobs; `in_place`: the tree
    itself, without a copy (local mode only).
    """

    kind: Literal["tree", "none", "blob", "in_place"] = "tree"
    blob: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    path: str | None = Field(default=None, max_length=4096)


class CreateRun(_Request):
    """A run to be made."""

    namespace: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        description="Where the run belongs; in a cluster there must be one, else it is `_local`.",
    )
    workflow: str = Field(min_length=1, max_length=200)
    inputs: dict[str, JsonValue] = Field(default={}, max_length=200)
    text_inputs: bool = Field(
        default=False,
        description="The inputs are text from a command line, to be parsed by declared type.",
    )
    trigger: Literal["manual", "push", "pull_request", "schedule"] = "manual"
    event: dict[str, JsonValue] = Field(
        default={},
        description="What ctx.event has: ref, sha, before, actor, repository, pull_request …; "
        "what the tree knows is filled in.",
    )
    priority: int = Field(default=0, ge=-1000, le=1000, description="Higher runs first.")
    workspace: WorkspaceBody = WorkspaceBody()
    files: dict[str, str] | None = Field(
        default=None, description="Inline source instead of the server's tree.", max_length=2000
    )
    timeout_seconds: float | None = Field(default=None, gt=0, le=30 * 86400)
    queue_timeout_seconds: float | None = Field(default=None, gt=0, le=30 * 86400)
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=200, description="The same key gives the same run."
    )


class Rerun(_Request):
    """A new run of the same revision with the same inputs."""


class CancelRun(_Request):
    """End a run. `now` skips grace and clean-up."""

    reason: str | None = Field(default=None, max_length=1000)
    now: bool = False


class Waiting(_Response):
    """Why something waits, since when, and what ends it."""

    reason: Reason
    since: datetime
    message: str


class RunSummary(_Response):
    """One row of the run list."""

    id: str
    number: int
    name: str = Field(description="For people: the workflow and the number, such as ci-42.")
    namespace: str = Field(description="Of its WorkflowRun; `_local` where there is no cluster.")
    workflow: str
    revision: str
    state: RunState
    reason: Reason | None = None
    message: str | None = None
    trigger: str
    pool: str
    priority: int
    attempt: int
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_ms: int | None = None
    cancel_requested_at: datetime | None = None
    waiting: Waiting | None = None
    last_event: int


class AnswerBody(_Response):
    """A value that the workflow's code got, and where it asked for it."""

    value: str = Field(description="What was asked: `tests.ok`.")
    shown: str = Field(alias="is", description="What it was, as Python writes it, shortened.")
    file: str | None = None
    line: int | None = None


class AwaitBody(_Response):
    """A value that the workflow's code waits for."""

    value: str
    file: str | None = None
    line: int | None = None
    standing: Literal["open", "known", "false", "never"] | None = Field(
        default=None, description="Of the newest stage: whether it is known by now, or never will."
    )


class StageBody(_Response):
    """One stage of the run's plan; `reason` says why there is no further one."""

    number: int
    digest: str
    created_at: datetime
    awaits: list[AwaitBody] = []
    reason: Reason | None = None
    message: str | None = None


class RunPlan(_Response):
    """A run's plan as far as it has grown, with what it was planned from and what is known."""

    workflow: str
    inputs: dict[str, JsonValue]
    event: dict[str, JsonValue]
    plan: dict[str, JsonValue]
    known: dict[str, dict[str, JsonValue]] = Field(
        description="Values of steps that have ended; of what they printed, what was asked for."
    )


class StepBody(_Response):
    """One step of the run's current attempt."""

    name: str
    kind: str
    state: StepState
    reason: Reason | None = None
    message: str | None = None
    needs: list[str] = []
    branch: list[str] = []
    group: list[str] = Field(
        default=[],
        description="What it is shown under, outermost first: calls, and names such as test-{p}.",
    )
    cleanup: bool = False
    shown: str = ""
    exit_code: int | None = None
    tries: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_ms: int | None = None
    outputs: dict[str, JsonValue] = {}
    stage: int = Field(default=1, description="The stage that planned it.")
    why: list[AnswerBody] = Field(default=[], description="The answers that led to it.")


class RunDetail(RunSummary):
    """A run with its steps."""

    inputs: dict[str, JsonValue] = {}
    event: dict[str, JsonValue] = {}
    outputs: dict[str, JsonValue] = {}
    rerun_of: str | None = None
    runner: str | None = None
    steps: list[StepBody] = []
    stages: list[StageBody] = Field(
        default=[], description="Of the present attempt; empty when its code asks for no value."
    )


class RunPage(_Response):
    """One page of runs, newest first. `next` goes into `cursor=` for the page after it."""

    runs: list[RunSummary]
    next: str | None = None


class EventBody(_Response):
    """One event of a run, as SSE `data` and as a line of NDJSON."""

    run: str
    n: int
    time: datetime
    type: EventType
    step: str | None = None
    body: dict[str, JsonValue] = {}


class EventFrame(_Response):
    """One server-sent event. A heartbeat has no id."""

    id: str | None = Field(default=None, description="The event's number.")
    event: EventType | Literal["heartbeat"]
    data: str = Field(description="The event as JSON: an EventBody, or `{}` in a heartbeat.")
    retry: int | None = None


class LogLine(_Response):
    """One line of a step's output."""

    step: str
    line: int
    stream: Literal["stdout", "stderr"]
    time: datetime
    text: str
    attempt: int = Field(default=1, description="Which attempt of the run.")
    try_: int = Field(default=1, alias="try", description="Which try of the step.")
    partial: bool = Field(
        default=False, description="A very long line goes on in the stream's next item."
    )


class UsageLineBody(_Response):
    """Model usage, summed up. Keys that it was not grouped by are absent."""

    day: date | None = None
    workflow: str | None = None
    repository: str | None = None
    model: str | None = None
    step: str | None = None
    calls: int
    input_tokens: int = Field(description="Without what the cache read and wrote.")
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    web_searches: int
    cost_usd: float
    estimated: bool = Field(
        default=False, description="Some of it is an estimate: an answer was cut."
    )


class UsageReport(_Response):
    """Model usage by the keys that were asked for, and its total."""

    lines: list[UsageLineBody]
    cost_usd: float


class BudgetUnit(_Response):
    """One of the units that a budget is counted in."""

    used: float = Field(description="What ended calls used.")
    reserved: float = Field(description="The most that calls on their way can use.")
    limit: float | None = Field(description="All that may be used, extensions included; null: all.")
    extended: float = Field(description="By how much the limit was extended.")
    left: float | None = Field(description="What is neither used nor reserved; null: no limit.")


class BudgetBody(_Response):
    """What is counted in one scope; `workflow` and `day` are of today, by UTC."""

    scope: Literal["step", "run", "workflow", "day"]
    step: str | None = Field(default=None, description="Which step, where the scope is one.")
    usd: BudgetUnit
    tokens: BudgetUnit
    calls: BudgetUnit
    seconds: BudgetUnit


class BudgetReport(_Response):
    """The budgets that a run's calls count in, from the narrowest; limits as of the last call.

    Those of the workflow and the day are there for who may read the runs of all namespaces.
    """

    budgets: list[BudgetBody]


class ExtendBudget(_Request):
    """Allow so much more than the budget of a run, or of another scope that it counts in."""

    scope: Literal["step", "run", "workflow", "day"] | None = Field(
        default=None,
        description="Whose budget; `step` when a step is named, else `run`. `workflow` and `day`"
        " are today's, and concern other runs too.",
    )
    step: str | None = Field(default=None, min_length=1, max_length=200)
    usd: float = Field(default=0, ge=0, le=1_000_000, allow_inf_nan=False)
    tokens: int = Field(default=0, ge=0, le=10**12)
    calls: int = Field(default=0, ge=0, le=10**6)
    seconds: float = Field(default=0, ge=0, le=10**8, allow_inf_nan=False)


class CreateToken(_Request):
    """A token for a machine."""

    name: str = Field(
        min_length=1, max_length=100, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Whose."
    )
    role: Literal["viewer", "editor"] = "viewer"
    namespaces: list[Annotated[str, Field(min_length=1, max_length=63)]] | None = Field(
        min_length=1, max_length=100, description="Those that it reaches; null: all of them."
    )
    lasts_seconds: int = Field(
        default=30 * 86400, ge=60, le=366 * 86400, description="Seconds until it expires."
    )


class TokenBody(_Response):
    """A machine token, without its secret."""

    id: str
    name: str
    owner: str = Field(description="Who made it.")
    role: str
    namespaces: list[str] | None = Field(description="Those that it reaches; null: all of them.")
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(default=None, description="To within a minute.")
    revoked_at: datetime | None = None
    revoked_by: str | None = None


class MadeToken(TokenBody):
    """A machine token with its secret: shown once, and kept nowhere."""

    token: str


class TokenList(_Response):
    """Machine tokens, newest first."""

    tokens: list[TokenBody]


class AuditBody(_Response):
    """One change by a caller."""

    id: int
    at: datetime
    who: str
    how: str = Field(description="How it was recognised: kubernetes, token, session or proxy.")
    address: str = Field(description="Where the request came from, as this server saw it.")
    action: str
    namespace: str | None = None
    target: str
    status: int | None = Field(
        default=None, description="What was answered; null: the server ended before."
    )
    details: dict[str, JsonValue] = {}


class AuditPage(_Response):
    """Changes, newest first. `next` goes into `cursor=` for the page after it."""

    entries: list[AuditBody]
    next: str | None = None


class SessionBody(_Response):
    """Who is logged in with this browser."""

    user: str
    groups: list[str]
    expires_at: datetime
    csrf: str = Field(description="Changes carry it as the header X-Plue-CSRF.")


class Blob(_Response):
    """An uploaded archive; `id` is its SHA-256."""

    id: str
    bytes: int


class Health(_Response):
    """Whether a component works, and what it says."""

    ok: bool
    checks: dict[str, str] = {}


class ServerInfo(_Response):
    """What this server is."""

    version: str
    mode: Literal["local", "cluster"]
    root: str | None = Field(default=None, description="The working tree, in local mode.")
    started_at: datetime

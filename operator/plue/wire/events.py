"""The event vocabulary: what a run's log is made of.

Every event has a type, the time the server stored it, perhaps a step, and a JSON body. Bodies by
type (fields with ? may be absent):

===============  =================================================================================
run_queued       attempt, pool, priority, reason? (why it came back to the queue)
run_claimed      attempt, runner
run_started      attempt, runner
plan_extended    attempt, stage, digest, steps: [{name, kind, needs, branch, cleanup?, shown, at?,
                 why?: [{value, is, file, line}]}], awaits?: [{value, file?, line?}], reason?,
                 message?. Stage 1 has all steps, a later one those that it adds; ``at`` is their
                 place among all. ``awaits`` are the values that the workflow's code waits for;
                 ``reason`` says why it could not be evaluated further
step_started     attempt, try (from 1), shown
step_output      attempt, try, stream (stdout|stderr), text, line (number of the text's first line
                 within the step's try, both streams counted together, from 1),
                 partial? (true: the last line goes on in the stream's next chunk)
step_completed   attempt, state, reason?, message?, exit_code?, tries, duration_ms, outputs?,
                 tail? (last lines, when it failed)
step_values      attempt, values: [{field, tail?, characters?, error?}]: what a step printed and the
                 workflow's code asked for is known. A runner sends ``value`` in the place of
                 ``characters``; it is kept apart from the log
egress_refused   attempt, target (host:port), reason, message: the gateway made no such connection
run_completed    attempt, state, reason, message?, outputs, duration_ms
===============  =================================================================================

Of steps that ask a model; ``call`` counts the calls for one turn, of which the last one counts:

===============  =================================================================================
llm_token        attempt, try, turn, call, kind (text|thinking|json), text
agent_turn       attempt, try, turn, model, stop, usage: {input, output, cache_read, cache_write},
                 tools?, compacted? (the conversation was summed up), text? (the summary),
                 tool? (the id of the tool's use that asked, where it was not the step itself)
tool_start       attempt, try, turn, id, name, input, cut? (the input was too long to be shown)
tool_end         attempt, try, turn, id, name, ok, result, duration_ms, cut?
step_waiting     attempt, try, reason?, message? (neither: it goes on)
===============  =================================================================================
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = ["EventType", "Reason", "RunState", "RunnerEvent", "StepState"]


class EventType(StrEnum):
    """The types of events, which are also the SSE event names."""

    RUN_QUEUED = "run_queued"
    RUN_CLAIMED = "run_claimed"
    RUN_STARTED = "run_started"
    PLAN_EXTENDED = "plan_extended"
    STEP_STARTED = "step_started"
    STEP_OUTPUT = "step_output"
    LLM_TOKEN = "llm_token"  # noqa: S105 - an event's name
    AGENT_TURN = "agent_turn"
    TOOL_START = "tool_start"
    TOOL_END = "tool_end"
    STEP_WAITING = "step_waiting"
    STEP_COMPLETED = "step_completed"
    STEP_VALUES = "step_values"
    EGRESS_REFUSED = "egress_refused"
    RUN_COMPLETED = "run_completed"


class RunState(StrEnum):
    """The states of a run; the last four are ends."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def is_end(self) -> bool:
        """Whether a run in this state never changes again."""
        return self in _RUN_ENDS


_RUN_ENDS = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT})


class StepState(StrEnum):
    """The states of a step; the last four are ends."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether a step in this state never changes again within its attempt."""
        return self not in {StepState.PENDING, StepState.RUNNING, StepState.WAITING}


class Reason(StrEnum):
    """Why something waits or how it ended; one word for status, events, metrics and pages."""

    # why a run waits
    NO_IDLE_RUNNER = "NoIdleRunner"  # every runner of the pool is busy or still starting
    POOL_AT_MAXIMUM = "PoolAtMaximum"  # as above, and the pool may not make more
    NO_SUCH_POOL = "NoSuchPool"  # the workflow names a pool that does not exist
    RUNNERS_DO_NOT_START = "RunnersDoNotStart"  # new runners end before they have connected
    CLAIMED = "Claimed"  # bound to a runner that has not yet said `accepted`
    RUNNER_DID_NOT_ACCEPT = "RunnerDidNotAccept"  # back in the queue; that runner is retired
    EVALUATION = "Evaluation"  # a value is known; the workflow's code is to be evaluated with it
    LEASE = "Lease"  # the runner was lost; the next attempt waits until it is surely gone
    # why a step waits
    BUDGET = "Budget"  # its next call does not fit into a budget, which can be extended
    MODEL_OVERLOADED = "ModelOverloaded"  # the provider or the way to it is not well; tried again
    # how a run ends
    SUCCEEDED = "Succeeded"
    STEP_FAILED = "StepFailed"
    FAILED_BY_WORKFLOW = "FailedByWorkflow"  # ctx.fail(reason)
    CANCELLED = "Cancelled"
    RUN_TIMEOUT = "RunTimeout"
    QUEUE_TIMEOUT = "QueueTimeout"
    RUNNER_LOST = "RunnerLost"
    STORE_LOST = "StoreLost"
    INVALID_PLAN = "InvalidPlan"
    WORKFLOW_ERROR = "WorkflowError"  # the workflow's own code raised an exception
    REPLAY_DIFFERS = "ReplayDiffers"  # a later stage did not plan again what an earlier one had
    TOO_MANY_STAGES = "TooManyStages"  # the workflow's code asked more often than it may
    WORKSPACE_FAILED = "WorkspaceFailed"  # the copy of the working tree could not be made
    DISK_FULL = "DiskFull"
    OOM_KILLED = "OOMKilled"  # the runner used more memory than its limit
    EVICTED = "Evicted"  # the node took the pod away: disk, memory or priority
    NODE_LOST = "NodeLost"  # the pod's node went, or was shut down
    POD_DELETED = "PodDeleted"  # somebody deleted the runner's pod
    INTERNAL = "Internal"  # a fault of Plue; the message says which
    # how a step ends
    EXIT_CODE = "ExitCode"  # the command ended with a code other than 0
    SIGNAL = "Signal"  # the command was ended by a signal that Plue did not send
    STEP_TIMEOUT = "StepTimeout"
    IDLE_TIMEOUT = "IdleTimeout"  # no output for as long as the step allows
    CANNOT_START = "CannotStart"  # no such shell, program or folder
    DEPENDENCY_FAILED = "DependencyFailed"
    CONDITION = "Condition"  # `when` said no
    MISSING_VALUE = "MissingValue"
    MISSING_SECRET = "MissingSecret"  # noqa: S105 - the server has no value for it
    VALUE_TOO_LARGE = "ValueTooLarge"
    OUTPUT_TOO_LARGE = "OutputTooLarge"
    INVALID_INPUT = "InvalidInput"  # a value does not fit the declared type of a prompt's input
    INVALID_OUTPUT = "InvalidOutput"
    INVALID_PATH = "InvalidPath"  # a path leads out of the workspace, or is no file
    GIT_FAILED = "GitFailed"  # git could not answer; the message has what it said
    PROMPT_FAILED = "PromptFailed"  # the prompt's template cannot be rendered with these values
    MODEL_FAILED = "ModelFailed"  # a call was refused for good, or failed too often
    MODEL_REFUSED = "ModelRefused"  # the model would not answer
    MAX_TURNS = "MaxTurns"  # the agent was not done after its last turn
    UNSUPPORTED = "Unsupported"  # planned and valid, but this version cannot run it


class RunnerEvent(BaseModel):
    """One event as a runner reports it; ``n`` counts 1, 2, 3 … within the attempt.

    ``t`` is milliseconds since the attempt started, by the runner's own monotonic clock: it
    orders and measures, but never says what time it was. The server's clock does that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=1)
    type: EventType
    step: str | None = None
    t: int = Field(default=0, ge=0)
    body: dict[str, JsonValue] = {}

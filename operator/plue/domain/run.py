"""Runs, steps and stored events as the rest of the house sees them: frozen values, no I/O.

Times are aware UTC datetimes from the database's clock. Nothing here is ever changed in place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import NewType

from pydantic import JsonValue
from pydantic_core import to_json

from plue.domain.growth import Answer
from plue.wire.events import EventType, Reason, RunState, StepState
from plue.wire.frames import Workspace
from plue.wire.plan import Await
from plue.wire.stages import Standing, standing_of

__all__ = [
    "LOCAL",
    "RunDetails",
    "RunFilter",
    "RunId",
    "RunPageOf",
    "RunView",
    "RunnerId",
    "StageView",
    "StepView",
    "StoredEvent",
    "Submission",
]

RunId = NewType("RunId", str)
"""A UUID in its usual text form."""

RunnerId = NewType("RunnerId", str)
"""``<pool>-<ten letters>``; on Kubernetes also the pod's name."""

LOCAL = "_local"
"""The namespace of runs where there is no cluster: no name that Kubernetes allows."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One row of the run list. ``waiting_*`` say why a run that has not ended does not go on."""

    id: RunId
    number: int
    name: str
    namespace: str
    workflow: str
    revision: str
    state: RunState
    reason: Reason | None
    message: str | None
    trigger: str
    pool: str
    priority: int
    attempt: int
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    waiting_reason: Reason | None
    waiting_since: datetime | None
    last_event: int

    @property
    def duration(self) -> timedelta | None:
        """From start to end; None before the end, or when the run never started."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of an attempt."""

    name: str
    kind: str
    state: StepState
    reason: Reason | None
    message: str | None
    needs: Sequence[str]
    branch: Sequence[str]
    group: Sequence[str]
    cleanup: bool
    shown: str
    exit_code: int | None
    tries: int
    started_at: datetime | None
    ended_at: datetime | None
    duration_ms: int | None
    outputs: Mapping[str, JsonValue]
    stage: int = 1
    why: Sequence[Answer] = ()


@dataclass(frozen=True, slots=True)
class StageView:
    """One recorded stage of an attempt; ``reason`` says why there will be no further one."""

    number: int
    digest: str
    created_at: datetime
    awaits: Sequence[Await]
    reason: Reason | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run with what the list leaves out.

    ``stages`` are those of the present attempt; none when its code asks for no value.
    """

    run: RunView
    inputs: Mapping[str, JsonValue]
    event: Mapping[str, JsonValue]
    outputs: Mapping[str, JsonValue]
    rerun_of: RunId | None
    runner: RunnerId | None
    steps: Sequence[StepView]
    stages: Sequence[StageView] = ()

    def standings(self, stage: StageView) -> Mapping[Await, Standing]:
        """Return what is known of the values that the newest *stage* waits for; else nothing.

        Whether what a step printed has arrived is not told here: it counts as known.
        """
        if stage is not self.stages[-1]:
            return {}
        steps = {step.name: step for step in self.steps}
        return {
            one: Standing.OPEN if step is None else standing_of(one, step.state, step.reason)
            for one in stage.awaits
            for step in (steps.get(one.ref),)
        }


@dataclass(frozen=True)
class StoredEvent:
    """One event of a run's log. ``body`` is the JSON text exactly as it was stored."""

    run: RunId
    n: int
    time: datetime
    type: EventType
    step: str | None
    body: str

    @cached_property
    def json(self) -> bytes:
        """The event as one line of JSON without the newline: the same bytes live and later."""
        # The body is JSON text already; putting it in as text keeps it byte for byte, and cheap.
        time = self.time.isoformat(timespec="microseconds").replace("+00:00", "Z")
        step = b"" if self.step is None else b',"step":' + to_json(self.step)
        head = f'{{"run":"{self.run}","n":{self.n},"time":"{time}","type":"{self.type}"'
        return head.encode() + step + b',"body":' + self.body.encode() + b"}"

    @cached_property
    def sse(self) -> bytes:
        """The event as a server-sent event, blank line included."""
        return f"id: {self.n}\nevent: {self.type}\ndata: ".encode() + self.json + b"\n\n"


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What a run list is narrowed to; None means any. ``before`` is the cursor: a run number.

    ``namespaces`` that are none at all give no runs.
    """

    workflow: str | None = None
    states: Sequence[RunState] = ()
    trigger: str | None = None
    before: int | None = None
    limit: int = 50
    namespaces: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class RunPageOf:
    """A page of runs, newest first; ``next`` is the cursor of the page after it."""

    runs: Sequence[RunView]
    next: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A run to be made, as API and operator hand it to the engine.

    ``files`` are the source (path → text); ``id`` is given by who must be able to repeat the
    submission (a resource's UID), else made. ``secrets_from`` says to whoever resolves secrets
    which this run may have: names and places, never values. ``text_inputs`` says that the inputs
    are a command line's text, to be parsed by their declared types. ``pool`` outranks the
    workflow's own.
    """

    workflow: str
    files: Mapping[str, str]
    inputs: Mapping[str, JsonValue] = field(default_factory=dict)
    text_inputs: bool = False
    trigger: str = "manual"
    event: Mapping[str, JsonValue] = field(default_factory=dict)
    workspace: Workspace = field(default_factory=Workspace)
    pool: str | None = None
    priority: int = 0
    timeout: timedelta | None = None
    queue_timeout: timedelta | None = None
    secrets_from: Mapping[str, JsonValue] = field(default_factory=dict)
    idempotency_key: str | None = None
    rerun_of: RunId | None = None
    id: RunId | None = None
    namespace: str = LOCAL

"""The frames of a runner's one WebSocket, protocol 1. Each is one JSON text message.

A session::

    runner                                gateway
      hello ───────────────────────────────►   token checked; an older session of it is revoked
      ◄─────────────────────────────── welcome   with the open assignment, if there is one
      …idle…
      ◄──────────────────────────────── assign   the claim is in the database already
      accepted ────────────────────────────►   recorded first …
      ◄───────────────────────────────── start   … and only then may the runner begin
      events(first=1, […]) ────────────────►   stored first …
      ◄─────────────────────────── ack(through)   … and only then acknowledged
      ◄─────────────────────────── extend(stage)   the plan's next stage, stored first
      renew ───────────────────────────────►   every lease/6
      ◄─────────────────────────────── renewed
      ◄──────────────────────────────── cancel
      finished(n=last) ────────────────────►   after the last event; ends the run
      ◄────────────────────────────────── done   the runner's process may exit

Rules that make it safe:

- Everything can arrive twice or not at all. Events are dropped by number, ``assign`` and
  ``start`` by (run, attempt), ``extend`` by stage; ``accepted``, ``finished`` are answered again
  when repeated.
- After a cut the runner connects again and says ``hello`` with what it holds. ``welcome`` tells
  which number was stored last (``acked``); the runner resends from there. Stages above the one
  that it holds follow.
- ``fenced`` means: not yours any more. The runner kills its steps, drops its spool and exits.
- ``start`` is never sent to a runner whose ``accepted`` was not recorded in time.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from plue.wire.events import Reason, RunnerEvent, RunState
from plue.wire.plan import Plan, Text
from plue.wire.stages import Extension

__all__ = [
    "PROTOCOL",
    "Accepted",
    "Ack",
    "Assign",
    "Assignment",
    "Cancel",
    "Done",
    "Events",
    "Extend",
    "Fenced",
    "Finished",
    "FromGateway",
    "FromRunner",
    "Hello",
    "Holding",
    "Limits",
    "Refused",
    "Renew",
    "Renewed",
    "Retire",
    "Start",
    "Welcome",
    "Workspace",
    "from_gateway",
    "from_runner",
]

PROTOCOL = 1
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""The largest frame either side accepts. A runner's event batch stays below 1 MiB."""


class _Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# ── what an assignment holds ─────────────────────────────────────────────────────────────────────


class Workspace(_Frame):
    """Where the files of a run come from.

    ``none``: an empty folder. ``blob``: a tar archive at ``/runner/v1/blobs/{blob}`` on the
    gateway, unpacked into a fresh folder. ``in_place``: the folder ``path`` itself (local mode
    only); nothing is copied and nothing is removed.
    """

    kind: Literal["none", "blob", "in_place"] = "none"
    blob: str | None = None
    path: str | None = None


class Limits(_Frame):
    """Times in seconds, sizes in bytes."""

    lease_seconds: float = 120.0
    grace_seconds: float = 10.0  # between TERM and KILL
    cleanup_seconds: float = 60.0  # for all of ctx.cleanup together
    spool_bytes: int = 256 * 1024 * 1024  # a full spool blocks the step's pipe
    stdout_bytes: int = 1024 * 1024  # beyond it, using .stdout is OutputTooLarge
    output_bytes: int = 256 * 1024  # one named output
    outputs_bytes: int = 1024 * 1024  # all named outputs of a step
    env_value_bytes: int = 96 * 1024  # beyond it, ValueTooLarge


class Assignment(_Frame):
    """Everything a runner is told about its one attempt."""

    run: str
    run_name: str
    attempt: int = Field(ge=1)
    plan: Plan
    env: dict[str, Text] = {}  # the workflow's own env=
    secrets: dict[str, str] = {}  # name → value; masked in everything that leaves the runner
    workspace: Workspace = Workspace()
    limits: Limits = Limits()
    event: dict[str, JsonValue] = {}  # written to $PLUE_EVENT_PATH as JSON
    egress: int | None = None  # the gateway's port for connections to the pool's hosts, if any
    variables: dict[str, str] = {}  # PLUE_RUN_ID and the like, for every step's environment


# ── runner → gateway ─────────────────────────────────────────────────────────────────────────────


class Holding(_Frame):
    """What a reconnecting runner holds: its attempt, and the last number that was acknowledged.

    ``stage`` is the newest stage of the plan that it has.
    """

    run: str
    attempt: int
    acked: int = 0
    started: bool = False
    stage: int = Field(default=1, ge=1)


class Hello(_Frame):
    """The first frame of every connection. Anything else first closes it with 4401."""

    type: Literal["hello"] = "hello"
    protocol: int
    runner: str
    token: str
    pid: int = 0
    holding: Holding | None = None


class Accepted(_Frame):
    """The runner has the assignment and waits for ``start``."""

    type: Literal["accepted"] = "accepted"
    run: str
    attempt: int


class Events(_Frame):
    """Numbered events, without gaps: ``events[0].n`` is one more than the last one sent."""

    type: Literal["events"] = "events"
    run: str
    attempt: int
    events: tuple[RunnerEvent, ...]


class Finished(_Frame):
    """The attempt is over; ``n`` is the number of its last event, which must be stored first.

    ``state`` is what the runner saw: succeeded, failed, cancelled or timed_out.
    """

    type: Literal["finished"] = "finished"
    run: str
    attempt: int
    n: int = Field(ge=0)
    state: RunState
    reason: Reason
    message: str | None = None
    outputs: dict[str, JsonValue] = {}


class Renew(_Frame):
    """Asks for the lease to be renewed; ``sent`` comes back unchanged in ``renewed``."""

    type: Literal["renew"] = "renew"
    sent: float


class Refused(_Frame):
    """The runner cannot take the assignment (it is busy or ending)."""

    type: Literal["refused"] = "refused"
    run: str
    attempt: int
    message: str = ""


FromRunner = Annotated[
    Hello | Accepted | Events | Finished | Renew | Refused, Field(discriminator="type")
]

# ── gateway → runner ─────────────────────────────────────────────────────────────────────────────


class Welcome(_Frame):
    """The session stands. ``holding`` is the open assignment as the database knows it.

    ``acked`` in it is the last stored number. ``started`` says that ``start`` was due: a runner
    that holds the assignment and has not begun begins now. ``assignment`` comes along when the
    runner did not say that it holds this attempt. ``session`` is the token to use from here on, for
    a runner whose first one proved who it is but can be read by what it executes.
    """

    type: Literal["welcome"] = "welcome"
    epoch: int
    lease_seconds: float
    holding: Holding | None = None
    assignment: Assignment | None = None
    session: str | None = None


class Assign(_Frame):
    """The claim: answer ``accepted`` and wait."""

    type: Literal["assign"] = "assign"
    assignment: Assignment


class Start(_Frame):
    """``accepted`` is recorded: begin."""

    type: Literal["start"] = "start"
    run: str
    attempt: int


class Extend(_Frame):
    """The plan's next stage. One that the runner has already changes nothing.

    ``secrets`` are the values of those that its steps name.
    """

    type: Literal["extend"] = "extend"
    run: str
    attempt: int
    extension: Extension
    secrets: dict[str, str] = {}


class Ack(_Frame):
    """Every event up to and with number ``through`` is stored."""

    type: Literal["ack"] = "ack"
    run: str
    attempt: int
    through: int


class Cancel(_Frame):
    """End the attempt: TERM, grace, KILL, clean-up steps, ``finished``.

    ``state`` is what to finish as: cancelled or timed_out. ``now`` skips grace and clean-up.
    """

    type: Literal["cancel"] = "cancel"
    run: str
    attempt: int
    state: Literal["cancelled", "timed_out"] = "cancelled"
    reason: Reason = Reason.CANCELLED
    message: str | None = None
    now: bool = False


class Renewed(_Frame):
    """The lease runs anew, counted from the moment that the runner sent ``renew``."""

    type: Literal["renewed"] = "renewed"
    sent: float


class Fenced(_Frame):
    """The attempt is not this runner's any more: kill, drop, exit."""

    type: Literal["fenced"] = "fenced"
    run: str
    attempt: int


class Done(_Frame):
    """The end is recorded. The runner cleans up and exits."""

    type: Literal["done"] = "done"
    run: str
    attempt: int


class Retire(_Frame):
    """An idle runner is not needed any more: exit."""

    type: Literal["retire"] = "retire"
    message: str = ""


FromGateway = Annotated[
    Welcome | Assign | Start | Extend | Ack | Cancel | Renewed | Fenced | Done | Retire,
    Field(discriminator="type"),
]

_FROM_RUNNER: TypeAdapter[FromRunner] = TypeAdapter(FromRunner)
_FROM_GATEWAY: TypeAdapter[FromGateway] = TypeAdapter(FromGateway)


def from_runner(message: str | bytes) -> FromRunner:
    """Parse a frame that a runner sent. Raises pydantic.ValidationError on anything else."""
    return _FROM_RUNNER.validate_json(message)


def from_gateway(message: str | bytes) -> FromGateway:
    """Parse a frame that a gateway sent. Raises pydantic.ValidationError on anything else."""
    return _FROM_GATEWAY.validate_json(message)

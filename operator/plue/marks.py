"""Named places between two effects: the one list of moments at which a crash must do no harm.

A process may die at any line, but only between two effects does it matter which of them had
happened. Each such place is named here and marked where it is; nothing happens there in
production. The tests' own start-up wrapper puts a hook here that ends or halts the process at a
place of its choice, and a test sees to it that every place is reached.

This module knows nothing, so that the runner, the store and the server may all import it.
"""

from collections.abc import Callable
from enum import StrEnum

__all__ = ["Mark", "reached"]


class Mark(StrEnum):
    """The places, by the process that passes them: server first, then host, then runner."""

    # submit
    PLANNED = "submit: planned, nothing recorded"
    SUBMITTED = "submit: run recorded, nobody told"
    BLOB_WRITTEN = "blob: written, not named"
    # claim, two phases
    CLAIMED = "claim: committed, assign not sent"
    ASSIGNED = "assign: sent"
    ACCEPT_ARRIVED = "accepted: arrived, not recorded"
    ACCEPTED = "accepted: recorded, start not sent"
    STARTED = "start: sent"
    UNACCEPTED_RETURNED = "claim: returned to the queue, gateways not told"
    # sessions
    HELLO_RECORDED = "hello: recorded, not welcomed"
    WELCOMED = "welcome: sent, what is open not told"
    RENEWED = "renew: recorded, not answered"
    SESSION_CLOSED = "session: ended, not recorded"
    # events
    EVENTS_ARRIVED = "events: arrived, not stored"
    EVENTS_STORED = "events: stored, not acknowledged"
    ACKNOWLEDGED = "events: acknowledged"
    FINISH_ARRIVED = "finished: arrived, not stored"
    END_STORED = "end: stored, nobody told"
    DONE_SENT = "done: sent"
    # stages
    STAGE_EVALUATED = "stage: evaluated, not recorded"
    STAGE_RECORDED = "stage: recorded, its runner not told"
    STAGE_SENT = "extend: sent"
    # the engine's own ends and losses
    CANCEL_RECORDED = "cancel: recorded, not pushed"
    CANCEL_PUSHED = "cancel: pushed"
    LOSS_DECIDED = "lost: decided, nothing recorded"
    NEXT_ATTEMPT = "lost: next attempt recorded, nobody told"
    # runners as the engine keeps them
    RUNNER_INSERTED = "runner: row inserted, not spawned"
    RUNNER_SEEN_GONE = "runner: seen gone, not recorded"
    RUNNER_GONE = "runner: gone recorded, nobody told"
    # runners as the host keeps them
    HOME_MADE = "host: home made, no process"
    SPAWNED = "host: process started, no record of it"
    SPAWN_RECORDED = "host: process recorded, token not handed over"
    BURIED = "host: tombstone written, home not removed"
    # the runner's process
    R_HELLO = "runner: hello sent"
    R_TAKEN = "runner: assignment taken, accepted not sent"
    R_ACCEPTED = "runner: accepted sent"
    R_BEGUN = "runner: start obeyed, nothing executed"
    R_SPOOLED = "runner: event spooled, not sent"
    R_SENT = "runner: events sent"
    R_ACKED = "runner: acknowledgement taken"
    R_STEP_KNOWN = "runner: step's start stored, not spawned"
    R_STEP_SPAWNED = "runner: step spawned"
    R_STEP_ENDED = "runner: step ended, not reported"
    R_FINISHED = "runner: finished, not sent"
    R_FINISHED_SENT = "runner: finished sent"
    R_DONE = "runner: done taken, not cleaned up"
    R_EXTENDED = "runner: stage taken"
    R_CANCEL = "runner: cancel obeyed"
    R_LEASE = "runner: lease ran out, nothing killed"


hook: Callable[[Mark], None] | None = None
"""What a test put here; None in production."""


def reached(mark: Mark) -> None:
    """Say that *mark* was reached."""
    if hook is not None:
        hook(mark)

"""The query parameters of the users' API, one model a route."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from plue.wire.events import RunState

__all__ = [
    "AuditQuery",
    "CallbackQuery",
    "EventsQuery",
    "LoginQuery",
    "LogsQuery",
    "PlaceQuery",
    "RunsQuery",
    "UsageQuery",
]

MAX_NUMBER = 2**63 - 1
"""The largest number Postgres can compare with."""


def _as_flag(value: Any) -> Any:
    """Take ``true`` and ``false``; everything else that pydantic would take means too much."""
    return {"true": True, "false": False}.get(value, "?") if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_as_flag)]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunsQuery(_Query):
    """What the run list is narrowed to."""

    namespace: str | None = Field(
        default=None, min_length=1, max_length=63, description="Only runs of this namespace."
    )
    workflow: str | None = Field(
        default=None, min_length=1, max_length=200, description="Only runs of this workflow."
    )
    state: list[RunState] = Field(
        default=[], max_length=7, description="Only runs in this state; may be repeated."
    )
    trigger: Literal["manual", "push", "pull_request", "schedule"] | None = Field(
        default=None, description="Only runs started like this."
    )
    cursor: str | None = Field(
        default=None, pattern="^[0-9]{1,18}$", description="`next` of the page before."
    )
    limit: int = Field(default=50, ge=1, le=200, description="The length of a page.")


class EventsQuery(_Query):
    """Where in a run's log to begin, and whether to wait for more."""

    after: int | None = Field(
        default=None,
        ge=0,
        le=MAX_NUMBER,
        description="Begin after this number, as the header Last-Event-ID does.",
    )
    follow: Flag = Field(
        default=True, description="`false` ends at the present end instead of waiting for more."
    )


class LogsQuery(_Query):
    """Which lines of a run's output, and how they are shown."""

    step: str | None = Field(
        default=None, min_length=1, max_length=200, description="Only this step, without prefix."
    )
    stream: Literal["stdout", "stderr"] | None = Field(
        default=None, description="Only this stream."
    )
    timestamps: Flag = Field(default=False, description="Begin each line with its time.")


class PlaceQuery(_Query):
    """Where something is done that belongs to no run yet."""

    namespace: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        description="In a cluster: a namespace in which the caller may make runs.",
    )


class AuditQuery(_Query):
    """Which entries of the audit log."""

    namespace: str | None = Field(
        default=None, min_length=1, max_length=63, description="Only of this namespace."
    )
    who: str | None = Field(
        default=None, min_length=1, max_length=300, description="Only what this caller did."
    )
    action: str | None = Field(
        default=None, min_length=1, max_length=50, description="Only this, such as run.create."
    )
    since: AwareDatetime | None = Field(default=None, description="Not before this time.")
    cursor: str | None = Field(
        default=None, pattern="^[0-9]{1,18}$", description="`next` of the page before."
    )
    limit: int = Field(default=50, ge=1, le=200, description="The length of a page.")


class LoginQuery(_Query):
    """Where a browser goes after its login."""

    return_to: str = Field(default="/", max_length=2000, description="A path of this server.")


class CallbackQuery(BaseModel):
    """What an issuer sends back; whatever else it adds is of no interest."""

    model_config = ConfigDict(extra="ignore")

    code: str | None = Field(default=None, max_length=4096)
    state: str | None = Field(default=None, max_length=200)
    error: str | None = Field(default=None, max_length=200)


class UsageQuery(_Query):
    """Which model usage, and how it is summed up."""

    since: date | None = Field(default=None, description="First day, UTC; 30 days ago if absent.")
    until: date | None = Field(default=None, description="Last day, UTC; today if absent.")
    by: list[Literal["day", "workflow", "repository", "model"]] = Field(
        default=[], max_length=4, description="A line for each of these; may be repeated."
    )
    namespace: str | None = Field(
        default=None, min_length=1, max_length=63, description="Only of runs of this namespace."
    )
    workflow: str | None = Field(
        default=None, min_length=1, max_length=200, description="Only of this workflow."
    )

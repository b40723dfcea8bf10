"""What handlers add to the audit log's entry of their request."""

from dataclasses import dataclass, field

from aiohttp import web
from pydantic import JsonValue

__all__ = ["NOTE", "Note", "is_audited", "noted"]


@dataclass(slots=True)
class Note:
    """What is known of a change while it is made."""

    target: str
    namespace: str | None = None
    details: dict[str, JsonValue] = field(default_factory=dict)


NOTE: web.RequestKey[Note] = web.RequestKey("plue.note", Note)


def is_audited(request: web.Request) -> bool:
    """Return whether this request has an entry."""
    return NOTE in request


def noted(
    request: web.Request,
    *,
    target: str | None = None,
    namespace: str | None = None,
    **details: JsonValue,
) -> None:
    """Add to the entry of this request, if it has one."""
    note = request.get(NOTE)
    if note is None:
        return
    note.target = target or note.target
    note.namespace = namespace or note.namespace
    note.details |= {name: value for name, value in details.items() if value is not None}

"""The audit log: who changed what, from where. Written before a change is made, completed after.

So a change that is not written down is not made, and one whose process died has an entry without
an answer. Refused changes are there too, with the status that says so. What is changed by kubectl
directly is in the API server's own audit log.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from plue.api.callers import Resource, caller_of, readable
from plue.api.models import AuditBody, AuditPage
from plue.api.notes import NOTE, Note
from plue.api.problems import canonical, status_of
from plue.api.queries import AuditQuery
from plue.api.routes import AUDITED, JSON, Call, Nothing, Outcome, Route
from plue.errors import UnavailableError
from plue.store.access import AccessStore, AuditEntry

__all__ = ["AUDIT", "audit_middleware", "audit_routes"]

AUDIT: web.AppKey[AccessStore | None] = web.AppKey("plue.audit")
"""Where changes are written down; None in local mode, which has one person."""


@web.middleware
async def audit_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write down what a route that changes something is asked, and how that ended."""
    store = request.app[AUDIT]
    action = request.app[AUDITED].get((request.method, canonical(request) or ""))
    if store is None or action is None:
        return await handler(request)
    caller = caller_of(request)
    note = request[NOTE] = Note(target=_named(request.match_info))
    if forwarded := request.headers.get("X-Forwarded-For"):
        # What proxies say; only the address of the entry is what we saw ourselves.
        note.details["forwarded_for"] = forwarded[:200].encode("ascii", "replace").decode()
    entry = await store.begin_audit(
        who=caller.name,
        how=caller.how,
        address=request.remote or "?",
        action=action,
        target=note.target,
    )
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except Exception as error:
        status = status_of(error)
        raise
    else:
        return response
    finally:
        # The change was made or refused, whatever becomes of the entry: it stays without an answer.
        with suppress(UnavailableError):
            await store.finish_audit(
                entry,
                status=status,
                namespace=note.namespace,
                target=note.target,
                details=note.details,
            )


def _named(parts: Mapping[str, str]) -> str:
    return "/".join(part.replace("\0", "\\0")[:300] for part in parts.values())


def _body(entry: AuditEntry) -> AuditBody:
    return AuditBody(
        id=entry.id,
        at=entry.at,
        who=entry.who,
        how=entry.how,
        address=entry.address,
        action=entry.action,
        namespace=entry.namespace,
        target=entry.target,
        status=entry.status,
        details=dict(entry.details),
    )


def audit_routes(store: AccessStore) -> tuple[Route[Any, Any], ...]:
    """Return the route that reads the log."""

    async def list_audit(call: Call[AuditQuery, Nothing]) -> Outcome:
        query = call.query
        entries = await store.audit(
            namespaces=await readable(call.request, query.namespace, resource=Resource.AUDIT),
            who=query.who,
            action=query.action,
            since=query.since,
            before=None if query.cursor is None else int(query.cursor),
            limit=query.limit + 1,
        )
        page = entries[: query.limit]
        following = str(page[-1].id) if len(entries) > query.limit else None
        return AuditPage(entries=[_body(entry) for entry in page], next=following)

    return (
        Route(
            method="GET",
            path="/api/v1/audit",
            handler=list_audit,
            summary="List the changes that callers made, newest first",
            description="What concerns no namespace is shown to those only who may list all.",
            query=AuditQuery,
            body=Nothing,
            produces={JSON: AuditPage},
        ),
    )

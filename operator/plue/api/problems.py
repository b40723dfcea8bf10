"""Errors as RFC 9457 problem JSON: the one place where the error family meets HTTP.

Everything that a handler raises comes out here as ``application/problem+json`` with the field
and the remedy. What is not of the family is a fault of ours: the caller gets an id, the log gets
the id and the traceback, and nothing of the inside leaves the server.
"""

import difflib
import math
import secrets
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic_core import to_json

from plue.api.models import DiagnosticBody, Problem
from plue.errors import (
    ConflictError,
    GoneError,
    NotFoundError,
    PlueError,
    RejectedError,
    UnavailableError,
)

__all__ = [
    "CLIENT_LEFT",
    "PROBLEM_JSON",
    "STREAMING",
    "ForbiddenError",
    "MalformedError",
    "MediaTypeError",
    "TooLargeError",
    "UnauthenticatedError",
    "canonical",
    "did_you_mean",
    "problem_middleware",
    "status_of",
]

CLIENT_LEFT = 499
"""The status nginx made customary for a client that did not wait for its answer."""

PROBLEM_JSON = "application/problem+json"

STREAMING: web.RequestKey[bool] = web.RequestKey("plue.streaming", bool)
"""Set on a request whose answer has begun: no problem can be told any more."""

_log = structlog.get_logger("plue.api")


class MalformedError(RejectedError):
    """The request cannot be read at all."""


class UnauthenticatedError(RejectedError):
    """The request does not say who it comes from."""


class ForbiddenError(RejectedError):
    """The request comes from where it must not come from."""


class TooLargeError(RejectedError):
    """The request's body is too large."""


class MediaTypeError(RejectedError):
    """The request's body is of a kind that is not understood here."""


# The most special class first: the first that fits decides.
_KINDS: tuple[tuple[type[PlueError], int, str], ...] = (
    (MalformedError, 400, "malformed"),
    (UnauthenticatedError, 401, "unauthenticated"),
    (ForbiddenError, 403, "forbidden"),
    (TooLargeError, 413, "too-large"),
    (MediaTypeError, 415, "unsupported-media-type"),
    (NotFoundError, 404, "not-found"),
    (GoneError, 410, "gone"),
    (RejectedError, 422, "rejected"),
    (ConflictError, 409, "conflict"),
    (UnavailableError, 503, "unavailable"),
)

_OWN_MEMBERS = frozenset(Problem.model_fields)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a remedy that names the most similar of *known*, or all of them when they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    if 0 < len(names) <= 20:  # noqa: PLR2004 - what a person still reads
        return "known are: " + ", ".join(names)
    return None


def canonical(request: web.Request) -> str | None:
    """Return the route's template, never the address itself: it may hold names and tokens."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else None


def _diagnostics(details: Mapping[str, object]) -> list[DiagnosticBody]:
    """Return the diagnostics that *details* carry, in the API's form."""
    found = details.get("diagnostics")
    if not isinstance(found, list):
        return []
    known = DiagnosticBody.model_fields
    return [
        DiagnosticBody.model_validate({k: v for k, v in one.items() if k in known})
        for one in found
        if isinstance(one, dict)
    ]


def _response(
    status: int,
    kind: str,
    members: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return the problem as a response; absent members are left out."""
    problem = Problem(
        type=f"urn:plue:problem:{kind}",
        title=HTTPStatus(status).phrase,
        status=status,
        **{name: value for name, value in members.items() if value is not None},
    )
    text = to_json(problem.model_dump(mode="json", exclude_none=True), serialize_unknown=True)
    return web.Response(
        status=status, body=text, content_type=PROBLEM_JSON, headers={**(headers or {})}
    )


def status_of(error: Exception) -> int:
    """Return the HTTP status that *error* is told with."""
    if isinstance(error, web.HTTPException):
        return error.status
    return next((status for cls, status, _ in _KINDS if isinstance(error, cls)), 500)


def _of_family(error: PlueError) -> web.Response | None:
    """Return the response for an error of the family; None when it is a fault of ours."""
    found = next(((status, kind) for cls, status, kind in _KINDS if isinstance(error, cls)), None)
    if found is None:
        return None
    status, kind = found
    headers: dict[str, str] = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_in.total_seconds())))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="plue"'
    extra = {k: v for k, v in error.details.items() if k not in _OWN_MEMBERS}
    members = extra | {
        "detail": error.message,
        "field": error.field,
        "remedy": error.remedy,
        "diagnostics": _diagnostics(error.details) or None,
        "errors": error.details.get("errors"),
    }
    return _response(status, kind, members, headers)


def _of_aiohttp(error: web.HTTPException, request: web.Request) -> web.Response:
    """Return the response for what aiohttp itself refuses: no such route, no such method."""
    phrase = HTTPStatus(error.status).phrase.lower().replace(" ", "-")
    detail, remedy, headers = error.reason, None, {}
    if isinstance(error, web.HTTPNotFound):
        detail = "there is nothing at this address"
        remedy = "see /openapi.json for what there is"
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = error.headers["Allow"]
        detail = f"{request.method} is not possible here"
        remedy = f"use {error.headers['Allow']}"
    return _response(error.status, phrase, {"detail": detail, "remedy": remedy}, headers)


def _fault(error: Exception, request: web.Request) -> web.Response:
    """Log a fault of ours under a new id, and return the response that names only the id."""
    fault = secrets.token_hex(6)
    _log.error(
        "request_failed",
        id=fault,
        method=request.method,
        route=canonical(request),
        exc_info=error,
    )
    if STREAMING in request and request.transport is not None:
        # A second answer inside the first would be nonsense; what follows goes nowhere.
        request.transport.abort()
    return _response(
        500,
        "internal",
        {
            "detail": f"a fault in Plue itself; the server's log has it under the id {fault}",
            "remedy": "please report it with what the log says",
            "id": fault,
        },
    )


def _told(error: Exception, request: web.Request) -> web.Response:
    """Return what the client is told of *error*."""
    if isinstance(error, ConnectionError) and _has_left(request):
        # Nobody is there to be told; aiohttp would log the exception as an error.
        return web.Response(status=CLIENT_LEFT)
    if isinstance(error, web.HTTPException):
        return _of_aiohttp(error, request)
    told = _of_family(error) if isinstance(error, PlueError) else None
    return _fault(error, request) if told is None else told


def _has_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever *handler* raises into problem JSON."""
    try:
        return await handler(request)
    except Exception as error:  # the outermost loop of a request
        if isinstance(error, web.HTTPException) and error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _told(error, request)

"""One line in the log for each request, written when it is over."""

import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from plue.api.problems import CLIENT_LEFT, canonical
from plue.api.streams import ENDING

__all__ = ["journal_middleware"]

# Asked every few seconds by machines; worth a line only when they fail.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})

_log = structlog.get_logger("plue.api")


@web.middleware
async def journal_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write the request's line: method, route, status, milliseconds, and how a stream ended."""
    started = time.perf_counter()
    status, ending = CLIENT_LEFT, None
    try:
        response = await handler(request)
        status, ending = response.status, response.get(ENDING)
    except web.HTTPException as answer:
        status = answer.status
        raise
    else:
        return response
    finally:
        route = canonical(request)
        quiet = route in _QUIET and status < web.HTTPBadRequest.status_code
        line = {
            "method": request.method,
            "route": route,
            "status": status,
            "ms": round((time.perf_counter() - started) * 1000, 2),
        }
        if ending is not None:
            line["ending"] = str(ending)
        (_log.debug if quiet else _log.info)("request", **line)

"""The route registry: each route is declared once, and serves, validates and documents itself.

aiohttp's own route table knows nothing of bodies. aiohttp-pydantic and aiohttp-apischema were
tried and rejected (one fails on recursive models, the other is alpha), and a hundred lines do
what we need: :class:`Route` is the declaration, :func:`serve` makes a handler of it, and
``openapi.py`` reads the same declaration.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict

from plue.api.intake import parse_body, parse_query, read_json, refuse_unkeepable
from plue.errors import RejectedError

__all__ = ["AUDITED", "JSON", "Call", "Nothing", "Reply", "Route", "json_response", "register"]

JSON = "application/json"
BODY_LIMIT = 4 * 1024 * 1024
"""The largest JSON body."""

PATH_PART_LIMIT = 300
"""The longest path parameter; a run's name is a workflow's name and a number."""


class Nothing(BaseModel):
    """No query parameters, or no body."""

    model_config = ConfigDict(extra="forbid")


Q = TypeVar("Q", bound=BaseModel)
B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """A request whose parts have been parsed."""

    request: web.Request
    query: Q
    body: B

    def part(self, name: str) -> str:
        """Return the path parameter *name*."""
        return self.request.match_info[name]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a status or headers of its own."""

    body: BaseModel
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Outcome = BaseModel | Reply | web.StreamResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[Q, B]):
    """One route.

    ``produces`` maps media types to the model of the body (None: text without a schema), the
    default first. ``uploads`` is the media type of a body that the handler streams by itself.
    ``errors`` are statuses beyond those that follow from the declaration, ``also`` those that
    have a body of their own instead of a problem, and ``empty`` says what a 204 means.
    ``audited`` names what the route changes, as the audit log has it.
    """

    method: str
    path: str
    handler: Callable[[Call[Q, B]], Awaitable[Outcome]]
    summary: str
    description: str = ""
    query: type[Q]
    body: type[B]
    produces: Mapping[str, type[BaseModel] | None]
    status: int = 200
    errors: tuple[int, ...] = ()
    uploads: str | None = None
    also: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    empty: str = ""
    public: bool = False
    audited: str = ""
    streams: bool = False

    @property
    def name(self) -> str:
        """The operation's id."""
        return self.handler.__name__

    @property
    def reads_json(self) -> bool:
        """Whether the route takes a JSON body."""
        return self.method == "POST" and self.uploads is None


def json_response(
    body: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return *body* as JSON; fields that are null are there, so that rows are always full."""
    text = body.__pydantic_serializer__.to_json(body, by_alias=True)
    return web.Response(status=status, body=text, content_type=JSON, headers=headers)


def serve(route: Route[Any, Any]) -> Handler:
    """Return the aiohttp handler that parses, calls and answers as *route* declares."""

    async def handle(request: web.Request) -> web.StreamResponse:
        for name, value in request.match_info.items():
            refuse_unkeepable(value, name)
            if len(value) > PATH_PART_LIMIT:
                raise RejectedError(f"longer than {PATH_PART_LIMIT} characters", field=name)
        query = parse_query(route.query, request.query)
        data = await read_json(request, limit=BODY_LIMIT) if route.reads_json else {}
        outcome = await route.handler(Call(request, query, parse_body(route.body, data)))
        if isinstance(outcome, web.StreamResponse):
            return outcome
        reply = outcome if isinstance(outcome, Reply) else Reply(outcome)
        return json_response(reply.body, status=reply.status or route.status, headers=reply.headers)

    return handle


PUBLIC: web.AppKey[frozenset[str]] = web.AppKey("plue.public", frozenset)
"""The canonical paths that need no credentials."""


AUDITED: web.AppKey[Mapping[tuple[str, str], str]] = web.AppKey("plue.audited")
"""Method and canonical path of the routes that change something, to what the audit log calls it."""


def register(app: web.Application, routes: tuple[Route[Any, Any], ...]) -> None:
    """Add *routes* to *app*, HEAD beside GET where the body has an end."""
    app[PUBLIC] = frozenset(route.path for route in routes if route.public)
    app[AUDITED] = {(r.method, r.path): r.audited for r in routes if r.audited}
    for route in routes:
        handler = serve(route)
        if route.method == "GET":
            app.router.add_get(route.path, handler, allow_head=not route.streams)
        else:
            app.router.add_route(route.method, route.path, handler)

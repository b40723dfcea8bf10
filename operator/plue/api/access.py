"""Who may speak to the API. Local mode has one person and one token.

What a laptop's server must fear is not the network, it is bound to loopback, but other pages in
the person's own browser: a page of another site that posts to us (refused by Origin), or one
whose name was made to point to 127.0.0.1 (refused by Host). The token is made at start. Tools
send it as a bearer; a browser is given a cookie by the link that ``plue up`` prints. Cookies do
not know ports, so the cookie's name carries ours, and its value is derived from the token: what
else listens on this machine may be sent the cookie by the browser, but never learns the token.
"""

import hashlib
import hmac
from collections.abc import Collection, Sequence
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import BaseModel, ConfigDict, Field

from plue.api.callers import CALLER, Access, Caller, Resource, Verb
from plue.api.pages import FORM
from plue.api.problems import ForbiddenError, UnauthenticatedError, canonical
from plue.api.routes import PUBLIC, Call, Nothing, Route

__all__ = ["LOOPBACK_NAMES", "LocalAccess", "access_middleware"]

_OWNER = Caller(name="local", how="local")

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def access_middleware(access: Access) -> Middleware:
    """Return the middleware that asks *access* before every handler."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = await access.check(request, public=canonical(request) in request.app[PUBLIC])
        if caller is not None:
            request[CALLER] = caller
        return await handler(request)

    return check


class LoginQuery(BaseModel):
    """The link that ``plue up`` prints."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=500, description="The token made at start.")


def _same(given: str, expected: str) -> bool:
    """Compare in constant time; headers may hold bytes that are no UTF-8."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def _port(request: web.Request) -> int | None:
    """Return the port that the request arrived at."""
    address = request.get_extra_info("sockname")
    return address[1] if isinstance(address, tuple) else None


class LocalAccess:
    """One token; loopback names only."""

    def __init__(self, token: str, hosts: Collection[str] = LOOPBACK_NAMES) -> None:
        """Let *token* pass, at *hosts* (names without port, IPv6 in brackets)."""
        if not token:
            raise ValueError("an empty token would let everybody in")
        self._token = token
        self._cookie = hmac.new(token.encode(), b"plue cookie", hashlib.sha256).hexdigest()
        self._form = hmac.new(token.encode(), b"plue form", hashlib.sha256).hexdigest()
        self._hosts = frozenset(host.lower() for host in hosts)

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the route that gives a browser its cookie."""
        return (
            Route(
                method="GET",
                path="/login",
                handler=self.login,
                summary="Give a browser its cookie, and lead it to the start page",
                query=LoginQuery,
                body=Nothing,
                produces={},
                status=303,
                errors=(401,),
                public=True,
            ),
        )

    async def login(self, call: Call[LoginQuery, Nothing]) -> web.StreamResponse:
        """Set the cookie when the token is right."""
        if not _same(call.query.token, self._token):
            raise self._unauthenticated("the token is not the one of this server")
        response = web.Response(
            status=303,
            headers={
                "Location": "/",
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
            },
        )
        response.set_cookie(
            self._cookie_name(call.request), self._cookie, httponly=True, samesite="Strict"
        )
        return response

    async def check(self, request: web.Request, *, public: bool) -> Caller | None:
        """Refuse foreign hosts and origins always, and callers without credentials."""
        allowed = self._authorities(request)
        if request.headers.get("Host", "").lower() not in allowed:
            raise ForbiddenError(
                "this server does not answer to that host name",
                field="Host",
                remedy="use the address that `plue up` printed",
            )
        origins = {f"http://{authority}" for authority in allowed}
        if any(o.lower() not in origins for o in request.headers.getall("Origin", [])):
            raise ForbiddenError("requests from other sites are refused", field="Origin")
        if public:
            return None
        if self._authenticate(request) and request.content_type == FORM:
            # Any page can have a form sent here; what else changes something only scripts can send.
            given = str((await request.post()).get("csrf", ""))
            if not _same(given, self._form):
                raise ForbiddenError("the form is not one of this server's pages", field="csrf")
        return _OWNER

    def form_token(self, request: web.Request) -> str:  # noqa: ARG002 - there is one
        """Return what the forms of our pages carry, and pages of other sites do not know."""
        return self._form

    async def may(
        self,
        caller: Caller,  # noqa: ARG002 - there is one
        verb: Verb,  # noqa: ARG002
        resource: Resource,  # noqa: ARG002
        namespace: str | None,  # noqa: ARG002
    ) -> bool:
        """Return True: there is one person, whose server it is."""
        return True

    async def may_measure(self, caller: Caller) -> bool:  # noqa: ARG002 - there is one
        """Return True."""
        return True

    def _authorities(self, request: web.Request) -> frozenset[str]:
        """Return the Host headers that are ours."""
        port = _port(request)
        # Browsers leave the default port out.
        bare = self._hosts if port == 80 else frozenset[str]()  # noqa: PLR2004 - http
        return bare | {f"{host}:{port}" for host in self._hosts}

    def _authenticate(self, request: web.Request) -> bool:
        """Raise UnauthenticatedError unless the bearer, or else the cookie, is right.

        Returns whether it was the cookie, which a browser sends by itself.
        """
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer" or not _same(token.strip(), self._token):
                raise self._unauthenticated("the token is not the one of this server")
            return False
        cookie = request.cookies.get(self._cookie_name(request))
        if cookie is None or not _same(cookie, self._cookie):
            raise self._unauthenticated("the request carries no token")
        return True

    @staticmethod
    def _cookie_name(request: web.Request) -> str:
        return f"plue-{_port(request)}"

    @staticmethod
    def _unauthenticated(message: str) -> UnauthenticatedError:
        return UnauthenticatedError(
            message,
            remedy="in a browser, open the link that `plue up` printed; "
            "tools send `Authorization: Bearer TOKEN`",
        )

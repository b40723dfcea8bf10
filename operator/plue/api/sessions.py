"""Browsers: a session after a login at an issuer, or a proxy in front of us that has done it.

What a browser sends by itself must not be enough to change anything. A session's cookie is Secure,
HttpOnly and SameSite=Lax, and every request that changes something also carries the session's CSRF
token, which only our own pages and who reads ``/api/v1/session`` know, and no foreign Origin.
Behind a proxy there is no session of ours, so Origin alone decides.
"""

import html
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from aiohttp import web

from plue.api.callers import Caller, caller_of
from plue.api.models import SessionBody
from plue.api.oidc import BrowserLogin, Issuer, safe_path
from plue.api.pages import FORM, page
from plue.api.problems import ForbiddenError, UnauthenticatedError
from plue.api.queries import CallbackQuery, LoginQuery
from plue.api.routes import JSON, Call, Nothing, Outcome, Route
from plue.store.access import AccessStore, Session

__all__ = ["CSRF_HEADER", "Sessions", "TrustedProxy"]

CSRF_HEADER = "X-Plue-CSRF"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SESSION: web.RequestKey[Session] = web.RequestKey("plue.session", Session)
_MOST_FORM = 4096


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """A proxy that has logged the user in and says who it is in a header.

    Only requests from *networks* are believed: anybody can write a header.
    """

    user_header: str
    groups_header: str | None
    networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
    origin: str

    def caller(self, request: web.Request) -> Caller | None:
        """Return who the proxy says it is; None when it was not the proxy, or says nobody."""
        names = request.headers.getall(self.user_header, [])
        if not any(names) or not self._is_from_it(request.remote):
            return None
        if len(names) > 1:
            raise ForbiddenError(
                f"the request has {self.user_header} {len(names)} times",
                remedy="have the proxy take the header out of what it is sent",
            )
        (name,) = names
        if not name.isprintable():
            raise ForbiddenError(f"{self.user_header} has characters that no name has")
        listed = request.headers.getall(self.groups_header, []) if self.groups_header else []
        groups = [group.strip() for line in listed for group in line.split(",")]
        if name.startswith("system:"):
            raise ForbiddenError(f"{name!r} is a name that Kubernetes keeps for itself")
        kept = [g for g in groups if g and g.isprintable() and not g.startswith("system:")]
        return Caller(name=name, how="proxy", groups=(*kept, "system:authenticated"))

    def _is_from_it(self, remote: str | None) -> bool:
        try:
            address = ipaddress.ip_address(remote or "")
        except ValueError:
            return False
        return any(address in network for network in self.networks)

    def check(self, request: web.Request) -> None:
        """Raise ForbiddenError for a change that another site has a browser make."""
        _refuse_foreign(request, self.origin)


class Sessions:
    """The browsers that have logged in at the issuer."""

    def __init__(self, store: AccessStore, login: BrowserLogin) -> None:
        """Keep sessions in *store*."""
        self._store = store
        self._login = login
        self._issuer = Issuer(login)
        self._is_secure = login.origin.startswith("https:")
        prefix = "__Host-" if self._is_secure else ""
        self._cookie, self._login_cookie = f"{prefix}plue-session", f"{prefix}plue-login"

    async def caller(self, request: web.Request) -> Caller | None:
        """Return whose session the request carries. Raises ForbiddenError for a forged change."""
        cookie = request.cookies.get(self._cookie)
        session = await self._store.session(cookie) if cookie else None
        if session is None:
            return None
        request[_SESSION] = session
        if request.method not in _SAFE:
            _refuse_foreign(request, self._login.origin)
            await self._refuse_forged(request, session)
        return Caller(
            name=session.who, how="session", groups=(*session.groups, "system:authenticated")
        )

    @staticmethod
    async def _refuse_forged(request: web.Request, session: Session) -> None:
        given = request.headers.get(CSRF_HEADER)
        if given is None and request.content_type == FORM:
            if (request.content_length or 0) > _MOST_FORM:
                raise ForbiddenError("the form is too large")
            given = str((await request.post()).get("csrf", ""))
        if not secrets.compare_digest(
            (given or "").encode("utf-8", "replace"), session.csrf.encode()
        ):
            raise ForbiddenError(
                "the request does not carry the session's CSRF token",
                field=CSRF_HEADER,
                remedy=f"send `csrf` of GET /api/v1/session as the header {CSRF_HEADER}",
            )

    @staticmethod
    def form_token(request: web.Request) -> str:
        """Return the CSRF token of the request's session; empty without one."""
        session: Session | None = request.get(_SESSION)
        return "" if session is None else session.csrf

    def sends_to_login(self, request: web.Request) -> web.HTTPFound | None:
        """Return where a person's browser is led that has no session; None for programs."""
        if request.method != "GET" or "text/html" not in request.headers.get("Accept", ""):
            return None
        return web.HTTPFound(f"/login?return_to={quote(safe_path(request.path_qs), safe='')}")

    # ── the way in and out ───────────────────────────────────────────────────────────────────────

    async def login_page(self, call: Call[LoginQuery, Nothing]) -> web.Response:
        """Show where to log in."""
        way = f"/login/start?return_to={quote(safe_path(call.query.return_to), safe='')}"
        text = f'<p><a class="b" href="{html.escape(way)}">Log in</a></p>'
        text += f"<p>at {html.escape(self._login.issuer)}</p>"
        return page("Plue", text)

    async def login_start(self, call: Call[LoginQuery, Nothing]) -> web.Response:
        """Send a browser to the issuer, with a cookie that only it has."""
        login, address = await self._issuer.begin(call.query.return_to)
        cookie = secrets.token_urlsafe(32)
        await self._store.begin_login(cookie, login)
        response = web.Response(status=303, headers={"Location": address})
        # Lax and not Strict: the issuer sends the browser back, and that comes from its site.
        self._set(response, self._login_cookie, cookie, 600)
        return response

    async def login_callback(self, call: Call[CallbackQuery, Nothing]) -> web.Response:
        """Begin the session of a browser that comes back from the issuer."""
        query, cookie = call.query, call.request.cookies.get(self._login_cookie)
        login = await self._store.take_login(cookie) if cookie else None
        if login is None or not secrets.compare_digest(
            (query.state or "").encode("utf-8", "replace"), login.state.encode()
        ):
            raise ForbiddenError(
                "this login was not begun in this browser, or took too long", remedy="begin again"
            )
        if query.error is not None or query.code is None:
            raise ForbiddenError(f"the issuer refused the login: {query.error or 'no code'}")
        who, groups = await self._issuer.finish(login, query.code)
        lasts = timedelta(hours=self._login.lasts_hours)
        session = await self._store.begin_session(who, groups, lasts=lasts)
        entry = await self._store.begin_audit(
            who=who,
            how="session",
            address=call.request.remote or "?",
            action="login",
            target=self._login.issuer,
        )
        await self._store.finish_audit(
            entry, status=303, namespace=None, target=self._login.issuer, details={}
        )
        response = web.Response(status=303, headers={"Location": login.return_to})
        self._set(response, self._cookie, session, int(lasts.total_seconds()))
        self._set(response, self._login_cookie, "", 0)
        return response

    async def logout_page(self, call: Call[Nothing, Nothing]) -> web.Response:
        """Ask whether to log out: a link alone must not do it."""
        session = self._of(call.request)
        text = f"<p>You are {html.escape(session.who)}.</p>"
        text += f'<form method="post"><input type="hidden" name="csrf" value="{session.csrf}">'
        return page("Log out", text + '<button class="b">Log out</button></form>')

    async def logout(self, call: Call[Nothing, Nothing]) -> web.Response:
        """End the session; that at the issuer goes on."""
        self._of(call.request)
        await self._store.end_session(call.request.cookies[self._cookie])
        response = web.Response(status=303, headers={"Location": "/login"})
        self._set(response, self._cookie, "", 0)
        return response

    async def get_session(self, call: Call[Nothing, Nothing]) -> Outcome:
        """Say who is logged in, and what changes must carry."""
        session = self._of(call.request)
        return SessionBody(
            user=caller_of(call.request).name,
            groups=list(session.groups),
            expires_at=session.expires_at,
            csrf=session.csrf,
        )

    @staticmethod
    def _of(request: web.Request) -> Session:
        session: Session | None = request.get(_SESSION)
        if session is None:
            raise UnauthenticatedError(
                "there is no session: the request carries a token", remedy="log in with a browser"
            )
        return session

    def _set(self, response: web.Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="Lax",
        )

    def routes(self) -> tuple[Route[Any, Any], ...]:
        """Return the routes of logging in and out."""
        page: dict[str, Any] = {"body": Nothing, "produces": {"text/html": None}}
        return (
            Route(
                method="GET",
                path="/login",
                handler=self.login_page,
                summary="Show where to log in",
                query=LoginQuery,
                public=True,
                **page,
            ),
            Route(
                method="GET",
                path="/login/start",
                handler=self.login_start,
                summary="Send a browser to the issuer",
                query=LoginQuery,
                status=303,
                errors=(503,),
                public=True,
                **page,
            ),
            Route(
                method="GET",
                path="/login/callback",
                handler=self.login_callback,
                summary="Begin the session of a browser that comes back from the issuer",
                query=CallbackQuery,
                status=303,
                errors=(503,),
                public=True,
                **page,
            ),
            Route(
                method="GET",
                path="/logout",
                handler=self.logout_page,
                summary="Show a button that logs out",
                query=Nothing,
                **page,
            ),
            Route(
                method="POST",
                path="/logout",
                handler=self.logout,
                summary="End the session",
                query=Nothing,
                status=303,
                uploads=FORM,
                audited="logout",
                **page,
            ),
            Route(
                method="GET",
                path="/api/v1/session",
                handler=self.get_session,
                summary="Say who is logged in, and the CSRF token that changes must carry",
                query=Nothing,
                body=Nothing,
                produces={JSON: SessionBody},
            ),
        )


def _refuse_foreign(request: web.Request, origin: str) -> None:
    """Raise ForbiddenError for a request that changes something and comes from another site."""
    if request.method in _SAFE:
        return
    foreign = any(one.lower() != origin for one in request.headers.getall("Origin", []))
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if foreign or site not in {"same-origin", "none"}:
        raise ForbiddenError("requests from other sites are refused", field="Origin")

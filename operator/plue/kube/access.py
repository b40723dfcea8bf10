"""Who may call the API in a cluster, by what they bring, and what each of them may do.

A bearer is a machine token of ours, or a token of the cluster that TokenReview knows; without one,
a browser's session or the header of a trusted proxy says who it is. All but machine tokens, which
carry their scope, are asked about by SubjectAccessReview.
"""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from plue.api.auditing import audit_routes
from plue.api.callers import Caller, Resource, Verb
from plue.api.problems import UnauthenticatedError
from plue.api.routes import Route
from plue.api.sessions import Sessions, TrustedProxy
from plue.api.tokens import token_caller, token_may, token_routes
from plue.kube.client import ApiClient
from plue.kube.reviews import API_AUDIENCE, Reviews
from plue.store.access import TOKEN_PREFIX, AccessStore

__all__ = ["PROXIED", "ClusterAccess"]

PROXIED = "X-Plue-Authorization"
"""Who comes through the API server's proxy says it here: it takes Authorization for itself."""


class ClusterAccess:
    """Recognises callers, and asks for each right."""

    def __init__(
        self,
        api: ApiClient,
        store: AccessStore,
        *,
        sessions: Sessions | None = None,
        proxy: TrustedProxy | None = None,
    ) -> None:
        """Review at *api*; tokens are in *store*."""
        self._reviews = Reviews(api)
        self._store = store
        self._sessions = sessions
        self._proxy = proxy

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the routes of tokens and audit, and of logging in where browsers can."""
        browsers = () if self._sessions is None else self._sessions.routes()
        return (*token_routes(self._store), *audit_routes(self._store), *browsers)

    async def check(self, request: web.Request, *, public: bool) -> Caller | None:
        """Return who calls. Raises UnauthenticatedError, ForbiddenError for a forged change."""
        if public:
            return None
        header = request.headers.get(PROXIED) or request.headers.get("Authorization")
        if header is not None:
            return await self._bearer(header)
        if self._proxy is not None and (caller := self._proxy.caller(request)) is not None:
            self._proxy.check(request)
            return caller
        if self._sessions is not None:
            caller = await self._sessions.caller(request)
            if caller is not None:
                return caller
            if (way := self._sessions.sends_to_login(request)) is not None:
                raise way
        raise _unauthenticated("the request carries no token")

    async def _bearer(self, header: str) -> Caller:
        scheme, _, token = header.partition(" ")
        token = token.strip()
        # No token of anybody has other characters, and they could be neither kept nor sent on.
        if scheme.lower() != "bearer" or not token or not token.isascii():
            raise _unauthenticated("the request carries no token")
        if token.startswith(TOKEN_PREFIX):
            caller = await token_caller(self._store, token)
            if caller is None:
                raise _unauthenticated("the machine token is unknown, expired or revoked")
            return caller
        caller = await self._reviews.caller(token)
        if caller is None:
            raise _unauthenticated("the token is not valid for this API")
        return caller

    def form_token(self, request: web.Request) -> str:
        """Return the session's CSRF token; where there is none, nobody else can send forms."""
        return "" if self._sessions is None else self._sessions.form_token(request)

    async def may(
        self, caller: Caller, verb: Verb, resource: Resource, namespace: str | None
    ) -> bool:
        """Return whether *caller* has the right in *namespace*; None: in all."""
        if caller.scope is not None:
            return token_may(caller.scope, verb, resource, namespace)
        return await self._reviews.may(caller, verb, resource, namespace)

    async def may_measure(self, caller: Caller) -> bool:
        """Return whether *caller* may get /metrics, as Prometheus's role says it."""
        return caller.scope is None and await self._reviews.may_get(caller, "/metrics")


def _unauthenticated(message: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        message,
        remedy=f"send `Authorization: Bearer TOKEN`; `kubectl create token --audience"
        f" {API_AUDIENCE}` makes one",
    )

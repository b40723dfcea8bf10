"""Who may call the API in a cluster: the caller's token is reviewed, and so is what it may do."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from plue.api.callers import Caller, Resource, Verb
from plue.api.problems import UnauthenticatedError
from plue.api.routes import Route
from plue.kube.client import ApiClient
from plue.kube.reviews import API_AUDIENCE, Reviews

__all__ = ["ClusterAccess"]

PROXIED = "X-Plue-Authorization"
"""Who comes through the API server's proxy says it here: it takes Authorization for itself."""


class ClusterAccess:
    """Lets callers in by TokenReview, and asks for each right by SubjectAccessReview."""

    def __init__(self, api: ApiClient) -> None:
        """Review at *api*."""
        self._reviews = Reviews(api)

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return none: a cluster's callers bring their tokens."""
        return ()

    async def check(self, request: web.Request, *, public: bool) -> Caller | None:
        """Return who calls. Raises UnauthenticatedError."""
        if public:
            return None
        header = request.headers.get(PROXIED) or request.headers.get("Authorization") or ""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthenticated("the request carries no token")
        caller = await self._reviews.caller(token.strip())
        if caller is None:
            raise _unauthenticated("the token is not valid for this API")
        return caller

    async def may(
        self, caller: Caller, verb: Verb, resource: Resource, namespace: str | None
    ) -> bool:
        """Return whether *caller* has the right in *namespace*; None: in all."""
        return await self._reviews.may(caller, verb, resource, namespace)

    async def may_measure(self, caller: Caller) -> bool:
        """Return whether *caller* may get /metrics, as Prometheus's role says it."""
        return await self._reviews.may_get(caller, "/metrics")


def _unauthenticated(message: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        message,
        remedy=f"send `Authorization: Bearer TOKEN`; `kubectl create token --audience"
        f" {API_AUDIENCE}` makes one",
    )

"""Who may call the API in a cluster: the caller's token is reviewed, and so is what it may do.

A caller needs the right to the verb on WorkflowRuns in all namespaces, because a run's row does
not say yet which namespace it belongs to; a right in one namespace alone is not enough.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from plue.api.problems import ForbiddenError, UnauthenticatedError
from plue.api.routes import Route
from plue.kube.client import ApiClient, Place
from plue.resources.crds import GROUP

__all__ = ["API_AUDIENCE", "ClusterAccess"]

API_AUDIENCE = "plue-api"

_TOKEN_REVIEWS = Place("authentication.k8s.io/v1", "tokenreviews")
_ACCESS_REVIEWS = Place("authorization.k8s.io/v1", "subjectaccessreviews")

_MAKES_RUNS = ("/runs", "/rerun")
"""A run without its resource would escape the pool's allowed namespaces."""

_REMEMBERED_FOR = 10.0
_REMEMBERED = 1000


class ClusterAccess:
    """Lets callers in by TokenReview and SubjectAccessReview."""

    def __init__(self, api: ApiClient) -> None:
        """Review at *api*; an answer is remembered for some seconds."""
        self._api = api
        self._allowed: OrderedDict[tuple[str, str], float] = OrderedDict()

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return none: a cluster's callers bring their tokens."""
        return ()

    async def check(self, request: web.Request, *, public: bool) -> None:
        """Raise UnauthenticatedError or ForbiddenError unless the caller may do this."""
        if public:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthenticated("the request carries no token")
        asked = (token.strip(), _verb(request))
        if request.method == "POST" and request.path.endswith(_MAKES_RUNS):
            raise ForbiddenError(
                "in a cluster this version makes runs of WorkflowRuns only",
                remedy="apply a WorkflowRun; `kubectl explain wfr.spec` says how",
            )
        if self._allowed.get(asked, 0.0) < time.monotonic():
            await self._review(*asked)
            self._allowed[asked] = time.monotonic() + _REMEMBERED_FOR
            while len(self._allowed) > _REMEMBERED:
                self._allowed.popitem(last=False)

    async def _review(self, token: str, verb: str) -> None:
        review = await self._api.create(
            _TOKEN_REVIEWS,
            None,
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": [API_AUDIENCE]},
            },
        )
        said = review.get("status") or {}
        if not said.get("authenticated") or API_AUDIENCE not in (said.get("audiences") or ()):
            raise _unauthenticated("the token is not valid for this API")
        user = said["user"]
        answer = await self._api.create(
            _ACCESS_REVIEWS,
            None,
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": user.get("username"),
                    "groups": user.get("groups") or [],
                    "extra": user.get("extra") or {},
                    "resourceAttributes": {
                        "group": GROUP,
                        "resource": "workflowruns",
                        "verb": verb,
                    },
                },
            },
        )
        if not (answer.get("status") or {}).get("allowed"):
            raise ForbiddenError(
                f"{user.get('username')} may not {verb} workflowruns in all namespaces",
                remedy=f"a ClusterRole with {verb} on workflowruns.{GROUP} allows it",
            )


def _verb(request: web.Request) -> str:
    """Return what the request does to runs, in the words of Kubernetes."""
    return "get" if request.method in {"GET", "HEAD"} else "create"


def _unauthenticated(message: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        message,
        remedy=f"send `Authorization: Bearer TOKEN`; `kubectl create token --audience"
        f" {API_AUDIENCE}` makes one",
    )

"""A small client of the Kubernetes API: the few verbs that the passes need.

The official client costs seconds of import and tens of megabytes; ours is one connection pool,
and errors split by who must act. Every answer is plain JSON.
"""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from plue.errors import (
    ConflictError,
    GoneError,
    NotFoundError,
    PlueError,
    RejectedError,
    UnavailableError,
)
from plue.kube.login import Login
from plue.metrics import Metrics

__all__ = ["CORE", "ApiClient", "Json", "Place"]

Json = dict[str, Any]

_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_PAGE = 500

CORE = "v1"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MERGE = "application/merge-patch+json"

_REJECTIONS: dict[int, type[PlueError]] = {
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.GONE: GoneError,
}
_UPWARDS = frozenset({".", ".."})
_DENIALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class Place:
    """Where objects of one kind are: ``Place("plue.dev/v1alpha1", "workflowruns")``."""

    def __init__(self, api_version: str, plural: str) -> None:
        """Name a kind by its API version and its plural."""
        self.api_version = api_version
        self.plural = plural
        self._root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"

    def path(self, namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
        """Return the path of a collection, an object or one of its subresources.

        Raises RejectedError for names that would lead elsewhere.
        """
        if _UPWARDS & {namespace, name}:
            raise RejectedError(f"{namespace}/{name} is no name of an object")
        path = self._root
        if namespace is not None:
            path += f"/namespaces/{quote(namespace, safe='')}"
        path += f"/{self.plural}"
        if name is not None:
            path += f"/{quote(name, safe='')}"
        return f"{path}/{sub}" if sub else path


class ApiClient:
    """Speaks to one API server; close it, or use it as a context."""

    def __init__(self, login: Login, *, agent: str = "plue") -> None:
        """Use *login*. Needs a running loop."""
        self._server = login.server
        self._metrics: Metrics | None = None
        self._http = login.session(agent=agent, timeout=_TIMEOUT)

    def count_in(self, metrics: Metrics) -> None:
        """Count requests in *metrics* from here on."""
        self._metrics = metrics

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def get(self, place: Place, namespace: str | None, name: str) -> Json:
        """Return one object. Raises NotFoundError, UnavailableError."""
        return await self._ask("GET", place, place.path(namespace, name))

    async def document(self, path: str) -> Json:
        """Return what the server says of itself at *path*: its version, its schemas."""
        return await self._ask("GET", Place("v1", "documents"), path)

    async def pages(
        self,
        place: Place,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        limit: int = _PAGE,
        metadata_only: bool = False,
    ) -> AsyncIterator[Json]:
        """Yield the pages of a list, each with ``items``: never all objects at once.

        *metadata_only* leaves specs and statuses with the server.

        Raises GoneError when the list grew too old between two pages: begin again.
        """
        query = {"limit": str(limit)}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        while True:
            page = await self._ask(
                "GET",
                place,
                place.path(namespace),
                query=query,
                accept=_METADATA if metadata_only else "application/json",
            )
            page["items"] = page.get("items") or []  # null when there are none, in some forms
            yield page
            if not (token := page["metadata"].get("continue")):
                return
            query["continue"] = token

    async def create(self, place: Place, namespace: str | None, body: Json, **query: str) -> Json:
        """Create an object. Raises ConflictError when it is there, RejectedError, Unavailable."""
        path = place.path(namespace)
        return await self._ask("POST", place, path, body=body, query=query)

    async def create_sub(
        self, place: Place, namespace: str, name: str, sub: str, body: Json
    ) -> Json:
        """Create a subresource, such as a pod's eviction."""
        return await self._ask("POST", place, place.path(namespace, name, sub), body=body)

    async def patch(
        self, place: Place, namespace: str | None, name: str, body: Json, *, sub: str = ""
    ) -> Json:
        """Merge *body* into an object; with a resourceVersion in it, only into that version.

        Raises NotFoundError, ConflictError for another version, RejectedError, UnavailableError.
        """
        path = place.path(namespace, name, sub)
        return await self._ask("PATCH", place, path, body=body, content=_MERGE)

    async def replace(self, place: Place, namespace: str | None, name: str, body: Json) -> Json:
        """Replace an object; its resourceVersion must be in *body* to be a precondition."""
        return await self._ask("PUT", place, place.path(namespace, name), body=body)

    async def delete(
        self,
        place: Place,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        grace: int | None = None,
    ) -> None:
        """Delete an object, only the one with *uid* if given; that it is gone is no error."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self._ask("DELETE", place, place.path(namespace, name), body=options)
        except NotFoundError:
            return

    async def _ask(
        self,
        verb: str,
        place: Place,
        path: str,
        *,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Json:
        if self._metrics is not None:
            self._metrics.kube_requests.labels(verb, place.plural).inc()
        headers = {"Accept": accept} | ({"Content-Type": content} if body is not None else {})
        try:
            async with self._http.request(
                verb, f"{self._server}{path}", json=body, params=query or {}, headers=headers
            ) as answer:
                text = await answer.text()
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise _error(answer.status, text, answer.headers.get("Retry-After"))
                said: Json = json.loads(text)
                return said
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(
                f"the Kubernetes API did not answer {verb} {path}: {_short(error)}"
            ) from error


def _error(status: int, text: str, retry_after: str | None) -> PlueError:
    body = _said(text)
    message = str(body.get("message") or f"the Kubernetes API answered {status}")
    details: Json = {"status": status, "reason": body.get("reason"), **(body.get("details") or {})}
    kind = _REJECTIONS.get(status)
    if kind is not None:
        return kind(message, details=details)
    if status in _DENIALS and not _is_quota(message):
        # Somebody else has to give the right back; what we wanted stays wanted.
        return UnavailableError(message, retry_in=timedelta(seconds=10))
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(message, retry_in=_retry_in(retry_after))
    return RejectedError(message, details=details)


def _said(text: str) -> Json:
    """Return a Status as JSON; a kind that is not served, and a proxy, answer with mere text."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"message": text.strip()[:300]}


def _is_quota(message: str) -> bool:
    """Return whether a 403 is the answer of an admission plugin and not of authorisation."""
    return "exceeded quota" in message or "violates PodSecurity" in message


def _retry_in(retry_after: str | None) -> timedelta:
    return timedelta(seconds=int(retry_after) if retry_after and retry_after.isdigit() else 1)


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:300]

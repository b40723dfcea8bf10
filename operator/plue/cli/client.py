"""The CLI's side of the users' API: requests, errors in our own words, and a stream that resumes.

The server may be restarted while a stream is read: its address is looked up again then, and
reading goes on after the last event that arrived whole.
"""

import json
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2

from plue.errors import (
    ConflictError,
    GoneError,
    InternalError,
    NotFoundError,
    PlueError,
    RejectedError,
    UnavailableError,
)

__all__ = ["Address", "Api", "StreamedEvent"]

_V1 = "/api/v1"
_TIMES = httpx2.Timeout(60.0, connect=5.0)
_UPLOAD_TIMES = httpx2.Timeout(300.0, connect=10.0)
# The server sends an empty line at least every 15 s.
_STREAM_TIMES = httpx2.Timeout(60.0, connect=5.0, read=45.0)
_RESUME_WITHIN = 60.0
_RESUME_PAUSES = (0.05, 0.2, 0.5, 1.0)

_KINDS: Mapping[int, type[PlueError]] = {
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    503: UnavailableError,
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and what lets us in: the token, or the headers where there are some."""

    url: str
    token: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """One event as it came, and as the JSON object that it is."""

    line: str
    json: Mapping[str, Any]


class Api:
    """A server's API, found by *locate*, which is asked again when the server does not answer."""

    def __init__(
        self,
        locate: Callable[[], Address | None],
        *,
        verify: ssl.SSLContext | None = None,
        away: str = "see `plue doctor`",
    ) -> None:
        """Use the server that *locate* finds; *away* is the remedy when it does not answer."""
        self._locate = locate
        self._away = away
        self._client = httpx2.Client(
            timeout=_TIMES, trust_env=False, verify=True if verify is None else verify
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON at *path* below /api/v1. Raises PlueError as the server words it."""
        return self._request("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send *body* to *path* below /api/v1; return the JSON that is answered."""
        return self._request("POST", path, body=body or {})

    def delete(self, path: str) -> Any:
        """Delete what is at *path* below /api/v1; return the JSON that is answered."""
        return self._request("DELETE", path)

    def upload(self, path: str, parts: Iterable[bytes], **query: object) -> Any:
        """Send *parts* as one body to *path* below /api/v1; return the JSON that is answered."""
        address = self._address()
        headers = {**_headers(address), "Content-Type": "application/octet-stream"}
        with _translated(address, self._away):
            response = self._client.post(
                f"{address.url}{_V1}{path}",
                params=_given(query),
                content=parts,
                headers=headers,
                timeout=_UPLOAD_TIMES,
            )
        if response.is_error:
            raise _problem(response)
        return response.json()

    def page(self, path: str) -> str:
        """Return the address of the server's page at *path*, for a browser."""
        return f"{self._address().url}{path}"

    def text(self, path: str, **query: object) -> Iterator[str]:
        """Yield the text at *path* as it comes."""
        address = self._address()
        with (
            _translated(address, self._away),
            self._client.stream(
                "GET",
                f"{address.url}{_V1}{path}",
                params=_given(query),
                headers=_headers(address),
                timeout=_STREAM_TIMES,
            ) as response,
        ):
            if response.is_error:
                response.read()
                raise _problem(response)
            yield from response.iter_text()

    def events(self, run: str, *, after: int = 0) -> Iterator[StreamedEvent]:
        """Yield the run's events above *after*, each once, up to its end, across broken streams.

        Raises UnavailableError when the server stays away, GoneError when the log was dropped.
        """
        away_since: float | None = None
        tries = 0
        while True:
            try:
                for event in self._stream(run, after):
                    away_since, tries, after = None, 0, event.json["n"]
                    yield event
                    if event.json["type"] == "run_completed":
                        return
            except UnavailableError:
                now = time.monotonic()
                away_since = away_since or now
                if now - away_since > _RESUME_WITHIN:
                    raise
            time.sleep(_RESUME_PAUSES[min(tries, len(_RESUME_PAUSES) - 1)])
            tries += 1

    def _stream(self, run: str, after: int) -> Iterator[StreamedEvent]:
        """Yield what one connection brings; its end without the run's end means: connect again."""
        address = self._address()
        headers = {**_headers(address), "Accept": "application/x-ndjson"}
        if after:
            headers["Last-Event-ID"] = str(after)
        url = f"{address.url}{_V1}/runs/{run}/events"
        with (
            _translated(address, self._away),
            self._client.stream("GET", url, headers=headers, timeout=_STREAM_TIMES) as response,
        ):
            if response.is_error:
                response.read()
                raise _problem(response)
            for line in response.iter_lines():
                event = _event(line)
                # A cut stream may end inside a line, and a repeated event is none.
                if event is not None and event["n"] > after:
                    after = event["n"]
                    yield StreamedEvent(line, event)

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Any:
        address = self._address()
        with _translated(address, self._away):
            response = self._client.request(
                method,
                f"{address.url}{_V1}{path}",
                params=_given(query or {}),
                json=body,
                headers=_headers(address),
            )
        if response.is_error:
            raise _problem(response)
        return response.json()

    def _address(self) -> Address:
        address = self._locate()
        if address is None:
            raise UnavailableError("the server has ended", remedy="start one with `plue up`")
        return address


class _translated:  # noqa: N801 - reads as a function
    """Turn the client library's errors into ours."""

    def __init__(self, address: Address, away: str) -> None:
        self._address = address
        self._away = away

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx2.TransportError):
            raise UnavailableError(
                f"the server at {self._address.url} does not answer"
                f" ({str(error) or type(error).__name__})",
                retry_in=timedelta(seconds=1),
                remedy=self._away,
            ) from error


def _headers(address: Address) -> dict[str, str]:
    return dict(address.headers) or {"Authorization": f"Bearer {address.token}"}


def _given(query: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _problem(response: httpx2.Response) -> PlueError:
    """Return the error that a problem document describes."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    if problem.get("kind") == "Status":
        return _on_the_way(response.status_code, problem)
    message = problem.get("detail") or f"the server answered {response.status_code}"
    kind = _KINDS.get(response.status_code)
    if kind is UnavailableError:
        return UnavailableError(message, remedy=problem.get("remedy"))
    if kind is None:
        kind = RejectedError if response.status_code < 500 else InternalError  # noqa: PLR2004 - HTTP
    return kind(
        message,
        field=problem.get("field"),
        remedy=problem.get("remedy"),
        details={"diagnostics": problem.get("diagnostics") or []},
    )


def _on_the_way(status: int, said: Mapping[str, Any]) -> PlueError:
    """Return the error of a Kubernetes API server that did not let a request through to ours."""
    message = str(said.get("message") or f"the API server answered {status}")
    if status == 404:  # noqa: PLR2004 - HTTP
        return NotFoundError(
            f"Plue's API is not found in the cluster: {message}",
            remedy="name its Service with --api-service NAMESPACE/NAME;"
            " `kubectl get services -A -l app.kubernetes.io/component=api` finds it",
        )
    if status == 403:  # noqa: PLR2004 - HTTP
        return RejectedError(
            f"the cluster does not let you through to Plue's API: {message}",
            remedy="ask for the role plue-connect: get and create on services/proxy of the API",
        )
    if status == 503:  # noqa: PLR2004 - HTTP
        return UnavailableError(
            f"no pod of Plue's API is ready: {message}",
            remedy="see `kubectl get pods -A -l app.kubernetes.io/component=api`",
        )
    return RejectedError(message)

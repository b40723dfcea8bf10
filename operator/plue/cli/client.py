"""The CLI's side of the users' API: requests, errors in our own words, and a stream that resumes.

The server may be restarted while a stream is read: its address is looked up again then, and
reading goes on after the last event that arrived whole.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
    """Where a server is, and what lets us in."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """One event as it came, and as the JSON object that it is."""

    line: str
    json: Mapping[str, Any]


class Api:
    """A server's API, found by *locate*, which is asked again when the server does not answer."""

    def __init__(self, locate: Callable[[], Address | None]) -> None:
        """Use the server that *locate* finds."""
        self._locate = locate
        self._client = httpx2.Client(timeout=_TIMES, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON at *path* below /api/v1. Raises PlueError as the server words it."""
        return self._request("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send *body* to *path* below /api/v1; return the JSON that is answered."""
        return self._request("POST", path, body=body or {})

    def text(self, path: str, **query: object) -> Iterator[str]:
        """Yield the text at *path* as it comes."""
        address = self._address()
        with (
            _translated(address),
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
            _translated(address),
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
        with _translated(address):
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

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx2.TransportError):
            raise UnavailableError(
                f"the server at {self._address.url} does not answer"
                f" ({str(error) or type(error).__name__})",
                retry_in=timedelta(seconds=1),
                remedy="see `plue doctor`",
            ) from error


def _headers(address: Address) -> dict[str, str]:
    return {"Authorization": f"Bearer {address.token}"}


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

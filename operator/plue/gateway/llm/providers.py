"""Who answers for models. One protocol; another provider is one more class here.

A provider takes an admitted body and gives the answer's status, headers and bytes as they come. It
alone knows keys. They are read when they are needed, so that a rotated Secret counts at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiohttp import ClientConnectionError, ClientError, ClientSession, ClientTimeout

from plue.errors import UnavailableError

__all__ = ["AnthropicProvider", "Credentials", "Provider", "Upstream", "credentials_from"]

API = "https://api.anthropic.com"
VERSION = "2026-10-21"
BEARER_BETA = "oauth-2025-04-20"
"""Without it the API takes keys only."""
SILENCE_SECONDS = 300.0
"""A stream that sends nothing for so long, not even a ping, is broken."""

_PASSED_ON = ("content-type", "retry-after", "retry-after-ms", "request-id", "x-should-retry")

Credentials = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the headers that prove who calls. Raises UnavailableError when there are none."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """An answer on its way; reading ``chunks`` raises ConnectionError when it is cut."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Provider(Protocol):
    """Makes calls for admitted bodies."""

    def call(self, body: bytes) -> contextlib.AbstractAsyncContextManager[Upstream]:
        """Make a call; leaving the context aborts it. Raises UnavailableError."""


class AnthropicProvider:
    """The Messages API, or a server that speaks it."""

    def __init__(self, http: ClientSession, credentials: Credentials, base_url: str = API) -> None:
        """Call *base_url* with what *credentials* give."""
        self._http = http
        self._credentials = credentials
        self._url = f"{base_url.rstrip('/')}/v1/messages"

    @asynccontextmanager
    async def call(self, body: bytes) -> AsyncIterator[Upstream]:
        """Make a call."""
        headers = {
            "content-type": "application/json",
            "anthropic-version": VERSION,
            **await self._credentials(),
        }
        timeout = ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
        try:
            answer = await self._http.post(
                self._url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            )
        except ClientConnectionError as error:
            raise UnavailableError(
                f"the model provider cannot be reached: {error}",
                remedy="check its address and the gateway's network",
            ) from error
        # Not within the `try`: what fails while the answer is passed on is not the provider's.
        async with answer:
            passed = {k: answer.headers[k] for k in _PASSED_ON if k in answer.headers}
            yield Upstream(answer.status, passed, _chunks(answer.content.iter_any()))


async def _chunks(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in content:
            yield chunk
    except (ClientError, TimeoutError) as error:
        raise ConnectionResetError(f"the answer was cut: {error}") from error


def credentials_from(
    environment: Mapping[str, str], base_url: str = API, parts: AsyncExitStack | None = None
) -> Credentials | None:
    """Return credentials as the environment has them; None when it has none.

    What they need is closed with *parts*.

    ``ANTHROPIC_API_KEY``, or a file that holds the key (``PLUE_ANTHROPIC_KEY_FILE``, a mounted
    Secret), or a projected token that is exchanged (``ANTHROPIC_IDENTITY_TOKEN_FILE`` with
    ``ANTHROPIC_FEDERATION_RULE_ID`` and ``ANTHROPIC_ORGANIZATION_ID``).
    """
    if file := environment.get("PLUE_ANTHROPIC_KEY_FILE"):
        return _key_file(Path(file))
    if key := environment.get("ANTHROPIC_API_KEY"):
        return _key(key)
    if "ANTHROPIC_IDENTITY_TOKEN_FILE" in environment:
        federation = _Federation(base_url)
        if parts is not None:
            parts.callback(federation.close)
        return federation
    return None


def _key(key: str) -> Credentials:
    async def headers() -> Mapping[str, str]:
        return {"x-api-key": key}

    return headers


def _key_file(path: Path) -> Credentials:
    async def headers() -> Mapping[str, str]:
        try:
            return {"x-api-key": (await asyncio.to_thread(path.read_text, "utf-8")).strip()}
        except OSError as error:
            raise UnavailableError(f"the key file cannot be read: {error}") from error

    return headers


class _Federation:
    """Exchanges the process's own token for short-lived ones, by the provider's own library."""

    def __init__(self, base_url: str) -> None:
        """Exchange at *base_url*, when a call is made."""
        self._base_url = base_url
        self._parts = ExitStack()
        self._headers: Callable[[], Mapping[str, str]] | None = None

    async def __call__(self) -> Mapping[str, str]:
        # The library keeps the token and exchanges it anew in time; it blocks while it does.
        try:
            return await asyncio.to_thread(self._exchanged)
        except UnavailableError:
            raise
        except Exception as error:
            raise UnavailableError(f"the identity token cannot be used: {error}") from error

    def close(self) -> None:
        """Close the library's connections."""
        self._parts.close()

    def _exchanged(self) -> Mapping[str, str]:
        if self._headers is None:
            self._headers = self._opened()
        return self._headers()

    def _opened(self) -> Callable[[], Mapping[str, str]]:
        # Imported late: it costs seconds, and only this way of proving who calls needs it.
        from anthropic.lib.credentials import TokenCache, default_credentials

        found = default_credentials(base_url=self._base_url)
        if found is None:
            raise UnavailableError(
                "the identity token needs ANTHROPIC_FEDERATION_RULE_ID and"
                " ANTHROPIC_ORGANIZATION_ID"
            )
        if (close := getattr(found.provider, "close", None)) is not None:
            self._parts.callback(close)
        tokens, more = TokenCache(found.provider), dict(found.extra_headers)

        def headers() -> Mapping[str, str]:
            bearer = {"authorization": f"Bearer {tokens.get_token()}"}
            return {**more, **bearer, "anthropic-beta": BEARER_BETA}

        return headers

"""Where the gateway is and how to say who we are: addresses, headers, archives to and fro."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from pydantic import ValidationError
from yarl import URL

from plue.errors import NotFoundError, RejectedError, UnavailableError
from plue.wire.caches import FOUND_HEADER, CacheFound, CacheQuery

__all__ = ["Gateway"]

_CHUNK = 256 * 1024
_PATIENCE = ClientTimeout(total=None, sock_connect=5, sock_read=30)


class Gateway:
    """The gateway's address, which may change between two connections, and our credentials."""

    def __init__(
        self, *, url: str | None, file: Path | None, runner: str, token: str, http: ClientSession
    ) -> None:
        """Use *file*'s content when it can be read, else *url*."""
        self._url = url
        self._file = file
        self._http = http
        self._runner = runner
        self.token = token
        """What proves who we are; a session may bring another."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say who we are."""
        return {"Authorization": f"Bearer {self.token}", "X-Plue-Runner": self._runner}

    def base(self) -> str:
        """Return the base URL as it is now. Raises UnavailableError when nobody says it yet."""
        url = self._url or ""
        if self._file is not None:
            try:
                url = self._file.read_text().strip() or url
            except OSError as error:
                if not url:
                    raise UnavailableError(f"{self._file} cannot be read") from error
        if not url:
            raise UnavailableError("the gateway's address is not known")
        return url.rstrip("/")

    @asynccontextmanager
    async def download(self, blob: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a blob. Raises NotFoundError, UnavailableError."""
        address = f"{self.base()}/runner/v1/blobs/{blob}"
        async with self._asking("GET", address) as answer:
            if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                raise NotFoundError(f"there is no blob {blob}")
            if answer.status != HTTPStatus.OK:
                raise UnavailableError(f"the gateway answered {answer.status}")
            yield answer.content.iter_chunked(_CHUNK)

    @asynccontextmanager
    async def restore_cache(
        self, query: CacheQuery
    ) -> AsyncIterator[tuple[CacheFound, AsyncIterator[bytes]]]:
        """Open the cache that fits *query*. Raises NotFoundError, UnavailableError."""
        address = f"{self.base()}/runner/v1/caches/restore"
        async with self._asking("POST", address, data=query.model_dump_json()) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                raise NotFoundError(f"there is no cache {query.key}")
            if answer.status != HTTPStatus.OK:
                raise UnavailableError(f"the gateway answered {answer.status}")
            try:
                found = CacheFound.model_validate_json(answer.headers.get(FOUND_HEADER, ""))
            except ValidationError as error:
                raise UnavailableError("the gateway does not say what it found") from error
            yield found, answer.content.iter_chunked(_CHUNK)

    async def save_cache(self, version: str, key: str, archive: Path) -> bool:
        """Keep *archive* under *key*; False when there is one already. Raises PlueError."""
        address = URL(f"{self.base()}/runner/v1/caches").with_query(version=version, key=key)
        with archive.open("rb") as file:
            async with self._asking("POST", address, data=file) as answer:
                if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    raise RejectedError("it is too large for this server")
                if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
                    raise UnavailableError(f"the gateway answered {answer.status}")
                return answer.status == HTTPStatus.CREATED

    @asynccontextmanager
    async def _asking(
        self, method: str, address: str | URL, *, data: str | BinaryIO | None = None
    ) -> AsyncIterator[ClientResponse]:
        """Send a request. Raises UnavailableError when that fails, or reading its answer."""
        try:
            async with self._http.request(
                method, address, headers=self.headers, data=data, timeout=_PATIENCE
            ) as answer:
                yield answer
        except (ClientError, TimeoutError) as error:
            raise UnavailableError(f"the gateway cannot be reached: {error}") from error

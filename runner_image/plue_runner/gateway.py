"""Where the gateway is and how to say who we are: addresses, headers, the download of blobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from plue.errors import NotFoundError, UnavailableError

__all__ = ["Gateway"]

_CHUNK = 256 * 1024


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
        limits = ClientTimeout(total=None, sock_connect=5, sock_read=30)
        try:
            async with self._http.get(address, headers=self.headers, timeout=limits) as answer:
                if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                    raise NotFoundError(f"there is no blob {blob}")
                if answer.status != HTTPStatus.OK:
                    raise UnavailableError(f"the gateway answered {answer.status}")
                yield answer.content.iter_chunked(_CHUNK)
        except (ClientError, TimeoutError) as error:
            raise UnavailableError(f"the gateway cannot be reached: {error}") from error

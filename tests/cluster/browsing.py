"""Browsers that log in at an issuer on loopback, and our API that knows it."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from cluster.issuer import CLIENT, SECRET, Issuer
from cluster.served import Served, listening, serving

from plue.api.oidc import BrowserLogin
from plue.kube.client import ApiClient

__all__ = ["ANN", "World", "a_world"]

ANN = "ann@example.org"


@dataclass
class World:
    """An issuer, our API, and the address at which browsers find it."""

    issuer: Issuer
    served: Served

    def browser(self) -> aiohttp.ClientSession:
        """Return a browser: it keeps cookies and follows where it is sent."""
        jar = aiohttp.CookieJar(unsafe=True)
        return aiohttp.ClientSession(self.served.url, cookie_jar=jar)

    async def log_in(self, browser: aiohttp.ClientSession, to: str = "/login/start") -> str:
        """Log a browser in; return the session's CSRF token."""
        async with browser.get(to) as page:
            assert page.status == 200, await page.text()
        async with browser.get("/api/v1/session") as answer:
            assert answer.status == 200
            csrf: str = (await answer.json())["csrf"]
            return csrf


@asynccontextmanager
async def a_world(
    api: ApiClient, folder: Path, dsn: str, *, groups_prefix: str = "oidc:"
) -> AsyncIterator[World]:
    """Serve an issuer, and our API that knows it."""
    issuer = Issuer()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with listening(issuer.app()) as issuer.url:
        login = BrowserLogin(
            issuer=issuer.url,
            client_id=CLIENT,
            client_secret=SECRET,
            public_url=f"http://127.0.0.1:{port}",
            groups_prefix=groups_prefix,
        )
        async with serving(api, folder, dsn, login=login, port=port) as served:
            yield World(issuer, served)

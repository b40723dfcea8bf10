"""Who may call: token, cookie, Host and Origin."""

from collections.abc import Mapping

import aiohttp
import pytest
from aiohttp import CookieJar
from api.served import TOKEN, Served

RUNS = "/api/v1/runs"


async def status_of(served: Served, path: str, sent: Mapping[str, str]) -> int:
    """Return the status for a client that sends only the headers *sent*."""
    async with (
        aiohttp.ClientSession(served.url) as client,
        client.get(path, headers=sent) as got,
    ):
        if got.status >= 400:
            assert got.headers["Content-Type"] == "application/problem+json"
        return got.status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        pytest.param(f"Bearer {TOKEN}", 200, id="right"),
        pytest.param(f"bearer {TOKEN}", 200, id="scheme-in-lower-case"),
        pytest.param("Bearer wrong", 401, id="wrong"),
        pytest.param(f"Bearer {TOKEN}x", 401, id="longer"),
        pytest.param("Bearer", 401, id="empty"),
        pytest.param(f"Basic {TOKEN}", 401, id="another-scheme"),
        pytest.param("Bearer \u00e9\u00df", 401, id="not-ascii"),
    ],
)
async def test_a_tool_needs_the_bearer_token(served: Served, header: str, status: int) -> None:
    """Only the server's own token passes."""
    assert await status_of(served, RUNS, {"Authorization": header}) == status


@pytest.mark.parametrize(
    "path", [RUNS, "/", "/metrics", "/openapi.json", "/nowhere", "/api/v1/runs/1/events"]
)
async def test_without_credentials_everything_is_401(served: Served, path: str) -> None:
    """Also what does not exist: strangers learn nothing; the answer says how to come in."""
    async with aiohttp.ClientSession(served.url) as client, client.get(path) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert "plue up" in (await response.json(content_type=None))["remedy"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_credentials(served: Served, path: str) -> None:
    """Probes have no token."""
    assert await status_of(served, path, {}) == 200


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(
    "host",
    [
        pytest.param("evil.example", id="another-name"),
        pytest.param("evil.example:{port}", id="another-name-our-port"),
        pytest.param("127.0.0.1", id="no-port"),
        pytest.param("127.0.0.1:1", id="another-port"),
        pytest.param("localhost.evil.example:{port}", id="prefix"),
        pytest.param("127.0.0.2:{port}", id="another-address"),
    ],
)
async def test_a_foreign_host_is_refused_even_with_the_token(
    served: Served, host: str, public: bool
) -> None:
    """DNS rebinding: a name that was made to point here is not ours."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": host.format(port=served.port)}
    assert await status_of(served, "/healthz" if public else RUNS, headers) == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
async def test_every_loopback_name_is_ours(served: Served, host: str) -> None:
    """A person may type any of them."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": f"{host}:{served.port}"}
    assert await status_of(served, RUNS, headers) == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        pytest.param("https://evil.example", 403, id="another-site"),
        pytest.param("null", 403, id="sandboxed-page"),
        pytest.param("http://localhost:1", 403, id="another-port"),
        pytest.param("https://localhost:{port}", 403, id="another-scheme"),
        pytest.param("http://localhost:{port}", 200, id="ours"),
    ],
)
async def test_a_foreign_origin_is_refused_even_with_the_token(
    served: Served, origin: str, status: int
) -> None:
    """Another site's page in the same browser may not call us."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": origin.format(port=served.port)}
    assert await status_of(served, RUNS, headers) == status


async def test_a_browser_signs_in_by_the_link_and_comes_back_by_cookie(served: Served) -> None:
    """The link sets a cookie that scripts cannot read and other sites cannot send."""
    jar = CookieJar(unsafe=True)  # for cookies of an address without a name
    async with aiohttp.ClientSession(served.url, cookie_jar=jar) as browser:
        async with browser.get(f"/login?token={TOKEN}", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (303, "/")
            cookie = response.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert f"plue-{served.port}=" in cookie
            assert TOKEN not in cookie
            assert response.headers["Referrer-Policy"] == "no-referrer"
        async with browser.get("/") as response:
            assert response.status == 200
            assert "Plue" in await response.text()
        async with browser.get(RUNS) as response:
            assert response.status == 200
        wrong = {"Authorization": "Bearer wrong"}
        async with browser.get(RUNS, headers=wrong) as response:
            assert response.status == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [("/login?token=wrong", 401), ("/login", 422), (f"/login?token={TOKEN}&token=x", 422)],
)
async def test_a_wrong_link_gives_no_cookie(served: Served, path: str, status: int) -> None:
    """Nothing but the token signs in."""
    async with (
        aiohttp.ClientSession(served.url) as browser,
        browser.get(path, allow_redirects=False) as response,
    ):
        assert response.status == status
        assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("value", ["wrong", TOKEN, ""])
async def test_a_wrong_cookie_is_no_credential(served: Served, value: str) -> None:
    """The cookie's value is not the token, and cannot be made from nothing."""
    headers = {"Cookie": f"plue-{served.port}={value}"}
    assert await status_of(served, RUNS, headers) == 401

"""Browsers: a login at a loopback issuer, a proxy's header, and pages of other sites that try."""

import ipaddress
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster.browsing import ANN, World, a_world
from cluster.issuer import CLIENT, Issuer
from cluster.served import READS, WORKS, listening, serving

from plue.api.oidc import BrowserLogin, origin_of, safe_path
from plue.api.sessions import TrustedProxy
from plue.errors import UsageError
from plue.kube.client import ApiClient


@pytest.fixture
async def world(api: ApiClient, tmp_path: Path, postgres_dsn: str) -> AsyncIterator[World]:
    """Serve an issuer, and our API that knows it."""
    async with a_world(api, tmp_path, postgres_dsn) as world:
        yield world


async def test_a_person_is_led_to_the_login_and_back(world: World) -> None:
    """To the page that was asked for, with a cookie that scripts and other sites do not get."""
    async with world.browser() as browser:
        html = {"Accept": "text/html"}
        async with browser.get("/openapi.json?x=1", headers=html) as page:
            assert page.url.path == "/login"
            link = re.search(r'href="([^"]+)"', await page.text())
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert link is not None
        # The page itself then says that it takes no x: it is where we wanted to go.
        async with browser.get(link[1].replace("&amp;", "&")) as page:
            assert (page.url.path, page.url.query_string) == ("/openapi.json", "x=1")
            set_cookies = [
                cookie
                for step in page.history
                for cookie in step.headers.getall("Set-Cookie", [])
                if cookie.startswith("plue-session=")
            ]
        assert len(set_cookies) == 1
        assert "HttpOnly" in set_cookies[0]
        assert "SameSite=Lax" in set_cookies[0]
    # Programs are told in their own way.
    async with aiohttp.ClientSession(world.served.url) as program, program.get("/") as answer:
        assert answer.status == 401


async def test_rbac_speaks_of_the_same_people(world: World) -> None:
    """By name and by group with its prefix; who has no right sees nothing."""
    served = world.served
    mine = await served.people.namespace()
    served.run(mine)
    async with world.browser() as browser:
        await world.log_in(browser)
        async with browser.get("/api/v1/runs") as answer:
            assert (await answer.json())["runs"] == []
    await served.people.let("oidc:builders", READS, group=True)
    world.issuer.claims["email"] = "bob@example.org"
    async with world.browser() as browser:
        await world.log_in(browser)
        async with browser.get("/api/v1/runs") as answer:
            assert len((await answer.json())["runs"]) == 1


async def test_a_change_needs_the_csrf_token_and_no_foreign_origin(world: World) -> None:
    """What a browser sends by itself is never enough."""
    served = world.served
    await served.people.let(ANN, WORKS)
    run = served.run(await served.people.namespace())
    path = f"/api/v1/runs/{run}/cancel"
    async with world.browser() as browser:
        csrf = await world.log_in(browser)
        for headers, expected in (
            ({}, 403),
            ({"X-Plue-CSRF": "guessed"}, 403),
            ({"X-Plue-CSRF": csrf, "Origin": "https://evil.example"}, 403),
            ({"X-Plue-CSRF": csrf, "Origin": "null"}, 403),
            ({"X-Plue-CSRF": csrf, "Sec-Fetch-Site": "cross-site"}, 403),
            ({"X-Plue-CSRF": csrf, "Sec-Fetch-Site": "same-site"}, 403),
        ):
            async with browser.post(path, json={}, headers=headers) as answer:
                assert answer.status == expected, headers
        assert served.engine.cancelled == []
        good = {"X-Plue-CSRF": csrf, "Origin": served.url, "Sec-Fetch-Site": "same-origin"}
        async with browser.post(path, json={}, headers=good) as answer:
            assert answer.status == 202, await answer.text()
        async with world.browser() as another:
            other = await world.log_in(another)
        async with browser.post(path, json={}, headers={"X-Plue-CSRF": other}) as answer:
            assert answer.status == 403


async def test_logging_out_ends_the_session_itself(world: World) -> None:
    """By the page's button only, and a cookie that was copied before is worth nothing after."""
    async with world.browser() as browser:
        await world.log_in(browser)
        (cookie,) = [c.value for c in browser.cookie_jar if c.key == "plue-session"]
        async with browser.get("/logout") as page:
            text = await page.text()
            # With no-referrer a browser sends the form's Origin as `null`, which is refused.
            assert page.headers["Referrer-Policy"] == "same-origin"
        assert ANN in text
        async with browser.post("/logout", data={"csrf": "guessed"}) as answer:
            assert answer.status == 403
        csrf = re.search(r'name="csrf" value="([^"]+)"', text)
        assert csrf is not None
        async with browser.post("/logout", data={"csrf": csrf[1]}) as page:
            assert (page.status, page.url.path) == (200, "/login")
        async with browser.get("/api/v1/session") as answer:
            assert answer.status == 401
    copied = {"Cookie": f"plue-session={cookie}"}
    async with (
        aiohttp.ClientSession(world.served.url, headers=copied) as thief,
        thief.get("/api/v1/session") as answer,
    ):
        assert answer.status == 401


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"iss": "https://other.example"}, id="another-issuer"),
        pytest.param({"aud": "another"}, id="for-another-client"),
        pytest.param({"aud": [CLIENT, "another"], "azp": "another"}, id="made-for-another"),
        pytest.param({"exp": 1}, id="expired"),
        pytest.param({"nonce": "replayed"}, id="of-another-login"),
        pytest.param({"email": None}, id="no-name"),
        pytest.param({"email_verified": False}, id="not-verified"),
        pytest.param({"email_verified": "false"}, id="not-verified-in-words"),
        pytest.param({"azp": "another"}, id="made-for-another-alone"),
        pytest.param({"exp": float("nan")}, id="expires-never"),
        pytest.param({"email": "ann\0"}, id="a-name-that-is-none"),
        pytest.param({"email": "system:admin"}, id="a-name-of-kubernetes"),
    ],
)
async def test_an_id_token_that_is_not_ours_is_refused(world: World, wrong: dict[str, Any]) -> None:
    """No session begins."""
    world.issuer.wrong = wrong
    async with world.browser() as browser:
        async with browser.get("/login/start") as page:
            assert page.status == 403, await page.text()
        async with browser.get("/api/v1/session") as answer:
            assert answer.status == 401


async def test_groups_of_kubernetes_itself_are_not_taken(
    api: ApiClient, tmp_path: Path, postgres_dsn: str
) -> None:
    """An issuer cannot make anybody the cluster's administrator."""
    async with a_world(api, tmp_path, postgres_dsn, groups_prefix="") as world:
        world.issuer.claims["groups"] = ["system:masters", "builders"]
        async with world.browser() as browser:
            await world.log_in(browser)
            async with browser.get("/api/v1/session") as answer:
                assert (await answer.json())["groups"] == ["builders"]


async def test_a_login_belongs_to_the_browser_that_began_it(world: World) -> None:
    """A callback that somebody else is sent, or that comes twice, begins nothing."""
    async with world.browser() as victim, world.browser() as attacker:
        async with attacker.get("/login/start", allow_redirects=False) as page:
            to_issuer = page.headers["Location"]
        async with attacker.get(to_issuer, allow_redirects=False) as page:
            callback = page.headers["Location"]
        async with victim.get(callback) as page:
            assert page.status == 403
        async with victim.get("/login/start", allow_redirects=False) as page:
            assert page.status == 303
        async with victim.get(callback) as page:
            assert page.status == 403
        async with attacker.get(callback) as page:
            assert page.status == 200
        async with attacker.get(callback) as page:
            assert page.status == 403


async def test_what_the_issuer_refuses_is_said(world: World) -> None:
    """And a secret that is wrong for it, and an issuer that is away."""
    world.issuer.refuses = True
    async with world.browser() as browser, browser.get("/login/start") as page:
        assert page.status == 403
        assert "access_denied" in (await page.json(content_type=None))["detail"]


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/runs?x=1", "/runs?x=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\nb", "/"),
        ("", "/"),
    ],
)
def test_nobody_is_sent_to_another_site(path: str, safe: str) -> None:
    """After a login a browser goes to a path of this server."""
    assert safe_path(path) == safe


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Plue.example:443/under/", "https://plue.example"),
        ("https://plue.example:8443", "https://plue.example:8443"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_an_origin_is_what_browsers_send(url: str, origin: str) -> None:
    """Without a path and the usual port, else no page of ours could change anything."""
    assert origin_of(url) == origin


async def test_an_issuer_may_answer_in_pieces_and_at_length(world: World) -> None:
    """What the network cuts into pieces is read whole; what never ends is given up."""
    world.issuer.in_pieces = True
    world.issuer.claims["groups"] = [f"group-{n}" for n in range(2000)]
    async with world.browser() as browser:
        await world.log_in(browser)
        async with browser.get("/api/v1/session") as answer:
            assert len((await answer.json())["groups"]) == 2000
    world.issuer.claims["groups"] = ["g" * 1_000_000]
    async with world.browser() as browser, browser.get("/login/start") as page:
        assert page.status == 503


@pytest.mark.parametrize("name", ["issuer", "public_url"])
def test_tokens_never_travel_in_the_open(name: str) -> None:
    """Only https, or loopback."""
    given: dict[str, Any] = {
        "issuer": "https://a.example",
        "public_url": "https://b.example",
        "client_id": "x",
    }
    BrowserLogin(**given)
    with pytest.raises(UsageError, match=name):
        BrowserLogin(**{**given, name: "http://c.example"})


async def test_over_https_cookies_are_of_this_host_alone(
    api: ApiClient, tmp_path: Path, postgres_dsn: str
) -> None:
    """__Host- and Secure: no other host and no plain connection can set or read them."""
    issuer = Issuer()
    async with listening(issuer.app()) as issuer.url:
        login = BrowserLogin(issuer=issuer.url, client_id=CLIENT, public_url="https://plue.example")
        async with (
            serving(api, tmp_path, postgres_dsn, login=login) as served,
            served.client.get("/login/start", allow_redirects=False) as page,
        ):
            cookie = page.headers["Set-Cookie"]
    assert cookie.startswith("__Host-plue-login=")
    assert "Secure" in cookie
    assert "Path=/" in cookie


async def test_a_trusted_proxy_says_who_it_is(
    api: ApiClient, tmp_path: Path, postgres_dsn: str
) -> None:
    """From its address only; names of Kubernetes are refused, and so are other sites' changes."""

    def proxied(network: str) -> TrustedProxy:
        networks = [ipaddress.ip_network(network)]
        return TrustedProxy("X-User", "X-Groups", networks, "https://plue.example")

    said = {"X-User": "cat", "X-Groups": "system:masters, cats"}
    async with serving(api, tmp_path, postgres_dsn, proxy=proxied("127.0.0.1/32")) as served:
        run = served.run(await served.people.namespace())
        async with served.client.get("/api/v1/runs", headers=said) as answer:
            assert (await answer.json())["runs"] == []
        await served.people.let("cats", WORKS, group=True)
        path = f"/api/v1/runs/{run}/cancel"
        for more, expected in (
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "https://plue.example"}, 202),
        ):
            headers = {**said, "X-User": "cat-2", **more}
            async with served.client.post(path, headers=headers, json={}) as answer:
                assert answer.status == expected, await answer.text()
        async with served.client.get("/api/v1/runs", headers={"X-User": "system:x"}) as answer:
            assert answer.status == 403
        # A proxy that adds its header to what it was sent would let anybody choose.
        twice = [("X-User", "cat"), ("X-User", "dog")]
        for forged in (twice, {"X-User": "cat\u00a0\u200b"}):
            async with served.client.get("/api/v1/runs", headers=forged) as answer:
                assert answer.status == 403
        async with served.client.get("/api/v1/runs") as answer:
            assert answer.status == 401
    async with (
        serving(api, tmp_path, postgres_dsn, proxy=proxied("192.0.2.0/24")) as served,
        served.client.get("/api/v1/runs", headers=said) as answer,
    ):
        assert answer.status == 401

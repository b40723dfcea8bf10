"""Every route of the API, as its own document lists them: who comes in, who changes, what is told.

A new route fails here until it is said how it is asked; so none is without rights and audit.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster.browsing import World, a_world
from cluster.people import verbs
from cluster.served import READS, WORKS, Served
from yarl import URL

from plue.kube.client import ApiClient

EVE = "eve@example.org"
TOKENS = verbs("create", "list", "delete", on="apitokens")
EVERYTHING = [*WORKS, *TOKENS, *verbs("list", on="auditevents")]
OPEN = {"/healthz", "/readyz", "/login", "/login/start", "/login/callback"}
CHANGES_NOTHING = {"/api/v1/workflows/parse", "/api/v1/prompts/parse", "/api/v1/prompts/render"}
SOURCE = {".plue/workflows/ci.py": "def ci(ctx): pass"}
PROMPT = {".plue/prompts/a.prompt.md": "---\nname: a\n---\nHello"}
BODIES: dict[str, Any] = {
    "/api/v1/runs": {"workflow": "ci", "files": SOURCE, "workspace": {"kind": "none"}},
    "/api/v1/runs/{id}/cancel": {},
    "/api/v1/runs/{id}/rerun": {},
    "/api/v1/runs/{id}/budget": {"usd": 1},
    "/api/v1/tokens": {"name": "bot"},
    "/api/v1/tokens/{token}": None,
    "/api/v1/blobs": b"archive",
    "/api/v1/workflows/parse": {"files": SOURCE},
    "/api/v1/prompts/parse": {"files": PROMPT},
    "/api/v1/prompts/render": {"files": PROMPT, "prompt": "a"},
    "/runs/{id}/budget": {"whose": "run", "unit": "usd", "amount": "1"},
    "/logout": None,
}
"""How each route that is not only read is asked. /logout is a browser's alone."""

FORMS = {"/runs/{id}/budget"}
"""What is sent as a form; whoever sends it is led back to the page."""


@pytest.fixture
async def world(api: ApiClient, tmp_path: Path, postgres_dsn: str) -> AsyncIterator[World]:
    """Serve our API with all ways in."""
    async with a_world(api, tmp_path, postgres_dsn) as world:
        world.issuer.claims["email"] = EVE
        yield world


async def operations(served: Served) -> list[tuple[str, str]]:
    """Return method and path of every route."""
    token = await served.people.caller()
    headers = {"Authorization": f"Bearer {token}"}
    async with served.client.get("/openapi.json", headers=headers) as answer:
        paths = (await answer.json())["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


class Asked:
    """The routes that are not only read, as a caller of one namespace asks them."""

    def __init__(self, served: Served, namespace: str) -> None:
        """Ask about runs and tokens of *namespace*."""
        self.served = served
        self.namespace = namespace
        self.run = served.run(namespace)
        self.token = ""

    async def prepare(self, admin: str) -> "Asked":
        """Have a token that can be revoked."""
        body = {"name": "victim", "namespaces": [self.namespace]}
        status, made = await self.served.ask(admin, "/tokens", "POST", json=body)
        assert status == 201, made
        self.token = made["id"]
        return self

    def request(self, path: str) -> tuple[str, dict[str, Any]]:
        """Return the address and what is sent there."""
        body, more = BODIES[path], {}
        address = path.format(id=self.run, token=self.token)
        if path == "/api/v1/runs":
            body = {**body, "namespace": self.namespace}
        elif path == "/api/v1/tokens":
            body = {**body, "namespaces": [self.namespace]}
        elif path in CHANGES_NOTHING or path == "/api/v1/blobs":
            address += f"?namespace={self.namespace}"
        if isinstance(body, bytes):
            more = {"data": body}
        elif body is not None:
            more = {"data" if path in FORMS else "json": body}
        return address, more

    async def ask(
        self, client: aiohttp.ClientSession, method: str, path: str, headers: dict[str, str]
    ) -> int:
        """Return the status of the answer."""
        address, more = self.request(path)
        async with client.request(
            method, address, headers=headers, allow_redirects=False, **more
        ) as answer:
            return answer.status


def changing(routes: list[tuple[str, str]], *, without: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the routes that are not only read."""
    yield from ((m, p) for m, p in routes if m != "GET" and p not in without)


async def entries(served: Served, auditor: str) -> list[dict[str, Any]]:
    """Return the audit log, newest first."""
    status, page = await served.ask(auditor, "/audit?limit=100")
    assert status == 200, page
    found: list[dict[str, Any]] = page["entries"]
    return found


async def test_nobody_is_let_in_without_saying_who(world: World) -> None:
    """But probes and the pages of the login; also with methods that a route does not have."""
    served = world.served
    asked = Asked(served, "nowhere")
    for method, path in await operations(served):
        address = path.format(id=asked.run, token="x", name="ci")
        for tried in {method, "GET", "POST", "DELETE", "PUT", "HEAD"}:
            async with served.client.request(tried, address, allow_redirects=False) as answer:
                known = answer.status != 401
            assert path in OPEN or not known, (tried, path)
            assert path not in OPEN or known or tried != method, (tried, path)
    for address in ("/api/v1/nothing", "//api/v1/runs", "/healthz/../api/v1/runs", "/login/x"):
        async with served.client.get(URL(served.url + address, encoded=True)) as answer:
            assert answer.status == 401, address


async def test_who_may_only_read_changes_nothing_and_the_attempt_is_told(world: World) -> None:
    """Every route that changes something is refused to a viewer, by RBAC and by a token."""
    served = world.served
    mine = await served.people.namespace()
    auditor = await served.people.caller(everywhere=EVERYTHING)
    asked = await Asked(served, mine).prepare(auditor)
    viewer = await served.people.caller(inside={mine: READS})
    body = {"name": "viewer", "namespaces": [mine], "role": "viewer"}
    machine = (await served.ask(auditor, "/tokens", "POST", json=body))[1]["token"]
    before = await entries(served, auditor)
    runs = len(served.engine.records)
    for token in (viewer, machine):
        headers = {"Authorization": f"Bearer {token}"}
        for method, path in changing(await operations(served), without={"/logout"}):
            status = await asked.ask(served.client, method, path, headers)
            assert status in {403, 404}, (path, status)
            told = await entries(served, auditor)
            if path in CHANGES_NOTHING:
                assert told == before, path
                continue
            assert (told[0]["status"], len(told)) == (status, len(before) + 1), path
            before = told
    assert (len(served.engine.records), served.engine.cancelled) == (runs, [])


async def test_every_change_of_every_route_is_told(world: World) -> None:
    """Who, how, what and where, with the answer that it was given."""
    served = world.served
    mine = await served.people.namespace()
    worker = await served.people.caller(everywhere=EVERYTHING)
    asked = await Asked(served, mine).prepare(worker)
    headers = {"Authorization": f"Bearer {worker}"}
    before = await entries(served, worker)
    for method, path in changing(await operations(served), without={"/logout"}):
        status = await asked.ask(served.client, method, path, headers)
        assert status == 303 if path in FORMS else status < 300, (path, status)
        told = await entries(served, worker)
        if path in CHANGES_NOTHING:
            assert told == before, path
            continue
        assert len(told) == len(before) + 1, path
        one = told[0]
        assert (one["status"], one["how"], one["namespace"]) == (status, "kubernetes", mine), path
        assert one["who"].startswith("system:serviceaccount:people:"), path
        assert one["target"] or path == "/api/v1/blobs", path
        before = told


async def test_no_other_site_has_a_browser_change_anything(world: World) -> None:
    """Every route that is not only read wants the CSRF token, and no foreign origin with it."""
    served = world.served
    mine = await served.people.namespace()
    await served.people.let(EVE, EVERYTHING)
    asked = await Asked(served, mine).prepare(await served.people.caller(everywhere=EVERYTHING))
    runs = len(served.engine.records)
    async with world.browser() as browser:
        csrf = await world.log_in(browser)
        routes = [*changing(await operations(served), without=set())]
        for method, path in routes:
            for headers in (
                {},
                {"Content-Type": "text/plain"},
                {"X-Plue-CSRF": csrf, "Origin": "https://evil.example"},
                {"X-Plue-CSRF": csrf, "Sec-Fetch-Site": "cross-site"},
            ):
                assert await asked.ask(browser, method, path, headers) == 403, (path, headers)
        assert (len(served.engine.records), served.engine.cancelled) == (runs, [])
        good = {"X-Plue-CSRF": csrf, "Origin": served.url}
        for method, path in sorted(routes, key=lambda one: one[1] == "/logout"):
            assert await asked.ask(browser, method, path, good) < 400, path
        async with browser.get("/api/v1/session") as answer:
            assert answer.status == 401

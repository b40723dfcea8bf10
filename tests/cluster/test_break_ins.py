"""What an attacker would send: bytes that are no text, names that lead elsewhere, ended tokens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
from cluster.browsing import World, a_world
from cluster.people import verbs
from cluster.served import READS, WORKS

from plue.api import callers
from plue.errors import RejectedError
from plue.kube.client import ApiClient
from plue.kube.objects import RUNS

DAN = "dan@example.org"
TOKENS = verbs("create", "delete", "list", on="apitokens")
AUDITS = verbs("list", on="auditevents")


@pytest.fixture
async def world(api: ApiClient, tmp_path: Path, postgres_dsn: str) -> AsyncIterator[World]:
    """Serve our API with all ways in."""
    async with a_world(api, tmp_path, postgres_dsn) as world:
        world.issuer.claims["email"] = DAN
        yield world


async def sent(world: World, *lines: bytes, method: bytes = b"GET", path: str = "runs") -> int:
    """Return the status of the answer to a request with such header lines."""
    port = int(world.served.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [method + b" /api/v1/" + path.encode() + b" HTTP/1.1", b"Host: x", *lines]
    writer.write(b"\r\n".join([*head, b"Connection: close", b"", b""]))
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"Authorization: Bearer \xff\xfe", id="bytes"),
        pytest.param(b"Authorization: Bearer plue_\xff_x", id="machine-token"),
        pytest.param(b"Authorization: Bearer plue_", id="half-a-machine-token"),
        pytest.param("Authorization: Bearer tökén".encode(), id="letters"),
        pytest.param(b"Authorization: Basic eDp5", id="another-scheme"),
        pytest.param(b"Authorization: Bearer", id="no-token"),
        pytest.param(b"X-Plue-Authorization: Bearer \xff", id="through-the-api-server"),
        pytest.param(b"Cookie: plue-session=\xff\xfe", id="cookie"),
        pytest.param(b"X-User: admin", id="a-proxys-header-without-a-proxy"),
        pytest.param(b"X-Remote-User: admin", id="a-header-of-the-api-server"),
        pytest.param(b"Impersonate-User: admin", id="impersonation"),
    ],
)
async def test_credentials_that_are_none_are_refused(world: World, line: bytes) -> None:
    """As a request of nobody, and never as a fault of ours."""
    assert await sent(world, line) == 401


async def test_a_forged_address_does_not_spoil_the_audit_log(world: World) -> None:
    """X-Forwarded-For is anybody's text: the entry is completed, with what was seen beside it."""
    served = world.served
    mine = await served.people.namespace()
    run = served.run(mine)
    token = await served.people.caller(inside={mine: [*WORKS, *AUDITS]})
    status = await sent(
        world,
        b"Authorization: Bearer " + token.encode(),
        b"X-Forwarded-For: \xff\xfe\x80, 10.0.0.1",
        method=b"POST",
        path=f"runs/{run}/cancel",
    )
    assert status == 202
    _, page = await served.ask(token, f"/audit?namespace={mine}")
    (entry,) = page["entries"]
    assert (entry["status"], entry["address"]) == (202, "127.0.0.1")
    assert entry["details"]["forwarded_for"] == "???, 10.0.0.1"


async def test_logging_out_needs_a_session(world: World) -> None:
    """A program's token has none to end, and another one's cookie is not taken along."""
    served = world.served
    token = await served.people.caller()
    async with world.browser() as browser:
        await world.log_in(browser)
        headers = {"Authorization": f"Bearer {token}"}
        for client in (browser, served.client):
            async with client.post("/logout", headers=headers) as answer:
                assert answer.status == 401
        async with browser.get("/api/v1/session") as answer:
            assert answer.status == 200


@pytest.mark.parametrize("how", ["revoked", "expired", "logged-out"])
async def test_a_stream_ends_with_what_opened_it(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch, postgres_dsn: str
) -> None:
    """Also while nothing happens in the run."""
    monkeypatch.setattr(callers, "ASKED_AGAIN", 0.05)
    served = world.served
    mine = await served.people.namespace()
    run = served.run(mine)
    admin = await served.people.caller(inside={mine: [*WORKS, *TOKENS]})
    await served.people.let(DAN, READS)
    body = {"name": "reader", "role": "viewer", "namespaces": [mine]}
    _, made = await served.ask(admin, "/tokens", "POST", json=body)

    async def revoked() -> None:
        assert (await served.ask(admin, f"/tokens/{made['id']}", "DELETE"))[0] == 200

    async def expired() -> None:
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute(
                "UPDATE api_tokens SET created_at = now() - interval '2 h',"
                " expires_at = now() - interval '1 h'"
            )

    async with world.browser() as browser:
        csrf = await world.log_in(browser)

        async def logged_out() -> None:
            headers = {"X-Plue-CSRF": csrf}
            async with browser.post("/logout", headers=headers, allow_redirects=False) as answer:
                assert answer.status == 303

        ends: dict[str, Callable[[], Awaitable[None]]] = {
            "revoked": revoked,
            "expired": expired,
            "logged-out": logged_out,
        }
        headers = {"Accept": "application/x-ndjson"}
        if how != "logged-out":
            headers["Authorization"] = f"Bearer {made['token']}"
        async with (
            asyncio.timeout(20),
            browser.get(f"/api/v1/runs/{run}/events", headers=headers) as stream,
        ):
            assert stream.status == 200
            assert await stream.content.readline() == b"\n"
            await ends[how]()
            async for line in stream.content:
                assert line == b"\n"


async def test_a_namespace_is_named_in_one_place(world: World) -> None:
    """Not in query and body both, and not as a way to another one."""
    served = world.served
    mine, yours = await served.people.namespace(), await served.people.namespace()
    token = await served.people.caller(inside={mine: WORKS})
    run = {"workflow": "ci", "files": {"a": "def"}, "workspace": {"kind": "none"}}
    for query, namespace, expected in (
        (f"?namespace={mine}", yours, 422),
        ("", yours, 403),
        ("", f"{mine}/../{yours}", 403),
        ("", f"{mine}\0", 422),
        ("", "", 422),
        ("", None, 422),
        ("", mine, 201),
    ):
        body = {**run, "namespace": namespace}
        status, said = await served.ask(token, f"/runs{query}", "POST", json=body)
        assert status == expected, (query, namespace, said)
    for query in (f"?namespace={mine}&namespace={yours}", f"?namespace={yours}", ""):
        status, said = await served.ask(token, f"/blobs{query}", "POST", data=b"x")
        assert status in {403, 422}, (query, said)
    assert [one.details.run.namespace for one in served.engine.records] == [mine]


@pytest.mark.parametrize("name", [".", ".."])
def test_no_name_leads_out_of_its_place(name: str) -> None:
    """An address is shortened at dots before it is sent: another kind would be written to."""
    with pytest.raises(RejectedError, match="no name of an object"):
        RUNS.path("team", name)
    with pytest.raises(RejectedError, match="no name of an object"):
        RUNS.path(name)
    assert RUNS.path("a/..", "b?c") == (
        "/apis/plue.dev/v1alpha1/namespaces/a%2F../workflowruns/b%3Fc"
    )

"""Machine tokens and the audit log: bounded by scope, time and revocation; every change is told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cluster.people import verbs
from cluster.served import READS, WORKS, Served, serving

from plue.kube.client import ApiClient

TOKENS = verbs("create", "list", "delete", on="apitokens")
AUDITS = verbs("list", on="auditevents")


@pytest.fixture
async def served(api: ApiClient, tmp_path: Path, postgres_dsn: str) -> AsyncIterator[Served]:
    """Serve our API with the access of a cluster."""
    async with serving(api, tmp_path, postgres_dsn) as one:
        yield one


async def made(served: Served, by: str, **body: Any) -> dict[str, Any]:
    """Make a token; return it."""
    status, token = await served.ask(by, "/tokens", "POST", json={"name": "bot", **body})
    assert status == 201, token
    found: dict[str, Any] = token
    return found


async def test_a_token_reaches_as_far_as_its_scope(served: Served) -> None:
    """Its role's verbs in its namespaces, and neither tokens, nor the audit log, nor metrics."""
    mine, yours = await served.people.namespace(), await served.people.namespace()
    admin = await served.people.caller(inside={mine: [*WORKS, *TOKENS]})
    run = served.run(mine)
    other = served.run(yours)
    viewer = (await made(served, admin, role="viewer", namespaces=[mine]))["token"]
    editor = (await made(served, admin, role="editor", namespaces=[mine]))["token"]
    for token, path, method, expected in (
        (viewer, f"/runs/{run}", "GET", 200),
        (viewer, f"/runs/{other}", "GET", 404),
        (viewer, f"/runs/{run}/cancel", "POST", 403),
        (editor, f"/runs/{run}/cancel", "POST", 202),
        (editor, f"/runs/{other}/cancel", "POST", 404),
        (editor, "/tokens", "POST", 403),
        (editor, "/audit?namespace=" + mine, "GET", 403),
    ):
        body = {"name": "more", "namespaces": [mine]} if path == "/tokens" else {}
        more = {"json": body} if method == "POST" else {}
        status, said = await served.ask(token, path, method, **more)
        assert status == expected, (path, method, said)
    assert await served.names(viewer) == [mine]
    headers = {"Authorization": f"Bearer {editor}"}
    async with served.client.get("/metrics", headers=headers) as answer:
        assert answer.status == 403


async def test_nobody_gives_away_more_than_there_is_to_give(served: Served) -> None:
    """Making one needs the right to make tokens and each right that it gives, in each place."""
    mine, yours = await served.people.namespace(), await served.people.namespace()
    for rights, body in (
        ({mine: WORKS}, {"role": "viewer", "namespaces": [mine]}),
        ({mine: [*READS, *TOKENS]}, {"role": "editor", "namespaces": [mine]}),
        ({mine: [*WORKS, *TOKENS]}, {"role": "viewer", "namespaces": [mine, yours]}),
        ({mine: [*WORKS, *TOKENS]}, {"role": "viewer", "namespaces": None}),
    ):
        by = await served.people.caller(inside=rights)
        status, problem = await served.ask(by, "/tokens", "POST", json={"name": "bot", **body})
        assert status == 403, body
        assert "may not" in problem["detail"]


async def test_a_token_ends(served: Served, postgres_dsn: str) -> None:
    """By revocation at once, and by its time; a changed or made-up one was never good."""
    mine = await served.people.namespace()
    admin = await served.people.caller(inside={mine: [*WORKS, *TOKENS]})
    one = await made(served, admin, namespaces=[mine])
    two = await made(served, admin, namespaces=[mine])
    assert (await served.ask(one["token"], "/runs"))[0] == 200
    status, revoked = await served.ask(admin, f"/tokens/{one['id']}", "DELETE")
    assert status == 200
    assert "system:serviceaccount:people:" in revoked["revoked_by"]
    assert (await served.ask(one["token"], "/runs"))[0] == 401
    assert (await served.ask(two["token"], "/runs"))[0] == 200
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("UPDATE api_tokens SET expires_at = now() - interval '1 s'")
    assert (await served.ask(two["token"], "/runs"))[0] == 401
    for wrong in (two["token"] + "x", "plue_", "plue_nobody_x", f"plue_{one['id']}_"):
        assert (await served.ask(wrong, "/runs"))[0] == 401, wrong


async def test_only_hashes_are_kept(served: Served, postgres_dsn: str) -> None:
    """Neither the database nor a later answer has what lets somebody in."""
    mine = await served.people.namespace()
    admin = await served.people.caller(inside={mine: [*WORKS, *TOKENS]})
    token = (await made(served, admin, namespaces=[mine]))["token"]
    secret = token.split("_")[2]
    with psycopg.connect(postgres_dsn) as connection:
        for table in ("api_tokens", "audit_log"):
            rows = connection.execute(f"SELECT t::text FROM {table} t").fetchall()  # noqa: S608 - ours
            assert rows
            assert secret not in str(rows)
    assert secret not in str(await served.ask(admin, f"/tokens?namespace={mine}"))


async def test_tokens_are_listed_and_revoked_by_who_may(served: Served) -> None:
    """In a namespace that they reach; what reaches only elsewhere is not there."""
    mine, yours = await served.people.namespace(), await served.people.namespace()
    both = await served.people.caller(inside={mine: [*WORKS, *TOKENS], yours: [*WORKS, *TOKENS]})
    elsewhere = await made(served, both, namespaces=[yours])
    shared = await made(served, both, namespaces=[mine, yours])
    admin = await served.people.caller(inside={mine: TOKENS})
    served.run(mine)
    served.run(yours)
    status, page = await served.ask(admin, "/tokens")
    assert status == 200
    assert [token["id"] for token in page["tokens"]] == [shared["id"]]
    assert (await served.ask(admin, f"/tokens/{elsewhere['id']}", "DELETE"))[0] == 404
    assert (await served.ask(admin, f"/tokens/{shared['id']}", "DELETE"))[0] == 200
    assert (await served.ask(admin, "/tokens/nonesuch", "DELETE"))[0] == 404


async def test_every_change_is_written_down(served: Served) -> None:
    """Who, what, where, from where and how it ended: refused ones too, and reads not."""
    mine, yours = await served.people.namespace(), await served.people.namespace()
    run = served.run(mine)
    worker = await served.people.caller(inside={mine: [*WORKS, *TOKENS]})
    reader = await served.people.caller(inside={mine: READS})
    await served.ask(worker, f"/runs/{run}")
    await served.ask(worker, f"/runs/{run}/cancel", "POST", json={"reason": "why not"})
    await served.ask(reader, f"/runs/{run}/cancel", "POST", json={})
    token = await made(served, worker, namespaces=[mine])
    await served.ask(token["token"], f"/runs/{run}", "GET")
    await served.ask(worker, f"/tokens/{token['id']}", "DELETE")
    auditor = await served.people.caller(inside={mine: AUDITS})
    status, page = await served.ask(auditor, f"/audit?namespace={mine}")
    assert status == 200, page
    entries = page["entries"]
    assert [(e["action"], e["status"]) for e in entries] == [
        ("token.revoke", 200),
        ("token.create", 201),
        ("run.cancel", 403),
        ("run.cancel", 202),
    ]
    assert {e["namespace"] for e in entries} == {mine}
    assert {e["address"] for e in entries} == {"127.0.0.1"}
    assert entries[3]["who"].startswith("system:serviceaccount:people:person-")
    assert entries[3]["details"]["run"] == run
    assert entries[2]["who"] != entries[3]["who"]
    # Of another namespace, and of all of them, nothing is shown to who may not.
    assert (await served.ask(auditor, f"/audit?namespace={yours}"))[0] == 403
    everybody = await served.people.caller(everywhere=AUDITS)
    status, page = await served.ask(everybody, "/audit?action=run.cancel&limit=1")
    assert [e["status"] for e in page["entries"]] == [403]
    status, page = await served.ask(everybody, f"/audit?action=run.cancel&cursor={page['next']}")
    assert [e["status"] for e in page["entries"]] == [202]


async def test_a_change_that_cannot_be_written_down_is_not_made(
    served: Served, postgres_dsn: str
) -> None:
    """The entry comes first."""
    mine = await served.people.namespace()
    run = served.run(mine)
    worker = await served.people.caller(inside={mine: WORKS})
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_log ADD CONSTRAINT full_up CHECK (id < 0)")
    status, _ = await served.ask(worker, f"/runs/{run}/cancel", "POST", json={})
    assert status == 500
    assert served.engine.cancelled == []

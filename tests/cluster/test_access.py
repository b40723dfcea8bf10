"""Who may do what in a cluster, judged by a real API server: tokens, namespaces, verbs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cluster.served import READS, WORKS, Served, serving

from plue.api import callers
from plue.kube import reviews
from plue.kube.client import ApiClient


@pytest.fixture
async def served(api: ApiClient, tmp_path: Path, postgres_dsn: str) -> AsyncIterator[Served]:
    """Serve our API with the access of a cluster."""
    async with serving(api, tmp_path, postgres_dsn) as one:
        yield one


async def test_only_tokens_made_for_this_api_are_known(served: Served) -> None:
    """Nobody comes in without a token, with one of another audience, or with a made-up one."""
    account = await served.people.account(everywhere=READS)
    good = await served.people.token(account)
    other = await served.people.token(account, audience="https://kubernetes.default.svc")
    assert [(await served.ask(token, "/runs"))[0] for token in (good, other, "made-up")] == [
        200,
        401,
        401,
    ]
    for path in ("/api/v1/runs", "/", "/metrics", "/openapi.json", "/nowhere"):
        async with served.client.get(path) as answer:
            assert answer.status == 401, path
    for path in ("/healthz", "/readyz"):
        async with served.client.get(path) as answer:
            assert answer.status == 200, path


async def test_lists_show_the_namespaces_that_a_caller_may_read(served: Served) -> None:
    """All with a right everywhere, else those with one; a list of another namespace is refused."""
    mine, yours = await served.people.namespace(), await served.people.namespace()
    for namespace in (mine, yours, yours):
        served.run(namespace)
    member = await served.people.caller(inside={mine: READS})
    admin = await served.people.caller(everywhere=READS)
    stranger = await served.people.caller()
    assert sorted([mine, yours]) == await served.names(admin)
    assert [mine] == await served.names(member)
    assert await served.names(stranger) == []
    assert [mine] == await served.names(member, f"?namespace={mine}")
    status, problem = await served.ask(member, f"/runs?namespace={yours}")
    assert status == 403
    assert yours in problem["detail"]
    assert "RoleBinding" in problem["remedy"]


READING = ("", "/plan", "/events?follow=false", "/logs", "/usage", "/budgets")


@pytest.mark.parametrize("path", READING)
async def test_a_run_that_may_not_be_read_is_not_there(served: Served, path: str) -> None:
    """By id, name and number, its stream and its logs too; who may read it gets it."""
    mine, yours = await served.people.namespace(), await served.people.namespace()
    run = served.run(yours)
    await served.engine.record(served.engine.records[0].id).finish()
    member = await served.people.caller(inside={mine: READS})
    theirs = await served.people.caller(inside={yours: READS})
    for reference in (run, "ci-1", "1", "latest"):
        async with served.client.get(
            f"/api/v1/runs/{reference}{path}", headers={"Authorization": f"Bearer {member}"}
        ) as answer:
            assert answer.status == 404, reference
        async with served.client.get(
            f"/api/v1/runs/{reference}{path}", headers={"Authorization": f"Bearer {theirs}"}
        ) as answer:
            assert answer.status == 200, reference


async def test_the_latest_run_is_the_latest_that_may_be_read(served: Served) -> None:
    """Newer ones of other namespaces do not hide it."""
    mine, yours = await served.people.namespace(), await served.people.namespace()
    run = served.run(mine)
    served.run(yours)
    member = await served.people.caller(inside={mine: READS})
    status, detail = await served.ask(member, "/runs/latest")
    assert (200, run) == (status, detail["id"])


@pytest.mark.parametrize(
    ("path", "body", "verb"),
    [
        pytest.param("/cancel", {}, "patch", id="cancel"),
        pytest.param("/budget", {"usd": 1}, "patch", id="budget"),
        pytest.param("/rerun", {}, "create", id="rerun"),
    ],
)
async def test_changes_need_their_own_right(
    served: Served, path: str, body: dict[str, Any], verb: str
) -> None:
    """Who may only read is told what is missing, and nothing happens."""
    mine = await served.people.namespace()
    run = served.run(mine)
    reader = await served.people.caller(inside={mine: READS})
    status, problem = await served.ask(reader, f"/runs/{run}{path}", "POST", json=body)
    assert status == 403
    assert f"may not {verb} workflowruns in the namespace {mine!r}" in problem["detail"]
    assert served.engine.cancelled == []
    assert len(served.engine.records) == 1
    status, problem = await served.ask("made-up", f"/runs/{run}{path}", "POST", json=body)
    assert status == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/workflows/parse", {"files": {"a.py": "def"}}, id="parse"),
        pytest.param("/prompts/parse", {"files": {"a.prompt.md": "x"}}, id="prompts"),
    ],
)
async def test_what_belongs_to_no_run_needs_a_namespace_to_make_runs_in(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    """The evaluator works for those only who might make a run."""
    mine = await served.people.namespace()
    reader = await served.people.caller(inside={mine: READS})
    worker = await served.people.caller(inside={mine: WORKS})
    assert (await served.ask(worker, path, "POST", json=body))[0] == 422
    place = f"{path}?namespace={mine}"
    assert (await served.ask(reader, place, "POST", json=body))[0] == 403
    assert (await served.ask(worker, place, "POST", json=body))[0] == 200


async def test_uploads_need_a_namespace_to_make_runs_in(served: Served) -> None:
    """Nothing of a stranger's archive is kept."""
    mine = await served.people.namespace()
    reader = await served.people.caller(inside={mine: READS})
    worker = await served.people.caller(inside={mine: WORKS})
    path = f"/blobs?namespace={mine}"
    assert (await served.ask(reader, path, "POST", data=b"tar"))[0] == 403
    assert (await served.ask(worker, path, "POST", data=b"tar"))[0] == 201


async def test_metrics_are_for_who_may_get_metrics(served: Served) -> None:
    """The right is that of Prometheus everywhere: a verb on an address."""
    rules = [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
    prometheus = await served.people.caller(everywhere=rules)
    other = await served.people.caller(everywhere=READS)
    for token, expected in ((prometheus, 200), (other, 403)):
        headers = {"Authorization": f"Bearer {token}"}
        async with served.client.get("/metrics", headers=headers) as answer:
            assert answer.status == expected


async def test_a_right_that_was_taken_away_ends_lists_and_streams(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered is believed for seconds only, also by a stream that stays open."""
    monkeypatch.setattr(reviews, "HELD", 0.05)
    monkeypatch.setattr(callers, "ASKED_AGAIN", 0.05)
    mine = await served.people.namespace()
    run = served.run(mine)
    account = await served.people.account(inside={mine: READS})
    token = await served.people.token(account)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"}
    async with asyncio.timeout(20):
        async with served.client.get(f"/api/v1/runs/{run}/events", headers=headers) as stream:
            assert stream.status == 200
            assert await stream.content.readline() == b"\n"
            await served.people.take_away(account, mine)
            # The stream's end without `run_completed` means: connect again, and be refused.
            async for line in stream.content:
                assert line == b"\n"
        while (  # noqa: ASYNC110 - the API server tells nobody when a right is gone
            await served.ask(token, f"/runs/{run}")
        )[0] != 404:
            await asyncio.sleep(0.05)


async def test_many_questions_at_once_are_one_review(served: Served, api: ApiClient) -> None:
    """A page that asks for a hundred things costs the API server a few reviews."""
    mine = await served.people.namespace()
    run = served.run(mine)
    token = await served.people.caller(inside={mine: READS})
    asked = 0
    create = api.create

    async def counted(*given: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        return await create(*given, **more)

    api.create = counted  # type: ignore[method-assign]
    answers = await asyncio.gather(*(served.ask(token, f"/runs/{run}") for _ in range(100)))
    assert {200} == {status for status, _ in answers}
    # The token, the right everywhere (no), and the rights in the one namespace.
    assert asked <= 5

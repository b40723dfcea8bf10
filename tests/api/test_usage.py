"""Model usage and budgets over HTTP, on the real store."""

import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from api.served import TOKEN, an_api
from factories import a_run
from server import a_server

from plue.api.access import LocalAccess
from plue.api.callers import Caller as Somebody
from plue.api.callers import Resource, Verb
from plue.domain.budget import Amount, Budgets, Limit, Scope, Shortage
from plue.domain.run import RunId
from plue.engine.service import Engine
from plue.store.usage import Caller, Reservation, Spend, Tokens, Wanted


@pytest.fixture
async def used(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[tuple[Engine, RunId], None]:
    """Give an engine whose one run has called two models."""
    async with a_server(postgres_dsn, tmp_path) as server:
        run = a_run()
        await server.engine.context.runs.insert(run)
        usage = server.engine.context.usage
        for model, usd, estimated in (("a", "0.25", False), ("b", "0.5", True), ("a", "1", False)):
            caller = Caller(run.id, 1, "ask", "default", "ci", b"", None)
            wanted = Wanted(caller, 1, f"x/{model}", model, Amount(Decimal(2), 10, 1))
            held = await usage.reserve(wanted, Budgets())
            assert isinstance(held, Reservation)
            tokens = Tokens(input=5, output=2, cache_read=3, cache_write=1, cache_write_1h=1)
            await usage.settle(held.id, Spend(tokens, Decimal(usd), "answered", estimated))
        yield server.engine, run.id


async def test_usage_is_summed_up_by_what_is_asked_for(used: tuple[Engine, RunId]) -> None:
    """A line for each value of the keys; without keys, one line of all."""
    engine, _ = used
    today = datetime.now(UTC).date()
    by_model = await engine.usage(today, today, by=["model"])
    assert [(line.model, line.calls, line.usd) for line in by_model] == [
        ("a", 2, Decimal("1.25")),
        ("b", 1, Decimal("0.5")),
    ]
    (whole,) = await engine.usage(today, today, by=[])
    assert (whole.model, whole.calls, whole.tokens.input, whole.estimated) == (None, 3, 15, True)
    assert whole.tokens.cache_write == 6
    by_day = await engine.usage(today, today, by=["day", "workflow"])
    assert [(line.day, line.workflow) for line in by_day] == [(today, "ci")]


async def test_usage_of_other_days_and_workflows_is_left_out(used: tuple[Engine, RunId]) -> None:
    """Days and the workflow narrow what is summed up."""
    engine, _ = used
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    assert await engine.usage(yesterday, yesterday, by=[]) == []
    assert await engine.usage(today, today, by=[], workflow="other") == []


async def test_usage_of_a_run_is_by_step_and_model(used: tuple[Engine, RunId]) -> None:
    """A run's usage has a line for each step and model, in the order of first use."""
    engine, run = used
    lines = await engine.usage_of(run)
    assert [(line.step, line.model, line.calls) for line in lines] == [
        ("ask", "a", 2),
        ("ask", "b", 1),
    ]
    assert await engine.usage_of(RunId(str(uuid.uuid4()))) == []


@pytest.fixture
async def client(
    used: tuple[Engine, RunId], tmp_path: Path
) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """Serve the API over that engine."""
    app, _ = an_api(tmp_path, used[0])
    async with TestServer(app) as server:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(server.make_url("/"), headers=headers) as client:
            yield client


async def test_the_api_tells_usage(
    client: aiohttp.ClientSession, used: tuple[Engine, RunId]
) -> None:
    """Usage has its lines and its total; a run's is found by any of its names."""
    async with client.get("/api/v1/usage?by=workflow&by=model") as answer:
        report = await answer.json()
    assert (report["cost_usd"], len(report["lines"])) == (1.75, 2)
    async with client.get("/api/v1/runs/latest/usage") as answer:
        assert (await answer.json())["lines"][0]["step"] == "ask"
    async with client.get(f"/api/v1/runs/{uuid.uuid4()}/usage") as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [("since=2026-02-02&until=2026-02-01", "since"), ("by=colour", "by"), ("since=x", "since")],
)
async def test_wrong_questions_name_their_field(
    client: aiohttp.ClientSession, query: str, field: str
) -> None:
    """What cannot be asked is 400 or 422 with the field."""
    async with client.get(f"/api/v1/usage?{query}") as answer:
        assert answer.status in {400, 422}
        assert field in (await answer.json())["field"]


async def test_a_budget_is_extended(
    client: aiohttp.ClientSession, used: tuple[Engine, RunId]
) -> None:
    """What is allowed is added up; a request for nothing more is refused."""
    engine, run = used
    for _ in range(2):
        async with client.post(f"/api/v1/runs/{run}/budget", json={"usd": 1.5, "calls": 1}) as one:
            assert one.status == 200, await one.text()
    async with client.post(f"/api/v1/runs/{run}/budget", json={}) as refused:
        assert refused.status == 422
    for body, field in (({"usd": 1, "scope": "step"}, "step"), ({"usd": 1, "scope": "x"}, "scope")):
        async with client.post(f"/api/v1/runs/{run}/budget", json=body) as refused:
            assert refused.status == 422
            assert (await refused.json())["field"] == field
    budgets = Budgets({Scope.RUN: Limit(usd=Decimal(2), calls=3)})
    caller = Caller(run, 1, "ask", "default", "ci", b"", None)
    wanted = Wanted(caller, 1, "x/a", "a", Amount(Decimal("3.26"), 1, 1))
    short = await engine.context.usage.reserve(wanted, budgets)
    assert isinstance(short, Shortage)
    assert (short.limit, short.left) == (Decimal(5), Decimal("3.25"))


async def test_what_others_share_is_extended_by_who_may_change_their_runs(
    client: aiohttp.ClientSession, used: tuple[Engine, RunId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right in the run's namespace is enough for the run's budget, and not for the day's."""

    async def may(
        _access: LocalAccess, _who: Somebody, _verb: Verb, _what: Resource, where: str | None
    ) -> bool:
        return where is not None

    run = used[1]
    shared = [{"calls": 1, "scope": scope} for scope in ("workflow", "day")]
    for body in shared:
        async with client.post(f"/api/v1/runs/{run}/budget", json=body) as answer:
            assert answer.status == 200, await answer.text()
    monkeypatch.setattr(LocalAccess, "may", may)
    async with client.post(f"/api/v1/runs/{run}/budget", json={"calls": 1}) as answer:
        assert answer.status == 200, await answer.text()
    for body in shared:
        async with client.post(f"/api/v1/runs/{run}/budget", json=body) as refused:
            assert refused.status == 403
            assert "may not patch workflowruns in all namespaces" in await refused.text()

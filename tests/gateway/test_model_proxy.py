"""The model proxy between the real client and the model server: who may call, and what it costs."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from anthropic import APIStatusError, AsyncAnthropic, DefaultAsyncHttpxClient
from factories import a_run, a_step
from psycopg.rows import dict_row
from scripted_runner import ScriptedRunner, connected, event
from server import Server, a_server

from plue.dev.model_server import ModelServer
from plue.dev.script import Script
from plue.domain.budget import Amount, Budgets, Limit, Scope
from plue.domain.run import RunId
from plue.gateway.llm.content import IMAGE_TOKENS, PAGES_TOKENS
from plue.gateway.llm.providers import AnthropicProvider, credentials_from
from plue.gateway.llm.request import NotAdmittedError, admit
from plue.gateway.llm.settings import Models, ModelSettings, PoolModels
from plue.store.usage import Reservation, Spend, Tokens, Wanted
from plue.wire import frames
from plue.wire.events import EventType
from plue.wire.model_access import StepClaim, step_token

PATIENCE = 5.0
KEY = "sk-secret-of-the-gateway"
HELLO = "conversations: [{turns: [{text: hello there, usage: {input: 100, output: 20}}]}]"
ASK: dict[str, Any] = {
    "model": "anthropic/claude-sonnet",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Say hello."}],
}


def _plain() -> DefaultAsyncHttpxClient:
    # Loading the certificates of all the world takes a while, and loopback needs none.
    return DefaultAsyncHttpxClient(verify=False)


@dataclass
class Desk:
    """A step that runs, with what it needs to call a model."""

    server: Server
    models: ModelServer
    dsn: str
    run: RunId
    token: str
    runner: ScriptedRunner
    assignment: frames.Assignment
    clients: list[AsyncAnthropic] = field(default_factory=list)

    @property
    def client(self) -> AsyncAnthropic:
        return self.with_token(self.token)

    def with_token(self, token: str) -> AsyncAnthropic:
        url = f"{self.server.url}/runner/v1/llm"
        client = AsyncAnthropic(api_key=token, base_url=url, max_retries=0, http_client=_plain())
        self.clients.append(client)
        return client

    async def usage(self) -> list[dict[str, Any]]:
        """Return the usage rows, as soon as every call is settled."""
        query = "SELECT * FROM llm_usage ORDER BY created_at"
        async with (
            asyncio.timeout(PATIENCE),
            await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection,
        ):
            while True:
                cursor = connection.cursor(row_factory=dict_row)
                rows = await (await cursor.execute(query)).fetchall()
                if rows and all(row["state"] == "settled" for row in rows):
                    return rows
                await asyncio.sleep(0.01)

    async def counters(self) -> dict[str, tuple[Decimal, int, int]]:
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            rows = await connection.execute("SELECT scope, usd, tokens, calls FROM model_budgets")
            return {row[0]: (row[1], row[2], row[3]) for row in await rows.fetchall()}

    async def seconds(self) -> dict[str, Decimal]:
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            rows = await connection.execute("SELECT scope, seconds FROM model_budgets")
            return dict(await rows.fetchall())


@asynccontextmanager
async def a_desk(
    dsn: str, folder: Path, script: str = HELLO, **settings: Any
) -> AsyncIterator[Desk]:
    """Start a model server, a gateway and a runner whose step ``ask`` runs."""
    async with (
        ModelServer(Script.parse(script), key=KEY) as models,
        aiohttp.ClientSession() as http,
    ):
        credentials = credentials_from({"ANTHROPIC_API_KEY": KEY})
        assert credentials is not None
        provider = AnthropicProvider(http, credentials, models.url)
        chosen = Models(ModelSettings(**settings), provider)
        async with a_server(dsn, folder, models=chosen) as server:
            event_of = {"kind": "push", "repository": {"full_name": "acme/app", "name": "app"}}
            run = a_run(a_step("ask"), a_step("later"), event=event_of)
            await server.engine.context.runs.insert(run)
            server.engine.context.wake_claims()
            name, token = await server.runner()
            async with connected(server.url, name, token) as runner:
                await runner.hello()
                await runner.hear(frames.Welcome)
                assignment = await runner.take()
                started = event(1, EventType.STEP_STARTED, "ask", attempt=1, **{"try": 1})
                await runner.events(assignment, [started])
                await runner.hear(frames.Ack)
                own = step_token(StepClaim(run=run.id, attempt=1, step="ask"), token)
                desk = Desk(server, models, dsn, run.id, own, runner, assignment)
                try:
                    yield desk
                finally:
                    for client in desk.clients:
                        await client.close()


@pytest.fixture
async def desk(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Desk, None]:
    """Give a step that may call a model which says hello."""
    async with a_desk(postgres_dsn, tmp_path) as desk:
        yield desk


# ── the way of a call ────────────────────────────────────────────────────────────────────────────


async def test_a_stream_passes_through_and_is_counted(desk: Desk) -> None:
    """The step sees the provider's events; usage, price and times are recorded, exactly."""
    async with desk.client.messages.stream(**ASK) as stream:
        assert await stream.get_final_text() == "hello there"
    (row,) = await desk.usage()
    assert (str(row["run_id"]), row["attempt"], row["step"]) == (desk.run, 1, "ask")
    assert (row["client"], row["model"]) == ("anthropic/claude-sonnet", "claude-sonnet-5-5")
    assert row["repository"] == "acme/app"
    assert (row["input_tokens"], row["output_tokens"]) == (100, 20)
    assert row["cost_usd"] == Decimal("0.0004")  # 100 at 2 $ and 20 at 10 $ a million
    assert (row["outcome"], row["estimated"]) == ("answered", False)
    assert row["first_token_ms"] <= row["total_ms"]


async def test_an_answer_in_one_piece_is_counted_too(desk: Desk) -> None:
    """Without streaming, the usage is the body's."""
    message = await desk.client.messages.create(**ASK)
    assert message.content[0].text == "hello there"
    (row,) = await desk.usage()
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (100, 20, False)


async def test_the_provider_sees_the_key_and_the_step_does_not(desk: Desk) -> None:
    """The key is added by the gateway; the step's own token goes no further."""
    await desk.client.messages.create(**ASK)
    (call,) = desk.models.calls
    assert call.headers["x-api-key"] == KEY
    assert desk.token not in json.dumps(call.headers) + call.body.decode()
    assert json.loads(call.body)["model"] == "claude-sonnet-5-5"


async def test_counters_hold_what_was_used_when_all_is_settled(desk: Desk) -> None:
    """What was reserved is given back; each scope has the real amount and the number of calls."""
    for _ in range(3):
        await desk.client.messages.create(**ASK)
    await desk.usage()
    used = (Decimal("0.0012"), 360, 3)
    assert dict.fromkeys(["step", "run", "workflow", "day"], used) == await desk.counters()


# ── who may call ─────────────────────────────────────────────────────────────────────────────────


async def test_a_token_dies_with_its_step(desk: Desk) -> None:
    """After `step_completed` is stored, the same token is refused."""
    await desk.client.messages.create(**ASK)
    done = event(2, EventType.STEP_COMPLETED, "ask", attempt=1, state="succeeded", tries=1)
    await desk.runner.events(desk.assignment, [done])
    await desk.runner.hear(frames.Ack)
    await _refused(desk, desk.token, 401)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"step": "later"}, id="a-step-that-does-not-run"),
        pytest.param({"step": "other"}, id="no-such-step"),
        pytest.param({"attempt": 2}, id="another-attempt"),
        pytest.param({"run": "00000000-0000-0000-0000-000000000000"}, id="another-run"),
        pytest.param({"run": "x"}, id="not-an-id"),
        pytest.param({"step": "a\0b"}, id="nul"),
    ],
)
async def test_a_token_is_good_for_its_step_only(desk: Desk, change: dict[str, Any]) -> None:
    """The runner's own signature under any other claim is refused."""
    claim = StepClaim(**({"run": desk.run, "attempt": 1, "step": "ask"} | change))
    await _refused(desk, step_token(claim, "secret"), 401)


def _claiming(claim: bytes) -> str:
    return f"plue-step.{base64.urlsafe_b64encode(claim).decode().rstrip('=')}.x"


_RUN = b"00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "plue-step.x.y", "plue-step..", "plue-step.e30.x"),
        # What the database would not take must not reach it: others are looked for beside it.
        _claiming(b'{"run":"%s","attempt":1,"step":"\\ud800"}' % _RUN),
        _claiming(b'{"run":"%s","attempt":99999999999,"step":"ask"}' % _RUN),
        _claiming(b'{"run":"%s","attempt":1,"step":"\xff"}' % _RUN),
    ],
)
async def test_what_is_no_token_is_refused(desk: Desk, token: str) -> None:
    """Mangled tokens are 401, never 500."""
    async with aiohttp.ClientSession() as http:
        answer = await http.post(
            f"{desk.server.url}/runner/v1/llm/v1/messages", json=ASK, headers={"X-Api-Key": token}
        )
    assert answer.status == 401


async def test_a_forged_token_is_refused(desk: Desk) -> None:
    """A claim that another runner's token signed is refused."""
    claim = StepClaim(run=desk.run, attempt=1, step="ask")
    await _refused(desk, step_token(claim, "another runner's"), 401)


async def _refused(desk: Desk, token: str, status: int, **ask: Any) -> APIStatusError:
    calls = len(desk.models.calls)
    with pytest.raises(APIStatusError) as refused:
        await desk.with_token(token).messages.create(**(ASK | ask))
    assert refused.value.status_code == status
    assert len(desk.models.calls) == calls
    return refused.value


# ── what may be asked ────────────────────────────────────────────────────────────────────────────


AWAY = {"type": "url", "url": "https://example.com/?what=stolen"}
ALONG = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
PAGES = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}


def _picture(source: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "source": source}


def _saying(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        pytest.param({"metadata": {"user_id": "x"}}, "metadata", id="field"),
        pytest.param({"model": "claude-sonnet-5-5"}, "no client", id="model-id"),
        pytest.param({"model": "anthropic/claude-opus"}, "may not use", id="not-of-the-pool"),
        pytest.param({"max_tokens": 33_000, "timeout": 5}, "at most", id="too-long"),
        pytest.param(
            {"tools": [{"type": "web_search_20260318", "name": "web_search"}]},
            "way out",
            id="server-tool",
        ),
        pytest.param(
            {"tools": [{"type": "code_execution_20260521", "name": "web_fetch"}]},
            "way out",
            id="server-tool-in-disguise",
        ),
        pytest.param(
            {"extra_body": {"mcp_servers": [{"url": "https://example.com"}]}},
            "mcp_servers",
            id="connector",
        ),
        pytest.param(
            {"tools": [{"type": "web_fetch_20260318", "name": "web_fetch"}]},
            "tools.0.max_uses",
            id="server-tool-without-a-bound",
        ),
        pytest.param(_saying(_picture(AWAY)), "messages.0.content.0: a source", id="image-by-url"),
        pytest.param(
            _saying({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
            "messages.0.content.0: a source of type 'file'",
            id="file-of-the-key",
        ),
        pytest.param(
            _saying({"type": "tool_result", "tool_use_id": "x", "content": [_picture(AWAY)]}),
            "way out",
            id="image-by-url-in-a-result",
        ),
        pytest.param(
            _saying({"type": "web_fetch_tool_result", "content": {"content": _picture(AWAY)}}),
            "way out",
            id="image-by-url-in-disguise",
        ),
        pytest.param(
            _saying({"type": "container_upload", "file_id": "file_1"}),
            "container_upload",
            id="block",
        ),
        pytest.param(
            {"system": [{"type": "document", "source": AWAY}]}, "system.0", id="system-by-url"
        ),
    ],
)
async def test_what_reaches_out_is_refused(
    postgres_dsn: str, tmp_path: Path, ask: dict[str, Any], said: str
) -> None:
    """Fields, models and server tools beyond the lists are 400, and nothing is reserved."""
    pool = PoolModels(frozenset({"anthropic/claude-sonnet"}), frozenset({"web_fetch"}))
    async with a_desk(postgres_dsn, tmp_path, pools={"default": pool}) as desk:
        error = await _refused(desk, desk.token, 400, **ask)
        assert said in str(error)
        assert await desk.counters() == {}


@pytest.mark.parametrize(
    ("blocks", "beside"),
    [
        ([{"type": "text", "text": "look"}], 0),
        ([_picture(ALONG)], IMAGE_TOKENS),
        ([_picture(ALONG), {"type": "document", "source": PAGES}], IMAGE_TOKENS + PAGES_TOKENS),
        ([{"type": "tool_result", "tool_use_id": "x", "content": [_picture(ALONG)]}], IMAGE_TOKENS),
        ([{"type": "document", "source": {"type": "text", "data": "words"}}], 0),
        ([{"type": "tool_use", "id": "x", "name": "get", "input": {"source": AWAY}}], 0),
        ([{"type": "search_result", "source": "a page", "title": "it", "content": []}], 0),
    ],
)
def test_contents_are_counted_by_more_than_their_bytes(
    blocks: list[dict[str, Any]], beside: int
) -> None:
    """A picture of a few bytes reserves what a picture may cost; a tool's input is only data."""
    body = {"model": "anthropic/claude-sonnet", "max_tokens": 1, **_saying(*blocks)}
    call = admit(json.dumps(body).encode(), pool="default", settings=ModelSettings())
    assert call.input_tokens == len(call.body) // 2 + 1 + beside


def test_a_body_that_is_nested_without_end_is_refused() -> None:
    """It is said to be no JSON, as other mangled bodies are."""
    with pytest.raises(NotAdmittedError, match="not JSON"):
        admit(b"[" * 200_000, pool="default", settings=ModelSettings())


async def test_searches_are_reserved_with_the_tokens(postgres_dsn: str, tmp_path: Path) -> None:
    """A call that may search reserves the fee of every search, and pays those that were made."""
    script = (
        "conversations: [{turns: [{text: found it, usage: {input: 100, output: 20,"
        " web_searches: 2}}]}]"
    )
    pools = {"default": PoolModels(None, frozenset({"web_search"}))}
    search = {"type": "web_search_20260318", "name": "web_search", "max_uses": 20}
    limit = _budget(Scope.STEP, usd=Decimal("0.2"))
    async with a_desk(postgres_dsn, tmp_path, script, pools=pools, **limit) as desk:
        error = await _refused(desk, desk.token, 402, tools=[search])
        assert Decimal(error.response.json()["budget"]["needed"]) > Decimal("0.2")
        await desk.client.messages.create(**ASK, tools=[search | {"max_uses": 2}])  # type: ignore[list-item]
        (row,) = await desk.usage()
    # 100 at 2 $ and 20 at 10 $ a million, and two searches.
    assert (row["web_searches"], row["cost_usd"]) == (2, Decimal("0.0204"))


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────


def _budget(scope: Scope, **limit: Any) -> dict[str, Any]:
    return {"budgets": Budgets({scope: Limit(**limit)})}


@pytest.mark.parametrize(
    ("scope", "unit", "limit"),
    [
        (Scope.STEP, "usd", Decimal("0.0105")),
        (Scope.RUN, "tokens", 1150),
        (Scope.WORKFLOW, "calls", 1),
        (Scope.RUN, "seconds", Decimal(170)),  # one call of 1,000 tokens may take just as long
        (Scope.DAY, "usd", Decimal("0.0105")),
    ],
)
async def test_a_budget_ends_calls_with_402(
    postgres_dsn: str, tmp_path: Path, scope: Scope, unit: str, limit: Any
) -> None:
    """The call that may not fit is refused before it is made, with what is left and needed."""
    async with a_desk(postgres_dsn, tmp_path, **_budget(scope, **{unit: limit})) as desk:
        await desk.client.messages.create(**ASK)
        error = await _refused(desk, desk.token, 402)
        budget = error.response.json()["budget"]
        assert (budget["scope"], budget["unit"]) == (scope.value, unit)
        assert Decimal(budget["left"]) < Decimal(budget["needed"])
        assert error.response.headers["x-should-retry"] == "false"


async def test_calls_side_by_side_cannot_overspend(postgres_dsn: str, tmp_path: Path) -> None:
    """Of ten calls at once, exactly those go through whose worst case fits together."""
    script = "conversations: [{turns: [{text: hello, delay: 0.05}]}]"
    async with a_desk(postgres_dsn, tmp_path, script, **_budget(Scope.RUN, calls=4)) as desk:
        client = desk.client
        answers = await asyncio.gather(
            *(client.messages.create(**ASK) for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(a, APIStatusError) for a in answers) == 6
        assert len(desk.models.calls) == 4


async def test_calls_that_begin_and_end_side_by_side_never_wait_for_each_other(
    desk: Desk,
) -> None:
    """Reserving and settling lock the counters in one order: nobody is told of a deadlock."""
    usage = desk.server.engine.context.usage
    caller = await usage.caller(desk.run, 1, "ask")
    assert caller is not None
    wanted = Wanted(caller, 1, "c", "m", Amount(Decimal("0.5"), 1000, 1))

    async def call() -> None:
        for _ in range(10):
            reserved = await usage.reserve(wanted, Budgets())
            assert isinstance(reserved, Reservation)
            assert await usage.settle(reserved.id, Spend(Tokens(7), Decimal("0.1"), "answered"))

    await asyncio.gather(*(call() for _ in range(16)))
    assert (await desk.counters())["day"] == (Decimal(16), 1120, 160)


async def test_time_cannot_be_overspent_side_by_side(postgres_dsn: str, tmp_path: Path) -> None:
    """Of six calls at once, those go through whose longest times fit; time is then given back.

    Each of 1,000 tokens may take 170 seconds. What a call took is what its row says.
    """
    script = "conversations: [{turns: [{text: hello, delay: 0.05}]}]"
    limit = _budget(Scope.RUN, seconds=Decimal(600))
    async with a_desk(postgres_dsn, tmp_path, script, **limit) as desk:
        client = desk.client
        answers = await asyncio.gather(
            *(client.messages.create(**ASK) for _ in range(6)), return_exceptions=True
        )
        refused = [a.response.json()["budget"] for a in answers if isinstance(a, APIStatusError)]
        assert (len(refused), len(desk.models.calls)) == (3, 3)
        # 90 of 600 seconds were left: too little for any answer, before one has come.
        short = {"scope": "run", "unit": "seconds", "output_tokens": 0}
        assert [{k: r[k] for k in short} for r in refused] == [short] * 3
        rows = await desk.usage()
        took = sum((Decimal(row["total_ms"]) / 1000 for row in rows), Decimal(0))
        assert took > 0
        assert await desk.seconds() == dict.fromkeys(["step", "run", "workflow", "day"], took)


async def test_a_shorter_answer_is_offered_where_time_is_short(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """A refusal says how long an answer the time left is enough for, and that call is made."""
    limit = _budget(Scope.STEP, seconds=Decimal(150))
    async with a_desk(postgres_dsn, tmp_path, **limit) as desk:
        error = await _refused(desk, desk.token, 402)
        fits = error.response.json()["budget"]["output_tokens"]
        assert fits == 600
        await desk.client.messages.create(**ASK | {"max_tokens": fits})


@pytest.mark.parametrize(("stream", "after"), [(True, 4), (False, 0)])
async def test_a_call_is_ended_when_its_time_is_over(
    postgres_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stream: bool,
    after: int,
) -> None:
    """An answer that hangs is cut at the time that was reserved, and counted as that, not more."""
    monkeypatch.setattr("plue.domain.budget._BEFORE_THE_ANSWER", Decimal("0.25"))
    script = f"conversations: [{{turns: [{{text: never, chunk: 1, before: [{{hang: {after}}}]}}]}}]"
    limit = _budget(Scope.STEP, seconds=Decimal("0.6"))
    async with a_desk(postgres_dsn, tmp_path, script, **limit) as desk:
        ask, client = ASK | {"max_tokens": 5}, desk.client

        async def call() -> None:
            if stream:
                async with client.messages.stream(**ask) as answer:
                    await answer.until_done()
            else:
                await client.messages.create(**ask)

        with pytest.raises(Exception) as ended:  # noqa: PT011 - the client has several for it
            await asyncio.wait_for(call(), PATIENCE)
        assert not isinstance(ended.value, TimeoutError)
        (row,) = await desk.usage()
        assert (row["outcome"], row["estimated"]) == ("timeout", True)
        assert row["total_ms"] >= 500
        assert (await desk.seconds())["step"] == Decimal("0.5")
        await _refused(desk, desk.token, 402, max_tokens=5)


async def test_a_waiting_call_goes_on_when_the_budget_is_extended(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """A call held for a budget is made as soon as somebody extends it, and is paid once."""
    async with a_desk(postgres_dsn, tmp_path, **_budget(Scope.RUN, calls=1)) as desk:
        client = desk.client
        await client.messages.create(**ASK)
        held = asyncio.create_task(
            client.messages.create(**ASK, extra_headers={"X-Plue-Wait": "20"})
        )
        await asyncio.sleep(0.2)
        assert not held.done()
        await desk.server.engine.extend_budget(desk.run, Amount(calls=1))
        message = await asyncio.wait_for(held, 1.5)
        assert message.content[0].text == "hello there"
        assert (await desk.counters())["run"][2] == 2


async def test_answers_tell_the_tightest_budget(postgres_dsn: str, tmp_path: Path) -> None:
    """Each answer says how much of the tightest budget is left, so that an agent can be told."""
    async with a_desk(postgres_dsn, tmp_path, **_budget(Scope.STEP, calls=4)) as desk:
        raw = await desk.client.messages.with_raw_response.create(**ASK)
        said = json.loads(raw.headers["x-plue-budget"])
        assert said == {"scope": "step", "unit": "calls", "limit": "4", "left": "3"}


async def test_time_is_not_said_to_be_used_up_by_the_call_itself(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """The longest that a call may take is reserved, but an agent is told what is really left."""
    limit = _budget(Scope.STEP, seconds=Decimal(170))
    async with a_desk(postgres_dsn, tmp_path, **limit) as desk:
        raw = await desk.client.messages.with_raw_response.create(**ASK)
        said = json.loads(raw.headers["x-plue-budget"])
        assert said == {"scope": "step", "unit": "seconds", "limit": "170", "left": "170"}


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


async def test_overload_passes_through_and_costs_nothing(postgres_dsn: str, tmp_path: Path) -> None:
    """A 529 reaches the step with its retry-after; nothing is paid or kept for it."""
    script = "conversations: [{turns: [{text: hi, before: [{status: 529, retry_after_ms: 1500}]}]}]"
    async with a_desk(postgres_dsn, tmp_path, script) as desk:
        with pytest.raises(APIStatusError) as overloaded:
            await desk.client.messages.create(**ASK)
        assert overloaded.value.status_code == 529
        assert overloaded.value.response.headers["retry-after-ms"] == "1500"
        (row,) = await desk.usage()
        assert (row["outcome"], row["cost_usd"], row["estimated"]) == ("status 529", 0, False)
        assert (await desk.counters())["run"][:2] == (Decimal(0), 0)


@pytest.mark.parametrize("after", [0, 1, 4, 6])
async def test_a_cut_stream_is_settled_as_an_estimate(
    postgres_dsn: str, tmp_path: Path, after: int
) -> None:
    """Wherever the provider's stream is cut, the step sees a cut, and an estimate is recorded."""
    script = (
        "conversations: [{turns: [{text: a long answer, usage: {input: 100, output: 20},"
        f" before: [{{cut: {after}}}]}}]}}]"
    )
    async with a_desk(postgres_dsn, tmp_path, script) as desk:
        with pytest.raises(Exception):  # noqa: B017, PT011 - the client has several for it
            async with desk.client.messages.stream(**ASK) as stream:
                await stream.until_done()
        (row,) = await desk.usage()
        assert (row["outcome"], row["estimated"]) == ("cut", True)
        assert row["cost_usd"] > 0
        assert (await desk.counters())["run"][0] == row["cost_usd"]


async def test_a_step_that_goes_away_aborts_the_call(postgres_dsn: str, tmp_path: Path) -> None:
    """When the caller leaves, the provider's answer is aborted at once, and settled as is."""
    script = "conversations: [{turns: [{text: a very long answer, chunk: 1, before: [{hang: 6}]}]}]"
    async with a_desk(postgres_dsn, tmp_path, script) as desk:
        async with desk.client.messages.stream(**ASK) as stream:
            async for event_ in stream:
                if event_.type == "text":
                    break
        (row,) = await desk.usage()
        assert (row["outcome"], row["estimated"]) == ("caller left", True)


async def test_a_provider_that_is_away_is_said(postgres_dsn: str, tmp_path: Path) -> None:
    """A provider that cannot be reached is 502, and costs nothing."""
    async with a_desk(postgres_dsn, tmp_path) as desk:
        await desk.models.close()
        with pytest.raises(APIStatusError) as away:
            await desk.client.messages.create(**ASK)
        assert away.value.status_code == 502
        (row,) = await desk.usage()
        assert (row["outcome"], row["cost_usd"]) == ("provider away", 0)


async def test_what_a_dead_gateway_left_open_is_settled(desk: Desk) -> None:
    """A call open beyond its time counts as what it had reserved, marked as an estimate."""
    usage = desk.server.engine.context.usage
    caller = await usage.caller(desk.run, 1, "ask")
    assert caller is not None
    most = Amount(Decimal("0.5"), 1000, 1, Decimal(90))
    await usage.reserve(Wanted(caller, 1, "c", "m", most), Budgets())
    assert await usage.settle_abandoned(older=timedelta(hours=1)) == 0
    assert await usage.settle_abandoned(older=timedelta(0)) == 0
    assert await usage.settle_abandoned(older=timedelta(seconds=-91)) == 1
    (row,) = await desk.usage()
    assert (row["cost_usd"], row["estimated"]) == (Decimal("0.5"), True)
    assert (await desk.counters())["run"] == (Decimal("0.5"), 1000, 1)
    assert (await desk.seconds())["run"] == Decimal(90)

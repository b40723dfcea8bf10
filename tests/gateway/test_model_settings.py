"""Model settings of a server: the file, the line of budgets, and the key's place."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from ssl import create_default_context
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from plue.domain.budget import Limit, Scope
from plue.errors import UnavailableError, UsageError
from plue.gateway.llm.configuration import models_with, read_file, settings_of
from plue.gateway.llm.providers import AnthropicProvider, credentials_from
from plue.gateway.llm.settings import CLIENTS, PoolModels
from plue.kube.foundation import Foundation
from plue.kube.login import Login
from plue.kube.settings import OperatorOptions

PAGE = (Path(__file__).parents[2] / "docs/models.md").read_text()
EXAMPLE = re.search(r"^```yaml models.yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINE = "run.usd=10,day.usd=100"


def a_file(folder: Path, text: str) -> Path:
    """Write the settings' file."""
    path = folder / "models.yaml"
    path.write_text(text)
    return path


def test_the_example_of_the_page_is_read(tmp_path: Path) -> None:
    """Clients, pools, budgets, prices and the longest answer are what the page says."""
    assert EXAMPLE is not None
    found = settings_of(read_file(a_file(tmp_path, EXAMPLE[1])), LINE)
    both = frozenset({"anthropic/claude-sonnet", "anthropic/claude-haiku"})
    assert found.pools == {"default": PoolModels(both, frozenset({"web_search"}))}
    assert found.budgets.of(Scope.DAY) == Limit(Decimal(50), 20_000_000, 5000, Decimal(36_000))
    assert found.budgets.of(Scope.STEP) == Limit(Decimal(2))
    assert found.prices["claude-sonnet-5-5"]["cache_read"] == 0.1
    assert (found.output_tokens, found.of_pool("other")) == (32_000, PoolModels())


def test_without_a_file_the_line_counts() -> None:
    """The built-in names, and the budgets of the line."""
    found = settings_of(read_file(None), LINE)
    assert found.clients == CLIENTS
    assert found.budgets.of(Scope.RUN) == Limit(Decimal(10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clents: {}", "clents: Extra inputs"),
        ("pools: {default: {clients: [anthropic/gpt]}}", "there is no 'anthropic/gpt'"),
        ("pools: {default: {server_tools: [bash]}}", "there is no 'bash'"),
        ("budgets: {run: {usd: -1}}", "budgets.run.usd"),
        ("budgets: {run: {seconds: -1}}", "budgets.run.seconds"),
        ("budgets: {year: {usd: 1}}", "budgets.year"),
        ("prices: {m: {input: free}}", "prices.m.input"),
        ("a: [", "while parsing"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    """A wrong setting stops the server's start, with its place."""
    path = a_file(tmp_path, text)
    with pytest.raises(UsageError) as wrong:
        read_file(path)
    assert str(path) in wrong.value.message
    assert said in wrong.value.message


async def test_a_cluster_has_the_key_of_a_mounted_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operator and gateway read settings and key as their pod is given them, each time anew."""
    key = tmp_path / "key"
    key.write_text("first\n")
    monkeypatch.setenv("PLUE_ANTHROPIC_KEY_FILE", str(key))
    path = a_file(tmp_path, "clients: {anthropic/own: own-1}\nbase_url: http://127.0.0.1:9")
    options = OperatorOptions.load(database="none", gateway_url="none", models=path)
    base = Foundation(
        options, Login("http://127.0.0.1:9", create_default_context(), lambda: None, "x")
    )
    async with base.parts:
        models = await base.open_models()
        assert isinstance(models.provider, AnthropicProvider)
        assert models.settings.clients["anthropic/own"] == "own-1"
        assert models.settings.budgets.of(Scope.DAY) == Limit(Decimal(100))
        assert await models.provider._credentials() == {"x-api-key": "first"}
        key.write_text("second\n")
        assert await models.provider._credentials() == {"x-api-key": "second"}


async def test_without_a_key_there_is_no_provider() -> None:
    """The settings are there all the same, for what they refuse."""
    async with AsyncExitStack() as parts:
        found = await models_with(settings_of(read_file(None), ""), {}, parts)
    assert found.provider is None


@pytest.mark.parametrize(
    ("seconds", "exchanged"),
    [
        pytest.param(3600, ["the-pods-own"], id="kept"),
        pytest.param(1, ["the-pods-own", "its-successor"], id="rotated"),
    ],
)
async def test_an_identity_token_is_exchanged_in_the_place_of_a_key(
    seconds: int, exchanged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod's own token proves who asks; calls carry what it was exchanged for.

    That is kept as long as it is good; then the file is read again, which holds a new one by then.
    """
    asked: list[dict[str, Any]] = []

    async def exchange(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.json_response(
            {"access_token": "short-lived", "token_type": "Bearer", "expires_in": seconds}
        )

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(dict(request.headers))

    file = tmp_path / "token"
    file.write_text("the-pods-own")
    given = {
        "ANTHROPIC_IDENTITY_TOKEN_FILE": str(file),
        "ANTHROPIC_FEDERATION_RULE_ID": "rule",
        "ANTHROPIC_ORGANIZATION_ID": "acme",
    }
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    app = web.Application()
    app.router.add_post("/v1/oauth/token", exchange)
    app.router.add_post("/v1/messages", answer)
    async with TestServer(app) as server, AsyncExitStack() as parts:
        url = str(server.make_url("/"))
        found = await models_with(settings_of(read_file(None), ""), given, parts, base_url=url)
        assert found.provider is not None
        for _ in range(2):
            async with found.provider.call(b"{}") as upstream:
                said = json.loads(b"".join([chunk async for chunk in upstream.chunks]))
            headers = {name.lower(): value for name, value in said.items()}
            assert headers["authorization"] == "Bearer short-lived"
            assert headers["anthropic-beta"] == "oauth-2025-04-20"
            assert "x-api-key" not in headers
            file.write_text("its-successor")
    assert [a["assertion"] for a in asked] == exchanged
    assert {a["federation_rule_id"] for a in asked} == {"rule"}


async def test_an_identity_token_alone_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing beside it is named, when a call is made."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_FEDERATION_RULE_ID", "ANTHROPIC_ORGANIZATION_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path / "empty"))
    credentials = credentials_from({"ANTHROPIC_IDENTITY_TOKEN_FILE": str(tmp_path / "token")})
    assert credentials is not None
    with pytest.raises(UnavailableError, match="identity token"):
        await credentials()


async def test_more_streams_than_a_hundred_go_on_at_once() -> None:
    """No call waits for another's connection: the provider sees all of them before one ends."""
    calls = 130
    together = asyncio.Barrier(calls)

    async def answer(_: web.Request) -> web.Response:
        await together.wait()
        return web.Response(text="{}")

    app = web.Application()
    app.router.add_post("/v1/messages", answer)
    async with TestServer(app) as server, AsyncExitStack() as parts, asyncio.timeout(20):
        url, key = str(server.make_url("/")), {"ANTHROPIC_API_KEY": "key"}
        found = await models_with(settings_of(read_file(None), ""), key, parts, base_url=url)
        provider = found.provider
        assert provider is not None

        async def ask() -> int:
            async with provider.call(b"{}") as upstream:
                return upstream.status

        assert await asyncio.gather(*(ask() for _ in range(calls))) == [200] * calls

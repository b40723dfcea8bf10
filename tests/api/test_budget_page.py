"""The page of a run's budgets, as a browser without scripts uses it, on the real store."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from api.served import TOKEN, an_api
from factories import a_run
from models.conftest import ask
from server import a_server

from plue.api.access import LocalAccess
from plue.api.callers import Caller as Somebody
from plue.api.callers import Resource, Verb
from plue.domain.budget import Amount, Books, Budgets, Limit, Scope
from plue.domain.run import RunId
from plue.engine.service import Engine
from plue.store.usage import Caller, Reservation, Spend, Tokens, Wanted

MOST = Amount(Decimal(2), 1000, 1, Decimal(120))
BUDGETS = Budgets(
    {
        Scope.STEP: Limit(seconds=Decimal(600)),
        Scope.RUN: Limit(usd=Decimal(10), tokens=20_000),
        Scope.DAY: Limit(calls=7),
    }
)
CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')


@dataclass
class Shown:
    """A run with one settled and one open call, and a browser that has logged in."""

    engine: Engine
    run: RunId
    browser: aiohttp.ClientSession

    @property
    def path(self) -> str:
        return f"/runs/{self.run}/budget"

    async def page(self) -> str:
        async with self.browser.get(self.path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.text()

    async def send(self, **fields: str) -> tuple[int, str]:
        """Send the form as the page has it, but for *fields*; return the status and the page."""
        csrf = CSRF.search(await self.page())
        assert csrf is not None
        form = {"csrf": csrf[1], "whose": "run", "unit": "usd", "amount": "2.5"} | fields
        async with self.browser.post(self.path, data=form, allow_redirects=False) as answer:
            if answer.status == 303:
                assert answer.headers["Location"] == self.path
            return answer.status, await answer.text()

    async def books(self, scope: Scope = Scope.RUN) -> Books:
        """Return the books of a scope."""
        (found,) = [one for one in await self.engine.budgets_of(self.run) if one.scope is scope]
        return found


@pytest.fixture
async def shown(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Shown, None]:
    """Serve the API over an engine that knows the run."""
    async with a_server(postgres_dsn, tmp_path) as server:
        run = a_run(ask("<b>"))
        await server.engine.context.runs.insert(run)
        usage = server.engine.context.usage
        wanted = Wanted(Caller(run.id, 1, "<b>", "default", "ci", b"", None), 1, "x/a", "a", MOST)
        held = await usage.reserve(wanted, BUDGETS)
        assert isinstance(held, Reservation)
        spent = Spend(Tokens(300), Decimal("0.25"), "answered", total_ms=1500)
        await usage.settle(held.id, spent)
        assert isinstance(await usage.reserve(wanted, BUDGETS), Reservation)
        app, _ = an_api(tmp_path, server.engine)
        async with TestServer(app) as served:
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(served.make_url("/"), cookie_jar=jar) as browser:
                await browser.get(f"/login?token={TOKEN}")
                yield Shown(server.engine, run.id, browser)


async def test_the_books_tell_used_from_reserved(shown: Shown) -> None:
    """What is settled is used, the most of open calls is reserved, in each scope alike."""
    books = {one.scope: one for one in await shown.engine.budgets_of(shown.run)}
    assert list(books) == list(Scope)
    assert {one.used for one in books.values()} == {Amount(Decimal("0.25"), 300, 1, Decimal("1.5"))}
    assert {one.reserved for one in books.values()} == {MOST}
    assert {scope: one.limit for scope, one in books.items()} == {
        scope: BUDGETS.of(scope) for scope in Scope
    }
    assert {one.step for one in books.values()} == {"<b>", ""}


async def test_programs_read_the_same_books(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, from the narrowest, with what is left; those of all only for who reads them all."""
    await shown.engine.extend_budget(shown.run, Amount(Decimal(5)))
    path = f"/api/v1/runs/{shown.run}/budgets"
    async with shown.browser.get(path) as answer:
        assert answer.status == 200, await answer.text()
        step, run, workflow, day = (await answer.json())["budgets"]
    assert (step["scope"], step["step"], run["scope"]) == ("step", "<b>", "run")
    assert run["usd"] == {"used": 0.25, "reserved": 2, "limit": 15, "extended": 5, "left": 12.75}
    assert step["seconds"] == {
        "used": 1.5, "reserved": 120, "limit": 600, "extended": 0, "left": 478.5
    }  # fmt: skip
    unlimited = {"used": 300, "reserved": 1000, "limit": None, "extended": 0, "left": None}
    assert workflow["tokens"] == unlimited
    assert (day["calls"]["limit"], day["calls"]["left"]) == (7, 5)

    async def may(
        _access: LocalAccess, _who: Somebody, _verb: Verb, _what: Resource, where: str | None
    ) -> bool:
        return where is not None

    monkeypatch.setattr(LocalAccess, "may", may)
    async with shown.browser.get(path) as answer:
        assert [one["scope"] for one in (await answer.json())["budgets"]] == ["step", "run"]


async def test_the_page_has_a_row_for_each_limit(shown: Shown) -> None:
    """It is safe to show, names what is limited, and is ready to extend the tightest."""
    async with shown.browser.get(shown.path) as answer:
        text = await answer.text()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        # With no-referrer, browsers would send `Origin: null` with the form.
        assert answer.headers["Referrer-Policy"] == "same-origin"
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall("<tr>.*?</tr>", text)]
    assert ["seconds", "of", "calls", "1.5", "120", "600"] in rows
    assert ["US", "dollars", "0.25", "2", "10"] in rows
    assert ["tokens", "300", "1,000", "20,000"] in rows
    assert ["calls", "1", "1", "7"] in rows
    assert "Step &lt;b&gt;" in text
    assert "<b>" not in text
    assert re.findall(r'value="([^"]*)" selected', text) == ["day", "calls"]


@pytest.mark.parametrize(
    ("fields", "scope", "extra"),
    [
        ({}, Scope.RUN, Amount(usd=Decimal("2.5"))),
        ({"unit": "seconds"}, Scope.RUN, Amount(seconds=Decimal("2.5"))),
        ({"whose": "step/<b>", "unit": "tokens", "amount": "50"}, Scope.STEP, Amount(tokens=50)),
        ({"whose": "day", "unit": "calls", "amount": "3"}, Scope.DAY, Amount(calls=3)),
    ],
)
async def test_the_form_extends_what_was_chosen(
    shown: Shown, fields: dict[str, str], scope: Scope, extra: Amount
) -> None:
    """It leads back to the page, which says what was added where there is a limit."""
    status, _ = await shown.send(**fields)
    assert status == 303
    assert (await shown.books(scope)).extra == extra
    assert ("2.5 of it added" in await shown.page()) == (fields == {})


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": "0"},
        {"amount": "much"},
        {"amount": "NaN"},
        {"unit": "calls", "amount": "1.5"},
        {"unit": "euro"},
        {"whose": "step"},
        {"whose": "year"},
        {"amount": ""},
        {"more": "x"},
    ],
)
async def test_what_is_wrong_is_said_on_the_page(shown: Shown, fields: dict[str, str]) -> None:
    """The page comes back with 422 and what was typed; nothing is extended."""
    status, text = await shown.send(**fields)
    assert (status, "It was not extended" in text) == (422, True)
    if "amount" in fields:
        assert f'value="{fields["amount"]}"' in text
    assert [one.extra for one in await shown.engine.budgets_of(shown.run)] == [Amount()] * 4


@pytest.mark.parametrize("csrf", ["", "0" * 64])
async def test_a_form_of_another_page_is_refused(shown: Shown, csrf: str) -> None:
    """The cookie alone extends nothing: the form carries what only our page knows."""
    assert (await shown.send(csrf=csrf))[0] == 403
    async with shown.browser.post(shown.path, data={"whose": "run"}) as answer:
        assert answer.status == 403
    async with shown.browser.post(shown.path, json={"usd": 1}) as answer:
        assert answer.status == 415
    assert (await shown.books()).extra == Amount()


async def test_who_may_only_read_has_no_form(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights are those of `plue run extend`; sums of all namespaces are for who reads them all."""
    rights: dict[str, Any] = {"verbs": {Verb.GET, Verb.LIST, Verb.PATCH}}

    async def may(
        _access: LocalAccess, _who: Somebody, verb: Verb, _what: Resource, where: str | None
    ) -> bool:
        return where is not None and verb in rights["verbs"]

    monkeypatch.setattr(LocalAccess, "may", may)
    text = await shown.page()
    assert ("All runs" in text, "This run" in text, "<form" in text) == (False, True, True)
    assert (await shown.send())[0] == 303
    assert (await shown.send(whose="day"))[0] == 403
    csrf = CSRF.search(text)
    assert csrf is not None
    rights["verbs"] = {Verb.GET, Verb.LIST}
    assert "<form" not in await shown.page()
    form = {"csrf": csrf[1], "whose": "run", "unit": "usd", "amount": "1"}
    async with shown.browser.post(shown.path, data=form) as answer:
        assert answer.status == 403
    rights["verbs"] = set()
    async with shown.browser.get(shown.path) as answer:
        assert answer.status == 404
    assert (await shown.books()).extra == Amount(usd=Decimal("2.5"))

"""The page of a run's budgets: what is used of them, and a form that allows more."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Annotated, Literal
from urllib.parse import quote

from aiohttp import web
from multidict import MultiDict
from pydantic import BaseModel, ConfigDict, Field

from plue.api.callers import ACCESS, Verb, found_run, permitted
from plue.api.intake import parse_body, parse_query
from plue.api.keys import ENGINE
from plue.api.models import ExtendBudget
from plue.api.pages import FORM, page
from plue.api.problems import ForbiddenError, MediaTypeError
from plue.api.routes import Call, Nothing, Outcome, Route
from plue.api.usage import allow_more, books_of
from plue.domain.budget import UNITS, Books, Scope, Unit
from plue.domain.run import RunDetails
from plue.errors import NotFoundError, RejectedError
from plue.wire.events import Reason, StepState

__all__ = ["BUDGET_PAGES"]

_WORDS = {
    "usd": "US dollars",
    "tokens": "tokens",
    "calls": "calls",
    "seconds": "seconds of calls",
}
_SHARED = {Scope.WORKFLOW: "All runs of {workflow} today", Scope.DAY: "All runs today"}


class _Form(BaseModel):
    """What the form sends; its CSRF token was looked at before."""

    model_config = ConfigDict(extra="forbid")

    csrf: str = ""
    whose: Annotated[str, Field(max_length=210)]
    unit: Literal["usd", "tokens", "calls", "seconds"]
    amount: Annotated[Decimal, Field(gt=0, le=10**12, max_digits=16)]


@dataclass(frozen=True, slots=True)
class _Choice:
    whose: str
    unit: str
    amount: str = ""


async def budget_page(call: Call[Nothing, Nothing]) -> Outcome:
    """Show a run's budgets."""
    return await _shown(call)


async def extend_by_form(call: Call[Nothing, Nothing]) -> Outcome:
    """Allow more, and lead back to the page; what is wrong is said there."""
    if call.request.content_type != FORM:
        raise MediaTypeError(f"the body is no form: send `Content-Type: {FORM}`")
    given = await call.request.post()
    try:
        form = parse_query(_Form, MultiDict((k, str(v)) for k, v in given.items()))
        await allow_more(call, _wanted(form))
    except (ForbiddenError, NotFoundError):
        raise
    except RejectedError as error:
        said = [str(given.get(name, "")) for name in ("whose", "unit", "amount")]
        return await _shown(call, wrong=error.message, chosen=_Choice(*said))
    there = f"/runs/{quote(call.part('id'), safe='')}/budget"
    return web.Response(status=303, headers={"Location": there})


def _wanted(form: _Form) -> ExtendBudget:
    """Return what the form asks for, as the API takes it. Raises RejectedError."""
    scope, _, step = form.whose.partition("/")
    body: dict[str, object] = {"scope": scope, form.unit: float(form.amount)}
    if form.unit in {"tokens", "calls"} and form.amount == int(form.amount):
        body[form.unit] = int(form.amount)
    return parse_body(ExtendBudget, body | ({"step": step} if step else {}))


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


async def _shown(
    call: Call[Nothing, Nothing], *, wrong: str = "", chosen: _Choice | None = None
) -> web.Response:
    request, engine = call.request, call.request.app[ENGINE]
    run = await found_run(call)
    details = await engine.details(run)
    books = await books_of(call, run)
    parts = [_note(f"It was not extended: {escape(wrong)}.")] if wrong else []
    parts += [
        _note(f"Step <b>{escape(step.name)}</b> waits: {escape(step.message or 'for its budget')}")
        for step in details.steps
        if step.state is StepState.WAITING and step.reason is Reason.BUDGET
    ]
    parts.append(_table(books, details))
    if await permitted(request, Verb.PATCH, details.run.namespace):
        shared = await permitted(request, Verb.PATCH, None)
        token = request.app[ACCESS].form_token(request)
        parts.append(_form(details, chosen or _tightest(books), token, shared=shared))
    else:
        parts.append("<p>To allow more takes the right to change this run.</p>")
    title = f"Budgets of {escape(details.run.name)}"
    return page(title, "\n".join(parts), status=422 if wrong else 200)


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _table(books: Sequence[Books], details: RunDetails) -> str:
    if not books:
        return "<p>It has not asked a model yet.</p>"
    heads = "".join(f'<th scope="col" class="n">{h}</th>' for h in ("used", "reserved", "limit"))
    bodies = "".join(_group(one, details) for one in books)
    return (
        f'<table><thead><tr><th scope="col">budget</th>{heads}</tr></thead>{bodies}</table>'
        "<p>Reserved is the most that calls on their way can use. What is not used of it is given"
        " back.</p>"
    )


def _group(books: Books, details: RunDetails) -> str:
    """Return the rows of a scope: what is limited of it, and all of the run."""
    units = [u for u in UNITS if books.scope is Scope.RUN or books.limit_of(u) is not None]
    if not units:
        return ""
    head = f'<tr><th scope="rowgroup" colspan="4">{_whose(books, details)}</th></tr>'
    return f"<tbody>{head}{''.join(_row(books, unit) for unit in units)}</tbody>"


def _row(books: Books, unit: Unit) -> str:
    limit = books.limit_of(unit)
    more = getattr(books.extra, unit)
    shown = [getattr(books.used, unit), getattr(books.reserved, unit)]
    cells = "".join(f"<td>{_number(one)}</td>" for one in shown)
    last = "none" if limit is None else _number(limit)
    added = f"<br><small>{_number(more)} of it added</small>" if more and limit is not None else ""
    return f'<tr><th scope="row">{_WORDS[unit]}</th>{cells}<td>{last}{added}</td></tr>'


def _whose(books: Books, details: RunDetails) -> str:
    if books.scope is Scope.STEP:
        return f"Step {escape(books.step)}"
    named = _SHARED.get(books.scope, "This run")
    return named.format(workflow=escape(details.run.workflow))


def _number(amount: Decimal | int) -> str:
    text = f"{amount:,.4f}" if isinstance(amount, Decimal) else f"{amount:,}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _form(details: RunDetails, chosen: _Choice, token: str, *, shared: bool) -> str:
    whose = [("run", "This run")]
    whose += [
        (f"step/{step.name}", f"Step {step.name}")
        for step in details.steps
        if step.kind in {"llm", "agent"}
    ]
    if shared:
        whose += [
            (scope.value, words.format(workflow=details.run.workflow))
            for scope, words in _SHARED.items()
        ]
    return (
        f'<h2>Allow more</h2><form method="post"><input type="hidden" name="csrf" value="{token}">'
        f"<label>whose {_select('whose', whose, chosen.whose)}</label>"
        '<label>how much <input name="amount" type="number" min="0" step="any" required'
        f' value="{escape(chosen.amount)}"></label>'
        f"<label>of {_select('unit', _WORDS.items(), chosen.unit)}</label>"
        '<div><button class="b">Allow more</button></div></form>'
    )


def _select(name: str, options: Iterable[tuple[str, str]], chosen: str) -> str:
    listed = "".join(
        f'<option value="{escape(value)}"{" selected" * (value == chosen)}>{escape(text)}</option>'
        for value, text in options
    )
    return f'<select name="{name}">{listed}</select>'


def _tightest(books: Sequence[Books]) -> _Choice:
    """Return the budget of which the smallest share is left: what is likely to be extended."""
    found = [
        (one.left_of(unit) / limit, f"step/{one.step}" if one.step else one.scope.value, unit)
        for one in books
        for unit in UNITS
        if (limit := one.limit_of(unit))
    ]
    least = min(found, key=lambda one: one[0], default=None)
    return _Choice("run", "usd") if least is None else _Choice(least[1], least[2])


BUDGET_PAGES = (
    Route(
        method="GET",
        path="/runs/{id}/budget",
        handler=budget_page,
        summary="The page of a run's budgets",
        query=Nothing,
        body=Nothing,
        produces={"text/html": None},
    ),
    Route(
        method="POST",
        path="/runs/{id}/budget",
        handler=extend_by_form,
        audited="run.extend-budget",
        summary="Extend a budget by that page's form",
        description="Programs use `POST /api/v1/runs/{id}/budget`.",
        query=Nothing,
        body=Nothing,
        produces={"text/html": None},
        status=303,
        errors=(415,),
        uploads=FORM,
    ),
)
"""The page and what its form sends."""

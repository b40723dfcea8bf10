"""Model usage and budgets."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from plue.api.callers import Verb, found_run, permitted, readable, require
from plue.api.keys import ENGINE
from plue.api.models import (
    BudgetBody,
    BudgetReport,
    BudgetUnit,
    ExtendBudget,
    UsageLineBody,
    UsageReport,
)
from plue.api.queries import UsageQuery
from plue.api.routes import Call, Nothing, Outcome
from plue.domain.budget import SHARED, Amount, Books, Scope, Unit
from plue.domain.run import RunId
from plue.errors import RejectedError
from plue.store.usage import UsageLine

__all__ = ["allow_more", "books_of", "extend_budget", "get_budgets", "get_run_usage", "get_usage"]

_DEFAULT_DAYS = timedelta(days=30)


async def get_usage(call: Call[UsageQuery, Nothing]) -> Outcome:
    """Sum model usage up."""
    query = call.query
    until = query.until or datetime.now(UTC).date()
    since = query.since or until - _DEFAULT_DAYS
    if since > until:
        raise RejectedError("`since` lies after `until`", field="since")
    lines = await call.request.app[ENGINE].usage(
        since,
        until,
        by=query.by,
        workflow=query.workflow,
        namespaces=await readable(call.request, query.namespace),
    )
    return _report(lines)


async def get_run_usage(call: Call[Nothing, Nothing]) -> Outcome:
    """Show what a run used, by step and model."""
    engine = call.request.app[ENGINE]
    return _report(await engine.usage_of(await found_run(call)))


async def get_budgets(call: Call[Nothing, Nothing]) -> Outcome:
    """Show what is used, reserved and allowed of a run's budgets."""
    books = await books_of(call, await found_run(call))
    return BudgetReport(budgets=[_budget(one) for one in books])


async def books_of(call: Call[Any, Any], run: RunId) -> list[Books]:
    """Return the budgets of *run* that the caller may see.

    What runs of every namespace used together is for those who may read them all.
    """
    everything = await permitted(call.request, Verb.GET, None)
    found = await call.request.app[ENGINE].budgets_of(run)
    return [books for books in found if everything or books.scope not in SHARED]


async def extend_budget(call: Call[Nothing, ExtendBudget]) -> Outcome:
    """Allow more, and let calls that wait for it go on."""
    run = await allow_more(call, call.body)
    return _report(await call.request.app[ENGINE].usage_of(run))


async def allow_more(call: Call[Any, Any], body: ExtendBudget) -> RunId:
    """Extend what *body* says of the run that the path names; return the run.

    Raises RejectedError, ForbiddenError and NotFoundError.
    """
    if not (body.usd or body.tokens or body.calls or body.seconds):
        raise RejectedError("say by how much: `usd`, `tokens`, `calls` or `seconds`", field="usd")
    scope = Scope(body.scope or ("run" if body.step is None else "step"))
    if (scope is Scope.STEP) != (body.step is not None):
        raise RejectedError("the scope `step` and the name of a step go together", field="step")
    run = await found_run(call, Verb.PATCH)
    if scope in SHARED:
        # Runs of every namespace are counted there.
        await require(call.request, Verb.PATCH, None)
    extra = Amount(Decimal(str(body.usd)), body.tokens, body.calls, Decimal(str(body.seconds)))
    await call.request.app[ENGINE].extend_budget(run, extra, scope=scope, step=body.step or "")
    return run


def _budget(books: Books) -> BudgetBody:
    def of(unit: Unit) -> BudgetUnit:
        limit = books.limit_of(unit)
        return BudgetUnit(
            used=float(getattr(books.used, unit)),
            reserved=float(getattr(books.reserved, unit)),
            limit=None if limit is None else float(limit),
            extended=float(getattr(books.extra, unit)),
            left=None if limit is None else float(books.left_of(unit)),
        )

    return BudgetBody(
        scope=books.scope.value,
        step=books.step or None,
        usd=of("usd"),
        tokens=of("tokens"),
        calls=of("calls"),
        seconds=of("seconds"),
    )


def _report(lines: Sequence[UsageLine]) -> UsageReport:
    return UsageReport(
        lines=[_line(line) for line in lines], cost_usd=float(sum(line.usd for line in lines))
    )


def _line(line: UsageLine) -> UsageLineBody:
    return UsageLineBody(
        day=line.day,
        workflow=line.workflow,
        repository=line.repository,
        model=line.model,
        step=line.step,
        calls=line.calls,
        input_tokens=line.tokens.input,
        output_tokens=line.tokens.output,
        cache_read_tokens=line.tokens.cache_read,
        cache_write_tokens=line.tokens.cache_write,
        web_searches=line.tokens.web_searches,
        cost_usd=float(line.usd),
        estimated=line.estimated,
    )

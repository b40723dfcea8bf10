"""Model usage: what calls reserve and use, and the budgets that they are counted in."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from plue.domain.budget import (
    UNITS,
    Amount,
    Books,
    Budgets,
    Counter,
    Limit,
    Scope,
    Shortage,
    shortage_of,
    tightest,
)
from plue.domain.run import RunId
from plue.store.database import Database, seconds

__all__ = ["Caller", "Reservation", "Spend", "Tokens", "UsageLine", "UsageStore", "Wanted"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A step that may call a model now."""

    run: RunId
    attempt: int
    step: str
    pool: str
    workflow: str
    token_hash: bytes
    deadline: datetime | None
    repository: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that is about to be made, and the most that it can use."""

    caller: Caller
    turn: int
    client: str
    model: str
    most: Amount


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reserved call; *tightest* is the budget of which the smallest share is left after it.

    Of time, what is left before it.
    """

    id: str
    tightest: Shortage | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a call; ``input`` leaves out what the cache read and wrote."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    web_searches: int = 0

    @property
    def total(self) -> int:
        """All tokens, in and out."""
        cached = self.cache_read + self.cache_write + self.cache_write_1h
        return self.input + self.output + cached


@dataclass(frozen=True, slots=True)
class Spend:
    """What became of a call: *estimated* when the provider's own count did not arrive."""

    tokens: Tokens
    usd: Decimal
    outcome: str
    estimated: bool = False
    first_token_ms: int | None = None
    total_ms: int | None = None


@dataclass(frozen=True, slots=True)
class UsageLine:
    """Usage summed up; the keys that it was not grouped by are None."""

    day: date | None
    workflow: str | None
    repository: str | None
    model: str | None
    step: str | None
    calls: int
    tokens: Tokens
    usd: Decimal
    estimated: bool


class UsageStore:
    """Reads and writes usage and budgets."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def caller(self, run: str, attempt: int, step: str) -> Caller | None:
        """Return the step if it runs now; None when it does not, or was cancelled."""
        try:
            uuid.UUID(run)
        except ValueError:
            return None
        row = await self._database.row(
            "model_caller", {"run": run, "attempt": attempt, "step": step}
        )
        if row is None:
            return None
        return Caller(
            RunId(run),
            attempt,
            step,
            row["pool"],
            row["workflow"],
            bytes(row["token_hash"]),
            row["run_deadline"],
            row["repository"],
        )

    async def reserve(self, wanted: Wanted, budgets: Budgets) -> Reservation | Shortage:
        """Reserve the most that a call can use in every scope, or say what it does not fit into."""
        caller, most = wanted.caller, wanted.most
        day = datetime.now(UTC).date()
        names = _names(caller.run, caller.step, caller.workflow, day)
        scopes = {"scopes": [s.value for s in names], "names": list(names.values())}
        limits = {
            f"limit_{unit}": [getattr(budgets.of(scope), unit) for scope in names] for unit in UNITS
        }
        async with self._database.locked("lock_budgets", scopes | limits) as (rows, transaction):
            counters = {Scope(row["scope"]): _counter(row) for row in rows}
            shortage = shortage_of(budgets, counters, most)
            if shortage is not None:
                return shortage
            call = str(uuid.uuid4())
            await transaction.rows(
                "reserve_call",
                {
                    **scopes,
                    "calls": most.calls,
                    "id": call,
                    "run": caller.run,
                    "attempt": caller.attempt,
                    "step": caller.step,
                    "turn": wanted.turn,
                    "workflow": caller.workflow,
                    "repository": caller.repository,
                    "day": day,
                    "client": wanted.client,
                    "model": wanted.model,
                    "usd": most.usd,
                    "tokens": most.tokens,
                    "seconds": most.seconds,
                },
            )
        # The longest that a call may take is many times what it takes: who is told of that as used
        # up would hurry for nothing.
        likely = replace(most, seconds=Decimal(0))
        after = {scope: Counter(c.used + likely, c.extra) for scope, c in counters.items()}
        return Reservation(call, tightest(budgets, after))

    async def settle(self, call: str, spend: Spend) -> bool:
        """Write what a call used; False when it was settled before."""
        tokens = spend.tokens
        row = await self._database.row(
            "settle_call",
            {
                "id": call,
                "outcome": spend.outcome,
                "estimated": spend.estimated,
                "input": tokens.input,
                "output": tokens.output,
                "cache_read": tokens.cache_read,
                "cache_write": tokens.cache_write,
                "cache_write_1h": tokens.cache_write_1h,
                "web_searches": tokens.web_searches,
                "tokens": tokens.total,
                "usd": spend.usd,
                "first_token_ms": spend.first_token_ms,
                "total_ms": spend.total_ms,
                "seconds": Decimal(spend.total_ms or 0) / 1000,
            },
        )
        return row is not None

    async def settle_abandoned(self, *, older: timedelta, limit: int = 100) -> int:
        """Settle calls whose gateway died with what they had reserved; return how many."""
        rows = await self._database.rows(
            "abandoned_calls", {"older": seconds(older), "limit": limit}
        )
        for row in rows:
            tokens = Tokens(output=row["reserved_tokens"])
            spend = Spend(
                tokens,
                row["reserved_usd"],
                "gateway lost",
                estimated=True,
                total_ms=int(row["reserved_seconds"] * 1000) or None,
            )
            await self.settle(str(row["id"]), spend)
        return len(rows)

    async def extend(
        self, run: RunId, extra: Amount, *, scope: Scope = Scope.RUN, step: str = "", workflow: str
    ) -> None:
        """Allow more in one of the scopes that *step* of *run*, which is of *workflow*, counts in.

        Days and a workflow's days are those of now: tomorrow begins anew.
        """
        names = _names(run, step, workflow, datetime.now(UTC).date())
        await self._database.rows(
            "extend_budget",
            {
                "scope": scope.value,
                "name": names[scope],
                "usd": extra.usd,
                "tokens": extra.tokens,
                "calls": extra.calls,
                "seconds": extra.seconds,
            },
        )

    async def budgets_of(self, run: RunId, *, workflow: str) -> Sequence[Books]:
        """Return the books that calls of *run* are counted in today, from the narrowest.

        There are none of what has not been asked for yet.
        """
        names = _names(run, "", workflow, datetime.now(UTC).date())
        del names[Scope.STEP]
        scopes = {"scopes": [s.value for s in names], "names": list(names.values())}
        return [
            Books(
                Scope(row["scope"]),
                row["step"],
                Amount(*(max(row[unit] - row[f"reserved_{unit}"], 0) for unit in UNITS)),
                Amount(*(row[f"reserved_{unit}"] for unit in UNITS)),
                Limit(*(row[f"limit_{unit}"] for unit in UNITS)),
                Amount(*(row[f"extra_{unit}"] for unit in UNITS)),
            )
            for row in await self._database.rows("budgets_of_run", {**scopes, "run": run})
        ]

    async def of_run(self, run: RunId) -> list[UsageLine]:
        """Return what a run used, by step and model, in the order of first use."""
        return [_line(row) for row in await self._database.rows("usage_of_run", {"run": run})]

    async def totals(
        self,
        since: date,
        until: date,
        *,
        by: Sequence[str],
        workflow: str | None = None,
        namespaces: Sequence[str] | None = None,
    ) -> list[UsageLine]:
        """Return usage from *since* to *until* by any of day, workflow, repository and model.

        Of runs of these *namespaces*; None: of all.
        """
        keys = {f"by_{key}": key in by for key in ("day", "workflow", "repository", "model")}
        rows = await self._database.rows(
            "usage_totals",
            {
                **keys,
                "since": since,
                "until": until,
                "workflow": workflow,
                "namespaces": None if namespaces is None else list(namespaces),
            },
        )
        return [_line(row) for row in rows]

    async def forget_budgets(self, *, days: int) -> None:
        """Delete counters of runs and days that are older than *days*."""
        await self._database.rows("delete_old_budgets", {"days": days})


def _names(run: RunId, step: str, workflow: str, day: date) -> dict[Scope, str]:
    return {
        Scope.STEP: f"{run}/{step}",
        Scope.RUN: run,
        Scope.WORKFLOW: f"{day}/{workflow}",
        Scope.DAY: str(day),
    }


def _counter(row: Mapping[str, Any]) -> Counter:
    return Counter(
        Amount(*(row[unit] for unit in UNITS)),
        Amount(*(row[f"extra_{unit}"] for unit in UNITS)),
    )


def _line(row: Mapping[str, Any]) -> UsageLine:
    tokens = Tokens(
        input=row["input_tokens"],
        output=row["output_tokens"],
        cache_read=row["cache_read_tokens"],
        cache_write=row["cache_write_tokens"],
        web_searches=row["web_searches"],
    )
    return UsageLine(
        row.get("day"),
        row.get("workflow"),
        row.get("repository"),
        row["model"],
        row.get("step"),
        row["calls"],
        tokens,
        row["cost_usd"],
        row["estimated"],
    )

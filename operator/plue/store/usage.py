"""Model usage: what calls reserve and use, and the budgets that they are counted in."""

import asyncio
import contextlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from plue.domain.budget import (
    UNITS,
    Amount,
    Ask,
    Books,
    Budgets,
    Counter,
    Limit,
    Scope,
    Shortage,
    tightest,
)
from plue.domain.run import RunId
from plue.errors import PlueError
from plue.store.booking import AskedCall, Booking, SettledCall, counter_names, today
from plue.store.database import Database, seconds
from plue.store.together import Together

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
        self._callers = Together(self._find)
        self._booking = Booking(database)

    async def close(self) -> None:
        """End what is on its way."""
        await self._callers.close()
        await self._booking.close()

    async def caller(self, run: str, attempt: int, step: str) -> Caller | None:
        """Return the step if it runs now; None when it does not, or was cancelled."""
        try:
            return await self._callers.ask((str(uuid.UUID(run)), attempt, step))
        except ValueError:
            return None

    async def _find(self, asked: Sequence[tuple[str, int, str]]) -> list[Caller | None]:
        runs, attempts, steps = zip(*asked, strict=True)
        rows = await self._database.rows(
            "model_callers", {"runs": [*runs], "attempts": [*attempts], "steps": [*steps]}
        )
        found = {row["place"]: row for row in rows}
        return [_caller(one, found.get(place)) for place, one in enumerate(asked, 1)]

    async def reserve(self, wanted: Wanted, budgets: Budgets) -> Reservation | Shortage:
        """Reserve the most that a call can use in every scope, or say what it does not fit into.

        When who asks gives up meanwhile, nothing stays reserved.
        """
        caller, most, day = wanted.caller, wanted.most, today()
        names = counter_names(caller.run, caller.step, caller.workflow, day)
        row = {
            "run_id": caller.run,
            "attempt": caller.attempt,
            "step": caller.step,
            "turn": wanted.turn,
            "workflow": caller.workflow,
            "repository": caller.repository,
            "day": day,
            "client": wanted.client,
            "model": wanted.model,
        }
        call = AskedCall(ask=Ask(names, budgets, most), row=row)
        asked = asyncio.ensure_future(self._booking.reserve(call))
        try:
            found = await asyncio.shield(asked)
        except asyncio.CancelledError:
            await self._undo(call, asked)
            raise
        if isinstance(found, Shortage):
            return found
        # The longest that a call may take is many times what it takes: who is told of that as used
        # up would hurry for nothing.
        likely = replace(most, seconds=Decimal(0))
        after = {scope: Counter(c.used + likely, c.extra) for scope, c in found.items()}
        return Reservation(call.id, tightest(budgets, after))

    async def _undo(
        self, call: AskedCall, asked: asyncio.Future[Mapping[Scope, Counter] | Shortage]
    ) -> None:
        # What cannot be undone now is settled by the sweep.
        with contextlib.suppress(PlueError, asyncio.CancelledError):
            if not isinstance(await asked, Shortage):
                await self.settle(call.id, Spend(Tokens(), Decimal(0), "caller left", total_ms=0))

    async def settle(self, call: str, spend: Spend) -> bool:
        """Write what a call used; False when it was settled before."""
        tokens = spend.tokens
        row = {
            "outcome": spend.outcome,
            "estimated": spend.estimated,
            "input_tokens": tokens.input,
            "output_tokens": tokens.output,
            "cache_read_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write,
            "cache_write_1h_tokens": tokens.cache_write_1h,
            "web_searches": tokens.web_searches,
            "tokens": tokens.total,
            "usd": spend.usd,
            "first_token_ms": spend.first_token_ms,
            "total_ms": spend.total_ms,
            "seconds": Decimal(spend.total_ms or 0) / 1000,
        }
        return await self._booking.settle(SettledCall(call, row))

    async def settle_abandoned(self, *, older: timedelta, limit: int = 100) -> int:
        """Settle calls whose gateway died with what they had reserved; return how many."""
        rows = await self._database.rows(
            "abandoned_calls", {"older": seconds(older), "limit": limit}
        )
        await asyncio.gather(
            *(
                self.settle(
                    str(row["id"]),
                    Spend(
                        Tokens(output=row["reserved_tokens"]),
                        row["reserved_usd"],
                        "gateway lost",
                        estimated=True,
                        total_ms=int(row["reserved_seconds"] * 1000) or None,
                    ),
                )
                for row in rows
            )
        )
        return len(rows)

    async def extend(
        self, run: RunId, extra: Amount, *, scope: Scope = Scope.RUN, step: str = "", workflow: str
    ) -> None:
        """Allow more in one of the scopes that *step* of *run*, which is of *workflow*, counts in.

        Days and a workflow's days are those of now: tomorrow begins anew.
        """
        names = counter_names(run, step, workflow, today())
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
        names = counter_names(run, "", workflow, today())
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


def _caller(asked: tuple[str, int, str], row: Mapping[str, Any] | None) -> Caller | None:
    if row is None:
        return None
    run, attempt, step = asked
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

"""The books of model calls: what is reserved before a call, and what it used in the end.

Every call is counted in the same few rows, those of its workflow and of the day above all. A
transaction for each would have a hundred calls of one moment wait for one another, each holding
the rows for as long as a commit takes. So whatever comes to a process while a transaction is on its
way goes with the next one, decided in the order of its coming. Several processes take turns at the
rows, a transaction each, and lock them in one order.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from pydantic_core import to_json

from plue.domain.budget import UNITS, Amount, Ask, Counter, Limit, Scope, Shortage, decided_in_order
from plue.domain.run import RunId
from plue.store.database import Database
from plue.store.together import Together

__all__ = ["AskedCall", "Booking", "SettledCall", "counter_names", "today"]

AT_ONCE = 200
"""Calls of one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCall:
    """A call that is to be reserved: its counters, its budgets, and its row."""

    ask: Ask
    row: Mapping[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class SettledCall:
    """What a call used: the columns of its row, and what is counted of it."""

    id: str
    row: Mapping[str, Any]


class Booking:
    """Reserves and settles the calls of one process."""

    def __init__(self, database: Database) -> None:
        """Write through *database*."""
        self._database = database
        self._reserving = Together(self._reserve, limit=AT_ONCE)
        self._settling = Together(self._settle, limit=AT_ONCE)

    async def reserve(self, call: AskedCall) -> Mapping[Scope, Counter] | Shortage:
        """Reserve *call*; return its counters as they were before, or what it does not fit into."""
        return await self._reserving.ask(call)

    async def settle(self, call: SettledCall) -> bool:
        """Write what a call used; False when it was settled before."""
        return await self._settling.ask(call)

    async def close(self) -> None:
        """End what is on its way."""
        await self._reserving.close()
        await self._settling.close()

    async def _reserve(
        self, calls: Sequence[AskedCall]
    ) -> list[Mapping[Scope, Counter] | Shortage]:
        limits = {key: limit for call in calls for key, limit in _limits(call.ask)}
        locks = {
            "scopes": [scope.value for scope, _ in limits],
            "names": [name for _, name in limits],
            **{f"limit_{unit}": [getattr(one, unit) for one in limits.values()] for unit in UNITS},
        }
        async with self._database.locked("lock_budgets", locks) as (rows, transaction):
            counters = {(Scope(row["scope"]), row["name"]): _counter(row) for row in rows}
            decided = decided_in_order([call.ask for call in calls], counters)
            taken = [
                {**call.row, "id": call.id, **_amounts(call.ask.most)}
                for call, found in zip(calls, decided, strict=True)
                if not isinstance(found, Shortage)
            ]
            if taken:
                await transaction.send("reserve_calls", {"calls": _json(taken)})
        return decided

    async def _settle(self, calls: Sequence[SettledCall]) -> list[bool]:
        rows = await self._database.rows(
            "settle_calls", {"calls": _json([{"id": call.id, **call.row} for call in calls])}
        )
        first = {str(row["id"]) for row in rows}
        answers = []
        for call in calls:
            answers.append(call.id in first)
            first.discard(call.id)
        return answers


def today() -> date:
    """Return the day that calls count in now."""
    return datetime.now(UTC).date()


def counter_names(run: RunId, step: str, workflow: str, day: date) -> dict[Scope, str]:
    """Return the names of the counters of a step's calls; the statements name them alike."""
    return {
        Scope.STEP: f"{run}/{step}",
        Scope.RUN: run,
        Scope.WORKFLOW: f"{day}/{workflow}",
        Scope.DAY: str(day),
    }


def _limits(ask: Ask) -> Iterator[tuple[tuple[Scope, str], Limit]]:
    for scope, name in ask.names.items():
        yield (scope, name), ask.budgets.of(scope)


def _amounts(amount: Amount) -> dict[str, Decimal | int]:
    return {unit: getattr(amount, unit) for unit in UNITS}


def _counter(row: Mapping[str, Any]) -> Counter:
    return Counter(
        Amount(*(row[unit] for unit in UNITS)),
        Amount(*(row[f"extra_{unit}"] for unit in UNITS)),
    )


def _json(value: object) -> str:
    return to_json(value).decode()

"""What a model call may cost: budgets in four scopes, reserved at the most, settled at the real.

A call reserves the most that it can use in every scope before it is made, so that agents side by
side cannot overspend together; when it has ended, the difference is given back. Pure: the counters
are the store's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

__all__ = ["Amount", "Budgets", "Counter", "Limit", "Scope", "Shortage", "shortage_of", "tightest"]


class Scope(StrEnum):
    """What a budget is counted over."""

    STEP = "step"
    RUN = "run"
    WORKFLOW = "workflow"  # all runs of a workflow in one UTC day
    DAY = "day"  # the whole server in one UTC day


@dataclass(frozen=True, slots=True)
class Amount:
    """What is used or reserved: US dollars, tokens in and out together, calls."""

    usd: Decimal = Decimal(0)
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        """Add each part."""
        return Amount(self.usd + other.usd, self.tokens + other.tokens, self.calls + other.calls)


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be used; None means without a limit."""

    usd: Decimal | None = None
    tokens: int | None = None
    calls: int | None = None

    def parts(self) -> list[tuple[str, Decimal]]:
        """Return (unit, limit) of what is limited."""
        named = (("usd", self.usd), ("tokens", self.tokens), ("calls", self.calls))
        return [(unit, Decimal(limit)) for unit, limit in named if limit is not None]


@dataclass(frozen=True, slots=True)
class Budgets:
    """The limits of each scope, before anybody extended one."""

    limits: Mapping[Scope, Limit] = field(default_factory=dict)

    def of(self, scope: Scope) -> Limit:
        """Return the limit of *scope*."""
        return self.limits.get(scope, Limit())


@dataclass(frozen=True, slots=True)
class Counter:
    """A scope's books: what is used and reserved by now, and by how much it was extended."""

    used: Amount = Amount()
    extra: Amount = Amount()


@dataclass(frozen=True, slots=True)
class Shortage:
    """A budget that a call does not fit into: *needed* is more than what is *left*."""

    scope: Scope
    unit: str
    limit: Decimal
    left: Decimal
    needed: Decimal


def shortage_of(
    budgets: Budgets, counters: Mapping[Scope, Counter], needed: Amount
) -> Shortage | None:
    """Return the first budget, from the narrowest, that *needed* does not fit into."""
    for scope in Scope:
        for unit, limit, left in _left(budgets, counters, scope):
            wanted = _part(needed, unit)
            if wanted > left:
                return Shortage(scope, unit, limit, left, wanted)
    return None


def tightest(budgets: Budgets, counters: Mapping[Scope, Counter]) -> Shortage | None:
    """Return the budget of which the smallest share is left; None when nothing is limited."""
    found: Shortage | None = None
    share = Decimal(2)
    for scope in Scope:
        for unit, limit, left in _left(budgets, counters, scope):
            if limit > 0 and left / limit < share:
                share = left / limit
                found = Shortage(scope, unit, limit, left, Decimal(0))
    return found


def _left(
    budgets: Budgets, counters: Mapping[Scope, Counter], scope: Scope
) -> list[tuple[str, Decimal, Decimal]]:
    counter = counters.get(scope, Counter())
    found = []
    for unit, limit in budgets.of(scope).parts():
        whole = limit + _part(counter.extra, unit)
        found.append((unit, whole, max(Decimal(0), whole - _part(counter.used, unit))))
    return found


def _part(amount: Amount, unit: str) -> Decimal:
    return Decimal(getattr(amount, unit))

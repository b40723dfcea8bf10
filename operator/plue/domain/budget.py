"""What a model call may cost: budgets in four scopes, reserved at the most, settled at the real.

A call reserves the most that it can use in every scope before it is made, so that agents side by
side cannot overspend together; when it has ended, the difference is given back. Pure: the counters
are the store's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Literal

__all__ = [
    "SHARED",
    "UNITS",
    "Amount",
    "Ask",
    "Books",
    "Budgets",
    "Counter",
    "Limit",
    "Scope",
    "Shortage",
    "Unit",
    "answer_within",
    "decided_in_order",
    "seconds_of",
    "shortage_of",
    "tightest",
]

Unit = Literal["usd", "tokens", "calls", "seconds"]
UNITS: tuple[Unit, ...] = ("usd", "tokens", "calls", "seconds")
"""In the order of the fields of Amount and Limit."""

_BEFORE_THE_ANSWER = 120
"""Seconds that a call may take for all but its answer: being read, queued, thought about."""
_A_USE = 10
_TOKENS_A_SECOND = 20
"""The slowest that an answer may come; models give several times as many."""


class Scope(StrEnum):
    """What a budget is counted over."""

    STEP = "step"
    RUN = "run"
    WORKFLOW = "workflow"  # all runs of a workflow in one UTC day
    DAY = "day"  # the whole server in one UTC day


SHARED = frozenset({Scope.WORKFLOW, Scope.DAY})
"""Scopes that runs count in together, those of all namespaces."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What is used or reserved: US dollars, tokens in and out together, calls, seconds of calls."""

    usd: Decimal = Decimal(0)
    tokens: int = 0
    calls: int = 0
    seconds: Decimal = Decimal(0)

    def __add__(self, other: "Amount") -> "Amount":
        """Add each part."""
        return Amount(
            self.usd + other.usd,
            self.tokens + other.tokens,
            self.calls + other.calls,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be used; None means without a limit."""

    usd: Decimal | None = None
    tokens: int | None = None
    calls: int | None = None
    seconds: Decimal | None = None

    def parts(self) -> list[tuple[Unit, Decimal]]:
        """Return (unit, limit) of what is limited."""
        named = ((unit, getattr(self, unit)) for unit in UNITS)
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
class Ask:
    """A call that is to be made: *names* are its counters, *most* is what it can use."""

    names: Mapping[Scope, str]
    budgets: Budgets
    most: Amount


@dataclass(frozen=True, slots=True)
class Books:
    """A scope's books as people are shown them.

    *used* is settled and *reserved* is not yet; *limit* is what it was before it was extended, as
    the last call was checked. *step* names it where the scope is one.
    """

    scope: Scope
    step: str
    used: Amount
    reserved: Amount
    limit: Limit
    extra: Amount

    def limit_of(self, unit: Unit) -> Decimal | None:
        """Return how much may be used in all; None: there is no limit."""
        limit = getattr(self.limit, unit)
        return None if limit is None else Decimal(limit) + _part(self.extra, unit)

    def left_of(self, unit: Unit) -> Decimal:
        """Return how much is left; zero also where there is no limit."""
        taken = _part(self.used, unit) + _part(self.reserved, unit)
        return max(Decimal(0), (self.limit_of(unit) or Decimal(0)) - taken)


@dataclass(frozen=True, slots=True)
class Shortage:
    """A budget that a call does not fit into: *needed* is more than what is *left*."""

    scope: Scope
    unit: Unit
    limit: Decimal
    left: Decimal
    needed: Decimal


def seconds_of(output_tokens: int, uses: int) -> Decimal:
    """Return for how long a call may last with such an answer and so many tools at the provider."""
    answer = Decimal(output_tokens) / _TOKENS_A_SECOND
    return _BEFORE_THE_ANSWER + _A_USE * uses + answer


def answer_within(seconds: Decimal, uses: int) -> int:
    """Return how many tokens of an answer a call may ask for that may last *seconds*."""
    return max(0, int((seconds - seconds_of(0, uses)) * _TOKENS_A_SECOND))


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


def decided_in_order(
    asks: Sequence[Ask], counters: Mapping[tuple[Scope, str], Counter]
) -> list[Shortage | Mapping[Scope, Counter]]:
    """Decide calls of one moment as if each came when those before it were reserved.

    Return for each what it does not fit into, or its counters as they were before it. One that
    does not fit takes nothing, and holds up nobody behind it.
    """
    books = dict(counters)
    decided: list[Shortage | Mapping[Scope, Counter]] = []
    for ask in asks:
        own = {scope: books.get((scope, name), Counter()) for scope, name in ask.names.items()}
        short = shortage_of(ask.budgets, own, ask.most)
        decided.append(own if short is None else short)
        if short is None:
            for scope, name in ask.names.items():
                books[scope, name] = replace(own[scope], used=own[scope].used + ask.most)
    return decided


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
) -> list[tuple[Unit, Decimal, Decimal]]:
    counter = counters.get(scope, Counter())
    found = []
    for unit, limit in budgets.of(scope).parts():
        whole = limit + _part(counter.extra, unit)
        left = max(Decimal(0), whole - _part(counter.used, unit))
        found.append((unit, _short(whole), _short(left)))
    return found


def _short(amount: Decimal) -> Decimal:
    # The books' columns have ten digits after the point; people are shown those that say something.
    whole = amount.to_integral_value()
    return whole if whole == amount else amount.normalize()


def _part(amount: Amount, unit: Unit) -> Decimal:
    return Decimal(getattr(amount, unit))

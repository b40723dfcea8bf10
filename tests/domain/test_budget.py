"""Budgets: what calls of one moment are allowed together, decided one after the other."""

from decimal import Decimal

from plue.domain.budget import (
    Amount,
    Ask,
    Budgets,
    Counter,
    Limit,
    Scope,
    Shortage,
    decided_in_order,
)


def an_ask(step: str, tokens: int, budgets: Budgets) -> Ask:
    """Return a call of a step of one run."""
    names = {Scope.STEP: f"run/{step}", Scope.RUN: "run"}
    return Ask(names, budgets, Amount(Decimal(0), tokens, 1))


def test_each_call_sees_what_those_before_it_took() -> None:
    """A call that does not fit takes nothing: a smaller one behind it may still fit."""
    budgets = Budgets({Scope.RUN: Limit(tokens=100)})
    asks = [an_ask(step, tokens, budgets) for step, tokens in (("a", 60), ("b", 50), ("a", 30))]
    first, second, third = decided_in_order(
        asks, {(Scope.RUN, "run"): Counter(Amount(tokens=10), Amount(tokens=5))}
    )
    assert first == {
        Scope.STEP: Counter(),
        Scope.RUN: Counter(Amount(tokens=10), Amount(tokens=5)),
    }
    assert second == Shortage(Scope.RUN, "tokens", Decimal(105), Decimal(35), Decimal(50))
    assert third == {
        Scope.STEP: Counter(Amount(tokens=60, calls=1)),
        Scope.RUN: Counter(Amount(tokens=70, calls=1), Amount(tokens=5)),
    }


def test_counters_of_two_steps_are_two() -> None:
    """What one step took is not the other's, and is the run's."""
    budgets = Budgets({Scope.STEP: Limit(calls=1), Scope.RUN: Limit(calls=3)})
    asks = [an_ask(step, 1, budgets) for step in ("a", "a", "b", "b", "c", "d")]
    found = [one.scope if isinstance(one, Shortage) else None for one in decided_in_order(asks, {})]
    assert found == [None, Scope.STEP, None, Scope.STEP, None, Scope.RUN]

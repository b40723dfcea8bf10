"""Budgets as a server is told of them."""

from decimal import Decimal

import pytest

from plue.domain.budget import Limit, Scope
from plue.errors import UsageError
from plue.gateway.llm.configuration import parse_budgets


def test_budgets_of_several_scopes_and_units() -> None:
    """Parts are taken together by scope; nothing is no limit at all."""
    assert parse_budgets("run.usd=0.5, run.calls=3,day.tokens=1000,day.seconds=90.5").limits == {
        Scope.RUN: Limit(usd=Decimal("0.5"), calls=3),
        Scope.DAY: Limit(tokens=1000, seconds=Decimal("90.5")),
    }
    assert parse_budgets("").limits == {}


@pytest.mark.parametrize(
    "text",
    ["run=5", "run.usd", "run.usd=x", "hour.usd=1", "run.eur=1", "run.usd=-1", "run.usd=NaN"],
)
def test_a_wrong_budget_is_named(text: str) -> None:
    """What is no budget is refused with the part that is wrong."""
    with pytest.raises(UsageError, match=text.replace(".", r"\.")):
        parse_budgets(text)

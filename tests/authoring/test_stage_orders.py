"""Whenever results come, the plan is the same in the end: for any program of the language."""

import os

from authoring.programs import Paper, evaluated, programs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("PLUE_STAGE_EXAMPLES", "60"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    source=programs(),
    results=st.integers(0, 1000),
    orders=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_any_order_of_completion_gives_the_same_final_plan(
    source: str, results: int, orders: tuple[int, int]
) -> None:
    """Evaluated in stages, in two orders, and at once with all results: the same plan (5)."""
    first, second = (Paper(source, results, order) for order in orders)
    plan = first.play()
    other = second.play()
    assert plan.steps == other.steps
    assert plan.fails == other.fails
    assert {n: (r.state, r.reason) for n, r in first.results.items()} == {
        n: (r.state, r.reason) for n, r in second.results.items()
    }
    at_once = evaluated(
        source, first.known | {n: v for n, v in second.known.items() if n not in first.known}
    )
    assert plan.steps == at_once.steps
    assert plan.fails == at_once.fails
    if plan.end is not None and other.end is not None:
        assert plan.end == other.end == at_once.end

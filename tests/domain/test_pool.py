"""How a pool is planned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plue.domain.pool import PoolPlan, PoolView, RunnerView, plan_pool
from plue.domain.run import RunnerId


def a_runner(name: str, state: str = "idle", **fields: object) -> RunnerView:
    """Return a runner, idle and connected unless told otherwise."""
    values: dict[str, object] = {"connected": state != "starting", "age": 5.0}
    return RunnerView(RunnerId(name), state, **(values | fields))  # type: ignore[arg-type]


def a_pool(*runners: RunnerView, **fields: object) -> PoolView:
    """Return a pool of two warm and at most four runners."""
    values: dict[str, object] = {"warm": 2, "maximum": 4, "queued": 0, "runners": runners}
    return PoolView(**(values | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        pytest.param(a_pool(), PoolPlan(create=2), id="an-empty-pool-is-filled"),
        pytest.param(
            a_pool(a_runner("a"), a_runner("b", "starting")), PoolPlan(), id="starting-ones-count"
        ),
        pytest.param(
            a_pool(a_runner("a", "claimed"), a_runner("b")),
            PoolPlan(create=1),
            id="a-claimed-one-is-replaced-at-once",
        ),
        pytest.param(a_pool(queued=3), PoolPlan(create=3), id="a-longer-queue-wants-more"),
        pytest.param(a_pool(queued=9), PoolPlan(create=4), id="never-above-the-maximum"),
        pytest.param(
            a_pool(*(a_runner(n, "claimed") for n in "abcd"), queued=5),
            PoolPlan(),
            id="a-full-pool-makes-nothing",
        ),
        pytest.param(
            a_pool(a_runner("a", age=9.0), a_runner("b", age=1.0), a_runner("c", age=5.0)),
            PoolPlan(retire=(RunnerId("b"),)),
            id="surplus-goes-youngest-first",
        ),
        pytest.param(
            a_pool(a_runner("a"), a_runner("b"), a_runner("c", "starting")),
            PoolPlan(retire=(RunnerId("c"),)),
            id="what-is-not-ready-goes-before-what-is",
        ),
        pytest.param(
            a_pool(a_runner("a"), a_runner("b"), a_runner("c", "retired", retired_age=11.0)),
            PoolPlan(remove=(RunnerId("c"),)),
            id="a-retired-one-that-stays-is-ended",
        ),
        pytest.param(
            a_pool(a_runner("a"), a_runner("b", "starting", age=61.0)),
            PoolPlan(create=1, remove=(RunnerId("b"),)),
            id="one-that-never-came-is-replaced",
        ),
        pytest.param(
            a_pool(failures=3, last_failure_age=1.0), PoolPlan(), id="failing-starts-slow-down"
        ),
        pytest.param(
            a_pool(failures=3, last_failure_age=2.5),
            PoolPlan(create=2),
            id="and-are-tried-again-later",
        ),
    ],
)
def test_plan_pool(pool: PoolView, expected: PoolPlan) -> None:
    """The plan closes the gap between what is there and what is wanted, and no more."""
    assert expected == plan_pool(pool)


_runners = st.lists(
    st.builds(
        RunnerView,
        id=st.uuids().map(lambda u: RunnerId(str(u))),
        state=st.sampled_from(["starting", "idle", "claimed", "retired"]),
        connected=st.booleans(),
        age=st.floats(0, 200),
        retired_age=st.none() | st.floats(0, 100),
    ),
    max_size=12,
)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 20), _runners)
def test_no_plan_exceeds_the_maximum_or_touches_a_claimed_runner(
    warm: int, more: int, queued: int, runners: list[RunnerView]
) -> None:
    """Whatever is there: never too many, never one at work, never one both made and retired."""
    maximum = max(1, warm + more)
    plan = plan_pool(PoolView(min(warm, maximum), maximum, queued, runners))
    busy = {r.id for r in runners if r.state == "claimed"}
    assert plan.create == 0 or len(runners) + plan.create <= maximum
    assert not busy & {*plan.retire, *plan.remove}
    assert not (plan.create and plan.retire)

"""When a lease ends, by the runner's own clock."""

from plue_runner.deadlines import Lease


def _end_of(lease: Lease) -> float:
    assert lease._timer is not None
    return lease._timer.when()


async def test_lease_counts_from_the_asking_and_not_from_the_answer() -> None:
    """A renewal holds from when it was asked for; what was never sent, or is old, adds nothing."""
    lease = Lease(lambda: None)
    lease.seconds = 100.0
    lease.begin()
    begun = _end_of(lease) - 100.0
    asked = lease.now()
    while lease.now() <= asked:
        pass  # until the clock has ticked
    lease.renewed(asked)
    assert _end_of(lease) == asked + 100.0
    lease.renewed(begun - 50.0)
    assert _end_of(lease) == asked + 100.0
    lease.renewed(asked + 1e6)
    assert _end_of(lease) <= lease.now() + 100.0


async def test_lease_of_an_idle_runner_does_not_end() -> None:
    """Without an attempt there is nothing to lose."""
    lease = Lease(lambda: None)
    lease.renewed(lease.now())
    assert lease._timer is None

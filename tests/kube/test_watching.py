"""How kopf is set to tell of long lists."""

from plue.kube.watching import _settings


def test_what_is_new_does_not_wait_behind_long_lists() -> None:
    """There is room for the ten thousand objects of a list within two seconds.

    Each of its workers keeps its place until it has waited in vain for more of its object.
    """
    queueing = _settings().queueing
    assert queueing.worker_limit is not None
    assert 10_000 / queueing.worker_limit * queueing.idle_timeout <= 2
    # A wait of no time never gets anything: kopf would turn for ever.
    assert queueing.idle_timeout > 0


def test_lists_come_in_pages() -> None:
    """Never all objects in one answer, which would be in memory together, as text and parsed."""
    page = _settings().watching.chunk_size
    assert page is not None
    assert 50 <= page <= 500

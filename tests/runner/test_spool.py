"""The spool is a queue that forgets nothing, keeps the order and stays bounded in memory."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plue_runner import spool as spool_module
from plue_runner.spool import Spool


def _event(number: int, size: int = 10) -> bytes:
    return str(number).encode().ljust(size, b".")


def _fill(spool: Spool, through: int, size: int = 10) -> None:
    while spool.last < through:
        spool.append(_event(spool.last + 1, size))


def _numbers(events: list[bytes]) -> list[int]:
    return [int(event.rstrip(b".")) for event in events]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the memory's part so small that nearly everything goes over the disk."""
    monkeypatch.setattr(spool_module, "_FRESH_BYTES", 30)
    monkeypatch.setattr(spool_module, "_IN_FLIGHT_BYTES", 60)
    monkeypatch.setattr(spool_module, "_SEGMENT_BYTES", 50)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 20)),
        st.tuples(st.just("take"), st.integers(1, 80)),
        st.tuples(st.just("ack"), st.integers(0, 12)),
        st.tuples(st.just("rewind"), st.integers(0, 12)),
    ),
    max_size=60,
)


@pytest.mark.usefixtures("tiny")
@settings(deadline=None)
@given(actions=ACTIONS)
def test_spool_gives_every_event_in_order_from_what_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]
) -> None:
    """Whatever is taken, acknowledged or begun anew: the next event is the next one unsent."""
    spool = Spool(tmp_path_factory.mktemp("spool"), 1_000_000)
    sent = acked = 0
    for action, number in actions:
        match action:
            case "append":
                _fill(spool, spool.last + number)
            case "take":
                taken = _numbers(spool.take(number))
                assert list(range(sent + 1, sent + len(taken) + 1)) == taken
                sent += len(taken)
            case "ack":
                acked = max(acked, min(acked + number, sent))
                spool.ack(acked)
            case "rewind":
                acked = max(acked, min(acked + number, sent))
                spool.rewind(acked)
                sent = acked
        assert (acked, spool.last - sent) == (spool.acked, spool.unsent)
    rest = []
    spool.rewind(acked)
    while taken := _numbers(spool.take(80)):
        rest += taken
        spool.ack(taken[-1])
    assert list(range(acked + 1, spool.last + 1)) == rest
    assert spool.size == 0
    spool.close()


def test_spool_is_full_at_its_limit_and_tells_when_there_is_room(tmp_path: Path) -> None:
    """``full`` holds from the limit on; ``on_room`` is called once, when it ends."""
    spool = Spool(tmp_path, 10_000)
    called: list[bool] = []
    _fill(spool, 9, 1000)
    assert not spool.full
    _fill(spool, 10, 1000)
    assert spool.full
    spool.on_room.append(lambda: called.append(spool.full))
    spool.take(5000)
    assert called == []
    spool.ack(1)
    spool.ack(2)
    assert called == [False]


def test_spool_keeps_what_memory_does_not_hold_on_disk_and_removes_it(tmp_path: Path) -> None:
    """Memory holds a few megabytes, files the rest; read files go."""
    folder = tmp_path / "spool"
    spool = Spool(folder, 1_000_000_000)
    _fill(spool, 300, 100_000)
    held = sum(map(len, (*spool._fresh, *spool._in_flight, *spool._stranded)))
    assert held <= 1024 * 1024
    assert sum(file.stat().st_size for file in folder.iterdir()) >= 29_000_000
    while spool.take(1_000_000):
        spool.ack(spool.last - spool.unsent)
    assert list(folder.iterdir()) == []


@contextmanager
def _disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond *size*: writes fail as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("tiny")
def test_spool_blocks_and_loses_nothing_when_the_disk_is_full(tmp_path: Path) -> None:
    """With a full disk the spool is full until all is taken; order and content stay exact."""
    spool = Spool(tmp_path, 1_000_000)
    with _disk_of(25):
        _fill(spool, 8)
        assert spool.full
        # What cannot wait is still taken in.
        _fill(spool, 9)
    seen = []
    while taken := _numbers(spool.take(30)):
        seen += taken
        spool.ack(taken[-1])
    assert list(range(1, 10)) == seen
    assert not spool.full
    _fill(spool, 20)
    assert _numbers(spool.take(30)) == [10, 11, 12]
    spool.close()

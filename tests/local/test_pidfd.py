"""Processes are recognised by what no clock can change."""

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from plue.local.pidfd import ProcessMark, is_alive


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """Give a process that waits for its end."""
    words = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_corrected_clock_makes_nobody_a_stranger(
    child: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock, and with it the time of boot that is computed from it, may jump."""
    mark = ProcessMark.of(child.pid)
    boot = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + 3600)
    assert is_alive(mark)


def test_another_process_with_the_same_number_is_a_stranger(
    child: "subprocess.Popen[bytes]",
) -> None:
    """A number alone is used again."""
    mark = ProcessMark.of(child.pid)
    assert is_alive(mark)
    assert not is_alive(ProcessMark(child.pid, ProcessMark.of(1).started))
    child.kill()
    child.wait()
    assert not is_alive(mark)

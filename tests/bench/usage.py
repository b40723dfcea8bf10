"""What processes use while something is measured: CPU seconds, and memory at its peak.

Wall time depends on who else uses the machine, CPU seconds hardly. Memory of one process is its
peak resident size, which the kernel keeps; of several it is the largest sum that was seen of their
proportional sizes, so that what they share is counted once.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

__all__ = ["Part", "Usage", "metered"]

_LOOK_EVERY = 0.2
_MEGA = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Which processes a part is made of: ``root`` itself, what is below it, or both.

    A process that ended counts as long as its parent has collected it. ``but`` leaves subtrees out.
    """

    root: int
    itself: bool = True
    below: bool = False
    but: Sequence[int] = ()


@dataclass(slots=True)
class Usage:
    """What was used, by part; filled when the measurement ends."""

    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def metered(parts: Mapping[str, Part]) -> Iterator[Usage]:
    """Measure *parts* while the block runs."""
    usage, over = Usage(), threading.Event()
    peaks = dict.fromkeys(parts, 0.0)
    begun = {name: _cpu(part) for name, part in parts.items()}
    for part in parts.values():
        if part.itself:
            _forget_peak(part.root)

    def look() -> None:
        while not over.wait(_LOOK_EVERY):
            for name, part in parts.items():
                if part.below:
                    peaks[name] = max(peaks[name], _proportional(part))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield usage
    finally:
        over.set()
        looking.join()
        for name, part in parts.items():
            usage.cpu[name] = _cpu(part) - begun[name]
            usage.memory[name] = peaks[name] if part.below else _peak(part.root)


def _members(part: Part) -> list[psutil.Process]:
    try:
        root = psutil.Process(part.root)
        below = root.children(recursive=True) if part.below else []
    except psutil.Error:
        return []
    left_out = set(part.but)
    return [p for p in ([root] if part.itself else []) + below if p.pid not in left_out]


def _cpu(part: Part) -> float:
    """Return seconds so far: a parent has those of the children that it collected."""
    total = 0.0
    for process in _members(part):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
            if part.below:
                total += times.children_user + times.children_system
    if part.below and not part.itself:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(part.root).cpu_times()
            total += times.children_user + times.children_system
    return total


def _proportional(part: Part) -> float:
    total = 0
    for process in _members(part):
        with contextlib.suppress(OSError, psutil.Error):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total / _MEGA


def _forget_peak(pid: int) -> None:
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / _MEGA
    return 0.0


def own_cpu() -> float:
    """Return the CPU seconds of this process."""
    times = os.times()
    return times.user + times.system

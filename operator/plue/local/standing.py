"""Whether a tree is still as it was when it was last copied, without reading its files.

A file that was written has a new time of change (ctime), which no program can set. Clocks of file
systems tick in milliseconds, though: what changed just before the look may change again under the
same time, so a look counts only once all it saw had rested.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Standing", "standing_of"]

_REST_NS = 100_000_000
"""How long ago everything must have changed; ticks are 10 ms at most."""

_Seen = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a look saw: of each name device, inode, mode, size and time of change; None if gone.

    ``made`` is what was added to the tree's own files. ``rested`` says whether an equal look later
    means an equal tree.
    """

    names: Sequence[bytes]
    seen: Sequence[_Seen | None]
    made: Sequence[tuple[bytes, bytes]]
    rested: bool

    def is_still(self, later: "Standing") -> bool:
        """Return whether *later*, a newer look, saw the very same tree."""
        return self.rested and (self.names, self.seen, self.made) == (
            later.names,
            later.seen,
            later.made,
        )


def standing_of(
    root: bytes, names: Sequence[bytes], made: Sequence[tuple[bytes, bytes]]
) -> Standing:
    """Look at *names* below *root*; about 5 µs each."""
    now = time.time_ns()
    seen = [_seen(os.path.join(root, name)) for name in names]  # noqa: PTH118 - pathlib knows no bytes
    newest = max((one[-1] for one in seen if one is not None), default=0)
    return Standing(names, seen, made, rested=newest < now - _REST_NS)


def _seen(path: bytes) -> _Seen | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None  # gone, or no place for us: making the copy says which
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_ctime_ns

"""Whether the store's clock goes as ours does, so that the end of a lease means something.

Leases are ends on the store's clock. When that clock jumps (a correction; a machine that slept),
every lease seems to have run out at once, while the runners, which count by their own monotonic
clocks, go on working. So each look at the store's clock is compared with our monotonic one.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

__all__ = ["StoreClock"]

_ANCHOR_SECONDS = 600.0
"""How long one comparison serves: corrections that come in small steps are no jumps."""


@dataclass(slots=True)
class StoreClock:
    """The store's clock as seen beside a monotonic one; times of the latter are seconds."""

    tolerance: timedelta
    """What the two may differ by within ten minutes."""
    jumped_at: float | None = None
    """When the last jump was seen; None if never."""
    _anchor: tuple[datetime, float] | None = field(default=None)

    def latest(self, at: float) -> datetime | None:
        """Return what the store's clock shows at *at* at most; None while that is not known."""
        if self._anchor is None:
            return None
        shown, seen = self._anchor
        return shown + timedelta(seconds=at - seen) + self.tolerance

    def observe(self, shown: datetime, *, asked: float, answered: float) -> bool:
        """Compare: the clock showed *shown* between two moments. Return whether it had jumped."""
        latest, earliest = self.latest(answered), self.latest(asked)
        jumped = (
            latest is not None
            and earliest is not None
            and not earliest - 2 * self.tolerance <= shown <= latest
        )
        if jumped:
            self.jumped_at = answered
        if jumped or self._anchor is None or answered - self._anchor[1] > _ANCHOR_SECONDS:
            self._anchor = (shown, answered)
        return jumped

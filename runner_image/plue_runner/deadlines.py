"""The two clocks that end a runner: the lease of a busy one, the patience of an idle one.

Both are the runner's own monotonic clock; nobody else's time is believed.
"""

import asyncio
from collections.abc import Callable

from plue.marks import Mark, reached

__all__ = ["Lease", "Patience"]


class Lease:
    """Runs out when the gateway has not renewed it in time.

    It counts from the moment at which a renewal was *asked* for: so it ends here before it ends
    for the gateway, and no two runners execute one attempt.
    """

    def __init__(self, expired: Callable[[], None]) -> None:
        """Call *expired* once it has run out, if it was begun."""
        self._loop = asyncio.get_running_loop()
        self._expired = expired
        self._from = 0.0
        self._held = False
        self._timer: asyncio.TimerHandle | None = None
        self.seconds = 120.0
        """How long a renewal holds, as the gateway says."""

    def now(self) -> float:
        """Return the time to ask for a renewal with."""
        return self._loop.time()

    def begin(self) -> None:
        """Count from now on: an attempt is held."""
        self._held = True
        self.renewed(self.now())

    def renewed(self, sent: float) -> None:
        """Count from *sent*, the time at which the renewal was asked for."""
        # A time that is still to come was never sent by us, and an older one changes nothing.
        self._from = max(self._from, min(sent, self.now()))
        if self._timer is not None:
            self._timer.cancel()
        if self._held:
            self._timer = self._loop.call_at(self._from + self.seconds, self._expire)

    def _expire(self) -> None:
        reached(Mark.R_LEASE)
        self._expired()


class Patience:
    """Runs out when an idle runner has had no gateway for too long."""

    def __init__(self, seconds: float, ended: Callable[[], None]) -> None:
        """Call *ended* after *seconds* of waiting."""
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._ended = ended
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> None:
        """Begin to wait, unless it was begun before."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._ended)

    def stop(self) -> None:
        """There is a gateway, or the runner is not idle."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""A pass that runs when it is woken and, slowly, by itself; it outlives every failure."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from plue.ending import end_tasks
from plue.errors import PlueError, UnavailableError
from plue.metrics import Metrics

__all__ = ["Loop"]

_log = structlog.get_logger(__name__)


class Loop:
    """Runs one pass at a time: level-triggered, so that one run serves any number of wakes."""

    def __init__(
        self, name: str, run: Callable[[], Awaitable[None]], *, every: float, metrics: Metrics
    ) -> None:
        """Run *run* at least *every* seconds; *name* labels its metrics and log lines."""
        self._name = name
        self._run = run
        self._every = every
        self._metrics = metrics
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, with a first pass at once."""
        self._woken.set()
        self._task = asyncio.create_task(self._forever(), name=f"pass-{self._name}")

    def wake(self) -> None:
        """Have a pass begin after this moment."""
        self._woken.set()

    def wake_in(self, seconds: float) -> None:
        """Have a pass begin within *seconds*; more wakes until then are served by the same one."""
        if seconds <= 0:
            self.wake()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._woken.set()

    async def close(self) -> None:
        """End, wherever it is: a pass may be cut at any line."""
        if self._timer is not None:
            self._timer.cancel()
        await end_tasks([self._task])

    async def _forever(self) -> None:
        while True:
            # Not wait_for: before Python 3.12 it can swallow the cancellation that ends us.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._woken.wait()
            self._woken.clear()
            await self._once()

    async def _once(self) -> None:
        begun = asyncio.get_running_loop().time()
        try:
            await self._run()
        except UnavailableError as error:
            self._metrics.pass_failures.labels(self._name).inc()
            _log.warning("pass_unavailable", name=self._name, error=error.message)
            await asyncio.sleep(min(error.retry_in.total_seconds(), 1.0))
            self._woken.set()
        except PlueError as error:
            self._metrics.pass_failures.labels(self._name).inc()
            _log.error("pass_failed", name=self._name, error=error.message)
            await asyncio.sleep(0.5)
        except Exception:  # noqa: BLE001 - the outermost loop: one bad pass must not be the last
            self._metrics.pass_failures.labels(self._name).inc()
            _log.exception("pass_crashed", name=self._name)
            await asyncio.sleep(0.5)
        self._metrics.pass_seconds.labels(self._name).observe(
            asyncio.get_running_loop().time() - begun
        )

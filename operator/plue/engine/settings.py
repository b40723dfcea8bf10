"""What the engine can be told; defaults are for a laptop and for a small cluster alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

__all__ = ["EngineSettings", "PoolSettings"]


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """A pool: *warm* runners wait, at most *maximum* exist; ``host`` is a Host's ``kind``."""

    name: str = "default"
    host: str = "process"
    warm: int = 2
    maximum: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Times and limits.

    ``lease``: a runner that could not renew for so long kills its steps; the engine waits that
    long plus ``lease_margin`` before it believes that a silent runner is gone.
    ``fire_schedules``: whether workflows of the server's own tree run by the clock.
    ``egress_port``: where gateways connect runs to the hosts of their pool, None: nowhere.
    ``log_days`` and ``run_days``: how long events, and finished runs, are kept. ``cache_days``: how
    long a cache that nobody uses is; ``cache_bytes``: how large one may be, and
    ``repository_cache_bytes`` all of one repository together, and ``all_cache_bytes`` those of all,
    before the least used go.
    """

    pools: Sequence[PoolSettings] = field(default_factory=lambda: (PoolSettings(),))
    lease: timedelta = timedelta(seconds=120)
    lease_margin: timedelta = timedelta(seconds=10)
    accept_timeout: timedelta = timedelta(seconds=2)
    grace: timedelta = timedelta(seconds=10)
    cancel_margin: timedelta = timedelta(seconds=15)
    run_timeout: timedelta = timedelta(hours=1)
    queue_timeout: timedelta = timedelta(hours=24)
    cleanup_timeout: timedelta = timedelta(seconds=60)
    log_days: int = 30
    run_days: int = 90
    cache_days: int = 7
    cache_bytes: int = 1024**3
    repository_cache_bytes: int = 10 * 1024**3
    all_cache_bytes: int = 50 * 1024**3
    claim_batch: int = 100
    fire_schedules: bool = False
    egress_port: int | None = None
    poll: timedelta = timedelta(seconds=2)
    """The slow poll: what a lost notification costs at most."""

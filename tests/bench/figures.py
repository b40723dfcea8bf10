"""What a benchmark gives: figures, each beside its goal and its reference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Figure", "Goal", "percentile"]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of *values* that at least *share* of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Goal:
    """Bounds in the figure's unit; ``at_least`` is for rates."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    at_least: float | None = None

    def text(self) -> str:
        """Return the goal as the table shows it."""
        parts = [f"≥ {self.at_least:,.0f}"] if self.at_least is not None else []
        bounds = (("p50", self.p50), ("p95", self.p95), ("p99", self.p99))
        return ", ".join(parts + [f"{name} ≤ {bound:g}" for name, bound in bounds if bound])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    Either ``values`` (one a sample, in ``unit``) or ``rate`` (a second, over ``n`` things).
    ``cpu`` is in seconds and ``memory`` in MB, by part: the server, Postgres, runners … ``history``
    is how many runs the store held already.
    """

    bench: str
    what: str
    unit: str = "ms"
    values: Sequence[float] = ()
    rate: float | None = None
    n: int = 0
    goal: Goal | None = None
    reference: str | None = None
    cpu: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    history: int | None = None
    note: str | None = None

    @property
    def count(self) -> int:
        """How many were measured."""
        return len(self.values) or self.n

    def at(self, share: float) -> float | None:
        """Return a percentile; None for rates."""
        return percentile(self.values, share) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        pairs = ((0.5, self.goal.p50), (0.95, self.goal.p95), (0.99, self.goal.p99))
        seen = [(self.at(share), bound) for share, bound in pairs if bound is not None]
        fast = all(value is not None and value <= bound for value, bound in seen)
        enough = self.goal.at_least is None or (self.rate or 0) >= self.goal.at_least
        return fast and enough

    def as_json(self) -> dict[str, object]:
        """Return all of it but the single samples."""
        return {
            "bench": self.bench,
            "what": self.what,
            "unit": self.unit,
            "n": self.count,
            "rate": self.rate,
            "p50": self.at(0.5),
            "p95": self.at(0.95),
            "p99": self.at(0.99),
            "max": max(self.values, default=None),
            "goal": self.goal.text() if self.goal else None,
            "met": self.met,
            "reference": self.reference,
            "cpu_seconds": dict(self.cpu),
            "memory_mb": dict(self.memory),
            "history": self.history,
            "note": self.note,
        }

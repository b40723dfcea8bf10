"""Events as a server sends them, for the tests of what is shown."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["Recording"]

_START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Recording:
    """Makes numbered events, half a second apart."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, kind: str, step: str | None = None, /, **body: Any) -> "Recording":
        """Record an event; attempt and try are 1 unless *body* says otherwise."""
        n = len(self.events) + 1
        time = (_START + timedelta(seconds=n / 2)).isoformat().replace("+00:00", "Z")
        event: dict[str, Any] = {"run": "r", "n": n, "time": time, "type": kind}
        if step is not None:
            event["step"] = step
        self.events.append({**event, "body": {"attempt": 1, **body}})
        return self

    def begin(self, *steps: Mapping[str, Any]) -> "Recording":
        """Record what comes before the first step."""
        self.add("run_queued", pool="default", priority=0)
        self.add("plan_extended", stage=1, steps=list(steps))
        self.add("run_claimed", runner="default-a")
        return self.add("run_started", runner="default-a")

    def step(self, name: str, *outputs: str, state: str = "succeeded", **body: Any) -> "Recording":
        """Record a step from its start to its end."""
        self.add("step_started", name, **{"try": 1, "shown": f"do {name}"})
        for text in outputs:
            self.add("step_output", name, **{"try": 1, "stream": "stdout", "text": text, "line": 1})
        return self.add(
            "step_completed", name, state=state, tries=1, duration_ms=1200, outputs={}, **body
        )

    def end(self, state: str, reason: str, **body: Any) -> Sequence[Mapping[str, Any]]:
        """Record the run's end; return all events."""
        self.add("run_completed", **{"state": state, "reason": reason, "duration_ms": 2500} | body)
        return self.events


def planned(name: str, *needs: str, branch: Sequence[str] = ()) -> dict[str, Any]:
    """Return a step as plan_extended has it."""
    return {"name": name, "kind": "shell", "needs": needs, "branch": branch, "shown": f"do {name}"}

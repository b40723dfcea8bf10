"""Conditions: set by type, with a transition time that moves only when the status does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from plue.resources.parts import ConditionType

__all__ = ["Fact", "conditions_of", "timestamp"]

_MESSAGE_BYTES = 8192
"""A condition is read by people in a terminal; what is longer is cut, and says so."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One condition as it is now; *holds* None means that it cannot be known."""

    type: ConditionType
    holds: bool | None
    reason: str
    message: str = ""

    @classmethod
    def ready(cls, reason: str, message: str = "") -> "Fact":
        """Say that the object is ready."""
        return cls(ConditionType.READY, holds=True, reason=reason, message=message)

    @classmethod
    def unready(cls, reason: str, message: str = "") -> "Fact":
        """Say that the object is not ready, and why."""
        return cls(ConditionType.READY, holds=False, reason=reason, message=message)


def conditions_of(
    facts: Iterable[Fact], before: Sequence[Mapping[str, Any]], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the conditions to write; *before* are those that the object carries now."""
    held = {condition.get("type"): condition for condition in before}
    return [_condition(fact, held.get(fact.type.value), generation, now) for fact in facts]


def _condition(
    fact: Fact, before: Mapping[str, Any] | None, generation: int, now: datetime
) -> dict[str, Any]:
    status = {True: "True", False: "False", None: "Unknown"}[fact.holds]
    since = timestamp(now)
    if before is not None and before.get("status") == status:
        since = str(before.get("lastTransitionTime") or since)
    return {
        "type": fact.type.value,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": fact.reason,
        "message": _cut(fact.message),
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MESSAGE_BYTES else f"{text[:_MESSAGE_BYTES]} … (cut)"


def timestamp(when: datetime) -> str:
    """Return *when* as Kubernetes writes it: whole seconds, UTC."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")

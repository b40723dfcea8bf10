"""Who may go where through the gateway, and what was refused."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from pydantic_core import to_json

from plue.domain.run import RunId, StoredEvent
from plue.store.database import Database
from plue.wire.events import EventType

__all__ = ["EgressCaller", "EgressStore"]


@dataclass(frozen=True, slots=True)
class EgressCaller:
    """A step that runs now, and the hosts that its pool allows."""

    token_hash: bytes
    allowed: Sequence[str]


class EgressStore:
    """The rows behind the gateway's proxy."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def caller(self, run: str, attempt: int, step: str) -> EgressCaller | None:
        """Return the step if it runs now; None when it does not, or was cancelled."""
        try:
            uuid.UUID(run)
        except ValueError:
            return None
        row = await self._database.row(
            "egress_caller", {"run": run, "attempt": attempt, "step": step}
        )
        return None if row is None else EgressCaller(bytes(row["token_hash"]), row["egress"])

    async def refuse(
        self, run: str, attempt: int, step: str, body: Mapping[str, JsonValue]
    ) -> StoredEvent | None:
        """Record a refusal in the step's log; None when its attempt runs no more."""
        text = to_json({"attempt": attempt, **body}).decode()
        row = await self._database.row(
            "record_refusal", {"run": run, "attempt": attempt, "step": step, "body": text}
        )
        if row is None:
            return None
        kind = EventType.EGRESS_REFUSED
        return StoredEvent(RunId(run), row["n"], row["time"], kind, step, text)

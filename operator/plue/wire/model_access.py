"""How a step in the sandbox speaks to the gateway's proxies: its token, and what 402 means.

The token names (run, attempt, step) and is signed with what only the runner and the gateway know,
the hash of the runner's own token: it crosses no wire, is stored nowhere, and any gateway can check
it. It is good for as long as the step runs. Code in the sandbox can read it, so that is all it
gives: calls that are counted on this very step.
"""

import base64
import binascii
import hashlib
import hmac
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BUDGET_HEADER",
    "PURPOSE_HEADER",
    "WAIT_HEADER",
    "BudgetState",
    "StepClaim",
    "is_token_of",
    "read_claim",
    "step_token",
]

WAIT_HEADER = "X-Plue-Wait"
"""Seconds for which the proxy may hold a call that the budget does not allow, at most 25."""

BUDGET_HEADER = "X-Plue-Budget"
"""On answers: the tightest budget after this call, as the JSON of :class:`BudgetState`."""

PURPOSE_HEADER = "X-Plue-Turn"
"""On calls: the number of the turn within the step, from 1, for the records."""

_PREFIX = "plue-step"


class StepClaim(BaseModel):
    """Whose token it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    attempt: Annotated[int, Field(ge=1, le=2**31 - 1)]
    step: str


class BudgetState(BaseModel):
    """A budget, how much of it is left, and what a refused call would have needed at most.

    ``scope`` is step, run, workflow (of a day) or day (of the server); ``unit`` is what runs out.
    ``output_tokens`` is how long an answer would fit; a client may ask again for so many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: Literal["step", "run", "workflow", "day"]
    unit: Literal["usd", "tokens", "calls", "seconds"]
    limit: Decimal
    left: Decimal
    needed: Decimal | None = None
    output_tokens: int | None = None


Purpose = Literal["model", "egress"]
"""What a token opens: a command that may reach the pool's hosts cannot ask models by it."""


def step_token(claim: StepClaim, runner_token: str, *, purpose: Purpose = "model") -> str:
    """Return the token of a step of the runner that *runner_token* belongs to."""
    body = _encoded(claim.model_dump_json().encode())
    key = hashlib.sha256(runner_token.encode()).digest()
    return f"{_PREFIX}.{body}.{_signature(body, key, purpose)}"


def read_claim(token: str) -> StepClaim | None:
    """Return whose token it says it is; None when it is no step's token. Proves nothing."""
    prefix, _, rest = token.partition(".")
    body, _, _ = rest.partition(".")
    if prefix != _PREFIX:
        return None
    try:
        # Not by way of Python's own JSON, which lets text through that is none: halves of pairs.
        return StepClaim.model_validate_json(_decoded(body))
    except (ValueError, binascii.Error):
        return None


def is_token_of(token: str, runner_token_hash: bytes, *, purpose: Purpose = "model") -> bool:
    """Whether *token* was made by who knows the token that hashes to *runner_token_hash*."""
    head, _, signature = token.rpartition(".")
    _, _, body = head.partition(".")
    expected = _signature(body, runner_token_hash, purpose)
    return hmac.compare_digest(signature.encode(), expected.encode())


def _signature(body: str, key: bytes, purpose: Purpose) -> str:
    return _encoded(hmac.digest(key, f"{purpose}\0{body}".encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

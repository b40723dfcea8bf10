"""The line to the model: one turn at a time, through the gateway's proxy, tried until it is there.

Overload, faults of the way and cut answers are tried again with growing pauses that people can
see. A budget that does not allow the call is waited for: what was paid for is not thrown away.
"""

import asyncio
import random
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plue.errors import UnavailableError
from plue.wire.events import Reason
from plue.wire.model_access import PURPOSE_HEADER, WAIT_HEADER, BudgetState
from plue_runner.faults import Fault
from plue_runner.model.telling import Teller

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic
    from anthropic.types import Message

__all__ = ["Line", "Reply"]

_HOLD_SECONDS = 20
_TRIES = 12
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_LONGEST_PAUSE = 120.0
_SHORTEST_ANSWER = 512  # tokens: a budget that allows less is waited for
_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole turn of the model; *budget* is the tightest one after it, if there is any."""

    message: "Message"
    budget: BudgetState | None


@dataclass(slots=True)
class Line:
    """Calls for one step; ``waits`` and ``goes_on`` are told of waiting for a budget."""

    base: Callable[[], str]
    token: str
    tell: Teller
    run_name: str
    step: str
    waits: Callable[[], None]
    goes_on: Callable[[], None]
    _client: "AsyncAnthropic | None" = field(default=None, init=False)
    _address: str = field(default="", init=False)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def turn(self, number: int, request: Mapping[str, Any]) -> Reply:
        """Have the model answer *request*, which is the body of a Messages call.

        Raises Fault: ModelFailed when the call is refused for good or fails too often.
        """
        from anthropic import APIConnectionError, APIStatusError

        # The first refusal is to be known at once; only then may the proxy hold the call.
        wanted, failures, hold = dict(request), 0, 0
        while True:
            self.tell.call(number)
            try:
                reply = await self._once(number, wanted, hold)
            except APIStatusError as error:
                budget = _budget(error)
                if budget is not None:
                    hold = self._budget_short(wanted, budget)
                    continue
                pause = _pause(error, failures)
                what = _said(error)
            except (APIConnectionError, ConnectionError, UnavailableError) as error:
                pause, what = _PAUSES[min(failures, len(_PAUSES) - 1)], _plain(error)
            else:
                self._go_on()
                return reply
            failures += 1
            if failures >= _TRIES:
                raise Fault(Reason.MODEL_FAILED, f"the model was asked {failures} times: {what}")
            self.tell.waits(Reason.MODEL_OVERLOADED, f"{what}; trying again in {pause:.3g} s")
            # Not all of them at the same moment again.
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311

    async def _once(self, number: int, request: Mapping[str, Any], hold: int) -> Reply:
        import httpx2

        headers = {PURPOSE_HEADER: str(number), WAIT_HEADER: str(hold)}
        try:
            async with self._at().messages.stream(**request, extra_headers=headers) as stream:
                async for event in stream:
                    match event.type:
                        case "text":
                            kind = "json" if "output_config" in request else "text"
                            self._hear(kind, event.text)
                        case "thinking":
                            self._hear("thinking", event.thinking)
                        case _:
                            pass
                message = await stream.get_final_message()
                raw = stream.response.headers.get("x-plue-budget")
        except httpx2.TransportError as error:
            raise ConnectionResetError(f"the answer was cut: {error}") from error
        finally:
            self.tell.flush()
        if message.stop_reason is None:
            raise ConnectionResetError("the answer was cut")
        return Reply(message, None if raw is None else BudgetState.model_validate_json(raw))

    def _hear(self, kind: Any, text: str) -> None:
        self._go_on()
        self.tell.token(kind, text)

    def _go_on(self) -> None:
        self.tell.goes_on()
        self.goes_on()

    def _at(self) -> "AsyncAnthropic":
        """Return a client for the gateway's address as it is now."""
        from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

        address = f"{self.base()}/runner/v1/llm"
        if self._client is None:
            secure = address.startswith("https:")
            http = DefaultAsyncHttpxClient(verify=secure, trust_env=False)
            self._client = AsyncAnthropic(
                api_key=self.token, base_url=address, max_retries=0, http_client=http
            )
        elif address != self._address:
            self._client = self._client.with_options(base_url=address)
        self._address = address
        return self._client

    # ── budgets ──────────────────────────────────────────────────────────────────────────────────

    def _budget_short(self, request: dict[str, Any], budget: BudgetState) -> int:
        """Ask for a shorter answer where that fits; else wait until somebody extends the budget.

        Returns for how many seconds the proxy may hold the next call.
        """
        fits = budget.output_tokens or 0
        if _SHORTEST_ANSWER <= fits < request["max_tokens"]:
            request["max_tokens"] = fits
            return 0
        # The run's budget is what the command extends by itself.
        whose = {"step": f" --step {shlex.quote(self.step)}", "run": ""}
        scope = whose.get(budget.scope, f" --scope {budget.scope}")
        self.waits()
        self.tell.waits(
            Reason.BUDGET,
            f"the {budget.scope}'s budget of {budget.limit:f} {budget.unit} has"
            f" {budget.left:f} left, too little for the next call; extend it with"
            f" `plue run extend {self.run_name}{scope} --{budget.unit} …`",
        )
        return _HOLD_SECONDS


def _budget(error: "APIStatusError") -> BudgetState | None:
    if error.status_code != 402:  # noqa: PLR2004
        return None
    body = error.body
    if not isinstance(body, dict) or "budget" not in body:
        return None
    return BudgetState.model_validate(body["budget"])


def _pause(error: "APIStatusError", failures: int) -> float:
    """Return how long to wait before the next try. Raises Fault when there is no use in one."""
    # Error events in the middle of an answer carry the status 200 of its beginning.
    in_stream = error.status_code < 400 and _kind(error) in {"overloaded_error", "api_error"}  # noqa: PLR2004
    if error.status_code not in _AGAIN and not in_stream:
        raise Fault(Reason.MODEL_FAILED, f"the model was not asked: {_said(error)}")
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        given = headers.get(name, "")
        if given.replace(".", "", 1).isdecimal():
            return min(_LONGEST_PAUSE, float(given) / unit)
    return _PAUSES[min(failures, len(_PAUSES) - 1)]


def _kind(error: "APIStatusError") -> str:
    body = error.body
    inner = body.get("error") if isinstance(body, dict) else None
    return str(inner.get("type")) if isinstance(inner, dict) else ""


def _said(error: "APIStatusError") -> str:
    body = error.body
    inner = body.get("error") if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return f"{message or error.message} ({_kind(error) or error.status_code})"


def _plain(error: Exception) -> str:
    cause = error.__cause__
    return f"{error}{f': {cause}' if cause is not None else ''}".strip()

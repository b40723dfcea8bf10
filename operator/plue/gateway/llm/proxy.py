"""`/runner/v1/llm/v1/messages`: the Messages API for steps, counted, limited and without a key.

The way of a call: whose token is it, and does that step run → what may it ask → reserve the most it
can use → the provider, streamed through as it comes → settle what it used. The last happens
whatever happened before, also when the step went away in the middle: the provider's answer is
aborted then, and what was used so far is settled as an estimate.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from aiohttp import web

from plue.domain.budget import Amount, Shortage, answer_within, seconds_of
from plue.engine.context import EngineContext
from plue.errors import UnavailableError
from plue.gateway.llm.callers import Callers, has_left
from plue.gateway.llm.prices import Prices
from plue.gateway.llm.providers import Provider, Upstream
from plue.gateway.llm.request import Admitted, NotAdmittedError, admit
from plue.gateway.llm.settings import ModelSettings
from plue.gateway.llm.stream import Meter
from plue.store.usage import Caller, Reservation, Spend, Tokens, Wanted
from plue.wire.model_access import (
    BUDGET_HEADER,
    PURPOSE_HEADER,
    WAIT_HEADER,
    BudgetState,
    is_token_of,
    read_claim,
)

__all__ = ["ModelProxy"]

_log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_WAIT_SECONDS = 25.0
ABANDONED_AFTER = timedelta(minutes=30)
"""A call that is open for so long beyond its time has lost its gateway."""


@dataclass(slots=True)
class _Answer:
    """A call on its way: what is known of it for the records."""

    meter: Meter
    begun: float
    first: float | None = None
    outcome: str = "answered"


class ModelProxy:
    """The handler, its provider and its books."""

    def __init__(
        self,
        context: EngineContext,
        settings: ModelSettings,
        provider: Provider | None,
    ) -> None:
        """Serve steps of the runs in *context*; without a *provider* calls say what is missing."""
        self._context = context
        self._usage = context.usage
        self._settings = settings
        self._provider = provider
        self._prices = Prices(settings.prices)
        self._budget_changed = asyncio.Event()
        self._callers = Callers()

    def routes(self, app: web.Application) -> None:
        """Add the proxy's routes to *app*."""
        app.router.add_post("/runner/v1/llm/v1/messages", self._messages)

    def budget_changed(self) -> None:
        """Let calls that wait for a budget look again."""
        changed, self._budget_changed = self._budget_changed, asyncio.Event()
        changed.set()

    async def sweep(self) -> None:
        """Settle what gateways left open that died."""
        while await self._usage.settle_abandoned(older=ABANDONED_AFTER) == 100:  # noqa: PLR2004
            pass

    # ── a call ───────────────────────────────────────────────────────────────────────────────────

    async def _messages(self, http: web.Request) -> web.StreamResponse:
        try:
            return await self._serve(http)
        except UnavailableError as error:
            return _refusal(503, "plue_unavailable", error.message)

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        caller = await self._caller(http)
        if caller is None:
            return _refusal(401, "authentication_error", "this is not the token of a running step")
        if self._provider is None:
            return _refusal(
                403,
                "plue_no_provider",
                "no model provider is set up: set ANTHROPIC_API_KEY for the server, or use"
                " `plue up --model-server SCRIPT`",
            )
        raw = await _body(http)
        if raw is None:
            return _refusal(413, "request_too_large", f"at most {MAX_BODY_BYTES} bytes")
        try:
            call = admit(raw, pool=caller.pool, settings=self._settings)
        except NotAdmittedError as error:
            return _refusal(400, "invalid_request_error", str(error))
        await self._prices.ready()
        reserved = await self._reserve(http, caller, call)
        if isinstance(reserved, Shortage):
            return self._short(reserved, call)
        return await self._forward(http, call, reserved)

    async def _caller(self, http: web.Request) -> Caller | None:
        scheme, _, bearer = http.headers.get("Authorization", "").partition(" ")
        token = http.headers.get("X-Api-Key") or (bearer if scheme.lower() == "bearer" else "")
        claim = read_claim(token)
        if claim is None or "\0" in claim.step:
            return None
        caller = await self._usage.caller(claim.run, claim.attempt, claim.step)
        if caller is None or not is_token_of(token, caller.token_hash):
            return None
        return caller

    # ── budgets ──────────────────────────────────────────────────────────────────────────────────

    async def _reserve(
        self, http: web.Request, caller: Caller, call: Admitted
    ) -> Reservation | Shortage:
        """Reserve; where the budget does not allow it, wait as long as the caller asked for."""
        turn = http.headers.get(PURPOSE_HEADER, "")
        wanted = Wanted(
            caller,
            int(turn) if turn.isdecimal() and len(turn) < 7 else 0,  # noqa: PLR2004
            call.client,
            call.model,
            self._most(call, call.output_tokens),
        )
        loop = asyncio.get_running_loop()
        until = loop.time() + _wait_seconds(http)
        while True:
            changed = self._budget_changed
            found = await self._usage.reserve(wanted, self._settings.budgets)
            left = until - loop.time()
            if isinstance(found, Reservation) or left <= 0 or has_left(http):
                return found
            with contextlib.suppress(TimeoutError):
                # Another gateway's settling may make room too, without a word to this one.
                async with asyncio.timeout(min(left, 2.0)):
                    await changed.wait()

    def _most(self, call: Admitted, output: int) -> Amount:
        # The dearest way to read an input is to write it into the cache for an hour.
        searches = call.searches
        tokens = Tokens(cache_write_1h=call.input_tokens, output=output, web_searches=searches)
        dearest = Tokens(input=2 * call.input_tokens, output=output, web_searches=searches)
        usd = max(self._prices.cost(call.model, tokens), self._prices.cost(call.model, dearest))
        return Amount(usd, call.input_tokens + output, 1, seconds_of(output, call.uses))

    def _short(self, short: Shortage, call: Admitted) -> web.Response:
        state = BudgetState(
            scope=short.scope.value,
            unit=short.unit,
            limit=short.limit,
            left=short.left,
            needed=short.needed,
            output_tokens=self._affordable(short, call),
        )
        return _refusal(
            402,
            "plue_budget",
            f"the budget of this {short.scope} is {short.limit:f} {short.unit}, of which"
            f" {short.left:f} are left; this call may need {short.needed:f}",
            budget=state,
        )

    def _affordable(self, short: Shortage, call: Admitted) -> int:
        """Return how many tokens of output would fit into what is left."""
        if short.unit == "tokens":
            return max(0, int(short.left) - call.input_tokens)
        if short.unit == "seconds":
            return answer_within(short.left, call.uses)
        if short.unit == "calls":
            return 0
        one = self._prices.cost(call.model, Tokens(output=1_000_000)) / 1_000_000
        rest = short.left - self._most(call, 0).usd
        return max(0, int(rest / one)) if one > 0 else 0

    # ── forwarding ───────────────────────────────────────────────────────────────────────────────

    async def _forward(
        self, http: web.Request, call: Admitted, reserved: Reservation
    ) -> web.StreamResponse:
        answer = _Answer(Meter(call.stream), asyncio.get_running_loop().time())
        work = asyncio.create_task(self._pass_on(http, call, reserved, answer))
        try:
            with self._callers.watched(http) as gone:
                either: list[asyncio.Future[Any]] = [work, gone]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                answer.outcome = "caller left"
                work.cancel()
                await asyncio.wait([work])
            return work.result()
        except asyncio.CancelledError:
            answer.outcome = "caller left"
            work.cancel()
            await asyncio.wait([work])
            raise
        finally:
            await asyncio.shield(self._settle(call, reserved, answer))

    async def _pass_on(
        self, http: web.Request, call: Admitted, reserved: Reservation, answer: _Answer
    ) -> web.StreamResponse:
        assert self._provider is not None  # noqa: S101 - checked before anything was reserved
        response: web.StreamResponse | None = None
        try:
            async with (
                asyncio.timeout(float(call.seconds)),
                self._provider.call(call.body) as upstream,
            ):
                if upstream.status >= 400:  # noqa: PLR2004
                    answer.outcome = f"status {upstream.status}"
                response = await _begin(http, upstream, reserved)
                async for chunk in _metered(upstream, answer):
                    await response.write(chunk)
                answer.meter.close()
        except UnavailableError as error:
            answer.outcome = "provider away"
            if response is None:
                return _refusal(502, "api_error", error.message)
            raise
        except TimeoutError:
            # Just this much time was reserved: what goes on longer would not be the budget's.
            answer.outcome = "timeout"
            if response is None:
                return _refusal(504, "timeout_error", f"no answer within {call.seconds:f} s")
            _abort(http)
            return response
        except ConnectionError:
            # Whichever of the two was cut, the caller sees its own connection cut as well.
            answer.outcome = "caller left" if has_left(http) else "cut"
            _abort(http)
            if response is None:
                raise
            return response
        await response.write_eof()
        return response

    async def _settle(self, call: Admitted, reserved: Reservation, answer: _Answer) -> None:
        meter, now = answer.meter, asyncio.get_running_loop().time()
        refused = answer.outcome.startswith("status ") or answer.outcome == "provider away"
        known = meter.tokens()
        if known is None and not refused:
            # Nothing was heard of it: it may have been read and answered all the same.
            known = Tokens(input=call.input_tokens)
        tokens = known or Tokens()
        if meter.error is not None and answer.outcome == "answered":
            answer.outcome = f"error {meter.error}"
        spend = Spend(
            tokens,
            self._prices.cost(call.model, tokens) if known else Decimal(0),
            answer.outcome,
            estimated=not refused and not meter.ended,
            first_token_ms=None if answer.first is None else _ms(answer.first - answer.begun),
            total_ms=_ms(now - answer.begun),
        )
        metrics = self._context.metrics
        metrics.model_calls.labels(call.client, answer.outcome.partition(" ")[0]).inc()
        for kind in ("input", "output", "cache_read", "cache_write"):
            metrics.model_tokens.labels(call.client, kind).inc(getattr(tokens, kind))
        metrics.model_usd.labels(call.client).inc(float(spend.usd))
        try:
            await self._usage.settle(reserved.id, spend)
        except UnavailableError as error:
            # What was reserved stands for it, until the sweep settles it as that.
            _log.warning("usage_not_settled", call=reserved.id, error=error.message)
        self.budget_changed()


async def _metered(upstream: Upstream, answer: _Answer) -> AsyncIterator[bytes]:
    async for chunk in upstream.chunks:
        yield chunk
        answer.meter.feed(chunk)
        if answer.first is None and answer.meter.began:
            answer.first = asyncio.get_running_loop().time()


async def _begin(
    http: web.Request, upstream: Upstream, reserved: Reservation
) -> web.StreamResponse:
    response = web.StreamResponse(status=upstream.status, headers=upstream.headers)
    if reserved.tightest is not None:
        tight = reserved.tightest
        state = BudgetState(
            scope=tight.scope.value, unit=tight.unit, limit=tight.limit, left=tight.left
        )
        response.headers[BUDGET_HEADER] = state.model_dump_json(exclude_none=True)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    await response.prepare(http)
    return response


def _abort(http: web.Request) -> None:
    if http.transport is not None:
        http.transport.abort()


async def _body(http: web.Request) -> bytes | None:
    """Return the body; None when it is too large. The gateway's own limit is for other routes."""
    body = bytearray()
    async for chunk in http.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _wait_seconds(http: web.Request) -> float:
    try:
        return max(0.0, min(MAX_WAIT_SECONDS, float(http.headers.get(WAIT_HEADER, "0"))))
    except ValueError:
        return 0.0


def _refusal(
    status: int, kind: str, message: str, *, budget: BudgetState | None = None
) -> web.Response:
    body: dict[str, object] = {"type": "error", "error": {"type": kind, "message": message}}
    if budget is not None:
        body["budget"] = json.loads(budget.model_dump_json(exclude_none=True))
    # Whoever asks again decides so himself: the client library must not.
    return web.json_response(body, status=status, headers={"x-should-retry": "false"})


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

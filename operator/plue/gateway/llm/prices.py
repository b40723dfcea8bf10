"""What tokens cost: the table of genai-prices, and a setting's own prices before it."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from importlib import import_module

import structlog

from plue.store.usage import Tokens

__all__ = ["Prices"]

_log = structlog.get_logger(__name__)

_MILLION = Decimal(1_000_000)


class Prices:
    """Prices by model id; a model that neither knows costs nothing, and says so in the log."""

    def __init__(self, overrides: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """Use *overrides*: by model id, US dollars a million ``input``, ``output`` … tokens."""
        self._overrides = overrides or {}
        self._unknown: set[str] = set()
        self._loaded = False

    async def ready(self) -> None:
        """Load the table, beside the event loop: it takes a second, once."""
        if not self._loaded:
            await asyncio.to_thread(import_module, "genai_prices")
            self._loaded = True

    def cost(self, model: str, tokens: Tokens) -> Decimal:
        """Return US dollars."""
        own = self._overrides.get(model)
        if own is not None:
            return _by_table(own, tokens)
        # Imported late: it costs a second, and only model steps need it.
        from genai_prices import Usage, calc_price

        # Its input_tokens are all input, the API's only what no cache had to do with.
        cached = tokens.cache_read + tokens.cache_write + tokens.cache_write_1h
        usage = Usage(
            input_tokens=tokens.input + cached,
            output_tokens=tokens.output,
            cache_read_tokens=tokens.cache_read,
            cache_write_tokens=tokens.cache_write + tokens.cache_write_1h,
        )
        try:
            found = calc_price(usage, model_ref=model, provider_id="anthropic").total_price
        except LookupError:
            if model not in self._unknown:
                self._unknown.add(model)
                _log.warning("model_without_a_price", model=model)
            found = Decimal(0)
        return found + Decimal(tokens.web_searches) * _SEARCH_USD


_SEARCH_USD = Decimal("0.01")
"""10 $ a thousand searches, by the vendor's price list of autumn 2026."""


def _by_table(own: Mapping[str, float], tokens: Tokens) -> Decimal:
    price = {name: Decimal(str(value)) / _MILLION for name, value in own.items()}
    read = price.get("cache_read", price.get("input", Decimal(0)))
    write = price.get("cache_write", price.get("input", Decimal(0)))
    return (
        tokens.input * price.get("input", Decimal(0))
        + tokens.output * price.get("output", Decimal(0))
        + tokens.cache_read * read
        + (tokens.cache_write + tokens.cache_write_1h) * write
        + tokens.web_searches * _SEARCH_USD
    )

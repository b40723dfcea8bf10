"""Which models there are, who answers for them, and what may be spent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from plue.domain.budget import Budgets
from plue.gateway.llm.providers import Provider

__all__ = ["CLIENTS", "ModelSettings", "Models", "PoolModels"]

CLIENTS: Mapping[str, str] = MappingProxyType(
    {
        "anthropic/claude-opus": "claude-opus-5-5",
        "anthropic/claude-sonnet": "claude-sonnet-5-5",
        "anthropic/claude-haiku": "claude-haiku-5-5",
        "anthropic/claude-fable": "claude-fable-5-2",
    }
)
"""Names that workflows use, and the model ids that they mean. Models change monthly."""


@dataclass(frozen=True, slots=True)
class PoolModels:
    """What a pool's steps may use: client names (None: all), and tools that run at the provider.

    ``web_search`` sends what it searches for out of the sandbox, ``web_fetch`` even more so: both
    are off unless the pool has them.
    """

    clients: frozenset[str] | None = None
    server_tools: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The proxy's settings. ``prices`` are US dollars a million tokens, by model id."""

    clients: Mapping[str, str] = field(default_factory=lambda: CLIENTS)
    pools: Mapping[str, PoolModels] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    output_tokens: int = 32_000
    """The most that one answer may have; a call that asks for more is refused."""

    def of_pool(self, pool: str) -> PoolModels:
        """Return what *pool* may use."""
        return self.pools.get(pool, PoolModels())


@dataclass(frozen=True, slots=True)
class Models:
    """What a gateway needs to know of models; without a provider, calls say what is missing."""

    settings: ModelSettings = field(default_factory=ModelSettings)
    provider: Provider | None = None

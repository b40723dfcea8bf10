"""How much is tried: little inside the suite and always the same, more and by chance when asked."""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

__all__ = ["LONG", "examples"]

LONG = int(os.environ.get("EXAMPLES") or 0)
"""How many examples of each kind `make fuzz EXAMPLES=…` asks for; 0 inside the suite."""


def examples(few: int, **more: Any) -> settings:
    """Return settings for *few* fixed examples, or for as many random ones as are asked for."""
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if LONG else [])]
    return settings(
        max_examples=LONG or few,
        derandomize=not LONG,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        **more,
    )

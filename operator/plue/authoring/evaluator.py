"""The evaluator as the engine sees it: an exec'd, preloaded process without any credentials."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from plue.authoring.results import Description, Planned
from plue.wire.plan import Step

__all__ = ["Evaluator"]


class Evaluator:
    """Evaluates workflow files in a process of its own; one fork per evaluation."""

    async def start(self) -> None:
        """Start the process and wait until it is preloaded."""
        raise NotImplementedError

    async def close(self) -> None:
        """End the process and whatever it runs."""
        raise NotImplementedError

    async def describe(self, files: Mapping[str, str]) -> Description:
        """Return what *files* (path → text) declare. Raises UnavailableError when it is away."""
        raise NotImplementedError

    async def plan(
        self,
        files: Mapping[str, str],
        workflow: str,
        *,
        inputs: Mapping[str, JsonValue],
        event: Mapping[str, JsonValue],
        text_inputs: bool = False,
        known: Mapping[str, Mapping[str, JsonValue]] | None = None,
        recorded: Sequence[Step] = (),
    ) -> Planned:
        """Evaluate *workflow* with the values known so far (none, in the first stage)."""
        raise NotImplementedError

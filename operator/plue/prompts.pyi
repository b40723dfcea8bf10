"""The prompts of a repository, described for editors and type checkers.

``from plue.prompts import CodeReview`` is ``.plue/prompts/*.prompt.md`` with the name
``code-review``; it exists only inside the evaluator's sandbox. Which inputs and fields a prompt
has is in its front matter, which no stub knows: an editor completes the options of the step and
what every answer has, and ``plue workflow lint`` checks the rest.
"""

from collections.abc import Sequence
from typing import Any, Literal

from plue import Duration, Group, Handle, Outputs, Reference

class Answer:
    """The step of a prompt. The fields of its ``output`` are its attributes."""

    name: str
    ok: Reference
    """Asking for it needs ``continue_on_error=True`` in the call."""
    state: Reference
    outputs: Outputs
    """The fields of the answer by name, for those that are called like an attribute here."""
    status: Reference
    """Of an agent: how it ended, in a word; always there."""
    summary: Reference
    """Of an agent: what it did and what it left, unless the output has a field of that name."""
    turns: Reference
    """Of an agent: how often it asked its model."""
    def __getattr__(self, name: str) -> Reference:
        """Return a field of the answer."""

class Prompt:
    """A prompt; calling it records one step."""

    def __call__(
        self,
        *,
        name: str = ...,
        timeout: Duration | None = None,
        retry: int = 0,
        depends_on: Answer | Handle | Group | str | Sequence[Answer | Handle | Group | str] = ...,
        continue_on_error: bool = False,
        when: Literal["success", "failure", "always"] | bool = "success",
        once: bool = False,
        client: str | None = None,
        tools: Sequence[str] | None = None,
        max_turns: int | None = None,
        **inputs: Any,
    ) -> Answer:
        """Record a step that asks a model; inputs are given by name.

        *name* is the prompt's own name unless it is given. *client*, *tools* and *max_turns*
        outrank the front matter; the last two are of agents.
        """

def __getattr__(name: str) -> Prompt: ...

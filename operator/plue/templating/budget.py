"""How much a template may do: text that it makes, and time that it takes.

The limits are cooperative, so that the message can name the line: every loop, call and operation
that makes text spends from the budget of its rendering, before the text is made where that can be
very large. The evaluator's process limits stand behind it.
"""

from time import thread_time
from typing import Final

from plue.templating.faults import FaultKind, TemplateFault

__all__ = ["MAX_RENDERED", "Budget"]

MAX_RENDERED: Final = 2 * 1024 * 1024
"""Characters of a rendered prompt: about half a million tokens, more than models take."""

_MAX_MADE: Final = 8 * MAX_RENDERED
_MAX_ITEMS: Final = 1_000_000
_MAX_SECONDS: Final = 0.5
_BETWEEN_LOOKS: Final = 64


class Budget:
    """What is left for one rendering. Time is the thread's own, so a busy machine costs nothing."""

    def __init__(self) -> None:
        """Begin to count."""
        self._made = 0
        self._ticks = 0
        self._deadline = thread_time() + _MAX_SECONDS

    def tick(self) -> None:
        """Spend one turn of a loop, or one call. Raises TemplateFault when time is over."""
        self._ticks += 1
        if self._ticks % _BETWEEN_LOOKS == 0 and thread_time() > self._deadline:
            raise TemplateFault(
                FaultKind.LIMIT,
                f"rendering takes more than {_MAX_SECONDS:g} s",
                remedy="look for loops inside of loops; work on data belongs into a step",
            )

    def make(self, characters: int) -> None:
        """Spend text that is made, or about to be. Raises TemplateFault when it is too much."""
        self.tick()
        self._made += characters
        if self._made > _MAX_MADE:
            raise TemplateFault(
                FaultKind.LIMIT,
                f"rendering makes more than {_MAX_MADE >> 20} Mi characters of text",
                remedy="pass less: the part of the text that matters, or its summary",
            )

    def items(self, count: int) -> None:
        """Spend the items of a list that is about to be made."""
        self.make(count)
        if count > _MAX_ITEMS:
            raise TemplateFault(
                FaultKind.LIMIT,
                f"a list of {count:,} items is too long",
                remedy=f"{_MAX_ITEMS:,} are allowed",
            )

    @staticmethod
    def rendered(characters: int) -> None:
        """Refuse a prompt that is too long as a whole."""
        if characters > MAX_RENDERED:
            raise TemplateFault(
                FaultKind.LIMIT,
                f"the rendered prompt has more than {MAX_RENDERED >> 20} Mi characters",
                remedy="pass less: the part of the text that matters, or its summary",
            )

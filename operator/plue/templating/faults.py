"""What can be wrong with a template, and where it is."""

from enum import StrEnum

__all__ = ["FaultKind", "TemplateFault"]


class FaultKind(StrEnum):
    """Which kind of mistake it is; the callers have a word of their own for each."""

    SYNTAX = "syntax"  # Jinja2's parser refused it
    UNDEFINED = "undefined"  # a name or a field that is not there
    FORBIDDEN = "forbidden"  # out of reach for a template, or not part of its language
    FILE = "file"  # a file that is not there, or outside of .plue/prompts/
    LIMIT = "limit"  # too much time, text or nesting
    VALUE = "value"  # a value that the template cannot use so


class TemplateFault(Exception):  # noqa: N818 - it is said of a template, as "failure" is of a step
    """The template cannot be rendered.

    ``file`` and ``line`` (from 1) are in the repository's file; ``word`` is the part of the line
    that is meant, where there is one. Without a place, whoever renders fills it in.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        remedy: str | None = None,
        file: str = "",
        line: int = 0,
        word: str | None = None,
    ) -> None:
        """Say what is wrong, where, and what to write instead."""
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.remedy = remedy
        self.file = file
        self.line = line
        self.word = word

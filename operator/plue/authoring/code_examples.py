"""A wrong and a right example for every diagnostic's code, read from ``code_examples.md``.

Each half of an example is one or more files (a fenced block; its path follows the language, and is
``.plue/workflows/ci.py`` when none does) and perhaps the command that shows the diagnostic.
"""

import functools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from plue.authoring.codes import Code

__all__ = ["FILE", "Example", "Half", "examples"]

FILE = ".plue/workflows/ci.py"

_SECTION = re.compile(r"^## (PLU\d{3})$", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w+)[ \t]*(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Half:
    """The wrong or the right half: files by path, and the words of a command, mostly none."""

    files: Mapping[str, str]
    command: Sequence[str] = ()

    def shown(self) -> str:
        """Return the half as a person reads it: a file's path only where it is not the usual."""
        parts = []
        for path, text in self.files.items():
            title = "" if len(self.files) == 1 and path == FILE else f"# {path}\n"
            parts.append(title + text.rstrip("\n"))
        if self.command:
            parts.append("$ " + shlex.join(self.command))
        return "\n\n".join(parts)


@dataclass(frozen=True, slots=True)
class Example:
    """What gives a code, and what to write instead."""

    code: Code
    wrong: Half
    right: Half = field()


@functools.cache
def examples() -> Mapping[Code, Example]:
    """Return the examples by code. Raises ValueError when the page is not as it should be."""
    text = resources.files(__package__).joinpath("code_examples.md").read_text("utf-8")
    _, *pieces = _SECTION.split(text)
    found = {}
    for code, body in zip(pieces[::2], pieces[1::2], strict=True):
        wrong, marker, right = body.partition("\nRight:\n")
        if not marker:
            raise ValueError(f"{code} has no right example")
        found[Code(code)] = Example(Code(code), _half(wrong), _half(right))
    return found


def _half(text: str) -> Half:
    files, command = {}, list[str]()
    for language, path, body in _BLOCK.findall(text):
        if language == "sh":
            command = shlex.split(body)
        else:
            files[path or FILE] = body
    return Half(files, command)

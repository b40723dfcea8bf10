"""How help is laid out: prose is wrapped, and what is indented stays as it was written.

Click wraps every paragraph, which joins an example with the line above it.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand
from typer.models import CommandFunctionType
from typing_extensions import override

__all__ = ["Words"]


class _Command(TyperCommand):
    @override
    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        # Typer carries a click of its own, whose classes have no public names.
        for part in paragraphs(self.help or ""):
            formatter.write_paragraph()
            with formatter.indentation():
                if isinstance(part, str):
                    formatter.write_text(part)
                else:
                    for line in part:
                        formatter.write(" " * formatter.current_indent + line + "\n")


def paragraphs(text: str) -> list[str | list[str]]:
    """Split a docstring into prose (text to wrap) and what holds indented lines (lines to keep).

    Blank lines between two indented lines are dropped: they were there to keep them apart.
    """
    lines = text.rstrip().splitlines()
    kept = [
        line
        for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False)
        if line.strip() or not (before.startswith("  ") and after.startswith("  "))
    ]
    blocks: list[list[str]] = [[]]
    for line, after in pairwise([*kept, ""]):
        if line.strip():
            blocks[-1].append(line)
        if not line.strip() or (not line.startswith(" ") and after == ""):
            blocks.append([])
    return [
        block if any(line.startswith(" ") for line in block) else " ".join(block)
        for block in blocks
        if block
    ]


class Words(typer.Typer):
    """A group of commands whose help is laid out so."""

    @override
    def command(
        self, name: str | None = None, **options: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        options.setdefault("cls", _Command)
        return super().command(name, **options)

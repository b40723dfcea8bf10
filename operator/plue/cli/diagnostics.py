"""Diagnostics of workflow files on a terminal, whether found here or told by a server."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from plue.authoring.render import render
from plue.authoring.results import Diagnostic, read_as

__all__ = ["diagnostic_text", "from_problem"]


def diagnostic_text(found: Sequence[Diagnostic], stream: TextIO | None = None) -> str:
    """Return the diagnostics for *stream* (standard error): line, caret, remedy, maybe colour."""
    terminal = (stream or sys.stderr).isatty()
    return render(found, color=terminal and not os.environ.get("NO_COLOR"))


def from_problem(found: Sequence[Mapping[str, Any]]) -> list[Diagnostic]:
    """Return the diagnostics that a server's answer carries; what we do not know is left out."""
    return [read_as(Diagnostic, one) for one in found]

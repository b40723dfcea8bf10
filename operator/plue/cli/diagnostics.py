"""Diagnostics of workflow files on a terminal, whether found here or told by a server."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from plue.authoring.render import render
from plue.authoring.results import Diagnostic

__all__ = ["diagnostic_text", "from_problem"]


def diagnostic_text(found: Sequence[Diagnostic]) -> str:
    """Return the diagnostics for standard error: with line, caret and remedy, perhaps in colour."""
    return render(found, color=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))


def from_problem(found: Sequence[Mapping[str, Any]]) -> list[Diagnostic]:
    """Return the diagnostics that a server's answer carries; what we do not know is left out."""
    known = {one.name for one in fields(Diagnostic)}
    return [Diagnostic(**{k: v for k, v in one.items() if k in known}) for one in found]

"""Diagnostics of workflow files as a terminal shows them: place, message, the line and a caret."""

from collections.abc import Mapping
from typing import Any

from plue.cli.text import safe

__all__ = ["diagnostic_lines"]


def diagnostic_lines(one: Mapping[str, Any]) -> list[str]:
    """Return the lines of a diagnostic, given as the API gives it."""
    place = f"{one['file']}:{one['line']}:{one.get('column') or 1}"
    lines = [f"{place}: {one.get('severity', 'error')} {one['code']}: {safe(one['message'])}"]
    source = one.get("source")
    if source:
        lines += [f"  | {safe(source)}", f"  | {_caret(source, one)}"]
    if related := one.get("related"):
        lines.append(f"  see also {related[0]}:{related[1]}")
    if one.get("remedy"):
        lines.append(f"  try: {safe(one['remedy'])}")
    return lines


def _caret(source: str, one: Mapping[str, Any]) -> str:
    start = max(1, one.get("column") or 1)
    end = max(start + 1, one.get("end_column") or start + 1)
    # Tabs are shown as four columns; what stands before the caret decides where it goes.
    before = len(safe(source[: start - 1]))
    return " " * before + "^" * max(1, len(safe(source[start - 1 : end - 1])))

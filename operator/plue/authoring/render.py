"""Diagnostics as text: with the line and a caret for people, on one line for other tools."""

from collections.abc import Sequence

from plue.authoring.results import Diagnostic

__all__ = ["plain", "render"]

_RED, _YELLOW, _BLUE, _BOLD, _OFF = "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[1m", "\x1b[0m"


def plain(diagnostic: Diagnostic) -> str:
    """Return ``file:line:column: error PLU012: message (remedy)``."""
    d = diagnostic
    remedy = f" ({d.remedy})" if d.remedy else ""
    return _printable(f"{d.file}:{d.line}:{d.column}: {d.severity} {d.code}: {d.message}{remedy}")


def render(diagnostics: Sequence[Diagnostic], *, color: bool = False) -> str:
    """Return all *diagnostics*, each with its line, a caret and what to write instead."""
    return "\n\n".join(_one(d, color=color) for d in diagnostics)


def _one(d: Diagnostic, *, color: bool) -> str:
    def paint(code: str, text: str) -> str:
        return f"{code}{text}{_OFF}" if color else text

    tint = _RED if d.severity == "error" else _YELLOW
    lines = [f"{paint(tint + _BOLD, f'{d.severity}[{d.code}]')}: {_printable(d.message)}"]
    gutter = " " * len(str(d.line))
    bar = paint(_BLUE, "|")
    if d.file:
        arrow = paint(_BLUE, f"{gutter}-->")
        lines.append(f"{arrow} {_printable(d.file)}:{d.line}:{d.column}")
    if d.source is not None and d.file:
        source = _printable(d.source.replace("\t", " "))
        width = max(1, (d.end_column or d.column + 1) - d.column)
        width = min(width, max(1, len(source) - d.column + 1))
        lines.append(f"{gutter} {bar}")
        lines.append(f"{paint(_BLUE, str(d.line))} {bar} {source}")
        lines.append(f"{gutter} {bar} {' ' * (d.column - 1)}{paint(tint, '^' * width)}")
    if d.remedy:
        lines.append(f"{gutter} {paint(_BLUE, '=')} help: {_printable(d.remedy)}")
    if d.related:
        lines.append(f"{gutter} {paint(_BLUE, '=')} see also: {d.related[0]}:{d.related[1]}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Show control characters instead of sending them to a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

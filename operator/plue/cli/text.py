"""Text for terminals, from values and from strangers: pure functions.

Output of steps, names and messages come from anywhere; on a terminal that we paint ourselves they
must not move the cursor, clear the screen or write the clipboard.
"""

import re

__all__ = ["coloured", "duration", "plural", "safe", "table"]

_SEQUENCE = re.compile(
    r"""
    \x1b \[ [0-?]* [ -/]* [@-~]                      # CSI: colours, cursor, erasing
  | \x1b [\]PX^_] .*? (?: \x07 | \x1b\\ | (?=\n) | $ )  # OSC, DCS, SOS, PM, APC: titles, clipboard
  | \x1b [ -/]* [0-~]                                # the short ones
  | \x9b [0-?]* [ -/]* [@-~]                         # CSI in one character
    """,
    re.VERBOSE | re.DOTALL,
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
# Control characters but tab and newline; marks that change the direction of what follows.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Return *text* without anything that a terminal obeys; a line overwritten by CR is dropped."""
    text = _SEQUENCE.sub("", text)
    text = "\n".join(_last_written(line) for line in text.split("\n"))
    return _CONTROL.sub("", text).expandtabs(4)


def coloured(text: str) -> str:
    """Return *text* with its colours, which end with it, and nothing else a terminal obeys."""
    parts, at = [], 0
    for found in _COLOUR.finditer(text):
        parts += [safe(text[at : found.start()]), found.group()]
        at = found.end()
    if not parts:
        return safe(text)
    return "".join([*parts, safe(text[at:]), "\x1b[0m"])


def duration(milliseconds: float | None) -> str:
    """Return a duration as people say it: `0.4 s`, `12 s`, `3 m 05 s`, `1 h 02 m`."""
    if milliseconds is None:
        return ""
    tenths = round(max(0.0, milliseconds) / 100)
    if tenths < 100:  # noqa: PLR2004 - below ten seconds the tenth matters
        return f"{tenths / 10:.1f} s"
    seconds = tenths // 10
    if seconds < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:  # noqa: PLR2004 - minutes of an hour
        return f"{minutes} m {seconds:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m"


def plural(count: int, noun: str) -> str:
    """Return `1 step` or `2 steps`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def table(rows: list[list[str]]) -> list[str]:
    """Return the rows, the first being the head, as lines of aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _last_written(line: str) -> str:
    """Return what stands there after carriage returns: progress bars rewrite their line."""
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part), "")

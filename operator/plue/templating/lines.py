"""Which lines of a template leave no line in the text: those that hold tags and nothing else.

Jinja2's ``trim_blocks`` eats the line break behind every tag, so that a heading such as
``# {% block title %}Review{% endblock %}`` swallows the next line. Here only a line of its own
vanishes, with its indentation; Jinja2's marks (``-``, ``+``) mean what they always do.
"""

import re
from typing import Final

__all__ = ["tidied"]

_TAG: Final = re.compile(
    r"(?P<raw>\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\})"
    r"|(?P<comment>\{#.*?#\})|(?P<tag>\{%.*?%\})",
    re.DOTALL,
)


def tidied(text: str) -> str:
    """Return *text* with a ``+`` in the tags that stand beside other text; lines keep numbers."""
    pieces: list[str] = []
    done = 0
    alone = dict(_standing_alone(text))
    for found in _TAG.finditer(text):
        tag = found["tag"]
        if tag is None or alone.get(found.start(), True):
            continue
        head = "{%+" if tag[2:3] not in "+-" else tag[:3]
        tail = "+%}" if tag[-3:-2] not in "+-" and found.end() == _line_end(text, found) else "%}"
        inner = tag[3 if tag[2:3] in "+-" else 2 : -2]
        pieces += [text[done : found.start()], head, inner, tail]
        done = found.end()
    return "".join([*pieces, text[done:]])


def _line_end(text: str, found: re.Match[str]) -> int:
    end = text.find("\n", found.end())
    return len(text) if end < 0 else end


def _standing_alone(text: str) -> list[tuple[int, bool]]:
    """Return the start of each tag, and whether its line holds tags and comments only."""
    bare = _TAG.sub(
        lambda found: re.sub(r"[^\n]", "\0", found[0]) if not found["raw"] else found[0], text
    )
    starts = [found.start() for found in _TAG.finditer(text) if found["tag"] is not None]
    alone = []
    for start in starts:
        first = bare.rfind("\n", 0, start) + 1
        last = bare.find("\n", start)
        line = bare[first : len(bare) if last < 0 else last]
        alone.append((start, not line.replace("\0", "").strip()))
    return alone

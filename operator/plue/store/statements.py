"""The named statements of ``sql/*.sql``, loaded once.

A statement begins with ``-- name: NAME``. SQL is never put together from pieces: what varies is
a parameter.
"""

import re
from importlib import resources
from typing import LiteralString, cast

__all__ = ["SQL", "load"]

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load() -> dict[str, LiteralString]:
    """Return every statement by its name. Raises ValueError when two share one."""
    found: dict[str, LiteralString] = {}
    for file in sorted(resources.files(__package__).joinpath("sql").iterdir(), key=str):
        if not file.name.endswith(".sql"):
            continue
        pieces = _NAME.split(file.read_text("utf-8"))
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
            if name in found:
                raise ValueError(f"two statements are called {name}")
            # The files ship with the package: their text is as literal as this line.
            found[name] = cast("LiteralString", text.strip().rstrip(";"))
    return found


SQL = load()

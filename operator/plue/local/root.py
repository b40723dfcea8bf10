"""Where a project is. Every command asks that first, so nothing that is slow to import is here."""

from pathlib import Path
from typing import Final

from plue.errors import NotFoundError

__all__ = ["find_root"]

_FOLDER: Final = ".plue"


def find_root(start: Path) -> Path:
    """Return the tree around *start*: the nearest folder upwards with `.plue`, else git's root.

    Raises NotFoundError when there is neither.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / _FOLDER).is_dir() or (folder / ".git").exists():
            return folder
    raise NotFoundError(
        f"{start} is not inside a project: no folder above it has {_FOLDER}/ or .git",
        remedy="change into your project, or begin one here with `plue init`",
    )

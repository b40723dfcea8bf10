"""The files that a prompt is made of, and how one names another."""

from posixpath import normpath
from typing import Final, Protocol

from plue.templating.faults import FaultKind, TemplateFault

__all__ = ["FOLDER", "SourceText", "folder_of", "path_of"]

FOLDER: Final = ".plue/prompts/"


class SourceText(Protocol):
    """A file's body without front matter; ``line`` is the body's first line within the file."""

    @property
    def text(self) -> str:
        """The body as it was written."""

    @property
    def line(self) -> int:
        """The number of its first line."""

    @property
    def extends(self) -> str | None:
        """The path of the file that the front matter extends."""


def folder_of(path: str) -> str:
    """Return the prompts' folder that *path* is in, with a slash at its end."""
    before, found, _ = path.rpartition(FOLDER)
    return before + found if found else ""


def path_of(name: str, within: str) -> str:
    """Return the path of the file that the file *within* calls *name*.

    Names start at the prompts' folder, wherever the file that uses them is. Raises TemplateFault
    for a name that leaves it.
    """
    clean = normpath(name) if name else ""
    escapes = clean.startswith(("/", "..")) or "\\" in name or "\0" in name
    if not name or escapes or clean in (".", ""):
        raise TemplateFault(
            FaultKind.FILE,
            f"`{name}` is not a file below {FOLDER}",
            remedy=f"name a file from there: `parts/style.md` is {FOLDER}parts/style.md",
            word=name or None,
        )
    return folder_of(within) + clean

"""`plue stubs`: what editors complete in this project's workflows, its own prompts included."""

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from plue.errors import UsageError

if TYPE_CHECKING:
    from plue.authoring.results import PromptInfo

__all__ = ["FOLDER", "refresh_stubs", "stubs", "write_stubs"]

FOLDER: Final = ".plue/typings"
_SETTINGS: Final = """\
tell your editor of it, once:
  pyproject.toml   [tool.pyright] stubPath = ".plue/typings", extraPaths = [".plue"]
                   [tool.mypy] mypy_path = [".plue", ".plue/typings"]
  VS Code          "python.analysis.stubPath": ".plue/typings",
                   "python.analysis.extraPaths": [".plue"]"""


def stubs(
    *,
    into: Annotated[
        str, typer.Option("--into", metavar="FOLDER", help="Where to, from the project's root.")
    ] = FOLDER,
) -> None:
    """Write type stubs, with which editors complete `ctx.` and this project's prompts.

    `plue workflow lint` writes them anew when prompts have changed, once .plue/typings is there.
    Example: plue stubs
    """
    from plue.cli.context import here
    from plue.cli.workflows import describe_here

    root = here().root
    prompts = describe_here().prompts
    for path in write_stubs(root / into, prompts):
        typer.echo(f"wrote {path.relative_to(root) if path.is_relative_to(root) else path}")
    if into == FOLDER:
        typer.echo(_SETTINGS)


def refresh_stubs(root: Path, prompts: "Sequence[PromptInfo]") -> None:
    """Write the stubs anew when they are there and prompts have changed; quietly."""
    folder = root / FOLDER
    if (folder / "plue").is_dir():
        write_stubs(folder, prompts)


def write_stubs(folder: Path, prompts: "Sequence[PromptInfo]") -> list[Path]:
    """Write the stubs into *folder*; return what was written. What is the same is left alone.

    Raises UsageError when a file cannot be written.
    """
    from plue.authoring.stubs import prompts_stub

    own = importlib.resources.files("plue").joinpath("__init__.pyi").read_text(encoding="utf-8")
    files = {
        ".gitignore": "# Written by `plue stubs`.\n*\n",
        "plue/__init__.pyi": own,
        "plue/prompts.pyi": prompts_stub(prompts),
    }
    written = []
    for name, text in files.items():
        path = folder / name
        try:
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        written.append(path)
    return written

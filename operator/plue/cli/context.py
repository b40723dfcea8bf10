"""What every command begins with: where we are, and how errors and progress are said."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from plue.cli.target import target
from plue.errors import PlueError, RejectedError, UsageError

if TYPE_CHECKING:
    from plue.cli.client import Api
    from plue.cli.connect import Place

__all__ = [
    "error_lines",
    "exit_code_of",
    "here",
    "namespace_of",
    "progress",
    "refuse_to_leave_private",
    "server",
]


def here(tree: Path | None = None, data: Path | None = None) -> "Place":
    """Return the project around the current folder. Raises NotFoundError outside of any."""
    from plue.cli.connect import Place
    from plue.local.instance import data_folder
    from plue.local.root import find_root

    root = find_root(tree or Path.cwd())
    return Place(root, (data or data_folder(root, os.environ)).absolute())


@contextmanager
def server(*, warm: int = 0) -> Iterator["Api"]:
    """Give the API that commands are for: a cluster's, or that of this project's server.

    When none is up here, a private one with *warm* runners is started.
    """
    aimed = target()
    if aimed.is_cluster:
        from plue.cli.cluster import reached

        with reached(aimed) as api:
            yield api
        return
    from plue.cli.connect import connected

    place = here()
    with ExitStack() as stack:
        with progress() as tell:
            api = stack.enter_context(connected(place, tell, warm=warm))
        yield api


def namespace_of(given: str | None = None) -> str | None:
    """Return the namespace of a cluster that is meant; None here, and where none is said."""
    aimed = target()
    if given is not None or aimed.namespace is not None or aimed.context is None:
        return given or aimed.namespace
    from plue.kube.login import find_login

    return find_login(os.environ, context=aimed.context, programs=True).namespace


def refuse_to_leave_private() -> None:
    """Raise an error unless a server is up that stays when this command has ended."""
    from plue.cli.connect import running_server

    if target().is_cluster:
        return
    if running_server(here()).private:
        raise UsageError(
            "a private server ends with the command that started it",
            remedy="start one with `plue up`",
        )


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show what is being set up, on standard error: one line that goes away, or lines in a pipe."""
    if not sys.stderr.isatty():
        yield lambda text: print(f"… {text}", file=sys.stderr, flush=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("looking for the server") as status:

        def show(text: str) -> None:
            status.update(text)

        yield show


def error_lines(error: PlueError) -> list[str]:
    """Return what a person must read of *error*: message, diagnostics, remedy."""
    from plue.cli.text import safe

    field = f"{error.field}: " if error.field and error.field not in error.message else ""
    lines = [f"error: {field}{safe(error.message)}"]
    diagnostics = error.details.get("diagnostics")
    if isinstance(diagnostics, list) and diagnostics:
        from plue.cli.diagnostics import diagnostic_text, from_problem

        lines = [diagnostic_text(from_problem(diagnostics))]
    elif error.remedy:
        lines.append(f"  try: {safe(error.remedy)}")
    return lines


def exit_code_of(error: PlueError) -> int:
    """Return 2 where the caller must change the call, 1 for everything else."""
    return 2 if isinstance(error, RejectedError | UsageError) else 1

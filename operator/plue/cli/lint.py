"""`plue workflow lint`: all that is wrong in all files, as text, JSON or SARIF."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from plue.errors import UsageError

if TYPE_CHECKING:
    from plue.authoring.results import Description, Diagnostic

__all__ = ["lint"]


def lint(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    sarif: Annotated[
        bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for code hosts and editors.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, and say what every change makes of it.")
    ] = False,
) -> None:
    """Check all workflows and prompts and say what is wrong, with places and remedies.

    Examples:
      plue workflow lint

      plue workflow lint --strict --sarif > plue.sarif
      plue workflow lint --watch

    Exit codes: 0 nothing is wrong, 1 there is an error (with --strict: or a warning).

    """
    from plue.cli.context import here
    from plue.cli.stubs import refresh_stubs
    from plue.cli.workflows import describe_here

    if as_json and sarif:
        raise UsageError("--json and --sarif are two forms of the same", remedy="choose one")
    if watch:
        if as_json or sarif or strict:
            raise UsageError(
                "--watch talks to people", remedy="leave --json, --sarif and --strict out"
            )
        from plue.cli.watch import watch_here

        watch_here(here().root)
    description = describe_here()
    refresh_stubs(here().root, description.prompts)
    found = in_order(description.diagnostics)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif sarif:
        from plue import __version__
        from plue.authoring.sarif import sarif_of

        print(json.dumps(sarif_of(found, version=__version__), indent=2))
    else:
        say(description)
    if any(strict or one.severity == "error" for one in found):
        raise typer.Exit(1)


def in_order(diagnostics: "Sequence[Diagnostic]") -> "list[Diagnostic]":
    """Return *diagnostics* as a reader walks through the files."""
    return sorted(diagnostics, key=lambda one: (one.file, one.line, one.column, one.code))


def say(description: "Description") -> None:
    """Print what is wrong to standard error, and a last line that counts."""
    import sys

    from plue.cli.diagnostics import diagnostic_text

    found = in_order(description.diagnostics)
    if found:
        print(diagnostic_text(found), file=sys.stderr)
        print(f"\n{summary(found)}", file=sys.stderr)
    if not any(one.severity == "error" for one in found):
        prompts = len(description.prompts)
        also = f" and {counted(prompts, 'prompt')}" if prompts else ""
        print(f"{counted(len(description.workflows), 'workflow')}{also}, no errors")


def summary(found: "Sequence[Diagnostic]") -> str:
    """Return how many errors and warnings there are, where, and how to learn more."""
    errors = sum(one.severity == "error" for one in found)
    warnings = len(found) - errors
    counts = [counted(n, what) for n, what in ((errors, "error"), (warnings, "warning")) if n]
    files = counted(len({one.file for one in found}), "file")
    return f"{' and '.join(counts)} in {files}; `plue explain {found[0].code}` says more"


def counted(number: int, what: str) -> str:
    """Return ``1 error``, ``2 errors``."""
    return f"{number} {what}{'' if number == 1 else 's'}"

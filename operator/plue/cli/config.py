"""`plue config`: what `.plue/config.yaml` sets, and the schema that editors check it with."""

import json
import sys
from typing import Annotated

import typer

from plue.cli.context import here

__all__ = ["config"]


def config(
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the file's JSON Schema, for editors.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show what .plue/config.yaml sets for all workflows of this project.

    Examples:
      plue config
      plue config --schema > .plue/config.schema.json

    """
    from plue.authoring.config import CONFIG_FILE, Config, config_of, schema_text
    from plue.cli.diagnostics import diagnostic_text
    from plue.local.reading import SourceReader

    if schema:
        print(schema_text(), end="")
        return
    sources = SourceReader(here().root).read()
    found = config_of(sources.files)
    wrong = [*(one for one in sources.diagnostics if one.file == CONFIG_FILE), *found.diagnostics]
    if as_json:
        print(json.dumps(found.defaults(), indent=2))
    else:
        values = found.defaults()
        for name, described in Config.model_fields.items():
            shown = json.dumps(values[name], ensure_ascii=False) if name in values else "-"
            print(f"{name:<16} {shown:<20} {described.description}")
    if wrong:
        print(diagnostic_text(wrong), file=sys.stderr)
        raise typer.Exit(1)

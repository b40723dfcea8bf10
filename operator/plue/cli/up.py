"""`plue up`: a server for the project around the current folder."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from plue.cli.context import here
from plue.errors import PlueError, UsageError

__all__ = ["up"]


def up(
    *,
    port: Annotated[
        int | None, typer.Option(help="Port of the API [default: 8700, or the next free one].")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Where to keep everything [default: below ~/.local/state/plue]."),
    ] = None,
    runners: Annotated[
        int | None, typer.Option(help="How many runners wait, warm [default: 2].")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(metavar="DSN", help="Use this Postgres instead of one of our own."),
    ] = None,
    tree: Annotated[
        Path | None, typer.Option(help="The project [default: around the current folder].")
    ] = None,
    model_server: Annotated[
        Path | None,
        typer.Option(metavar="SCRIPT", help="Answer model calls from a script, without a key."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Say what every change of .plue/ makes of it.")
    ] = False,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE.UNIT=AMOUNT",
            help="What models may cost; repeatable [default: run.usd=10, day.usd=100].",
        ),
    ] = None,
    private: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start a server, its database and warm runners; Ctrl-C ends them.

    Examples:
      plue up

      plue up --port 9000 --runners 4

      plue up --database postgresql://user@host/plue

    Every option can be given as a variable too: PLUE_PORT, PLUE_DATA, PLUE_RUNNERS,
    PLUE_MAX_RUNNERS, PLUE_DATABASE, PLUE_LOG_DAYS, PLUE_RUN_DAYS, PLUE_MODEL_SERVER,
    PLUE_BUDGETS; by a variable alone: PLUE_MODELS, a file of model settings. Models are called
    with ANTHROPIC_API_KEY, which no step ever sees.

    Local mode isolates accidents, not attackers: a workflow can do whatever you can.

    """
    try:
        given = {
            "port": port,
            "data": data,
            "runners": runners,
            "database": database,
            "model_server": model_server,
            "budgets": ",".join(budget) if budget else None,
        }
        _up(given, tree, private=private, watch=watch)
    except PlueError as error:
        if not private:
            raise
        _say_privately(error)
        raise typer.Exit(1) from error


def _up(given: Mapping[str, object], tree: Path | None, *, private: bool, watch: bool) -> None:
    from plue.cli.watch import news_lines
    from plue.gateway.llm.providers import credentials_from
    from plue.local.instance import Running
    from plue.local.server import ServerOptions
    from plue.local.up import Announcer, json_announcer, run_server
    from plue.settings import Settings

    settings = Settings.load(**given)
    place = here(tree, settings.data)

    def ready(running: Running, login: str) -> None:
        print(f"plue {running.version} serves {running.root}")
        print(f"  open     {login}")
        print(f"  api      {running.url}/api/v1   (token in {place.data / 'server.json'})")
        print(f"  data     {place.data}")
        if settings.model_server is not None:
            print(f"  models   scripted by {settings.model_server}: no key, and nothing is paid")
        elif (place.root / ".plue/prompts").is_dir() and credentials_from(os.environ) is None:
            print("  models   none: set ANTHROPIC_API_KEY, or give --model-server SCRIPT")
        print("  run      plue workflow run NAME")
        print("Ctrl-C ends the server.", flush=True)

    announcer = Announcer(
        progress=lambda text: print(f"… {text}", flush=True),
        ready=ready,
        news=(lambda news: print(news_lines(news), flush=True)) if watch else None,
    )
    options = ServerOptions(place.root, place.data, settings, private=private)
    run_server(options, json_announcer() if private else announcer)


def _say_privately(error: PlueError) -> None:
    kind = "usage" if isinstance(error, UsageError) else "unavailable"
    said = {"kind": kind, "message": error.message, "remedy": error.remedy, "field": error.field}
    sys.stdout.write(json.dumps({"error": said}) + "\n")
    sys.stdout.flush()

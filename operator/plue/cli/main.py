"""The `plue` command: its words, and the one place where errors become messages and exit codes.

Modules that take long to import are imported where they are used: `plue --help` must be there at
once. Exit codes: 0 succeeded, 1 failed, 2 wrong usage, 124 timed out, 130 cancelled or left.
"""

import os
import sys
from typing import Annotated

import typer

from plue import __version__
from plue.cli import (
    config,
    dev,
    doctor,
    explain,
    init,
    operator,
    prompts,
    runs,
    stubs,
    tokens,
    up,
    usage,
    workflows,
)
from plue.cli.target import aim
from plue.cli.words import Words
from plue.errors import PlueError

__all__ = ["app", "main"]

app = Words(
    name="plue",
    help="Run workflows that live beside your code.",
    epilog="Begin with `plue init`, or `plue workflow list`; then `plue workflow run NAME`.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("up")(up.up)
app.command("operator")(operator.operator)
app.command("api")(operator.api)
app.command("gateway")(operator.gateway)
app.command("evaluator")(operator.evaluator)
app.command("migrate")(operator.migrate)
app.command("postgres")(operator.postgres)
app.command("smoke")(operator.smoke)
app.add_typer(workflows.app, name="workflow")
app.add_typer(runs.app, name="run")
app.add_typer(prompts.app, name="prompt")
app.command("stubs")(stubs.stubs)
app.command("config")(config.config)
app.command("explain")(explain.explain)
app.command("usage")(usage.usage)
app.add_typer(tokens.app, name="token")
app.command("audit")(tokens.audit)
app.command("doctor")(doctor.doctor)
app.add_typer(dev.app, name="dev")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"plue {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    context: Annotated[
        str | None,
        typer.Option(
            envvar="PLUE_CONTEXT", help="Work with the cluster of this context of the kubeconfig."
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "-n", "--namespace", envvar="PLUE_NAMESPACE", help="The namespace [the context's]."
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            metavar="[NAMESPACE/]NAME",
            envvar="PLUE_ACCOUNT",
            help="The service account to act as in a cluster [plue-cli].",
        ),
    ] = None,
    api_service: Annotated[
        str | None,
        typer.Option(
            metavar="NAMESPACE/NAME",
            envvar="PLUE_API_SERVICE",
            help="The Service of Plue's API in a cluster [plue-system/plue-api].",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="PLUE_SERVER",
            help="An API that is exposed, with a machine token in PLUE_TOKEN.",
        ),
    ] = None,
) -> None:
    """Run workflows that live beside your code, here or in a cluster."""
    aim(context=context, server=server, namespace=namespace, account=account, service=api_service)


def main() -> None:
    """Run the command line; never shows a traceback unless PLUE_DEBUG=1."""
    try:
        app(prog_name="plue")
    except PlueError as error:
        if os.environ.get("PLUE_DEBUG") == "1":
            raise
        from plue.cli.context import error_lines, exit_code_of

        sys.stderr.write("\n".join(error_lines(error)) + "\n")
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has enough. Python must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("PLUE_DEBUG") == "1":
            raise
        sys.stderr.write(
            f"error: a fault in Plue itself: {type(error).__name__}: {error}\n"
            "  try: PLUE_DEBUG=1 shows where; please report it\n"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()

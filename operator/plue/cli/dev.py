"""`plue dev`: what authors try things with."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plue.cli.words import Words
from plue.errors import UsageError

if TYPE_CHECKING:
    from plue.dev.model_server import Call

__all__ = ["app"]

app = Words(help="Try workflows without what they cost.", no_args_is_help=True)


@app.callback()
def dev() -> None:
    """Try workflows without what they cost."""


@app.command("model-server")
def model_server(
    script: Annotated[Path, typer.Argument(help="The script of turns, in YAML.")],
    *,
    port: Annotated[int, typer.Option(help="Port on loopback [default: a free one].")] = 0,
    key: Annotated[
        str | None, typer.Option(help="Answer only requests that show this key.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Append each request and its outcome, as a JSON line.")
    ] = None,
) -> None:
    """Serve the Messages API on loopback from a script, without a key and without a cost.

    Examples:
      plue dev model-server turns.yaml

      plue dev model-server turns.yaml --port 8800 --log calls.jsonl

    A script:

      conversations:
        - match: review           # a regular expression, searched in system and first message
          turns:
            - text: I read the file first.
              tools: [{name: read_file, input: {path: app.py}}]
            - json: {approved: true}

    A turn has: thinking, text or json, tools, stop, refusal, usage (input, output, cache_read,
    cache_write), delay, chunk, repeat, and before: faults that requests meet first (status and
    retry_after_ms, or cut, error or hang after so many events; times).

    """
    from plue.dev.script import load_script

    turns = load_script(script)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as files:
        out = None if log is None else files.enter_context(log.open("a", encoding="utf-8"))

        def note(call: "Call") -> None:
            print(f"{len(call.body):>9} bytes in  {call.events:>5} events out  {call.outcome}")
            if out is not None:
                line = {"body": json.loads(call.body or b"null"), "outcome": call.outcome}
                out.write(json.dumps(line) + "\n")
                out.flush()

        async def serve() -> None:
            from plue.dev.model_server import ModelServer

            server = ModelServer(turns, key=key, port=port, watch=note)
            try:
                await server.start()
            except OSError as error:
                raise UsageError(
                    f"the model server cannot serve on port {port}: {error.strerror or error}",
                    remedy="give another --port, or none",
                ) from error
            print(f"ANTHROPIC_BASE_URL={server.url}", flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                await server.close()

        asyncio.run(serve())

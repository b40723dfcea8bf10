"""`plue up`, and its private form: the life of a server process from its lock to its last line.

A private server belongs to the commands that use it. The first of them holds the other end of its
standard input, all of them hold the client lock: when the pipe is closed and nobody holds the
lock, it ends. It speaks JSON lines on its standard output, for the command that started it.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import structlog

from plue.ending import end_tasks
from plue.errors import PlueError
from plue.garbage import spare_what_is_there
from plue.local.instance import ClientLock, InstanceLock, Running
from plue.local.journal import configure_journal
from plue.local.server import LocalServer, ServerOptions
from plue.local.watching import News, follow_tree

__all__ = ["Announcer", "run_server"]

_log = structlog.get_logger(__name__)

_LOOK_FOR_CLIENTS_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Announcer:
    """What becomes known of a server, as it happens."""

    progress: Callable[[str], None]
    ready: Callable[[Running, str], None]
    """Called with the server and the address for a browser."""

    news: Callable[[News], None] | None = None
    """Called with every change of the working tree; None: nobody wants to know."""


def json_announcer() -> Announcer:
    """Return the announcer of a private server."""

    def say(**line: object) -> None:
        # Who started us may have left already.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    return Announcer(
        progress=lambda text: say(progress=text),
        ready=lambda running, _: say(ready=asdict(running)),
    )


def run_server(options: ServerOptions, announcer: Announcer) -> None:
    """Run a server until it is told to end. Raises PlueError when it cannot start."""
    lock = InstanceLock.acquire(options.data, kind=_kind(options))
    try:
        configure_journal(
            options.data / "server.log", people=None if options.private else sys.stderr
        )
        asyncio.run(_live(options, announcer))
    finally:
        lock.release()


def _kind(options: ServerOptions) -> str:
    return "the private server of another plue command" if options.private else "plue up"


async def _live(options: ServerOptions, announcer: Announcer) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    _handle_signals(stop, hurry)
    asyncio.get_running_loop().set_exception_handler(_log_stray)
    server = LocalServer(options, tell=announcer.progress)
    starting = asyncio.ensure_future(server.start())
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    running = starting.result()
    spare_what_is_there()
    announcer.ready(running, server.login_url)
    tasks = [asyncio.ensure_future(_until_unused(options, stop))] if options.private else []
    if announcer.news is not None:
        tasks.append(asyncio.ensure_future(_watch(options, server, announcer.news)))
    await stopped
    announcer.progress("ending")
    await server.close(hurry=hurry)
    await end_tasks(tasks)
    _log.info("server_ended", hurry=hurry.is_set())


def _handle_signals(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    """First signal: end cleanly; second: without waiting; third: at once."""

    def on_signal() -> None:
        if hurry.is_set():
            # What is left ends by itself: Postgres with us, runners when the next server looks.
            os._exit(130)
        if stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


async def _watch(options: ServerOptions, server: LocalServer, tell: Callable[[News], None]) -> None:
    """Tell of every change under `.plue` of the tree that the server offers."""
    while True:
        try:
            async for news in follow_tree(options.root, server.look):
                tell(news)
        except PlueError as error:
            # The evaluator or the store is away, or the tree is too much: the server goes on.
            _log.warning("watch_interrupted", error=error.message)
            await asyncio.sleep(1)


async def _until_unused(options: ServerOptions, stop: asyncio.Event) -> None:
    """Set *stop* once our parent has closed the pipe and nobody works with the server."""
    await _end_of_input()
    while (alone := ClientLock.alone(options.data)) is None:  # noqa: ASYNC110 - a file's lock has
        # no event; other commands hold it.
        await asyncio.sleep(_LOOK_FOR_CLIENTS_EVERY)
    # Held until the process ends: who comes now waits for the folder and starts anew.
    _log.info("server_unused", lock=repr(alone))
    stop.set()


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while await reader.read(1024):
            pass
    finally:
        transport.close()


def _log_stray(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log what no task took care of; the server goes on."""
    error = context.get("exception")
    fields = {"exc_info": error} if isinstance(error, BaseException) else {}
    if isinstance(error, PlueError):
        fields = {}
    _log.error("stray_error", message=str(context.get("message")), error=str(error), **fields)

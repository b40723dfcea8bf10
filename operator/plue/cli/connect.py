"""Finding the server of the tree around the current folder, or starting a private one.

A private server is a `plue up --private` of this user on the same data folder, so that its runs
are in the same history. It lives as long as a command works with it (see plue.local.up).
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from plue.cli.client import Address, Api
from plue.errors import NotFoundError, PlueError, UnavailableError, UsageError
from plue.local.instance import ClientLock, Running, find_running

__all__ = ["Place", "connected"]

_PATIENCE = 60.0
"""Seconds in which a server that is starting or ending must have done so."""
_ENDING = 15.0
_PAUSE = 0.05
_LAST_WORDS = "private.stderr"


@dataclass(frozen=True, slots=True)
class Place:
    """The project that commands are about, and where its server keeps everything."""

    root: Path
    data: Path


@contextlib.contextmanager
def connected(place: Place, tell: Callable[[str], None], *, warm: int = 0) -> Iterator[Api]:
    """Give the API of the place's server; *tell* gets lines while a private one is started.

    A private one keeps *warm* runners waiting: none for who only looks; for a run that is queued
    one is made all the same.
    """
    deadline = time.monotonic() + _PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            lock = ClientLock.share(place.data)
            if lock is not None:
                stack.callback(lock.release)
                if find_running(place.data) or _started_privately(
                    place, lock, stack, tell, warm=warm
                ):
                    break
                stack.pop_all().close()
            # Another server is starting or ending just now: it will be one or the other soon.
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the server on {place.data} neither starts nor ends",
                    remedy="see `plue doctor`, and server.log in that folder",
                )
            time.sleep(_PAUSE)
        api = Api(lambda: _address(place))
        stack.callback(api.close)
        yield api


def _address(place: Place) -> Address | None:
    running = find_running(place.data)
    return None if running is None else Address(running.url, running.token)


def _started_privately(
    place: Place,
    lock: ClientLock,
    stack: contextlib.ExitStack,
    tell: Callable[[str], None],
    *,
    warm: int,
) -> bool:
    """Start a private server, to end with *stack*; False when somebody else has the folder."""
    words = [sys.executable, "-m", "plue.cli.main", "up", "--private"]
    words += ["--tree", str(place.root), "--data", str(place.data), "--runners", str(warm)]
    # Its own session: Ctrl-C is for us, and we tell the server what it means.
    with (place.data / _LAST_WORDS).open("w") as last_words:
        server = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=last_words,
            start_new_session=True,
            text=True,
        )
    try:
        if not _is_ready(server, place, tell):
            _end(server, wait=True)
            return False
    except BaseException:
        _end(server, wait=False)
        raise
    stack.callback(_end_private, server, place, lock)
    return True


def _is_ready(server: "subprocess.Popen[str]", place: Place, tell: Callable[[str], None]) -> bool:
    """Follow the server's start. Raises PlueError as the server says it."""
    assert server.stdout is not None  # noqa: S101 - asked for by PIPE
    for line in server.stdout:
        said = json.loads(line)
        if "ready" in said:
            return True
        if "error" in said:
            if said["error"].get("field") == "data":
                return False
            raise _error_of(said["error"])
        tell(str(said.get("progress", "")))
    raise UnavailableError(
        f"the private server ended with exit code {server.wait()} before it was ready",
        remedy=f"see {place.data / _LAST_WORDS}, or run `plue up`",
    )


def _error_of(said: dict[str, str | None]) -> PlueError:
    kind = UsageError if said.get("kind") == "usage" else UnavailableError
    return kind(
        said.get("message") or "the private server did not start", remedy=said.get("remedy")
    )


def _end_private(server: "subprocess.Popen[str]", place: Place, lock: ClientLock) -> None:
    """Let go of the server, and wait for its end unless others work with it."""
    lock.release()
    alone = ClientLock.alone(place.data)
    if alone is not None:
        alone.release()
    _end(server, wait=alone is not None)


def _end(server: "subprocess.Popen[str]", *, wait: bool) -> None:
    for pipe in (server.stdin, server.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if wait:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_ENDING)


def running_server(place: Place) -> Running:
    """Return the server that is up. Raises NotFoundError."""
    running = find_running(place.data)
    if running is None:
        raise NotFoundError("no server is up for this project", remedy="start one with `plue up`")
    return running

"""`plue doctor`: whether this machine and this project have what local mode needs."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from plue.errors import PlueError

__all__ = ["Check", "doctor", "examine"]

_GIB = 1024**3
_LITTLE_SPACE = _GIB
_OLDEST_PYTHON = (3, 11)

NOTICE = "Local mode isolates accidents, not attackers: a workflow's steps can do whatever you can."


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``ok`` None: not needed, but good to know."""

    name: str
    ok: bool | None
    found: str
    remedy: str | None = None


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check this machine and project, and say what is missing and what to do about it.

    Exit code 1 when something that is needed is missing. Example: plue doctor
    """
    checks = list(examine())
    if as_json:
        print(json.dumps({"checks": [asdict(one) for one in checks], "notice": NOTICE}, indent=2))
    else:
        words = {True: "ok", False: "MISSING", None: "note"}
        width = max(len(one.name) for one in checks)
        for one in checks:
            print(f"{words[one.ok]:<8} {one.name.ljust(width)}  {one.found}")
            if one.remedy and one.ok is not True:
                print(f"{' ' * (width + 9)}  try: {one.remedy}")
        print(f"\n{NOTICE}")
    if any(one.ok is False for one in checks):
        raise typer.Exit(1)


def examine() -> Iterator[Check]:
    """Look at everything, one after another."""
    yield _python()
    yield _program("bash", "the default shell of steps", needed=True)
    yield _program("git", "lists the files of the working tree; without it, all are copied")
    yield _guarded("postgres", _postgres)
    yield from _project()
    yield _port()
    yield _guarded("evaluator", _evaluator)


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info[:2] >= _OLDEST_PYTHON
    return Check("python", fine, f"{found} ({sys.executable})", "use Python 3.11 or newer")


def _program(name: str, purpose: str, *, needed: bool = False) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(name, False if needed else None, f"not found: {purpose}", f"install {name}")
    return Check(name, ok=True, found=path)


def _guarded(name: str, look: Callable[[], str]) -> Check:
    """Turn an error of ours into a failed check."""
    try:
        return Check(name, ok=True, found=look())
    except PlueError as error:
        return Check(name, ok=False, found=error.message, remedy=error.remedy)


def _postgres() -> str:
    from plue.local.postgres import binaries

    binary = binaries() / "postgres"
    # As root too: asking for the version is allowed, and how it is started is the next question.
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    return f"{said.stdout.strip() or said.stderr.strip()} ({binary.parent}){_as_root(binary)}"


def _as_root(binary: Path) -> str:
    if os.geteuid() != 0:
        return ""
    from plue.local.unprivileged import launch_in_namespace

    if launch_in_namespace(binary) is not None:
        return ", started in a user namespace because we are root"
    return ", started as another account because we are root"


def _project() -> Iterator[Check]:
    from plue.cli.context import here
    from plue.local.instance import find_running

    try:
        place = here()
    except PlueError as error:
        yield Check("project", None, error.message, error.remedy)
        return
    count = len(list((place.root / ".plue" / "workflows").glob("*.py")))
    yield Check("project", bool(count) or None, f"{place.root}, {count} workflow files")
    above = next(folder for folder in (place.data, *place.data.parents) if folder.exists())
    writable = os.access(above, os.W_OK | os.X_OK)
    yield Check("data folder", writable, str(place.data), "give another one: PLUE_DATA, --data")
    free = shutil.disk_usage(above).free
    enough = free > _LITTLE_SPACE
    yield Check("disk space", enough, f"{free / _GIB:.1f} GiB free", "free some space")
    running = find_running(place.data)
    if running is None:
        yield Check("server", None, "none is up; commands start a private one when they need it")
    else:
        kind = "a private one" if running.private else "up"
        yield Check("server", ok=True, found=f"{kind} at {running.url}, pid {running.pid}")


def _port() -> Check:
    from plue.local.listening import DEFAULT_PORT

    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", DEFAULT_PORT)) == 0
    if taken:
        return Check("port", None, f"{DEFAULT_PORT} is in use; `plue up` takes the next free one")
    return Check("port", ok=True, found=f"{DEFAULT_PORT} is free")


def _evaluator() -> str:
    import asyncio

    from plue.authoring.evaluator import Evaluator

    async def start() -> None:
        evaluator = Evaluator()
        await evaluator.start()
        await evaluator.close()

    asyncio.run(start())
    return "starts, isolated from files and network"

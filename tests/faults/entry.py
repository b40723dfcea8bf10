"""Starts the real server or the real runner, with what a fault test needs put into it.

``entry.py up …`` is ``plue up``, ``entry.py runner …`` is ``python -m plue_runner``. Before that,
and only here, the product is told shorter times, given a hook for its marks, sent through the
proxy, and, where a test asks for it, broken on purpose (``mutations``). The variable FAULTS names
the folder with ``setup.json`` and the marks that are armed; nothing in the product reads it.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["FAULTS"])
SETUP = json.loads((FOLDER / "setup.json").read_text())
ARMED, FIRED, HITS = FOLDER / "armed", FOLDER / "fired", FOLDER / "hits"


class Hook:
    """What happens at a mark: it is counted once a process, and fires when it is armed."""

    def __init__(self) -> None:
        """Begin to count."""
        self._seen: set[str] = set()
        self._hits = os.open(HITS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def __call__(self, mark: object) -> None:
        """Fire, when the file of this mark says so; only one process gets it."""
        name = getattr(mark, "name", str(mark))
        if name not in self._seen:
            self._seen.add(name)
            os.write(self._hits, f"{name}\n".encode())
        path = ARMED / name
        try:
            how = path.read_text()
        except FileNotFoundError:
            return
        action, _, rest = how.partition(" ")
        if action == "skip":  # "skip 3 kill": the third hit from now on
            count, _, then = rest.partition(" ")
            path.write_text(f"skip {int(count) - 1} {then}" if int(count) > 1 else then)
            return
        try:
            path.rename(FIRED / f"{name}.{os.getpid()}")
        except FileNotFoundError:
            return  # another process was first
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "pause":
            time.sleep(float(rest))


def hook_marks() -> None:
    """Put the hook into the product."""
    from plue import marks

    marks.hook = Hook()


def shorten_times() -> None:
    """Make leases, graces and heartbeats short, so that a round does not take minutes."""
    import plue.api.app
    import plue.gateway.app
    import plue.local.server as local_server

    given: dict[str, Any] = {
        name: timedelta(seconds=value) for name, value in SETUP["engine"].items()
    }
    made = local_server._engine_settings
    local_server._engine_settings = lambda *args, **more: replace(made(*args, **more), **given)
    plue.gateway.app.HEARTBEAT_SECONDS = SETUP["heartbeat"]
    app: Any = plue.api.app
    streams, unread = app.OpenStreams, timedelta(seconds=SETUP["unread"])
    app.OpenStreams = lambda *, sweep, **_: streams(unread=unread, sweep=sweep)


def route_runners() -> None:
    """Have the server start runners through this file, and have them talk to the proxy."""
    import plue.local.server as local_server

    def runner_command(*_args: object, **_more: object) -> object:
        def command(runner: str, home: Path) -> list[str]:
            words = [sys.executable, str(Path(__file__).resolve()), "runner"]
            if SETUP["runner_clock"] is not None:
                words = ["env", f"CLOCK_FILE={SETUP['runner_clock']}", *words]
            words += ["--gateway", SETUP["proxy"], "--runner", runner, "--home", str(home)]
            return [*words, "--idle-exit", "20"]

        return command

    if SETUP["proxy"] is not None:
        local_server.runner_command = runner_command  # type: ignore[assignment]


def up(arguments: Sequence[str]) -> None:
    """Run ``plue up``."""
    hook_marks()
    shorten_times()
    route_runners()
    mutate("server")
    from plue.cli.main import main

    sys.argv = ["plue", "up", *arguments]
    main()


def runner(arguments: Sequence[str]) -> None:
    """Run a runner."""
    import plue_runner.session

    hook_marks()
    plue_runner.session._HEARTBEAT_SECONDS = SETUP["heartbeat"]
    mutate("runner")
    from plue_runner.__main__ import main

    sys.exit(main(arguments))


def mutate(side: str) -> None:
    """Break the product as the setup asks for."""
    from mutations import MUTATIONS  # type: ignore[import-not-found]  # beside this script

    for name in SETUP["mutations"]:
        where, change = MUTATIONS[name]
        if where == side:
            change()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    {"up": up, "runner": runner}[sys.argv[1]](sys.argv[2:])

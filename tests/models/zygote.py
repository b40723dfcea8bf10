"""Forks runners that have the model's client library already: importing it takes seconds each.

Reads one JSON object a line, ``{"argv": [...], "token": "..."}``, and answers with the child's pid.
A child is a whole runner from its first line on; only its imports are not its own.
"""

import json
import os
import signal
import sys

import anthropic  # noqa: F401 - what all this is about

import plue_runner.session
from plue_runner.__main__ import main


def run(argv: list[str], token: str) -> None:
    """Be a runner until its end."""
    os.setsid()
    read_end, write_end = os.pipe()
    os.write(write_end, f"{token}\n".encode())
    os.close(write_end)
    os.dup2(read_end, 0)
    os.close(read_end)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = ["plue_runner", *argv]
    main()


def serve() -> None:
    """Fork until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                run(order["argv"], order["token"])
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            finally:
                os._exit(code)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    assert plue_runner.session
    serve()

"""``python -m plue_runner``: starts a runner, which waits for its one attempt.

The token comes as one line on standard input, where neither a process list nor a step's
environment shows it.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from plue_runner.session import Exit, Options, serve

__all__ = ["main"]

_WHY = {
    Exit.FENCED: "the gateway does not want this runner's work any more",
    Exit.LEASE: "the lease could not be renewed in time: the steps were killed",
    Exit.NO_GATEWAY: "idle, and no gateway could be reached for too long",
    Exit.TERMINATED: "ended by a signal while busy: the steps were killed",
}


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="plue_runner", description=__doc__)
    parser.add_argument("--gateway", metavar="URL", help="the gateway's base URL")
    parser.add_argument(
        "--gateway-file",
        metavar="PATH",
        type=Path,
        help="a file with the gateway's base URL, read again at every connection",
    )
    parser.add_argument("--runner", metavar="ID", required=True, help="this runner's id")
    parser.add_argument("--home", metavar="DIR", type=Path, required=True, help="its own folder")
    parser.add_argument(
        "--idle-exit",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="how long an idle runner waits for a gateway before it exits (default: 60)",
    )
    parser.add_argument(
        "--host-explains",
        action="store_true",
        help="leave it to the host to say why a signal ended the runner",
    )
    given = parser.parse_args(arguments)
    if given.gateway is None and given.gateway_file is None:
        parser.error("give --gateway or --gateway-file")
    token = sys.stdin.readline().strip()
    if not token:
        parser.error("the token must come on standard input, as one line")
    return Options(
        runner=given.runner,
        token=token,
        home=given.home.resolve(),
        gateway=given.gateway,
        gateway_file=given.gateway_file,
        idle_seconds=given.idle_exit,
        host_explains=given.host_explains,
    )


def main(arguments: Sequence[str] | None = None) -> Exit:
    """Run to the end; return the exit code."""
    options = _options(arguments)
    # Steps have a standard input of their own; nobody shall read what comes after the token.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    code = asyncio.run(serve(options))
    if code is not Exit.DONE:
        # The host shows the last line of what we said to whoever asks why the runner went.
        sys.stderr.write(f"{_WHY[code]}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

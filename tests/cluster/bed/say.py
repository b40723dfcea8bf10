"""Progress for people: one line when something begins, and a sign of life while it lasts."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["BedError", "run", "tell"]

_SIGN_OF_LIFE_EVERY = 20.0


class BedError(Exception):
    """The test bed cannot be had; the message says what to do."""


def tell(text: str) -> None:
    """Say *text* on standard error."""
    sys.stderr.write(f"… {text}\n")
    sys.stderr.flush()


def run(
    what: str,
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run *command*, saying *what* it is for; its output is shown only when it fails.

    Counts the lines of its output as a sign of life. Raises BedError.
    """
    tell(what)
    begun, lines = time.monotonic(), [0]
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    ended = threading.Event()
    watcher = threading.Thread(target=_sign_of_life, args=(what, begun, lines, ended))
    watcher.start()
    kept: list[str] = []
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines[0] += 1
                kept = [*kept[-60:], line]
            code = process.wait()
        finally:
            ended.set()
            watcher.join()
            if process.poll() is None:
                process.kill()
    if code != 0:
        shown = " ".join(map(str, command))
        raise BedError(f"{what} failed with code {code}: {shown}\n{''.join(kept)}")


def _sign_of_life(what: str, begun: float, lines: list[int], ended: threading.Event) -> None:
    while not ended.wait(_SIGN_OF_LIFE_EVERY):
        tell(f"{what}: {time.monotonic() - begun:.0f} s, {lines[0]} lines of output")

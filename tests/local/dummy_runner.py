"""Stands in for a runner: takes its token, says so, and then does what its first word says."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

behaviour, home = sys.argv[1], Path(sys.argv[2])
token = sys.stdin.readline().strip()


def on_term(_number: int, _frame: object) -> None:
    """End with code 0, as a runner that was asked to does."""
    (home.parent.parent / "termed").write_text(home.name)
    sys.exit(0)


def daemon(*words: str, environment: dict[str, str] | None = None) -> int:
    """Start a process that is in nobody's session and outlives us."""
    return subprocess.Popen(
        words, start_new_session=True, env=environment, stdin=subprocess.DEVNULL
    ).pid


match behaviour:
    case "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    case _:
        signal.signal(signal.SIGTERM, on_term)

children = []
if behaviour == "parent":
    children.append(daemon("sleep", "600"))
    children.append(daemon("env", "-i", "sleep", "600"))

# The mark of a test outside the home, which is removed with the runner.
report = home.parent.parent / f"{home.name}.report"
lines = [token, os.environ.get("PLUE_RUNNER_ID", ""), str("PLUE_DATABASE" in os.environ)]
lines += [str(Path.cwd()), *map(str, children)]
report.with_suffix(".new").write_text("\n".join(lines))
report.with_suffix(".new").rename(report)

if behaviour == "broken":
    sys.stderr.write("no gateway in sight\n")
    sys.exit(3)
while behaviour != "short":
    time.sleep(600)

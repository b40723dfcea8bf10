"""The command line as a real process."""

import os
import subprocess
import sys
from pathlib import Path


def environment_for(**variables: str) -> dict[str, str]:
    """Return this environment without its own PLUE_ settings, with *variables*."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PLUE_")}
    return {**inherited, "PYTHONPATH": os.pathsep.join(sys.path), **variables}


def plue(*words: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `plue` with *words* in *cwd*, without this machine's own PLUE_ settings."""
    return subprocess.run(
        [sys.executable, "-m", "plue.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=60,
        env=environment_for(**variables),
    )

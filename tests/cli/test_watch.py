"""`--watch` as a process: what a person sees while editing."""

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.process import environment_for, plue

GOOD = "from plue import workflow\n\n@workflow()\ndef ci(ctx):\n    ctx.run('a', 'true')\n"
PATIENCE = 30.0


class Watched:
    """The lines of a command that goes on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def close(self) -> None:
        """Read what is left, once the command has ended."""
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def until(self, *words: str) -> str:
        """Return what is said up to the first line with all *words*."""
        found = []
        while True:
            line = self._lines.get(timeout=PATIENCE)
            found.append(line)
            if all(word in line for word in words):
                return "\n".join(found)


@contextmanager
def watching(folder: Path, *words: str) -> Iterator[Watched]:
    """Start `plue` with *words*; interrupt it at the end, as Ctrl-C does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "plue.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment_for(),
    )
    watched = Watched(process)
    try:
        yield watched
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        watched.close()


def project(folder: Path) -> Path:
    """Make a project; return its one workflow file."""
    path = folder / ".plue" / "workflows" / "ci.py"
    path.parent.mkdir(parents=True)
    path.write_text(GOOD)
    return path


def test_lint_watch_tells_what_a_change_breaks_and_repairs(tmp_path: Path) -> None:
    """Errors come with their caret when they come, and by one line when they are gone."""
    path = project(tmp_path)
    with watching(tmp_path, "workflow", "lint", "--watch") as watched:
        assert " new .plue/workflows/ci.py" in watched.until("1 workflow, nothing is wrong")
        path.write_text(GOOD.replace("'true')", "'true', retries=2)"))
        said = watched.until("1 error in 1 file")
        assert " changed .plue/workflows/ci.py" in said
        assert "error[PLU107]" in said
        assert "^" in said
        path.write_text(GOOD)
        said = watched.until("1 workflow, nothing is wrong")
        assert "fixed: PLU107 .plue/workflows/ci.py:5" in said
    assert watched.process.returncode == 130


def test_watch_is_for_people(tmp_path: Path) -> None:
    """Other forms of output are refused with it."""
    project(tmp_path)
    done = plue("workflow", "lint", "--watch", "--json", cwd=tmp_path)
    assert (done.returncode, "talks to people" in done.stderr) == (2, True)


def test_up_watch_tells_of_changes_while_it_serves(tmp_path: Path) -> None:
    """The server says the same, of the tree that it offers."""
    path = project(tmp_path / "project")
    words = ["up", "--watch", "--runners", "0", "--data", str(tmp_path / "data")]
    with watching(tmp_path / "project", *words) as watched:
        watched.until("1 workflow, nothing is wrong")
        path.write_text("import os\n" + GOOD)
        assert "error[PLU010]" in watched.until("1 error in 1 file")

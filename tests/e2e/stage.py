"""A small repository, the real `plue` beside it, and what a person at a terminal would do."""

import contextlib
import fcntl
import json
import os
import pty
import queue
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

__all__ = ["Project", "Said", "Terminal", "Up", "eventually", "living", "on_a_terminal"]

PATIENCE = 60.0
_CONSOLE = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
_RUN = "from plue.cli.main import main; main()"

Done = subprocess.CompletedProcess[str]


def eventually(holds: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until *holds*: for what other processes do and tell nobody."""
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, f"not within {patience} s: {what}"
        time.sleep(0.02)


def living(mark: str) -> list[int]:
    """Return the processes that live and have `MARK=mark` in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


class Said:
    """What a process says on one of its pipes, line by line."""

    def __init__(self, pipe: Any) -> None:
        """Read *pipe* in a thread until its end."""
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: Any) -> None:
        for line in pipe:
            self._queue.put(line)
        self._queue.put(None)

    def until(self, text: str, patience: float = PATIENCE) -> str:
        """Return the next line that has *text*."""
        end = time.monotonic() + patience
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"{text!r} was not said, but: {''.join(self.lines[-40:])}"
            self.lines.append(line)
            if text in line:
                return line

    def rest(self, patience: float = PATIENCE) -> str:
        """Return everything that was said, when the pipe has ended."""
        while (line := self._queue.get(timeout=patience)) is not None:
            self.lines.append(line)
        return "".join(self.lines)


@dataclass(frozen=True)
class Project:
    """A repository and the data folder of its server."""

    root: Path
    data: Path
    wrapper: tuple[str, ...] = ()
    """What starts the command line: nothing, or a way into a namespace."""

    @classmethod
    def make(cls, folder: Path, workflows: Mapping[str, str]) -> Self:
        """Make a git repository in *folder* with *workflows*, by file name."""
        root = folder / "repo"
        (root / ".plue" / "workflows").mkdir(parents=True)
        for name, text in workflows.items():
            (root / ".plue" / "workflows" / name).write_text(text)
        subprocess.run(["git", "init", "-q", str(root)], check=True)
        return cls(root, folder / "data")

    def environment(self, **more: str) -> dict[str, str]:
        """Return what a person's shell would hand on, and this project's data folder."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PLUE_")}
        paths = os.pathsep.join(sys.path)
        return {**kept, "PYTHONPATH": paths, "PLUE_DATA": str(self.data), "TERM": "xterm", **more}

    def words(self, *words: str) -> list[str]:
        """Return the command line of `plue` with *words*."""
        return [*self.wrapper, sys.executable, "-c", _RUN, *words]

    def plue(self, *words: str, patience: float = PATIENCE, given: str = "", **more: str) -> Done:
        """Run `plue` with *words* in a pipe."""
        return subprocess.run(
            self.words(*words),
            cwd=self.root,
            env=self.environment(**more),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=patience,
        )

    def json(self, *words: str) -> Any:
        """Return what `plue … --json` prints as one value."""
        done = self.plue(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def started(self, *words: str, **more: str) -> Iterator["subprocess.Popen[str]"]:
        """Start `plue` with *words*; it ends with the block at the latest."""
        process = subprocess.Popen(
            self.words(*words),
            cwd=self.root,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            with process:
                try:
                    yield process
                finally:
                    if process.poll() is None:
                        process.kill()
        finally:
            process.wait()

    @contextlib.contextmanager
    def up(self, *words: str, **more: str) -> Iterator["Up"]:
        """Start `plue up` and wait until it serves; end it with Ctrl-C at the end."""
        with self.started("up", *words, **more) as process:
            up = Up(self, process)
            up.said.until("Ctrl-C ends the server")
            try:
                yield up
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    process.wait(PATIENCE)


class Up:
    """A server that is up, seen from outside."""

    def __init__(self, project: Project, process: "subprocess.Popen[str]") -> None:
        """Listen to *process*."""
        self.project, self.process = project, process
        self.said, self.complaints = Said(process.stdout), Said(process.stderr)

    @property
    def record(self) -> Mapping[str, Any]:
        """The server's address and token, as it left them for commands."""
        found: Mapping[str, Any] = json.loads((self.project.data / "server.json").read_text())
        return found

    def request(
        self,
        path: str,
        *,
        body: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Open *path* below /api/v1, as curl would; the caller closes it."""
        record = self.record
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{record['url']}/api/v1{path}",
            data=data if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {record['token']}", **(headers or {})},
        )
        kind = "application/json" if data is None else "application/octet-stream"
        request.add_header("Content-Type", kind)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=PATIENCE)

    def get(self, path: str) -> Any:
        """Return the JSON at *path*."""
        with self.request(path) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> Any:
        """Send *body*; return the JSON that is answered."""
        with self.request(path, body=body) as answer:
            return json.load(answer)


class Terminal:
    """A command on a terminal of its own: what it paints, and a keyboard."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        """Read *master* in a thread until the command lets go of it."""
        self.process = process
        self._master = master
        self._painted = bytearray()
        self._news = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def painted(self) -> str:
        """Everything so far, control sequences included."""
        with self._news:
            return self._painted.decode(errors="replace")

    def until(self, text: str, patience: float = PATIENCE) -> None:
        """Wait until *text* was painted."""
        with self._news:
            found = self._news.wait_for(
                lambda: text.encode() in self._painted or self._ended, patience
            )
            assert found, f"{text!r} was not painted: {bytes(self._painted[-2000:])!r}"
            assert text.encode() in self._painted, bytes(self._painted[-2000:])

    def press(self, keys: str) -> None:
        r"""Press *keys*; Ctrl-C is ``\x03``."""
        os.write(self._master, keys.encode())

    def end(self, patience: float = PATIENCE) -> int:
        """Return the exit code, when all was painted."""
        code = self.process.wait(patience)
        self._thread.join(patience)
        return code

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, 65536)
            except OSError:  # Linux says EIO when the other side is closed
                chunk = b""
            with self._news:
                self._painted += chunk
                self._ended = not chunk
                self._news.notify_all()
            if not chunk:
                return


@contextlib.contextmanager
def on_a_terminal(
    project: Project, words: Sequence[str], *, size: tuple[int, int] = (40, 120)
) -> Iterator[Terminal]:
    """Start `plue` with *words* on a terminal of *size* (lines, columns)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _CONSOLE, *project.words(*words)],
        cwd=project.root,
        env=project.environment(),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)

"""One server per data folder: the folder's name, its lock, and how a server is found.

Files in the folder: ``lock`` (held by the server, says who), ``clients`` (held, shared, by every
command that works with the server: a private server stays as long as it is), ``server.json``
(address and token, for this user alone) and ``gateway.url`` (for runners that reconnect).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from plue.errors import UnavailableError, UsageError
from plue.local.pidfd import ProcessMark, is_alive

__all__ = [
    "GATEWAY_FILE",
    "ClientLock",
    "InstanceLock",
    "Running",
    "data_folder",
    "find_running",
    "write_private",
]

GATEWAY_FILE = "gateway.url"
_SERVER_FILE = "server.json"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is up: where, for whom, and which process."""

    url: str
    token: str
    pid: int
    started: str
    root: str
    private: bool
    version: str

    def record(self, data: Path) -> None:
        """Write it where commands look for it."""
        write_private(data / _SERVER_FILE, json.dumps(asdict(self)) + "\n")

    @staticmethod
    def forget(data: Path) -> None:
        """Remove the record: the server ends."""
        (data / _SERVER_FILE).unlink(missing_ok=True)


def data_folder(root: Path, environment: Mapping[str, str]) -> Path:
    """Return where the server of the tree at *root* keeps everything by default."""
    if given := environment.get("PLUE_DATA"):
        return Path(given).absolute()
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-.")[:40] or "tree"
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:10]
    return Path(state) / "plue" / f"{name}-{digest}"


def find_running(data: Path) -> Running | None:
    """Return the server that works on *data* now; None when there is none."""
    try:
        record = json.loads((data / _SERVER_FILE).read_text())
        running = Running(**record)
    except (OSError, ValueError, TypeError):
        return None
    return running if is_alive(ProcessMark(running.pid, running.started)) else None


class InstanceLock:
    """The right to be the folder's one server, until ``release`` or the process's end."""

    def __init__(self, data: Path, descriptor: int) -> None:
        """Hold *descriptor*; use ``acquire``."""
        self._data = data
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, data: Path, *, kind: str) -> "InstanceLock":
        """Take the folder, making it when it is missing; *kind* says what for, to people.

        Raises UsageError when another server has it, UnavailableError when it cannot be written.
        """
        with _as_unavailable(data):
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise UsageError(
                f"{data} is in use by another server ({holder or 'starting just now'})",
                field="data",
                remedy="use that one, end it (Ctrl-C in its terminal, or `kill PID`), or give"
                " another folder with --data",
            ) from error
        with _as_unavailable(data):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}, {kind}".encode(), 0)
        return cls(data, descriptor)

    def release(self) -> None:
        """Let the folder go."""
        os.close(self._descriptor)


class ClientLock:
    """A mark that somebody works with the folder's server; gone with the process at the latest."""

    def __init__(self, descriptor: int) -> None:
        """Hold *descriptor*; use ``share`` or ``alone``."""
        self._descriptor = descriptor

    @classmethod
    def share(cls, data: Path) -> "ClientLock | None":
        """Say that we work with the server; None when it is about to end."""
        return cls._take(data, fcntl.LOCK_SH)

    @classmethod
    def alone(cls, data: Path) -> "ClientLock | None":
        """Keep new clients away; None while there are some."""
        return cls._take(data, fcntl.LOCK_EX)

    @classmethod
    def _take(cls, data: Path, how: int) -> "ClientLock | None":
        with _as_unavailable(data):
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(data / "clients", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        """Say that we are done; a second time it does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write_private(path: Path, text: str) -> None:
    """Write *text* at once and for this user alone. Raises UnavailableError."""
    fresh = path.with_name(path.name + ".new")
    with _as_unavailable(path.parent):
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        fresh.replace(path)


def own_mark() -> ProcessMark:
    """Return the mark of this process."""
    return ProcessMark.of(os.getpid())


@contextlib.contextmanager
def _as_unavailable(data: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"the data folder {data} cannot be used: {error.strerror}",
            remedy="free disk space, make it writable, or give another folder with --data",
        ) from error

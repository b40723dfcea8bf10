"""Files of the workspace as workflow code sees them: read, listed, hashed, written.

A path is the author's or a value's, and stays inside the workspace: absolute paths and ``..`` are
refused, and after a file or folder was opened the kernel is asked where it really lies, so that no
link leads out, not even one that is put there meanwhile.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from plue.wire.events import Reason
from plue_runner.explain import disk_fault
from plue_runner.faults import Fault

__all__ = ["glob", "hash_of", "inside", "place", "read", "read_whole", "write"]

_CHUNK = 1024 * 1024
_LEFT_OUT = ".git"
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def inside(path: str, what: str = "path") -> tuple[str, ...]:
    """Return the parts of a relative *path*. Raises Fault when it leads out or is empty."""
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    if path.startswith("/") or ".." in parts or "\0" in path or not parts:
        raise Fault(
            Reason.INVALID_PATH,
            f"the {what} {path!r} is not inside the workspace",
            remedy="write it relative to the workspace, without `..`",
        )
    return parts


def read(workspace: Path, path: str, limit: int) -> str | None:
    """Return the text of a file without trailing newlines, None when there is no such file.

    As with a step's output: invalid UTF-8 and NUL become U+FFFD. Raises Fault: InvalidPath for
    what leads out or is no file, OutputTooLarge beyond *limit* bytes.
    """
    text = read_whole(workspace, path, limit)
    return None if text is None else text.rstrip("\n")


def read_whole(workspace: Path, path: str, limit: int) -> str | None:
    """Return the text of a file as it is. Raises Fault as ``read`` does."""
    try:
        with _opened(workspace, path) as file:
            raw = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(raw) > limit:
        raise Fault(
            Reason.OUTPUT_TOO_LARGE,
            f"{path!r} is larger than {limit // 1024} KiB",
            remedy="work on it in a step, which reads files of any size",
        )
    return raw.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def glob(workspace: Path, patterns: Sequence[str]) -> list[str]:
    """Return the sorted paths of the files that match one of *patterns*.

    ``*``, ``?`` and ``[…]`` stay within a name and match a leading dot too, ``**`` is any
    folders. Links to folders are not followed, and ``.git`` is left out. Raises Fault.
    """
    matchers = [_matcher(pattern) for pattern in patterns]
    found = [path for path in _walk(workspace) if any(m.fullmatch(path) for m in matchers)]
    return sorted(path for path in found if _is_file_inside(workspace, path))


def hash_of(workspace: Path, patterns: Sequence[str]) -> str | None:
    """Return the SHA-256 over names and contents of the files that match; None without any."""
    paths = glob(workspace, patterns)
    if not paths:
        return None
    whole = hashlib.sha256()
    for path in paths:
        digest = hashlib.sha256()
        try:
            with _opened(workspace, path) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise _unreadable(path, error) from error
        whole.update(os.fsencode(path) + b"\0" + digest.digest())
    return whole.hexdigest()


def write(workspace: Path, path: str, text: str) -> None:
    """Write *text* to a file, making the folders above it; a file that is there is replaced.

    Raises Fault: InvalidPath for what leads out or cannot be written, DiskFull.
    """
    *folders, name = inside(path)
    try:
        with ExitStack() as opened:
            at = os.open(workspace, _FOLDER)
            opened.callback(os.close, at)
            for folder in folders:
                with suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=at)
                at = os.open(folder, _FOLDER, dir_fd=at)
                opened.callback(os.close, at)
                _check_inside(at, workspace, path)
            _replace(at, name, text)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_fault(error) from error
        raise Fault(Reason.INVALID_PATH, f"{path!r} cannot be written: {error.strerror}") from error


def _replace(folder: int, name: str, text: str) -> None:
    """Put the file there whole or not at all, with the mode of the one that it replaces."""
    mode = 0o666 & ~_umask()
    with suppress(FileNotFoundError):
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(seen.st_mode):
            raise OSError(errno.ELOOP, "it is a link")
        mode = stat.S_IMODE(seen.st_mode)
    partial = f".{name[:200]}.plue"
    with suppress(FileNotFoundError):
        os.unlink(partial, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(partial, flags, mode, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(text.encode("utf-8", "replace"))
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


def _umask() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


@contextmanager
def _opened(workspace: Path, path: str) -> Iterator[BinaryIO]:
    """Open a file. Raises Fault for what leads out or is no file, OSError for the rest."""
    descriptor = os.open(workspace.joinpath(*inside(path)), _READ)
    try:
        _check_inside(descriptor, workspace, path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Fault(Reason.INVALID_PATH, f"{path!r} is not a file")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            yield file
    finally:
        os.close(descriptor)


def place(workspace: Path, path: str) -> str:
    """Return where in the workspace a file or folder really lies, for a program that is given it.

    Raises Fault for what leads out.
    """
    try:
        descriptor = os.open(workspace.joinpath(*inside(path)), os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        _check_inside(descriptor, workspace, path)
        real = Path(f"/proc/self/fd/{descriptor}").readlink()
        return str(real.relative_to(workspace.resolve()))
    finally:
        os.close(descriptor)


# ── where things are ─────────────────────────────────────────────────────────────────────────────


def _is_inside(descriptor: int, workspace: Path) -> bool:
    """Whether what was opened lies in the workspace, whatever the path said."""
    real = Path(f"/proc/self/fd/{descriptor}").readlink()
    return real.is_relative_to(workspace.resolve())


def _check_inside(descriptor: int, workspace: Path, path: str) -> None:
    """Raise Fault when what was opened lies outside of the workspace."""
    if not _is_inside(descriptor, workspace):
        raise Fault(
            Reason.INVALID_PATH,
            f"{path!r} is a link that leads out of the workspace",
            remedy="copy the file into the workspace in a step",
        )


def _is_file_inside(workspace: Path, path: str) -> bool:
    try:
        descriptor = os.open(workspace / path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False  # a link to nowhere, or gone meanwhile
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return regular and _is_inside(descriptor, workspace)
    finally:
        os.close(descriptor)


def _walk(workspace: Path) -> Iterator[str]:
    """Yield the paths of all that is no folder, links included, relative to the workspace."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with suppress(OSError), os.scandir(workspace / folder) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != _LEFT_OUT:
                        waiting.append(f"{path}/")
                elif entry.name != _LEFT_OUT:
                    yield path


def _matcher(pattern: str) -> re.Pattern[str]:
    parts = inside(pattern, "pattern")
    written = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            written += ".*" if last else "(?:[^/]+/)*"
        else:
            written += _name_pattern(part) + ("" if last else "/")
    try:
        return re.compile(written, re.DOTALL)
    except re.error as error:
        raise Fault(Reason.INVALID_PATH, f"the pattern {pattern!r} is wrong: {error}") from error


def _name_pattern(part: str) -> str:
    """Return one name of a pattern as a regular expression that never matches a slash."""
    written, at = "", 0
    while at < len(part):
        character, at = part[at], at + 1
        close = part.find("]", at + 1 + part.startswith("!", at)) if character == "[" else -1
        if character == "*":
            written += "[^/]*"
        elif character == "?":
            written += "[^/]"
        elif close > 0:
            within, at = part[at:close], close + 1
            negated = within.startswith("!")
            within = within[negated:].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
            written += f"(?!/)[{'^' if negated else ''}{within}]"
        else:
            written += re.escape(character)
    return written


def _unreadable(path: str, error: OSError) -> Fault:
    return Fault(Reason.INVALID_PATH, f"{path!r} cannot be read: {error.strerror}")

"""Fetches the ``.plue/`` of a git repository: one commit, no checkout.

What is fetched is text that is evaluated in the sandbox afterwards.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from plue.authoring.remotes import Git, GitRequest, Reach, commit_of, git_for, in_time
from plue.authoring.sources import MAX_FILE_BYTES, must_be_text
from plue.errors import RejectedError, UnavailableError

__all__ = ["Fetched", "fetch"]

_TOTAL_BYTES: Final = 16 * 1024 * 1024
_FILES: Final = 2000
_TREE_ENTRY: Final = re.compile(
    rb"^(?P<mode>\d{6}) (?P<kind>\w+) (?P<id>[0-9a-f]+) +(?P<size>\d+|-)\t(?P<path>.*)$", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A commit, and its files by their path (``.plue/…``); None when it is the known one."""

    commit: str
    files: Mapping[str, str] | None
    ref: str | None = None
    """The full name of the branch or tag that was asked for; None for HEAD of none, and commits."""


async def fetch(request: GitRequest, *, reach: Reach) -> Fetched:
    """Return the commit that the ref names now, and its files unless they are known.

    Raises RejectedError for what its author must mend, UnavailableError when the host is away or
    takes more than a minute.
    """
    async with git_for(request, reach=reach) as git, in_time(git):
        at = await commit_of(git, request.ref)
        if at.commit == request.known:
            return Fetched(at.commit, None, at.ref)
        await git.run("init", "--quiet", "--bare", "repository")
        await git.get(at.commit, *_IN)
        return Fetched(at.commit, await _files_of(git, at.commit, request.path), at.ref)


_IN: Final = ("--git-dir", "repository")


async def _files_of(git: Git, commit: str, path: str) -> Mapping[str, str]:
    """Return the text files below ``.plue`` of the folder *path*. Raises RejectedError."""
    folder = "/".join(part for part in path.split("/") if part not in {"", "."})
    if ".." in folder.split("/"):
        raise RejectedError("the path leaves the repository", field="path", remedy="remove `..`")
    top = f"{folder}/.plue/" if folder else ".plue/"
    listed = await git.run(*_IN, "ls-tree", "-r", "-z", "--long", "--full-tree", commit, "--", top)
    wanted = dict(_wanted(listed, top))
    if not wanted:
        raise RejectedError(
            f"there is no file in {top} at commit {commit[:12]}",
            field="path",
            remedy="name the folder that holds .plue/",
        )
    text = await git.run(
        *_IN, "cat-file", "--batch", said="".join(f"{one}\n" for one in wanted.values()).encode()
    )
    return dict(_texts(text, wanted))


def _wanted(listed: bytes, top: str) -> list[tuple[str, str]]:
    """Return (path from ``.plue/`` on, object) of the files to read. Raises RejectedError."""
    found: list[tuple[str, str]] = []
    total = 0
    for entry in listed.split(b"\0"):
        match = _TREE_ENTRY.match(entry)
        if match is None or match["kind"] != b"blob":
            continue
        path = ".plue/" + match["path"].decode(errors="replace").removeprefix(top)
        if path.rsplit("/", 1)[-1].startswith("."):
            continue
        if match["mode"] == b"120000":
            if must_be_text(path):
                raise RejectedError(
                    f"{path} is a symbolic link", field="source", remedy="put a file in its place"
                )
            continue
        size = int(match["size"])
        if size > MAX_FILE_BYTES:
            if must_be_text(path):
                raise RejectedError(f"{path} has {size} bytes", field="source", remedy="split it")
            continue
        total += size
        found.append((path, match["id"].decode()))
    if len(found) > _FILES or total > _TOTAL_BYTES:
        raise RejectedError(
            f"{top} has {len(found)} files of {total} bytes",
            field="source",
            remedy=f"keep data out of it: {_FILES} files and {_TOTAL_BYTES} bytes are the most",
        )
    return found


def _texts(answer: bytes, wanted: Mapping[str, str]) -> list[tuple[str, str]]:
    texts: list[tuple[str, str]] = []
    at = 0
    for path, one in wanted.items():
        end = answer.index(b"\n", at)
        name, kind, size = answer[at:end].split(b" ")
        if name.decode() != one or kind != b"blob":
            raise UnavailableError(f"the repository's answer lacks {path}")
        at = end + 1 + int(size) + 1
        data = answer[end + 1 : at - 1]
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            if must_be_text(path):
                raise RejectedError(
                    f"{path} is not UTF-8 text", field="source", remedy="save it as UTF-8"
                ) from error
            continue
        if "\0" not in text:
            texts.append((path, text))
        elif must_be_text(path):
            raise RejectedError(f"{path} has NUL bytes", field="source", remedy="save it as text")
    return texts

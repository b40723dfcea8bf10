"""Clones for runs to work in: what is in the archive, and what is refused."""

import io
import os
import subprocess
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from git_host import GitHost, git_host

from plue.authoring.cloning import Clone, clone
from plue.authoring.remotes import GitRequest, Reach
from plue.errors import RejectedError, UnavailableError

LOCAL = Reach(loopback=True)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncGenerator[GitHost, None]:
    """Give a git host on loopback."""
    folder = tmp_path / "host"
    folder.mkdir()
    async with git_host(folder) as host:
        yield host


def asking(host: GitHost, ref: str = "HEAD", known: str | None = None) -> GitRequest:
    """Return a request for the host's repository."""
    credentials = {"ca.crt": host.ca, "password": "secret"}
    return GitRequest(host.url, ref=ref, known=known, credentials=credentials)


async def unpacked(made: Clone, folder: Path) -> Path:
    """Unpack a clone into *folder* as a runner would."""
    assert made.chunks is not None
    archive = io.BytesIO(b"".join([chunk async for chunk in made.chunks]))
    with tarfile.open(fileobj=archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def git(folder: Path, *words: str) -> str:
    """Return what git says in a clone."""
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null"}
    return subprocess.run(
        ["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


async def test_a_clone_is_the_tree_at_the_commit(host: GitHost, tmp_path: Path) -> None:
    """Every file, and a `.git` that knows commit and origin, but no history and no password."""
    host.private = True
    first = host.commit({"src/main.py": "x = 1\n", ".gitignore": "*.log\n"})
    (host.work / "run.sh").write_text("#!/bin/sh\n")
    (host.work / "run.sh").chmod(0o755)
    (host.work / "link").symlink_to("src/main.py")
    second = host.commit({"src/main.py": "x = 2\n"})
    async with clone(asking(host), reach=LOCAL) as made:
        assert (made.commit, made.ref) == (second, "refs/heads/main")
        tree = await unpacked(made, tmp_path / "new")
    assert (tree / "link").read_text() == "x = 2\n"
    assert os.access(tree / "run.sh", os.X_OK)
    assert git(tree, "rev-parse", "HEAD") == second
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "rev-list", "--count", "HEAD") == "1"
    assert git(tree, "remote", "get-url", "origin") == host.url
    assert not any(
        b"secret" in path.read_bytes() for path in (tree / ".git").rglob("*") if path.is_file()
    )
    async with clone(asking(host, first), reach=LOCAL) as made:
        tree = await unpacked(made, tmp_path / "old")
    assert (tree / "src" / "main.py").read_text() == "x = 1\n"
    assert not (tree / "link").exists()


async def test_a_known_commit_is_not_cloned_again(host: GitHost) -> None:
    """Only its name is asked for."""
    commit = host.commit({"a": "1"})
    async with clone(asking(host, "main", known=commit), reach=LOCAL) as made:
        assert made == Clone(commit, None, "refs/heads/main")
    assert not [path for path in host.requests if path.startswith("/work.git/git-upload-pack?")]


async def test_a_ref_that_is_not_there_is_named(host: GitHost) -> None:
    """A name and a commit alike: somebody must mend it."""
    host.commit({"a": "1"})
    with pytest.raises(RejectedError, match="no branch, tag or commit 'nonesuch'") as caught:
        async with clone(asking(host, "nonesuch"), reach=LOCAL):
            pass
    assert caught.value.field == "ref"
    with pytest.raises(RejectedError, match="there is no such commit"):
        async with clone(asking(host, "0" * 40), reach=LOCAL):
            pass


async def test_a_host_that_is_away_is_tried_again(host: GitHost) -> None:
    """It is no fault of who asks."""
    gone = GitRequest("https://localhost:1/work.git", credentials={"ca.crt": host.ca})
    with pytest.raises(UnavailableError):
        async with clone(gone, reach=LOCAL):
            pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(bytes(200_000), "1 files of 200000 bytes", id="files"),
        pytest.param(os.urandom(200_000), "too large to be fetched", id="objects"),
    ],
)
async def test_a_repository_that_is_too_large_is_refused(
    host: GitHost, content: bytes, message: str
) -> None:
    """Before its files are written, and while its objects are."""
    (host.work / "data").write_bytes(content)
    host.commit({})
    with pytest.raises(RejectedError, match=message):
        async with clone(asking(host), reach=LOCAL, most_bytes=100_000):
            pass

"""The working tree: real folders, real git, real archives."""

import asyncio
import io
import os
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from plue.errors import NotFoundError, RejectedError
from plue.local.reading import source_files
from plue.local.root import find_root
from plue.local.tree import Tree
from plue.store.blobs import Blobs


def _git(root: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", *identity, "-C", str(root), *words]
    subprocess.run(command, check=True, capture_output=True, env=environment)


def _fill(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Give a git repository with one commit."""
    root = tmp_path / "repository"
    root.mkdir()
    _git(root, "init", "-q")
    _fill(root, {".gitignore": "ignored/\n*.log\n", "kept.txt": "1", "sub/deep.txt": "2"})
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "first")
    return root


async def _archive(root: Path, tmp_path: Path) -> tarfile.TarFile:
    blobs = Blobs(tmp_path / "blobs")
    workspace = await Tree(root, blobs=blobs).snapshot()
    assert workspace.kind == "blob"
    assert workspace.blob is not None
    data = blobs.path(workspace.blob).read_bytes()
    return tarfile.open(fileobj=io.BytesIO(data))


async def _names(root: Path, tmp_path: Path) -> list[str]:
    with await _archive(root, tmp_path) as archive:
        return [name for name in archive.getnames() if not name.startswith(".git/")]


async def test_a_copy_has_what_git_does_not_ignore(repository: Path, tmp_path: Path) -> None:
    """Tracked and new files are copied; ignored, deleted and git's own are not."""
    _fill(repository, {"new.txt": "3", "ignored/x": "4", "a.log": "5"})
    (repository / "kept.txt").unlink()
    assert await _names(repository, tmp_path) == [".gitignore", "new.txt", "sub/deep.txt"]


async def test_a_copy_is_of_the_tree_as_it_is_now(repository: Path, tmp_path: Path) -> None:
    """Changes need not be committed, nor added."""
    (repository / "kept.txt").write_text("changed")
    with await _archive(repository, tmp_path) as archive:
        file = archive.extractfile("kept.txt")
        assert file is not None
        assert file.read() == b"changed"


async def test_modes_and_links_survive(repository: Path, tmp_path: Path) -> None:
    """What is executable stays so, and a link stays a link, dangling or not."""
    (repository / "run.sh").write_text("#!/bin/sh\n")
    (repository / "run.sh").chmod(0o700)
    (repository / "link").symlink_to("sub")
    (repository / "dangling").symlink_to("nowhere")
    with await _archive(repository, tmp_path) as archive:
        assert archive.getmember("run.sh").mode == 0o755
        assert archive.getmember("kept.txt").mode == 0o644
        assert archive.getmember("link").linkname == "sub"
        assert archive.getmember("dangling").issym()


async def test_a_folder_that_became_a_link_brings_no_files_along(
    repository: Path, tmp_path: Path
) -> None:
    """Entries through a link would be refused when the archive is unpacked."""
    (repository / "sub" / "deep.txt").rename(repository / "moved.txt")
    (repository / "sub").rmdir()
    (repository / "real").mkdir()
    (repository / "real" / "deep.txt").write_text("x")
    (repository / "sub").symlink_to("real")
    names = await _names(repository, tmp_path)
    assert names == [".gitignore", "kept.txt", "moved.txt", "real/deep.txt", "sub"]


async def test_an_unchanged_tree_gives_the_same_blob(repository: Path, tmp_path: Path) -> None:
    """The blob's name depends on the tree and on nothing else."""
    tree = Tree(repository, blobs=Blobs(tmp_path / "blobs"))
    first, second = await tree.snapshot(), await tree.snapshot()
    assert first == second
    (repository / "kept.txt").write_text("other")
    assert await tree.snapshot() != first


async def test_a_tree_that_rested_is_not_read_again(repository: Path, tmp_path: Path) -> None:
    """An unchanged tree costs a look; every way to change it, and a lost copy, is noticed."""
    blobs = Blobs(tmp_path / "blobs")
    tree, file = Tree(repository, blobs=blobs), repository / "kept.txt"
    while (seen := os.lstat(file).st_ctime_ns) > time.time_ns() - 200_000_000:  # noqa: ASYNC110 - a clock has no event
        await asyncio.sleep(0.05)
    first = await tree.snapshot()
    assert tree._last is not None
    assert tree._last[0].rested
    times = os.lstat(file)
    length = len(file.read_text())
    file.write_text("z" * length)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a program that hides it would
    assert os.lstat(file).st_ctime_ns > seen
    changed = await tree.snapshot()
    assert changed != first
    blobs.path(changed.blob or "").unlink()
    assert await tree.snapshot() == changed
    assert blobs.has(changed.blob or "")


async def test_names_need_not_be_utf8(repository: Path, tmp_path: Path) -> None:
    """Any name that Linux allows arrives: bytes, newlines, and very long paths."""
    odd = os.path.join(os.fsencode(repository), b"caf\xe9 \n x")  # noqa: PTH118 - bytes
    os.close(os.open(odd, os.O_CREAT | os.O_WRONLY))
    _fill(repository, {"/".join(["d" * 60] * 5) + "/ü": "long"})
    with await _archive(repository, tmp_path) as archive:
        names = archive.getnames()
    assert b"caf\xe9 \n x".decode("utf-8", "surrogateescape") in names
    assert "/".join(["d" * 60] * 5) + "/ü" in names


async def test_large_files_arrive_whole(repository: Path, tmp_path: Path) -> None:
    """A file above what is read at once is streamed, and what follows it is in place."""
    content = os.urandom(1024) * 5001 + b"end"
    (repository / "large.bin").write_bytes(content)
    with await _archive(repository, tmp_path) as archive:
        file = archive.extractfile("large.bin")
        assert file is not None
        assert file.read() == content
        assert "sub/deep.txt" in archive.getnames()


async def test_submodules_and_special_files_are_left_out(repository: Path, tmp_path: Path) -> None:
    """A nested repository is not ours to copy, and a pipe has no content."""
    nested = repository / "nested"
    nested.mkdir()
    _git(nested, "init", "-q")
    _fill(nested, {"inner.txt": "x"})
    _git(nested, "add", "-A")
    _git(nested, "commit", "-qm", "inner")
    _git(repository, "-c", "advice.addEmbeddedRepo=false", "add", "nested")
    os.mkfifo(repository / "pipe")
    names = await _names(repository, tmp_path)
    assert names == [".gitignore", "kept.txt", "sub/deep.txt"]


async def test_without_git_everything_but_tools_folders_is_copied(tmp_path: Path) -> None:
    """A folder that is no repository is copied without environments and caches."""
    root = tmp_path / "plain"
    _fill(root, {"a.txt": "", ".venv/x": "", "node_modules/y": "", "p/__pycache__/z": ""})
    _fill(root, {"p/b.txt": "", ".plue/workflows/ci.py": ""})
    (root / "empty").mkdir()
    (root / "link").symlink_to("p")
    names = await _names(root, tmp_path)
    assert names == [".plue/workflows/ci.py", "a.txt", "empty", "link", "p/b.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_an_unreadable_file_is_named(repository: Path, tmp_path: Path) -> None:
    """What cannot be copied is named, with a remedy."""
    (repository / "kept.txt").chmod(0)
    with pytest.raises(RejectedError, match=r"kept\.txt cannot be copied"):
        await _names(repository, tmp_path)


def test_a_hooks_variables_do_not_mislead(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a git hook the tree is still the one that was asked for."""
    from plue.local.tree import names_in

    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert b"kept.txt" in names_in(repository)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        pytest.param("project/src/deep", "project", id="from-below"),
        pytest.param("project", "project", id="from-the-top"),
        pytest.param("project/part/src", "project/part", id="nearest-plue-folder-wins"),
        pytest.param("other/src", "other", id="git-alone-is-enough"),
    ],
)
def test_the_root_is_found_upwards(tmp_path: Path, start: str, expected: str) -> None:
    """The tree is the nearest folder with .plue, else git's."""
    for folder in ("project/.git", "project/.plue", "project/part/.plue", "other/.git"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / start).mkdir(parents=True, exist_ok=True)
    assert tmp_path / expected == find_root(tmp_path / start)


def test_no_project_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """Outside of any project the message says what is missing."""
    with pytest.raises(NotFoundError, match="is not inside a project") as caught:
        find_root(tmp_path)
    assert "`plue init`" in (caught.value.remedy or "")


def test_source_files_are_the_text_under_plue(tmp_path: Path) -> None:
    """Paths count from the root; binary tools and caches are left out."""
    _fill(tmp_path, {".plue/workflows/ci.py": "x = 1", ".plue/lib/a.py": "y", "src/b.py": "z"})
    _fill(tmp_path, {".plue/workflows/__pycache__/ci.pyc": "c", ".plue/.hidden": "h"})
    (tmp_path / ".plue" / "tools").mkdir()
    (tmp_path / ".plue" / "tools" / "binary").write_bytes(b"\xff\xfe\x00")
    expected = {".plue/lib/a.py": "y", ".plue/workflows/ci.py": "x = 1"}
    assert expected == source_files(tmp_path)

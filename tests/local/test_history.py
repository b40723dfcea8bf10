"""A copy of a tree has a working repository; events know the tree's ref, commit and names."""

import os
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from plue.local.history import history_of, tree_facts
from plue.local.tree import Tree
from plue.store.blobs import Blobs


def git(folder: Path, *words: str) -> str:
    """Run git in *folder*."""
    who = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t",
           "GIT_COMMITTER_EMAIL": "t@t", "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip
    words = ("git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *words)
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **who}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> None:
    """Commit *files*; `a__b` is a/b."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", " ".join(files))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a repository with two commits, a tag and a branch."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder, a="a\n", sub__b="b\n")
    git(folder, "tag", "-a", "v1", "-m", "one")
    git(folder, "branch", "other")
    commit(folder, c="c\n")
    return folder


async def copy_of(root: Path, folder: Path) -> Path:
    """Return a copy of the tree, made and unpacked as a run's is."""
    blobs = Blobs(folder / "blobs")
    workspace = await Tree(root, blobs=blobs).snapshot()
    copy = folder / "copy"
    copy.mkdir()
    with tarfile.open(blobs.path(workspace.blob or "")) as tar:
        tar.extractall(copy, filter="data")
    return copy


def outputs(folders: Iterable[Path], *words: str) -> list[str]:
    """Return what git says in each of *folders*."""
    return [git(folder, *words) for folder in folders]


QUESTIONS = [
    ("status", "--porcelain"),
    ("log", "--format=%H %s"),
    ("describe", "--tags"),
    ("branch", "--list"),
    ("diff", "HEAD"),
    ("diff", "other", "--stat"),
    ("ls-files", "--stage"),
    ("rev-parse", "--abbrev-ref", "HEAD"),
    ("fsck", "--no-progress"),
]


async def test_git_answers_in_the_copy_as_in_the_tree(root: Path, tmp_path: Path) -> None:
    """Uncommitted, staged and new files included."""
    (root / "a").write_text("changed\n")
    (root / "new").write_text("n\n")
    (root / "staged").write_text("s\n")
    git(root, "add", "staged")
    (root / "sub/b").unlink()
    copy = await copy_of(root, tmp_path)
    for words in QUESTIONS:
        here, there = outputs([root, copy], *words)
        assert here == there, words


async def test_a_commit_in_the_copy_stays_there(root: Path, tmp_path: Path) -> None:
    """A run's objects and refs are its own."""
    before = git(root, "rev-parse", "HEAD", "other")
    copy = await copy_of(root, tmp_path)
    commit(copy, d="d\n")
    git(copy, "branch", "-f", "other", "HEAD")
    git(copy, "gc", "-q", "--prune=now")
    assert git(root, "rev-parse", "HEAD", "other") == before
    assert git(root, "fsck", "--no-progress") == ""
    assert git(copy, "log", "-1", "--format=%s") == "d"


async def test_copies_of_other_repositories(root: Path, tmp_path: Path) -> None:
    """Detached, shallow, a linked worktree, one with SHA-256; an empty one has no commit."""
    git(root, "worktree", "add", "-q", str(tmp_path / "linked"), "other")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{root}", "shallow")
    detached = tmp_path / "detached"
    git(tmp_path, "clone", "-q", str(root), str(detached))
    git(detached, "checkout", "-q", "--detach", "HEAD~1")
    modern = tmp_path / "modern"
    modern.mkdir()
    git(modern, "init", "-q", "--object-format=sha256")
    commit(modern, x="x\n")
    for name in ("linked", "shallow", "detached", "modern"):
        (tmp_path / f"of-{name}").mkdir()
        copy = await copy_of(tmp_path / name, tmp_path / f"of-{name}")
        for words in (("status", "--porcelain"), ("log", "--format=%H"), ("diff", "HEAD")):
            here, there = outputs([tmp_path / name, copy], *words)
            assert here == there, (name, words)


async def test_an_unchanged_tree_is_the_same_blob(root: Path, tmp_path: Path) -> None:
    """Also after git has refreshed its index, and another one after a commit."""
    tree = Tree(root, blobs=Blobs(tmp_path / "blobs"))
    first = await tree.snapshot()
    git(root, "update-index", "--really-refresh")
    assert await tree.snapshot() == first
    commit(root, e="e\n")
    assert await tree.snapshot() != first


async def test_a_part_of_a_repository_has_no_git(root: Path, tmp_path: Path) -> None:
    """The paths of the history would not be those of the copy."""
    copy = await copy_of(root / "sub", tmp_path)
    assert [path.name for path in copy.iterdir()] == ["b"]
    assert history_of(root / "sub") is None


FACTS = [
    (
        "https://user:token@example.com/team/repo.git",
        "https://example.com/team/repo.git",
        "team/repo",
    ),
    ("git@example.com:team/repo.git", "git@example.com:team/repo.git", "team/repo"),
    ("ssh://git@example.com/deep/team/repo", "ssh://git@example.com/deep/team/repo", "team/repo"),
    ("/srv/repo.git", "/srv/repo.git", None),
]


@pytest.mark.parametrize(("url", "shown", "full_name"), FACTS)
def test_facts_of_a_tree(root: Path, url: str, shown: str, full_name: str | None) -> None:
    """Ref, commit, names and the address without a password; the copy's remote is the same."""
    git(root, "remote", "add", "origin", url)
    history = history_of(root)
    assert history is not None
    facts = tree_facts(root, history)
    assert facts["ref"] == "refs/heads/main"
    assert facts["sha"] == git(root, "rev-parse", "HEAD")
    repository = facts["repository"]
    assert (repository["url"], repository.get("full_name")) == (shown, full_name)
    assert repository["default_branch"] == "main"
    assert "token" not in str(dict(history.files(())))


def test_facts_without_commits_or_git(tmp_path: Path) -> None:
    """A name there is always."""
    assert tree_facts(tmp_path, history_of(tmp_path)) == {"repository": {"name": tmp_path.name}}
    git(tmp_path, "init", "-q")
    facts = tree_facts(tmp_path, history_of(tmp_path))
    assert facts == {"ref": "refs/heads/main", "repository": {"name": tmp_path.name}}

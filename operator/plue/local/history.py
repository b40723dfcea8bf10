"""What git knows of a working tree: for events, and for the copy that a run works in.

The copy of a tree has a repository of its own, made of a few small files: HEAD, the refs, an index
written from `git ls-files`, and one line that lends it the tree's objects. So `git log`, `git diff`
and `git describe` work in a run at once, whatever the history's size; commits that a run makes stay
in its copy. A copy holds objects only by reference: a commit that git has collected meanwhile is
missing in it.
"""

import hashlib
import os
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from plue.errors import UnavailableError

__all__ = ["History", "Listed", "git_said", "history_of", "list_files", "tree_facts"]

_SKIPPED: Final = 0x4000  # an extended flag: the file is not in the tree, by the user's own choice
_EXTENDED: Final = 0x4000
_REFS: Final = "%(refname)%00%(objectname)%00%(symref)"


@dataclass(frozen=True, slots=True)
class Listed:
    """A path as git lists it; ``entry`` is (mode, id, stage) of what the index has."""

    path: bytes
    entry: tuple[int, bytes, int] | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """A repository whose root is the tree's. ``head`` is a ref's name, or a commit's id."""

    objects: Path
    head: str
    format: str = "sha1"
    url: str | None = None
    refs: Mapping[str, str] = field(default_factory=dict)
    symbolic: Mapping[str, str] = field(default_factory=dict)
    shallow: bytes = b""

    @property
    def sha(self) -> str | None:
        """The commit that is checked out; None before the first one."""
        return self.refs.get(self.head) if self.head.startswith("refs/") else self.head

    @property
    def default_branch(self) -> str | None:
        """The default branch, as the remote says it, else by the usual names."""
        remote = self.symbolic.get("refs/remotes/origin/HEAD")
        if remote is not None:
            return remote.removeprefix("refs/remotes/origin/")
        names = ("main", "master")
        places = ("refs/remotes/origin/", "refs/heads/")
        return next((n for place in places for n in names if place + n in self.refs), None)

    def files(self, listed: Sequence[Listed]) -> Iterator[tuple[bytes, bytes]]:
        """Yield the files of the copy's repository, by path from the workspace's root."""
        head = f"ref: {self.head}" if self.head.startswith("refs/") else self.head
        yield b".git/HEAD", f"{head}\n".encode()
        yield b".git/config", self._config().encode()
        yield b".git/index", _index(listed, self.format)
        yield b".git/objects/info/alternates", os.fsencode(self.objects) + b"\n"
        packed = (f"{sha} {name}\n" for name, sha in sorted(self.refs.items()))
        yield b".git/packed-refs", "".join(packed).encode()
        # Without the folder it would be no repository.
        yield b".git/refs/heads/", b""
        for name, target in sorted(self.symbolic.items()):
            yield f".git/{name}".encode(), f"ref: {target}\n".encode()
        if self.shallow:
            yield b".git/shallow", self.shallow

    def _config(self) -> str:
        newer = self.format != "sha1"
        lines = ["[core]", f"\trepositoryformatversion = {int(newer)}", "\tbare = false"]
        if newer:
            lines += ["[extensions]", f"\tobjectformat = {self.format}"]
        if self.url is not None and not set(self.url) & set('"\\\n'):
            lines += ['[remote "origin"]', f'\turl = "{self.url}"']
            lines += ["\tfetch = +refs/heads/*:refs/remotes/origin/*"]
        return "\n".join(lines) + "\n"


def tree_facts(root: Path, history: History | None) -> dict[str, Any]:
    """Return what an event of the tree at *root* has: ref, sha and repository."""
    facts: dict[str, Any] = {"repository": {"name": root.name}}
    if history is None:
        return facts
    if history.head.startswith("refs/"):
        facts["ref"] = history.head
    facts |= {"sha": history.sha} if history.sha else {}
    owner, name = _names_of(history.url)
    repository = {
        "name": name or root.name,
        "owner": owner,
        "full_name": f"{owner}/{name}" if owner and name else None,
        "url": history.url,
        "default_branch": history.default_branch,
    }
    facts["repository"] = {key: value for key, value in repository.items() if value}
    return facts


def history_of(root: Path) -> History | None:
    """Return the repository at *root*; None when there is none whose root is this folder.

    Raises UnavailableError when git fails.
    """
    if not (root / ".git").exists():
        return None
    words = ["rev-parse", "--path-format=absolute", "--show-object-format", "--git-common-dir"]
    words += ["--git-path", "HEAD", "--git-path", "shallow"]
    # A run waits for this: the three answers are asked for at once.
    with ThreadPoolExecutor(2) as others:
        listing = others.submit(git_said, root, ["for-each-ref", f"--format={_REFS}"])
        address = others.submit(_url_of, root)
        said = git_said(root, words)
        listed, url = listing.result(), address.result()
    if said is None or listed is None:
        return None
    kind, common, head, shallow = os.fsdecode(said).splitlines()
    refs, symbolic = {}, {}
    for line in listed.splitlines():
        name, sha, target = os.fsdecode(line).split("\0")
        if target:
            symbolic[name] = target
        else:
            refs[name] = sha
    return History(
        objects=Path(common) / "objects",
        head=Path(head).read_text().strip().removeprefix("ref: "),
        format=kind,
        url=url,
        refs=refs,
        symbolic=symbolic,
        shallow=_content(Path(shallow)),
    )


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _url_of(root: Path) -> str | None:
    """Return the remote's address without what may be a password."""
    said = git_said(root, ["config", "--get", "remote.origin.url"], may_fail=True)
    url = os.fsdecode(said or b"").strip()
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"} and "@" in parts.netloc:
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return url or None


def _names_of(url: str | None) -> tuple[str | None, str | None]:
    path = (url or "").rstrip("/").removesuffix(".git").replace(":", "/")
    names = [name for name in path.split("/") if name]
    remote = "://" in (url or "") or "@" in (url or "")
    return (names[-2], names[-1]) if remote and len(names) > 2 else (None, None)  # noqa: PLR2004 - host, owner, name


# ── git ──────────────────────────────────────────────────────────────────────────────────────────


def git_said(root: Path, words: Sequence[str], *, may_fail: bool = False) -> bytes | None:
    """Return what git prints in *root*; None where there is no git program.

    Raises UnavailableError when git fails, unless it *may_fail*.
    """
    # Variables of an outer git (a hook's GIT_DIR, GIT_INDEX_FILE) would show another tree.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    # The tree's owner may be another (containers): its workflows are about to run anyway. A file
    # system monitor is a program that the repository names; asking needs none.
    fixed = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(root)]
    try:
        done = subprocess.run([*fixed, *words], capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        return None
    if done.returncode != 0 and not may_fail:
        said = done.stderr.decode(errors="replace").strip()
        raise UnavailableError(
            f"git cannot say what there is in {root}: {said}",
            remedy="see that `git status` works there",
        )
    return done.stdout


def list_files(root: Path) -> list[Listed] | None:
    """Return what git tracks, and what it neither tracks nor ignores; None without git.

    Raises UnavailableError when git fails.
    """
    words = ["ls-files", "--cached", "--others", "--exclude-standard", "--stage", "-t", "-z"]
    said = git_said(root, words)
    if said is None:
        return None
    return [_listed(line) for line in said.split(b"\0") if line]


def _listed(line: bytes) -> Listed:
    tag, rest = line[:1], line[2:]
    if tag == b"?":
        return Listed(rest)
    info, path = rest.split(b"\t", 1)
    mode, sha, stage = info.split(b" ")
    entry = (int(mode, 8), bytes.fromhex(sha.decode()), int(stage))
    return Listed(path, entry, skipped=tag == b"S")


def _index(listed: Sequence[Listed], kind: str) -> bytes:
    """Write git's index (version 3 for a sparse tree) without times: git compares contents."""
    known = sorted(
        ((one.path, one.entry, one.skipped) for one in listed if one.entry is not None),
        key=lambda entry: (entry[0], entry[1][2]),
    )
    version = 3 if any(skipped for _, _, skipped in known) else 2
    parts = [b"DIRC" + struct.pack(">II", version, len(known))]
    for path, (mode, sha, stage), skipped in known:
        flags = (stage << 12) | min(len(path), 0xFFF) | (_EXTENDED if skipped else 0)
        head = struct.pack(">6I", 0, 0, 0, 0, 0, 0) + struct.pack(">4I", mode, 0, 0, 0)
        body = head + sha + struct.pack(">H", flags)
        body += struct.pack(">H", _SKIPPED) if skipped else b""
        body += path
        parts.append(body + bytes(8 - len(body) % 8))
    whole = b"".join(parts)
    return whole + hashlib.new(kind, whole).digest()

"""Answers of git about the workspace: what changed since a base, and the commits since then.

git runs as a child with an environment of its own: no configuration of the user or the machine, no
hooks, no monitors, no external programs for diffs, no network, and a bounded output. What the
workspace's own configuration and attributes say about filters still counts, as it does in a step.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from plue.wire.events import Reason
from plue_runner.explain import disk_fault
from plue_runner.faults import Fault
from plue_runner.process import COOKIE, Family

__all__ = ["Bases", "Repository"]

Bases = Sequence[tuple[str, bool]]
"""Commits to compare with, and whether the merge base with HEAD is meant; the first that exists."""

_STDERR_BYTES = 16 * 1024
_CHUNK = 64 * 1024
_CONFIGURATION = (
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.quotePath=false",
    "diff.external=",
    "diff.noprefix=false",
    "diff.mnemonicPrefix=false",
    "log.showSignature=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    # The files may belong to somebody else, in a container: nothing of them is executed here.
    "safe.directory=*",
)


class Repository:
    """The workspace as git sees it."""

    def __init__(
        self,
        workspace: Path,
        *,
        family: Family,
        step: str,
        scratch: Path,
        cookie: str,
        limit: int,
    ) -> None:
        """Ask about *workspace*; *scratch* is a path for an index of our own."""
        self._workspace = workspace
        self._family = family
        self._step = step
        self._scratch = scratch
        self._limit = limit
        self._environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_CEILING_DIRECTORIES": str(workspace.parent),
            "PLUE_STEP": step,
            COOKIE: cookie,
        }

    async def diff(self, bases: Bases, paths: Sequence[str]) -> str:
        """Return the patch from the base to the workspace as it is, new files included."""
        base = await self._base(bases)
        words = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--find-renames", base)
        return (await self._compared(words, paths)).decode(errors="replace").rstrip("\n")

    async def changed_files(self, bases: Bases, paths: Sequence[str]) -> list[str]:
        """Return the sorted paths that differ from the base: changed, new or deleted."""
        base = await self._base(bases)
        words = ("diff", "--name-only", "-z", "--no-ext-diff", "--no-renames", base)
        listed = (await self._compared(words, paths)).split(b"\0")
        return sorted(path.decode(errors="replace") for path in listed if path)

    async def log(self, bases: Bases, paths: Sequence[str], most: int) -> str:
        """Return at most *most* commits since the base, one a line, newest first."""
        await self._head()
        base = await self._found(bases)
        span = "HEAD" if base is None else f"{base}..HEAD"
        words = ("log", "--no-color", "--format=%h %s", f"--max-count={most}", span)
        found = await self._git(*words, "--", *_pathspecs(paths))
        return found.decode(errors="replace").rstrip("\n")

    # ── the base ─────────────────────────────────────────────────────────────────────────────────

    async def _base(self, bases: Bases) -> str:
        await self._head()
        found = await self._found(bases)
        if found is not None:
            return found
        tried = ", ".join(dict.fromkeys(rev for rev, _ in bases))
        raise Fault(
            Reason.GIT_FAILED,
            f"there is nothing to compare with: the repository has none of {tried}",
            remedy='fetch it, or name a commit: ctx.git.diff(base="main")',
        )

    async def _head(self) -> str:
        if not (self._workspace / ".git").exists():
            raise Fault(
                Reason.GIT_FAILED,
                "the workspace is not a git repository",
                remedy="the project's folder must be the root of one when the run is created",
            )
        head = await self._commit("HEAD")
        if head is None:
            raise Fault(Reason.GIT_FAILED, "the repository has no commits yet")
        return head

    async def _found(self, bases: Bases) -> str | None:
        for rev, merge_base in bases:
            commit = await self._commit(rev)
            if commit is None:
                continue
            if not merge_base:
                return commit
            # Exit code 1: the two have no common ancestor, or it is beyond a shallow history.
            common = await self._git("merge-base", commit, "HEAD", may_fail=True)
            return common.decode().strip() or commit
        return None

    async def _commit(self, rev: str) -> str | None:
        """Return the commit's id, None when there is none. A rev is never taken for an option."""
        name = f"{rev}^{{commit}}"
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        found = (await self._git(*words, may_fail=True)).decode().strip()
        return found.splitlines()[-1] if found else None

    # ── files that git does not know yet ─────────────────────────────────────────────────────────

    async def _compared(self, words: Sequence[str], paths: Sequence[str]) -> bytes:
        """Run a diff in which new files count: an index of our own says that they will come."""
        try:
            await self._copy_index()
            index = {"GIT_INDEX_FILE": str(self._scratch)}
            if not self._scratch.exists():
                await self._git("read-tree", "HEAD", more=index)
            await self._git("add", "--intent-to-add", "--", ".", more=index)
            return await self._git(*words, "--", *_pathspecs(paths), more=index)
        finally:
            self._scratch.unlink(missing_ok=True)

    async def _copy_index(self) -> None:
        # In a linked worktree `.git` is a file, and git knows where the index is.
        path = (await self._git("rev-parse", "--git-path", "index")).decode().rstrip("\n")
        with suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.copyfile, self._workspace / path, self._scratch)

    # ── the child ────────────────────────────────────────────────────────────────────────────────

    async def _git(
        self, *words: str, more: Mapping[str, str] | None = None, may_fail: bool = False
    ) -> bytes:
        """Return what git prints. Raises Fault: GitFailed, OutputTooLarge."""
        settings = [word for one in _CONFIGURATION for word in ("-c", one)]
        argv = ["git", "--no-pager", *settings, *words]
        env = {**self._environment, **(more or {})}
        with ExitStack() as opened:
            out, out_end = os.pipe()
            opened.callback(os.close, out)
            err, err_end = os.pipe()
            opened.callback(os.close, err)
            null = os.open(os.devnull, os.O_RDONLY)
            try:
                process = self._family.spawn(
                    [os.fsencode(word) for word in argv],
                    step=self._step,
                    env={os.fsencode(k): os.fsencode(v) for k, v in env.items()},
                    cwd=self._workspace,
                    stdin=null,
                    stdout=out_end,
                    stderr=err_end,
                )
            except FileNotFoundError as error:
                raise Fault(
                    Reason.CANNOT_START,
                    "there is no program 'git'",
                    remedy="install it in the runner's image",
                ) from error
            except OSError as error:
                raise disk_fault(error) from error
            finally:
                for end in (out_end, err_end, null):
                    os.close(end)
            try:
                saying = asyncio.ensure_future(_start_of(err, _STDERR_BYTES))
                try:
                    printed = await _start_of(out, self._limit, whole=True)
                    said = await saying
                finally:
                    saying.cancel()
                code = await process.exit
            finally:
                await self._family.clear(process)
                self._family.settled(process)
        if code and not may_fail:
            text = said.decode(errors="replace").strip()
            line = text.splitlines()[-1] if text else f"exit code {code}"
            raise Fault(Reason.GIT_FAILED, f"git {words[0]}: {line}")
        return b"" if code else printed


async def _start_of(descriptor: int, limit: int, *, whole: bool = False) -> bytes:
    """Read a pipe to its end; return its first *limit* bytes.

    With *whole*, raises Fault (OutputTooLarge) as soon as there are more.
    """
    os.set_blocking(descriptor, False)
    loop = asyncio.get_running_loop()
    found = bytearray()
    while True:
        ready = loop.create_future()
        loop.add_reader(descriptor, _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return bytes(found[:limit])
        if len(found) <= limit:
            found += chunk
        if whole and len(found) > limit:
            raise Fault(
                Reason.OUTPUT_TOO_LARGE,
                f"what git prints is longer than {limit // 1024} KiB",
                remedy='narrow it to some paths, such as ctx.git.diff("src")',
            )


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _pathspecs(paths: Sequence[str]) -> list[str]:
    """Return *paths* as git takes them: patterns as ctx.glob has them, and no other magic."""
    return [f":(glob){path}" for path in paths]

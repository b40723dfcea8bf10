"""Hidden steps by real runner processes: files of the workspace, and git."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from runner.conftest import Run
from runner.scripted import ScriptedGateway, an_assignment, lit, sh

from plue.wire.events import EventType, Reason, RunState
from plue.wire.frames import Limits, Workspace
from plue.wire.plan import (
    Action,
    Failure,
    Git,
    GitBase,
    Glob,
    HashFiles,
    Read,
    Ref,
    RefField,
    Shell,
    Step,
    Text,
    Write,
)


def step(name: str, action: Action, *needs: str) -> Step:
    """Return a hidden step."""
    return Step(name=name, action=action, needs=needs)


def value(name: str, field: RefField = "stdout", *path: str) -> Text:
    """Return a reference to a value."""
    return (Ref(ref=name, field=field, path=path),)


def shows(text: Text, *needs: str, name: str = "show") -> Step:
    """Return a step that prints a value between brackets."""
    script = 'printf "[%s]" "${PLUE_V1}"'
    return Step(name=name, action=Shell(script=script, holes={"PLUE_V1": text}), needs=needs)


def in_place(folder: Path, *steps: Step, **fields: Any) -> ScriptedGateway:
    """Return a gateway with a run in *folder* itself."""
    workspace = Workspace(kind="in_place", path=str(folder))
    return ScriptedGateway(an_assignment(*steps, workspace=workspace, **fields))


async def test_read_is_a_step_whose_value_goes_into_text(run: Run, tmp_path: Path) -> None:
    """It sees what the steps above left, its trailing newlines go, and it says start and end."""
    read = step("read VERSION", Read(path=lit("VERSION"), shown="read VERSION"), "make")
    gateway = await run(
        in_place(
            tmp_path,
            sh("make", "printf '1.2\\n\\n' > VERSION"),
            read,
            shows(value("read VERSION"), "read VERSION"),
        )
    )
    assert gateway.text("show") == "[1.2]"
    assert [e.type for e in gateway.events if e.step == "read VERSION"] == [
        EventType.STEP_STARTED,
        EventType.STEP_COMPLETED,
    ]
    completed = gateway.completed("read VERSION")
    assert (completed["state"], completed["tries"]) == ("succeeded", 1)


def _link(folder: Path, name: str, target: str) -> None:
    (folder / name).symlink_to(target)


READS: Mapping[str, tuple[str | None, str | Reason]] = {
    "a.txt": (None, "x"),
    "./sub//b.txt": (None, "y"),
    "to-a": (None, "x"),
    "none": ("d", "d"),
    "a.txt/x": ("d", "d"),
    "empty": (None, ""),
    "bytes": (None, "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}z"),
    "missing": (None, Reason.MISSING_VALUE),
    "../out.txt": ("d", Reason.INVALID_PATH),
    "sub/../../out.txt": ("d", Reason.INVALID_PATH),
    "/etc/hostname": ("d", Reason.INVALID_PATH),
    "to-out": ("d", Reason.INVALID_PATH),
    "out-folder/out.txt": ("d", Reason.INVALID_PATH),
    "sub": ("d", Reason.INVALID_PATH),
    "pipe": ("d", Reason.INVALID_PATH),
    "large": ("d", Reason.OUTPUT_TOO_LARGE),
}


async def test_read_stays_inside_and_within_bounds(run: Run, tmp_path: Path) -> None:
    """What leads out is refused, also with a default; only what is missing has one."""
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "out.txt").write_text("secret")
    for name, text in {"a.txt": "x\n", "sub/b.txt": "y", "empty": "\n", "large": "x" * 101}.items():
        (folder / name).write_text(text)
    (folder / "bytes").write_bytes(b"\xff\0z")
    _link(folder, "to-a", "a.txt")
    _link(folder, "to-out", "../out.txt")
    _link(folder, "out-folder", "..")
    os.mkfifo(folder / "pipe")
    steps = []
    for path, (default, _) in READS.items():
        action = Read(path=lit(path), default=None if default is None else lit(default))
        steps += [step(path, action), shows(value(path), path, name=f"show {path}")]
    gateway = await run(in_place(folder, *steps, limits=Limits(stdout_bytes=100)))
    for path, (_, expected) in READS.items():
        if isinstance(expected, Reason):
            assert gateway.completed(path)["reason"] == expected, path
        else:
            assert gateway.text(f"show {path}") == f"[{expected}]"


GLOBS = [
    (["*.py"], ["a.py", "b.py"]),
    (["**/*.py"], [".hidden/d.py", "a.py", "b.py", "src/c.py", "src/deep/e.py"]),
    (["src/**"], ["src/c.py", "src/deep/e.py", "src/x.txt"]),
    (["src/*/*.py"], ["src/deep/e.py"]),
    (["[!a].py", "src/?.txt"], ["b.py", "src/x.txt"]),
    (["*/c.py"], ["src/c.py"]),
    (["nothing*"], []),
    (["**/config"], []),
    (["link*"], ["link-in"]),
    (["[a-", "[]x]"], ["[a-"]),
]


async def test_glob_gives_sorted_files(run: Run, tmp_path: Path) -> None:
    """Files only, sorted, dots included; nothing of .git and no folder that is a link."""
    for name in ("a.py", "b.py", "src/c.py", "src/x.txt", "src/deep/e.py", ".hidden/d.py",
                 ".git/config", "[a-"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    _link(tmp_path, "link-in", "a.py")
    _link(tmp_path, "link-out", "/etc/hostname")
    _link(tmp_path, "link-folder", "src")
    steps = [
        step(str(i), Glob(patterns=tuple(map(lit, patterns))))
        for i, (patterns, _) in enumerate(GLOBS)
    ]
    gateway = await run(in_place(tmp_path, *steps))
    for i, (_, expected) in enumerate(GLOBS):
        assert gateway.completed(str(i))["outputs"] == {"files": expected}


async def test_hash_files_changes_with_names_and_contents(run: Run, tmp_path: Path) -> None:
    """The same files give the same hash; a change, a rename or an added file another one."""
    seen = {}
    changes = {"first": "true", "same": "touch a.lock", "content": "echo y > a.lock",
               "renamed": "mv a.lock b.lock", "added": "echo > c.lock"}  # fmt: skip
    (tmp_path / "a.lock").write_text("x\n")
    for name, script in changes.items():
        hashed = step("hash", HashFiles(patterns=(lit("**/*.lock"),)), "do")
        gateway = await run(
            in_place(tmp_path, sh("do", script), hashed, shows(value("hash"), "hash"))
        )
        seen[name] = gateway.text("show")
    assert seen["first"] == seen["same"]
    assert len({*seen.values()}) == 4
    assert len(seen["first"]) == 66


async def test_hash_of_nothing_fails(run: Run, tmp_path: Path) -> None:
    """A pattern that matches nothing is most likely wrong: a constant key would hide it."""
    gateway = await run(in_place(tmp_path, step("hash", HashFiles(patterns=(lit("*.lock"),)))))
    assert gateway.completed("hash")["reason"] == Reason.MISSING_VALUE


WRITES: Mapping[str, Reason | None] = {
    "a.txt": None,
    "new/deep/a.txt": None,
    "run.sh": None,
    "../x": Reason.INVALID_PATH,
    "/tmp/plue-x": Reason.INVALID_PATH,
    "out/x": Reason.INVALID_PATH,
    "link": Reason.INVALID_PATH,
    "sub": Reason.INVALID_PATH,
}


async def test_write_stays_inside(run: Run, tmp_path: Path) -> None:
    """Nothing outside is made or changed; a file keeps its mode."""
    folder = tmp_path / "outer" / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "run.sh").write_text("old")
    (folder / "run.sh").chmod(0o755)
    (folder.parent / "victim").write_text("kept")
    _link(folder, "out", "..")
    _link(folder, "link", "../victim")
    steps = [step(path, Write(path=lit(path), text=lit("new\ntext"))) for path in WRITES]
    gateway = await run(in_place(folder, *steps))
    assert {path: gateway.completed(path).get("reason") for path in WRITES} == WRITES
    assert (folder.parent / "victim").read_text() == "kept"
    assert sorted(p.name for p in folder.parent.glob("*")) == ["tree", "victim"]
    for path in [path for path, reason in WRITES.items() if reason is None]:
        assert (folder / path).read_text() == "new\ntext"
    assert [*folder.rglob("*.plue")] == []
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755


async def test_failure_fails_with_its_reason(run: Run) -> None:
    """What a called workflow's ctx.fail says is why its step failed; what follows is skipped."""
    gateway = await run(
        ScriptedGateway(
            an_assignment(
                sh("a", "echo broken"),
                step("call/fail", Failure(reason=(*lit("it is "), *value("a"))), "a"),
                sh("b", "true", needs=("call/fail",)),
            )
        )
    )
    completed = gateway.completed("call/fail")
    assert (completed["reason"], completed["message"]) == ("FailedByWorkflow", "it is broken")
    assert gateway.completed("b")["reason"] == Reason.DEPENDENCY_FAILED
    assert gateway.finished is not None
    assert gateway.finished.state == RunState.FAILED


# ── git ──────────────────────────────────────────────────────────────────────────────────────────


def git(folder: Path, *words: str) -> str:
    """Run git in *folder* as a test's author."""
    who = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t",
           "GIT_COMMITTER_EMAIL": "t@t", "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *words],
        cwd=folder, env={**os.environ, **who}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Give a repository: main with two commits, a branch with two more that left main early."""
    folder = tmp_path / "tree"
    folder.mkdir()
    git(folder, "init", "-q")
    for name, text in {"a.txt": "a\n", "src/b.txt": "b\n", ".gitignore": "ignored\n"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    git(folder, "checkout", "-qb", "feature")
    (folder / "src/b.txt").write_text("changed\n")
    git(folder, "commit", "-qam", "change b")
    git(folder, "rm", "-q", "a.txt")
    git(folder, "commit", "-qm", "remove a")
    git(folder, "checkout", "-q", "main")
    (folder / "main.txt").write_text("m\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "on main")
    git(folder, "checkout", "-q", "feature")
    return folder


def question(query: str, *bases: tuple[str, bool], paths: Sequence[str] = ()) -> Git:
    """Return a question to git."""
    given = tuple(GitBase(rev=lit(rev), merge_base=merge) for rev, merge in bases)
    return Git(query=query, bases=given, paths=tuple(map(lit, paths)))  # type: ignore[arg-type]


CHANGED: Sequence[tuple[list[tuple[str, bool]], list[str], list[str]]] = [
    ([("main", True)], [], ["a.txt", "src/b.txt"]),
    ([("main", False)], [], ["a.txt", "main.txt", "src/b.txt"]),
    ([("HEAD~1", False)], [], ["a.txt"]),
    ([("gone", False), ("main", True)], [], ["a.txt", "src/b.txt"]),
    ([("main", True)], ["src"], ["src/b.txt"]),
    ([("main", True)], ["**/*.txt"], ["a.txt", "src/b.txt"]),
    ([("HEAD", False)], [], []),
]


async def test_changed_files_compare_with_the_base(run: Run, repository: Path) -> None:
    """The merge base or the commit itself; the first that exists; deleted files count."""
    steps = [
        step(str(i), question("changed_files", *bases, paths=paths))
        for i, (bases, paths, _) in enumerate(CHANGED)
    ]
    gateway = await run(in_place(repository, *steps))
    for i, (_, _, expected) in enumerate(CHANGED):
        assert gateway.completed(str(i))["outputs"] == {"files": expected}


async def test_git_sees_the_workspace_as_the_steps_above_left_it(
    run: Run, repository: Path
) -> None:
    """Changed and new files count, ignored ones do not, and the repository's index stays."""
    before = git(repository, "status", "--porcelain")
    make = sh("make", "echo more >> src/b.txt; echo n > new.txt; echo i > ignored")
    files = step("git", question("changed_files", ("HEAD", False)), "make")
    diff = step("diff", question("diff", ("HEAD", False)), "git")
    gateway = await run(in_place(repository, make, files, diff, shows(value("diff"), "diff")))
    assert gateway.completed("git")["outputs"] == {"files": ["new.txt", "src/b.txt"]}
    text = gateway.text("show")
    assert "+more" in text
    assert "+n" in text
    assert "ignored" not in text
    assert not text.endswith("\n]")
    assert before == ""
    assert git(repository, "status", "--porcelain") == "M src/b.txt\n?? new.txt"


async def test_log_lists_the_commits_since_the_base(run: Run, repository: Path) -> None:
    """Newest first, one a line, the short id before the subject; without a base the last ones."""
    lines = {}
    for name, base in {"since": "main", "none": "gone"}.items():
        log = step("git", question("log", (base, True)))
        gateway = await run(in_place(repository, log, shows(value("git"), "git")))
        lines[name] = [line.split(" ", 1)[1] for line in gateway.text("show")[1:-1].split("\n")]
    assert lines["since"] == ["remove a", "change b"]
    assert lines["none"] == ["remove a", "change b", "first"]


UNANSWERED = [
    pytest.param("other", "true", "HEAD", "is not a git repository", id="no-repository"),
    pytest.param("empty", "git init -q .", "HEAD", "no commits yet", id="no-commits"),
    pytest.param("tree", "true", "gone", "none of gone", id="no-base"),
    pytest.param("tree", "true", "--output=/tmp/plue-x", "none of --output", id="option"),
]


@pytest.mark.parametrize(("folder", "script", "base", "said"), UNANSWERED)
async def test_git_says_why_it_has_no_answer(  # noqa: PLR0917 - the table's columns
    run: Run, repository: Path, folder: str, script: str, base: str, said: str
) -> None:
    """What is missing is named, and a commit's name is never an option."""
    place = repository.parent / folder
    place.mkdir(exist_ok=True)
    diff = step("git", question("diff", (base, True)), "make")
    gateway = await run(in_place(place, sh("make", script), diff))
    completed = gateway.completed("git")
    assert completed["reason"] == Reason.GIT_FAILED
    assert said in str(completed["message"])


async def test_git_runs_nothing_that_the_repository_or_its_user_names(
    run: Run, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hooks, monitors, external diffs, pagers, aliases; no configuration of the user."""
    seen = tmp_path / "seen"
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\necho $0 >> {seen}\n")
    script.chmod(0o755)
    for name in ("core.fsmonitor", "diff.external", "core.pager", "diff.x.textconv",
                 "diff.x.command"):  # fmt: skip
        git(repository, "config", name, str(script))
    for hook in ("post-index-change", "reference-transaction"):
        (repository / ".git/hooks").mkdir(exist_ok=True)
        (repository / ".git/hooks" / hook).symlink_to(script)
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/attributes").write_text("* diff=x\n")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f"[core]\n fsmonitor = {script}\n[diff]\n noprefix = true\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(script))
    seen.unlink(missing_ok=True)
    (repository / "new.txt").write_text("n\n")
    files = step("git", question("changed_files", ("main", True)))
    diff = step("diff", question("diff", ("main", True)))
    gateway = await run(in_place(repository, files, diff, shows(value("diff"), "diff")))
    assert gateway.completed("git")["outputs"] == {"files": ["a.txt", "new.txt", "src/b.txt"]}
    assert "a/src/b.txt" in gateway.text("show")
    assert not seen.exists(), seen.read_text()


async def test_long_answer_of_git_is_too_large(run: Run, repository: Path) -> None:
    """A diff beyond the limit is an error that says so, and git is gone."""
    (repository / "new.txt").write_text("line\n" * 200_000)
    diff = step("git", question("diff", ("HEAD", False)))
    gateway = await run(in_place(repository, diff, limits=Limits(stdout_bytes=100_000)))
    assert gateway.completed("git")["reason"] == Reason.OUTPUT_TOO_LARGE


async def test_answer_without_secrets(run: Run, tmp_path: Path) -> None:
    """What is read is masked as what is printed (29)."""
    (tmp_path / "a.txt").write_text("the hunter2secret")
    read = step("read", Read(path=lit("a.txt")))
    gateway = await run(
        in_place(tmp_path, read, shows(value("read"), "read"), secrets={"S": "hunter2secret"})
    )
    assert gateway.text("show") == "[the ***]"

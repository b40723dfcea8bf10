"""Context from outside: secrets, files and git of a project, modules and calls, in real runs."""

import json
import subprocess
from pathlib import Path

from e2e.stage import Project

TOKEN = "hunter2-\"'$(x)-é"

SECRETS = """
from plue import workflow, push
@workflow(triggers=[push()])
def ci(ctx):
    ctx.run("use", f"echo said {ctx.secrets.TOKEN}; printf '%s' \\"$T\\" | sha256sum", env={"T": ctx.secrets.TOKEN})
    n = ctx.run("n", "echo 1")
    if n.stdout == "1":
        ctx.run("later", "cat; echo; echo $LATE", stdin=ctx.secrets.TOKEN, env={"LATE": ctx.secrets.LATE})
"""


def project(folder: Path, **workflows: str) -> Project:
    """Return a project with these workflows."""
    return Project.make(folder, {f"{name}.py": text for name, text in workflows.items()})


def test_secrets_reach_steps_and_nothing_else(tmp_path: Path) -> None:
    """Stages included: masked in what is printed, in no file and no row that is kept."""
    import hashlib

    made = project(tmp_path, ci=SECRETS)
    file = made.root / ".plue" / "secrets.env"
    file.write_text("LATE=late-secret-value\n")
    file.chmod(0o600)
    done = made.plue("workflow", "run", "ci", PLUE_SECRET_TOKEN=TOKEN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "said ***" in done.stdout
    assert hashlib.sha256(TOKEN.encode()).hexdigest() in done.stdout
    assert "<secret TOKEN>" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert "late-secret" not in done.stdout + done.stderr
    kept = [path for path in made.data.rglob("*") if path.is_file()]
    assert kept
    assert [
        p for p in kept if b"hunter2" in p.read_bytes() or b"late-secret" in p.read_bytes()
    ] == []


def test_a_missing_secret_refuses_the_run(tmp_path: Path) -> None:
    """When it is made, with its name and what to do; in a later stage the run ends with that."""
    made = project(tmp_path, ci=SECRETS)
    done = made.plue("workflow", "run", "ci")
    assert done.returncode == 2, done.stdout
    assert "TOKEN" in done.stderr
    assert ".plue/secrets.env" in done.stderr
    done = made.plue("workflow", "run", "ci", "--json", PLUE_SECRET_TOKEN=TOKEN)
    assert done.returncode == 1
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["body"]["reason"] == "MissingSecret"
    assert "LATE" in end["body"]["message"]


CI = """
from plue import workflow, pull_request
from lib.packages import PACKAGES, touched
from workflows.release import release
@workflow(triggers=[pull_request()])
def ci(ctx):
    changed = ctx.git.changed_files()
    for p in touched(changed):
        ctx.run(f"test-{p}", f"echo testing {p} of {ctx.repo.name}")
    made = ctx.call(release, version=f"v{ctx.read('VERSION')}")
    ctx.write("out/notes.txt", f"{made.outputs.notes}")
    ctx.run("show", "cat out/notes.txt; echo; git log --oneline | wc -l")
    ctx.success(version=made.outputs.version)
"""
RELEASE = """
from plue import workflow, manual
@workflow(triggers=[manual(inputs={"version": str})])
def release(ctx):
    build = ctx.run("build", f"echo built {ctx.inputs.version} for {ctx.event.pull_request.base.ref}")
    ctx.success(notes=build.stdout, version=ctx.inputs.version)
"""
LIB = """
PACKAGES = ["api", "web", "docs"]
def touched(files):
    return [p for p in PACKAGES if any(f.startswith(f"{p}/") for f in files)]
"""


def test_a_monorepo_by_changed_files(tmp_path: Path) -> None:
    """Modules, calls, files and git of a copy of the tree, for a pull request of the tree's own."""
    made = project(tmp_path, ci=CI, release=RELEASE)
    (made.root / ".plue" / "lib").mkdir()
    (made.root / ".plue" / "lib" / "packages.py").write_text(LIB)
    (made.root / "VERSION").write_text("1.2\n")
    git = ["git", "-C", str(made.root), "-c", "user.name=t", "-c", "user.email=t@t"]

    def say(*words: str) -> None:
        subprocess.run([*git, *words], check=True, capture_output=True)

    for package in ("api", "web", "docs"):
        (made.root / package).mkdir()
        (made.root / package / "x").write_text("x")
    say("checkout", "-qb", "main")
    say("add", ".")
    say("commit", "-qm", "first")
    say("checkout", "-qb", "fix")
    (made.root / "api" / "x").write_text("changed")
    say("commit", "-qam", "second")
    (made.root / "docs" / "new").write_text("not committed yet")
    words = ["--event", "pull_request", "--base", "main"]
    planned = made.plue("workflow", "plan", "ci", *words)
    assert "git changed files" in planned.stdout
    done = made.plue("workflow", "run", "ci", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(line.endswith("testing api of repo") for line in lines)
    assert any(line.endswith("testing docs of repo") for line in lines)
    assert not any("testing web" in line for line in lines)
    assert any(line.endswith("built v1.2 for main") and line.startswith("show") for line in lines)
    assert any(line.startswith("show") and line.endswith("| 2") for line in lines)
    assert "  version  v1.2" in lines
    detail = made.json("run", "view", "latest")
    assert detail["event"]["branch"] == "fix"
    kinds = {step["name"]: step["kind"] for step in detail["steps"]}
    assert kinds == {
        "git changed files": "git",
        "test-api": "shell",
        "test-docs": "shell",
        "read VERSION": "read",
        "release/build": "shell",
        "write out/notes.txt": "write",
        "show": "shell",
    }

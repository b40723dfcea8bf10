"""Context from outside: secrets, files and git of a project, modules and calls, in real runs."""

import json
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

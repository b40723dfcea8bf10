"""The life of a server: private ones, Ctrl-C, what is taken, away, or full."""

import os
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from e2e.stage import Project, Said, Up, eventually, living, on_a_terminal
from e2e.workflows import WORKFLOWS
from lacking import cannot


def postgres_of(data: Path) -> int:
    """Return the pid of the server's own Postgres."""
    return int((data / "postgres18" / "postmaster.pid").read_text().split("\n", 1)[0])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Give a repository without a server."""
    return Project.make(tmp_path_factory.mktemp("alone"), {"ci.py": WORKFLOWS})


def test_a_run_needs_no_server(alone: Project) -> None:
    """A private one does it and ends with the command; the next command finds the history."""
    done = alone.plue("workflow", "run", "ci")
    assert done.returncode == 0, done.stderr
    assert "… making a new database" in done.stderr
    assert "see it again: plue run view ci-1" in done.stdout
    assert not (alone.data / "server.json").exists()
    assert not (alone.data / "postgres18" / "postmaster.pid").exists()
    viewed = alone.plue("run", "view")
    assert viewed.returncode == 0
    assert "ci-1 succeeded" in viewed.stdout
    detached = alone.plue("workflow", "run", "ci", "--detach")
    assert detached.returncode == 2
    assert "plue up" in detached.stderr


def test_ctrl_c_of_a_private_run_cancels_it_and_leaves_nothing(alone: Project) -> None:
    """The run is recorded as cancelled, its processes end, and the server too."""
    mark = uuid4().hex
    with on_a_terminal(alone, ["workflow", "run", "sleepy", "-i", f"mark={mark}"]) as terminal:
        terminal.until("    asleep")
        pid = postgres_of(alone.data)
        terminal.press("\x03")
        assert terminal.end(30) == 130
    eventually(lambda: not living(mark), "the sleeps have ended", 10)
    eventually(lambda: not psutil.pid_exists(pid), "the database has ended", 20)
    assert alone.json("run", "view")["state"] == "cancelled"


def test_ctrl_c_of_plue_up_cancels_runs_and_leaves_nothing(alone: Project) -> None:
    """Runs are cancelled with a reason, who watches is told; a second server has it all."""
    mark = uuid4().hex
    with alone.up() as up:
        pid = postgres_of(alone.data)
        words = ["workflow", "run", "sleepy", "-i", f"mark={mark}"]
        with alone.started(*words) as watching:
            said = Said(watching.stdout)
            said.until("sleep | asleep")
            up.process.send_signal(signal.SIGINT)
            assert watching.wait(30) == 130
            assert "the server was stopped" in said.rest()
        assert up.process.wait(30) == 0
        assert "… cancelling 1 active run\n" in up.said.rest()
    assert not living(mark)
    assert not psutil.pid_exists(pid)
    assert list((alone.data / "runners").glob("*/")) == []
    assert alone.json("run", "view")["message"] == "the server was stopped"


# ── what is taken ────────────────────────────────────────────────────────────────────────────────


def test_a_second_server_on_one_folder_is_refused(up: Up, project: Project) -> None:
    """Exit code 2, and the message says who has it."""
    done = project.plue("up")
    assert done.returncode == 2
    assert f"{project.data} is in use by another server (pid {up.process.pid}" in done.stderr
    assert "--data" in done.stderr
    assert project.plue("workflow", "run", "ci").returncode == 0


def test_a_port_that_is_taken_is_refused_by_name(project: Project, tmp_path: Path) -> None:
    """Exit code 2 before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = project.plue("up", "--port", port, "--data", str(tmp_path / "data"))
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr
    assert "--port" in done.stderr
    assert not (tmp_path / "data" / "postgres18").exists()


@pytest.mark.parametrize(
    ("dsn", "code", "said"),
    [
        pytest.param("postgresql://u:hush@127.0.0.1:1/plue", 1, "port 1 failed", id="nobody-there"),
        pytest.param("postgresql://u:hush@127.0.0.1:x/plue", 1, '"x" for connection', id="no-port"),
        pytest.param(
            "host=127.0.0.1 password='hush", 2, "no address of a database", id="no-address"
        ),
    ],
)
def test_a_database_that_cannot_be_reached_is_named(
    project: Project, tmp_path: Path, dsn: str, code: int, said: str
) -> None:
    """Within seconds, with a remedy, without its password."""
    done = project.plue("up", "--database", dsn, "--data", str(tmp_path / "data"), patience=30)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "try:" in done.stderr
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr


# ── what goes away and comes back ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_postgres_that_restarts_costs_a_run_nothing(
    project: Project, how: signal.Signals
) -> None:
    """The step goes on, every line is there once and in order, and who watches sees the end."""
    with project.started("workflow", "run", "ticking") as watching:
        said = Said(watching.stdout)
        name = said.until("queued").split()[0]
        said.until("tick 5")
        os.kill(postgres_of(project.data), how)
        assert watching.wait(60) == 0, said.rest()
    ticks = [line for line in said.rest().split("\n") if "| tick" in line]
    assert [f"ticks | tick {n}" for n in range(1, 61)] == ticks
    logged = project.plue("run", "logs", name).stdout.split("\n")
    assert [line for line in logged if line] == [f"ticks\ttick {n}" for n in range(1, 61)]


def test_a_step_that_cannot_start_says_why(project: Project) -> None:
    """Folder, program and permission: each is named with what to do."""
    done = project.plue("workflow", "run", "lost")
    assert done.returncode == 0, done.stderr
    for words in (
        "there is no folder 'no/such/folder' in the workspace; correct cwd=",
        "there is no program 'no-such-program-anywhere'",
        "may not be executed; make it executable",
    ):
        assert words in done.stdout
    assert done.stdout.count("(CannotStart)") == 6


def test_the_doctor_knows_the_server(up: Up, project: Project) -> None:
    """It says what is there, and for whom local mode is no barrier."""
    done = project.plue("doctor")
    assert f"up at {up.record['url']}, pid {up.process.pid}" in done.stdout
    assert "Local mode isolates accidents, not attackers" in done.stdout
    assert done.returncode == 0


# ── a full disk ──────────────────────────────────────────────────────────────────────────────────

SMALL_DISK = 'mount -t tmpfs -o size=160m plue "$0" && exec "$@"'


def private_mounts() -> tuple[str, ...]:
    """Return how to get mounts of one's own here; skip where that is not allowed."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    words = ("unshare", "--mount", *user)
    try:
        subprocess.run([*words, "mount", "-t", "tmpfs", "t", "/mnt"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        cannot(f"no mounts of one's own: {error}")
    return words


def test_a_full_disk_costs_no_line_and_is_said(tmp_path: Path) -> None:
    """A step that fills it waits; who starts a run is told; with space all goes on as it was."""
    words = private_mounts()
    plain = Project.make(tmp_path, {"ci.py": WORKFLOWS})
    plain.data.mkdir()
    small = replace(plain, wrapper=(*words, "sh", "-c", SMALL_DISK, str(plain.data)))
    freed = tmp_path / "freed"
    with small.started("up", "--runners", "1") as process:
        up = Up(small, process)
        up.said.until("Ctrl-C ends the server")
        user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        enter = ("nsenter", "--target", str(process.pid), "--mount", *user, f"--wd={plain.root}")
        inside = replace(plain, wrapper=enter)
        with inside.started("workflow", "run", "filling", "-i", f"until={freed}") as watching:
            said = Said(watching.stdout)
            said.until("fill | full")
            up.complaints.until("Postgres has no space left")
            refused = inside.plue("workflow", "run", "ci")
            assert refused.returncode == 1
            assert "No space left on device" in refused.stderr
            assert "try: free disk space" in refused.stderr
            freed.touch()
            assert watching.wait(60) == 0, said.rest()
            lines = [line for line in said.rest().split("\n") if "| line" in line]
        assert [line.split()[3] for line in lines] == [str(n) for n in range(1, 201)]
        assert inside.plue("workflow", "run", "ci").returncode == 0
        assert len(inside.json("run", "list")) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert up.complaints.rest().count("Postgres has no space left") == 1

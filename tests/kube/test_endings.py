"""Server processes that are told to end, whatever they are at."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:9"}}]
users: [{name: nobody, user: {token: none}}]
"""


@contextmanager
def told(command: str, folder: Path, said: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Give a server process that has said so and was told to end."""
    (folder / "kubeconfig").write_text(KUBECONFIG)
    ours = {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "PLUE_DATA": str(folder / "data"),
        "PLUE_GATEWAY_URL": "http://127.0.0.1:9",
        "PLUE_DATABASE": "postgresql://nobody@127.0.0.1:9/nothing",
        "PLUE_MIGRATE": "false",
        **settings,
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("PLUE_")}
    process = subprocess.Popen(
        [sys.executable, "-c", "from plue.cli.main import main; main()", command],
        env=others | ours,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any(said in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("command", ["operator", "api", "gateway"])
def test_who_waits_for_a_database_ends_when_told_to(command: str, tmp_path: Path) -> None:
    """With code 0 and at once: nobody waits for minutes until it is killed."""
    with told(command, tmp_path, "waiting_for_schema") as process:
        assert process.wait(timeout=30) == 0


def test_evaluator_ends_when_told_to(tmp_path: Path) -> None:
    """With code 0, and the process that evaluates with it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"PLUE_EVALUATOR_TOKEN": "a-token-of-this-test", "PLUE_EVALUATOR_LISTEN": listen}
    with told("evaluator", tmp_path, "evaluator_started", **settings) as process:
        assert process.wait(timeout=30) == 0

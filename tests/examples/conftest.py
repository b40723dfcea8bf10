"""One real server for all examples, and each example as a repository of its own."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.stage import Project, Up

from plue.local.reading import source_files
from plue.local.tree import Tree
from plue.store.blobs import Blobs

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    state: str
    outputs: Mapping[str, Any]
    steps: Mapping[str, Mapping[str, Any]]
    message: str | None

    def said(self, step: str) -> str:
        """Return the state of a step, for messages."""
        return str(self.steps[step]["state"])


class House:
    """The server, and a place for copies of examples."""

    def __init__(self, up: Up, folder: Path) -> None:
        self._up = up
        self._folder = folder

    def copy(self, name: str) -> Path:
        """Return a fresh git repository that holds the example, committed."""
        root = self.empty(name)
        shutil.copytree(EXAMPLES / name, root, dirs_exist_ok=True)
        git(root, "add", "-A")
        git(root, "commit", "-qm", "first")
        return root

    def empty(self, name: str) -> Path:
        """Return a fresh git repository without a commit."""
        root = self._folder / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        git(root, "init", "-q", "-b", "main")
        return root

    def run(
        self, root: Path, workflow: str, *, event: Mapping[str, Any] | None = None, **inputs: Any
    ) -> Ended:
        """Run *workflow* of the repository at *root* to its end."""
        body = {
            "workflow": workflow,
            "files": dict(source_files(root)),
            "inputs": inputs,
            "trigger": (event or {}).get("kind", "manual"),
            "event": event or {},
            "workspace": {"kind": "blob", "blob": self._upload(root)},
        }
        made = self._up.post("/runs", body)
        events = self._up.request(
            f"/runs/{made['id']}/events", headers={"Accept": "application/x-ndjson"}
        )
        with events:
            *_, last = (json.loads(line) for line in events if line.strip())
        assert last["type"] == "run_completed", last
        detail = self._up.get(f"/runs/{made['id']}")
        return Ended(
            detail["state"],
            detail["outputs"],
            {step["name"]: step for step in detail["steps"]},
            detail["message"],
        )

    def _upload(self, root: Path) -> str:
        """Give the server a copy of the tree, as `plue workflow run` makes it."""
        blobs = Blobs(self._folder / "blobs")
        made = asyncio.run(Tree(root, blobs=blobs).snapshot())
        assert made.blob is not None
        data = blobs.path(made.blob).read_bytes()
        with self._up.request("/blobs", data=data) as answer:
            sent: str = json.load(answer)["id"]
        assert sent == made.blob
        return sent


def git(root: Path, *words: str) -> str:
    """Run git in *root* as nobody in particular."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(
        ["git", *who, *words], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _script(folder: Path) -> Path:
    """Put the scripts of all examples together: one server answers for all of them."""
    scripts = [yaml.safe_load(path.read_text()) for path in sorted(EXAMPLES.glob("*/turns.yaml"))]
    path = folder / "turns.json"
    path.write_text(json.dumps({"conversations": sum((s["conversations"] for s in scripts), [])}))
    return path


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Start one server for all examples."""
    folder = tmp_path_factory.mktemp("examples")
    project = Project.make(folder, {})
    with project.up("--runners", "3", "--model-server", str(_script(folder))) as up:
        yield House(up, folder)

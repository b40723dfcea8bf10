"""The runner's own folder: what lies where, and that nothing of it stays."""

import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["Home"]


class Home:
    """The runner's own folder, laid out before the claim so that a claim finds it ready."""

    def __init__(self, root: Path) -> None:
        """Make the folders below *root*."""
        self.root = root
        self.workspace = root / "workspace"
        self.steps = root / "steps"
        self.temporary = root / "tmp"
        self.spool = root / "spool"
        self.archive = root / "workspace.tar"
        self.event = root / "event.json"
        for folder in (self.workspace, self.steps, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove what the runner made; what cannot be removed is left to the host."""
        for folder in (self.workspace, self.steps, self.temporary, self.spool):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.archive, self.event):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.root.rmdir()  # the host may keep files of its own in it

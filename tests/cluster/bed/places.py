"""Versions, and where what is built from them lies.

The cache's name is a digest of everything that decides what a build gives, so that a stale cache
cannot be met: a changed version is a new folder.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GO_MODULES", "KUBERNETES", "Places", "places"]

KUBERNETES = "1.34.4"
GO_MODULES = Path(__file__).parent.parent / "go"
REPOSITORY = Path(__file__).parents[3]

# What decides the programs beside the modules' own files.
_BUILD_RECIPE = 1


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of the test bed; they are made when they are needed."""

    programs: Path
    """control, containerd, its shims, ctr, runsc, pause: by version."""
    images: Path
    """Archives of images, by content."""
    work: Path
    """Half-built things."""
    state: Path
    """The one running cluster: its processes' files, kubeconfig and logs."""


def places() -> Places:
    """Return the folders, as the environment says: XDG_CACHE_HOME, PLUE_CLUSTER_STATE."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plue" / "cluster"
    state = os.environ.get("PLUE_CLUSTER_STATE")
    return Places(
        programs=cache / _programs_digest() / "bin",
        images=cache / "images",
        work=cache / "work",
        state=Path(state) if state else cache / "state",
    )


def _programs_digest() -> str:
    digest = hashlib.sha256(f"{_BUILD_RECIPE} {KUBERNETES} {os.uname().machine}".encode())
    for file in sorted(GO_MODULES.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(GO_MODULES)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]

"""Fill a folder from which the server image is built: ``python make_context.py FOLDER``.

The libraries are installed here, from hashes, and copied: the image needs neither pip nor a
network while it is built. Needs uv beside this Python or on PATH.
"""

import runpy
import shutil
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_RUNNER = _HERE.parent / "runner_image" / "make_context.py"
_PLUE = _HERE.parent / "operator" / "plue"


def main(folder: Path) -> None:
    """Make the context in *folder*."""
    site = folder / "site"
    runpy.run_path(str(_RUNNER))["install"](site, _HERE / "requirements.lock")
    copy_sources(site)
    shutil.copy(_HERE / "Containerfile", folder / "Containerfile")


def copy_sources(site: Path) -> None:
    """Copy Plue to *site*. The runner is not there: it has an image of its own."""
    shutil.copytree(_PLUE, site / "plue", ignore=shutil.ignore_patterns("__pycache__"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Fill a folder from which the runner image is built: ``python make_context.py FOLDER``.

The libraries are installed here, from hashes, and copied: the image needs neither pip nor a
network while it is built. Needs uv beside this Python or on PATH.
"""

import platform
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

_HERE = Path(__file__).parent
_PLUE = _HERE.parent / "operator" / "plue"
_SHARED = ("__init__.py", "errors.py", "marks.py", "schemas.py", "templating", "wire")
"""The modules of Plue that a runner imports."""


def main(folder: Path) -> None:
    """Make the context in *folder*."""
    site = folder / "site"
    install(site, _HERE / "requirements.lock")
    copy_sources(site)
    for name in ("Containerfile", "start"):
        shutil.copy(_HERE / name, folder / name)


def install(site: Path, lock: Path) -> None:
    """Install what *lock* names into the folder *site*, for an image."""
    site.mkdir(parents=True, exist_ok=True)
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else "uv"
    subprocess.run(
        [
            uv, "pip", "install", "--quiet", "--target", str(site), "--require-hashes",
            "--only-binary", ":all:", "--python-version", "3.11",
            "--python-platform", f"{platform.machine()}-manylinux_2_28",
            "--requirement", str(lock),
        ],
        check=True,
    )  # fmt: skip
    for leftover in (*site.rglob("__pycache__"), site / "bin", site / ".lock"):
        shutil.rmtree(leftover, ignore_errors=True)


def copy_sources(site: Path) -> None:
    """Copy the runner, and of Plue what it imports, to *site*."""
    own = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_HERE / "plue_runner", site / "plue_runner", ignore=own)
    (site / "plue").mkdir()
    for name in _SHARED:
        copy = shutil.copy if (_PLUE / name).is_file() else partial(shutil.copytree, ignore=own)
        copy(_PLUE / name, site / "plue" / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

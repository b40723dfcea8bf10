"""Makes the images of the test bed and keeps them as archives, named by what they are made of.

No registry is needed: the base is a Debian made by mmdebstrap, and everything else is built here.
Elsewhere the same Containerfile builds on a published Python image.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from cluster.bed.places import REPOSITORY, Places
from cluster.bed.say import run

__all__ = ["PAUSE", "pause_archive", "runner_archive", "server_archive"]

PAUSE = "localhost/pause:1"
_SUITE = "bookworm"
_PACKAGES = "python3,ca-certificates,git,curl,jq,make,unzip,xz-utils,patch,procps"
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")


def pause_archive(places: Places) -> Path:
    """Return the archive of the pause image."""
    program = places.programs / "pause"
    archive = places.images / f"pause-{_digest([program])}.tar"
    if not archive.exists():
        context = _fresh(places.work / "pause-context")
        shutil.copy(program, context / "pause")
        (context / "Containerfile").write_text(
            'FROM scratch\nCOPY pause /\nENTRYPOINT ["/pause"]\n'
        )
        _build(places, "building the pause image", context, PAUSE, archive)
    return archive


def runner_archive(places: Places) -> tuple[Path, str]:
    """Return the archive of the runner image, and the image's name."""
    return _ours(places, "runner")


def server_archive(places: Places) -> tuple[Path, str]:
    """Return the archive of the image of operator, API, gateway and evaluator, and its name."""
    return _ours(places, "server")


def _ours(places: Places, kind: str) -> tuple[Path, str]:
    context = _fresh(places.work / f"{kind}-context")
    make: list[str | Path] = [
        sys.executable,
        REPOSITORY / f"{kind}_image" / "make_context.py",
        context,
    ]
    run(f"gathering the {kind} and its libraries", make)
    digest = _digest([context], f"{_SUITE} {_PACKAGES}")
    name = f"localhost/plue-{kind}:{digest}"
    archive = places.images / f"{kind}-{digest}.tar"
    if not archive.exists():
        base = _base(places)
        _build(places, f"building the {kind} image", context, name, archive, base=base)
        for older in places.images.glob(f"{kind}-*.tar"):
            if older != archive:
                older.unlink()
    return archive, name


def _base(places: Places) -> Path:
    """Return a small Debian with Python and what steps commonly need, as a root file system."""
    digest = hashlib.sha256(f"{_SUITE} {_PACKAGES} {_LEFT_OUT}".encode()).hexdigest()[:12]
    tar = places.images / f"base-{digest}.rootfs.tar"
    if not tar.exists():
        places.images.mkdir(parents=True, exist_ok=True)
        fresh = tar.with_name(f".{tar.name}")
        options = ["--variant=minbase", f"--include={_PACKAGES}", "--format=tar"]
        options += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
        run("making a Debian base", ["mmdebstrap", *options, _SUITE, fresh])
        fresh.rename(tar)
    return tar


def _build(
    places: Places,
    what: str,
    context: Path,
    name: str,
    archive: Path,
    *,
    base: Path | None = None,
) -> None:
    """Build *context* into *archive*; nothing of the builder's own storage stays."""
    storage = places.work / "buildah"
    buildah = [
        "buildah",
        f"--root={storage / 'root'}",
        f"--runroot={storage / 'run'}",
        "--storage-driver=vfs",  # copies, so that no mount is left behind
    ]
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}

    def do(said: str, *arguments: str | Path) -> None:
        run(said, [*buildah, *arguments], environment=environment)

    try:
        options: list[str | Path] = ["--format=oci", "--tag", name]
        if base is not None:
            rootfs = _fresh(places.work / "base-context")
            os.link(base, rootfs / "rootfs.tar")
            (rootfs / "Containerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
            do("importing the base", "build", "--format=oci", "--tag", "localhost/base:1", rootfs)
            options += ["--build-arg", "BASE=localhost/base:1", "--pull-never"]
            shutil.rmtree(rootfs)
        do(what, "build", *options, context)
        places.images.mkdir(parents=True, exist_ok=True)
        fresh = archive.with_name(f".{archive.name}")
        fresh.unlink(missing_ok=True)
        do(f"writing {archive.name}", "push", name, f"oci-archive:{fresh}:{name}")
        fresh.rename(archive)
    finally:
        shutil.rmtree(storage, ignore_errors=True)
        shutil.rmtree(context, ignore_errors=True)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _digest(sources: Iterable[Path], more: str = "") -> str:
    """Return a digest of the files' names and contents; what git ignores does not count."""
    digest = hashlib.sha256(more.encode())
    for source in sources:
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]

"""The workspace from an archive: unpacked safely, or a reason why not."""

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from runner.conftest import Run
from runner.scripted import ScriptedGateway, an_assignment, sh

from plue.wire.events import Reason, RunState
from plue.wire.frames import Workspace
from plue_runner.faults import Fault
from plue_runner.workspace import make_workspace


def _archive(*members: tarfile.TarInfo, mode: Literal["w", "w:gz"] = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for member in members:
            content = b"#!/bin/sh\necho run\n" if member.isreg() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _member(name: str, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(member, key, value)
    return member


def _gateway(archive: bytes, script: str, *, sent: bytes | None = None) -> ScriptedGateway:
    name = hashlib.sha256(archive).hexdigest()
    assignment = an_assignment(sh("a", script), workspace=Workspace(kind="blob", blob=name))
    return ScriptedGateway(assignment, blobs={name: sent or archive})


@pytest.mark.parametrize("mode", [pytest.param("w", id="tar"), pytest.param("w:gz", id="gzip")])
async def test_archive_becomes_the_workspace(run: Run, mode: Literal["w", "w:gz"]) -> None:
    """Files, modes and inner links of the archive are there when the first step starts."""
    members = (
        _member("bin/tool", mode=0o755),
        _member("link", type=tarfile.SYMTYPE, linkname="bin/tool"),
    )
    gateway = await run(_gateway(_archive(*members, mode=mode), "./bin/tool; ./link; ls"))
    assert gateway.text("a") == "run\nrun\nbin\nlink\n"


async def test_what_comes_later_replaces_what_came_before(run: Run) -> None:
    """Doubled names, files through links, and times: as tar itself would leave them."""
    members = (
        _member("real/kept", mtime=1_000_000_000),
        _member("link", type=tarfile.SYMTYPE, linkname="real"),
        _member("link/through"),
        _member("twice", mode=0o600),
        _member("twice", mode=0o777),
        _member("empty", type=tarfile.DIRTYPE, mtime=1_000_000_000),
    )
    script = "ls real; stat -c %a twice; stat -c %Y real/kept empty"
    gateway = await run(_gateway(_archive(*members), script))
    assert gateway.text("a") == ("kept\nthrough\n755\n1000000000\n1000000000\n")


ESCAPES: list[Callable[[], tarfile.TarInfo]] = [
    lambda: _member("../outside"),
    lambda: _member("link", type=tarfile.SYMTYPE, linkname="../../etc"),
    lambda: _member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    lambda: _member("device", type=tarfile.CHRTYPE),
]


@pytest.mark.parametrize(
    "member", [pytest.param(make(), id=f"{n}-{make().name}") for n, make in enumerate(ESCAPES)]
)
async def test_archive_that_reaches_out_is_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    """What would be outside the workspace fails the run and is named."""
    with pytest.raises(Fault, match=repr(member.name)) as caught:
        await _made(tmp_path, _archive(member))
    assert caught.value.reason == Reason.WORKSPACE_FAILED
    assert [*(tmp_path / "workspace").iterdir()] == []


async def _made(tmp_path: Path, archive: bytes) -> Path:
    """Return the workspace that is made of an archive."""

    @asynccontextmanager
    async def download(_blob: str) -> AsyncIterator[AsyncIterator[bytes]]:
        yield _chunks(archive)

    folder = tmp_path / "workspace"
    folder.mkdir()
    wanted = Workspace(kind="blob", blob=hashlib.sha256(archive).hexdigest())
    return await make_workspace(
        wanted, folder=folder, archive=tmp_path / "archive", download=download
    )


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


@pytest.mark.parametrize("linked", [False, True])
async def test_older_pythons_unpack_what_needs_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, linked: bool
) -> None:
    """Before 3.11.4 plain trees are unpacked, and links are refused with what is needed."""
    monkeypatch.delattr(tarfile, "data_filter")
    monkeypatch.setattr("plue_runner.workspace._JUDGES", False)
    link = _member("link", type=tarfile.SYMTYPE, linkname="bin/tool")
    archive = _archive(_member("bin/tool", mode=0o755), *[link] * linked)
    if not linked:
        made = await _made(tmp_path, archive)
        assert (made / "bin" / "tool").stat().st_mode & 0o777 == 0o755
        return
    with pytest.raises(Fault, match="'link'") as caught:
        await _made(tmp_path, archive)
    assert caught.value.reason == Reason.WORKSPACE_FAILED
    assert "3.11.4" in (caught.value.remedy or "")


async def test_archive_that_is_gone_or_no_archive_fails_the_run(run: Run) -> None:
    """The message says what is the matter with the archive."""
    gateway = _gateway(b"no tar at all", "echo no")
    await run(gateway)
    assert gateway.finished is not None
    assert (
        gateway.finished.state,
        gateway.finished.reason,
    ) == (RunState.FAILED, Reason.WORKSPACE_FAILED)
    assert "cannot be read" in str(gateway.finished.message)
    gateway = _gateway(_archive(), "echo no")
    gateway.blobs.clear()
    await run(gateway)
    assert gateway.finished is not None
    assert "not on the server any more" in str(gateway.finished.message)

"""Reading `.plue` again: unchanged files are not opened, and a broken one hides no other."""

import os
import time
from pathlib import Path

import pytest

from plue.errors import RejectedError
from plue.local import reading
from plue.local.reading import SourceReader

OLD = time.time() - 3600


def write(root: Path, **files: str | bytes) -> None:
    """Write workflow files that were changed an hour ago."""
    folder = root / ".plue" / "workflows"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / f"{name}.py"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.utime(path, (OLD, OLD))


def settled(reader: SourceReader, monkeypatch: pytest.MonkeyPatch) -> SourceReader:
    """Let the change time, which nobody can set, count as old."""
    monkeypatch.setattr(reading, "_RACY_NS", -1)
    return reader


def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second look opens only what changed; when nothing did, it gives the same object."""
    write(tmp_path, a="a = 1\n", b="b = 1\n")
    reader = settled(SourceReader(tmp_path), monkeypatch)
    first = reader.read()
    assert reader.reads == 2
    assert reader.read() is first
    assert reader.reads == 2
    write(tmp_path, b="b = 2\n")
    second = reader.read()
    assert reader.reads == 3
    assert second.files[".plue/workflows/b.py"] == "b = 2\n"


def test_a_young_file_is_read_again(tmp_path: Path) -> None:
    """Two changes within one tick of a file system's clock carry the same time."""
    write(tmp_path, a="a = 1\n")
    reader = SourceReader(tmp_path)
    first = reader.read()
    assert reader.read() is first
    assert reader.reads == 2


def test_a_change_that_keeps_size_and_time_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools that set the time back (cp -p, tar) cannot hide a change."""
    write(tmp_path, a="a = 1\n")
    reader = settled(SourceReader(tmp_path), monkeypatch)
    reader.read()
    write(tmp_path, a="a = 2\n")
    assert reader.read().files[".plue/workflows/a.py"] == "a = 2\n"


def test_a_file_that_went_is_gone(tmp_path: Path) -> None:
    """Nothing of it stays."""
    write(tmp_path, a="a = 1\n", b="b = 1\n")
    reader = SourceReader(tmp_path)
    reader.read()
    (tmp_path / ".plue/workflows/a.py").unlink()
    assert list(reader.read().files) == [".plue/workflows/b.py"]


def test_broken_files_hide_no_other(tmp_path: Path) -> None:
    """Each is told by its code, its place and its remedy."""
    write(tmp_path, a=b"# fine\nx = 'caf\xe9'\n", b="b = 1\n", c="#" * (512 * 1024 + 1))
    sources = SourceReader(tmp_path).read()
    assert list(sources.files) == [".plue/workflows/b.py"]
    bad, large = sources.diagnostics
    assert (bad.code, bad.line, bad.column) == ("PLU003", 2, 9)
    assert "byte 15 is 0xe9" in bad.message
    assert bad.source == "x = 'caf\N{REPLACEMENT CHARACTER}'"
    assert (large.code, large.line) == ("PLU002", 1)
    assert all(one.remedy for one in sources.diagnostics)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    """It is there, so its absence must not look like a decision."""
    write(tmp_path, a="a = 1\n", b="b = 1\n")
    (tmp_path / ".plue/workflows/a.py").chmod(0)
    sources = SourceReader(tmp_path).read()
    assert [(d.code, d.file) for d in sources.diagnostics] == [("PLU005", ".plue/workflows/a.py")]
    assert list(sources.files) == [".plue/workflows/b.py"]


def test_a_broken_link_is_no_file(tmp_path: Path) -> None:
    """Editors leave such locks behind."""
    write(tmp_path, a="a = 1\n")
    (tmp_path / ".plue/workflows/gone.py").symlink_to("nowhere")
    assert list(SourceReader(tmp_path).read().files) == [".plue/workflows/a.py"]


def test_more_than_anybody_writes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has put data there."""
    monkeypatch.setattr(reading, "_FILES", 2)
    write(tmp_path, a="", b="", c="")
    with pytest.raises(RejectedError, match="more than 2 files"):
        SourceReader(tmp_path).read()

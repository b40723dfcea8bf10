"""Archives of caches: what goes in comes back, and nothing leads out of where it belongs."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from plue_runner.archives import ArchiveError, Roots, pack, place_of, unpack

GO = Event()
LIMIT = 10_000_000


@pytest.fixture
def roots(tmp_path: Path) -> Callable[[str], Roots]:
    """Give a function that makes a workspace and a home folder."""

    def make(name: str) -> Roots:
        found = {"w": tmp_path / name / "work", "h": tmp_path / name / "home"}
        for folder in found.values():
            folder.mkdir(parents=True)
        return found

    return make


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def places(*paths: str) -> list[tuple[str, ...]]:
    """Return where the paths lie."""
    return [place for path in paths if (place := place_of(path)) is not None]


def test_files_folders_links_modes_and_times_come_back(
    roots: Callable[[str], Roots], tmp_path: Path
) -> None:
    """What lies at the paths is there again; links stay links, also those that lead out."""
    before, after, archive = roots("a"), roots("b"), tmp_path / "x"
    tool = before["w"] / "deps/bin/tool"
    tool.parent.mkdir(parents=True)
    tool.write_bytes(b"\0\xff" * 100_000)
    tool.chmod(0o755)
    os.utime(tool, (1_000_000_000, 1_000_000_000))
    (before["w"] / "deps/empty").mkdir()
    (before["w"] / "deps/python").symlink_to("/usr/bin/python3")
    (before["w"] / "deps/current").symlink_to("bin")
    (before["w"] / "deps" / os.fsdecode(b"caf\xe9\n")).write_text("name")
    (before["h"] / ".cache/pip").mkdir(parents=True)
    (before["h"] / ".cache/pip/wheel").write_text("wheel")
    (before["w"] / "other").write_text("not named")
    (before["h"] / ".netrc").write_text("not named")
    wanted = places("deps", "~/.cache/pip", "not/there")
    pack(archive, before, wanted, limit=LIMIT, stop=GO)
    unpack(archive, after, wanted, stop=GO)
    again = after["w"] / "deps/bin/tool"
    assert again.read_bytes() == tool.read_bytes()
    assert (again.stat().st_mode & 0o777, again.stat().st_mtime) == (0o755, 1_000_000_000)
    assert (after["w"] / "deps/empty").is_dir()
    assert (after["w"] / "deps/python").readlink() == Path("/usr/bin/python3")
    assert (after["w"] / "deps/current").readlink() == Path("bin")
    assert (after["w"] / "deps" / os.fsdecode(b"caf\xe9\n")).read_text() == "name"
    assert (after["h"] / ".cache/pip/wheel").read_text() == "wheel"
    assert names(after["w"]) == ["deps"]
    assert names(after["h"]) == [".cache"]


def test_the_same_files_are_the_same_archive(roots: Callable[[str], Roots], tmp_path: Path) -> None:
    """No time of packing and no order of a folder is in it: it is stored once."""
    made = []
    for name in ("a", "b"):
        where = roots(name)
        for file in ("x", "y", "z") if name == "a" else ("z", "y", "x"):
            (where["w"] / "deps").mkdir(exist_ok=True)
            (where["w"] / "deps" / file).write_text(file)
            os.utime(where["w"] / "deps" / file, (1, 1))
        os.utime(where["w"] / "deps", (2, 2))
        pack(tmp_path / f"{name}.tar", where, places("deps"), limit=LIMIT, stop=GO)
        made.append((tmp_path / f"{name}.tar").read_bytes())
    assert made[0] == made[1]


def test_what_is_there_stays(roots: Callable[[str], Roots], tmp_path: Path) -> None:
    """A cache adds files and changes none."""
    before, after, archive = roots("a"), roots("b"), tmp_path / "x"
    for where, text in ((before, "old"), (after, "new")):
        (where["w"] / "deps").mkdir()
        (where["w"] / "deps/both").write_text(text)
    (before["w"] / "deps/more").write_text("old")
    (before["w"] / "deps/link").symlink_to("more")
    (after["w"] / "deps/link").write_text("a file")
    pack(archive, before, places("deps"), limit=LIMIT, stop=GO)
    assert unpack(archive, after, places("deps"), stop=GO) == 1
    assert (after["w"] / "deps/both").read_text() == "new"
    assert (after["w"] / "deps/more").read_text() == "old"
    assert (after["w"] / "deps/link").read_text() == "a file"


def test_nothing_is_packed_through_a_link(roots: Callable[[str], Roots], tmp_path: Path) -> None:
    """A folder on the way that is a link is no way, and a link inside is kept as a link."""
    where = roots("a")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s3cret")
    (where["w"] / "out").symlink_to(secret)
    with pytest.raises(ArchiveError, match="is a link"):
        pack(tmp_path / "x", where, places("out/key"), limit=LIMIT, stop=GO)
    pack(tmp_path / "y", where, places("out"), limit=LIMIT, stop=GO)
    with tarfile.open(tmp_path / "y") as tar:
        assert [(m.name, m.issym(), m.size) for m in tar] == [("w/out", True, 0)]


def test_nothing_is_unpacked_through_a_link(roots: Callable[[str], Roots], tmp_path: Path) -> None:
    """A link that stands where a folder should be ends it, and nothing of it stays."""
    before, after, archive = roots("a"), roots("b"), tmp_path / "x"
    (before["w"] / "deps/sub").mkdir(parents=True)
    (before["w"] / "deps/a").write_text("a")
    (before["w"] / "deps/sub/b").write_text("b")
    pack(archive, before, places("deps"), limit=LIMIT, stop=GO)
    outside = tmp_path / "outside"
    outside.mkdir()
    (after["w"] / "deps").mkdir()
    (after["w"] / "deps/sub").symlink_to(outside)
    with pytest.raises(ArchiveError, match="no folder"):
        unpack(archive, after, places("deps"), stop=GO)
    assert not [*outside.iterdir()]
    assert names(after["w"] / "deps") == ["sub"]


def forged(path: Path, *members: tarfile.TarInfo) -> Path:
    """Write an archive that no runner would."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = 3 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"bad"))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """Return a member of an archive."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


TRICKS = [
    pytest.param([member("w/deps/../../x")], id="dots"),
    pytest.param([member("/etc/x")], id="absolute"),
    pytest.param([member("w/other")], id="not-named"),
    pytest.param([member("w/depsx")], id="only-begins-so"),
    pytest.param([member("h/deps/x")], id="other-root"),
    pytest.param([member("x/deps")], id="no-root"),
    pytest.param([member("w/deps//x")], id="empty-part"),
    pytest.param([member("w/deps/x", tarfile.LNKTYPE, "/etc/passwd")], id="hard-link"),
    pytest.param([member("w/deps/x", tarfile.FIFOTYPE)], id="pipe"),
    pytest.param([member("w/deps/x", tarfile.CHRTYPE)], id="device"),
    pytest.param([member("w/deps/a"), member("w/deps/a/b")], id="file-as-folder"),
]  # fmt: skip


@pytest.mark.parametrize("members", TRICKS)
def test_a_forged_archive_leaves_nothing(
    roots: Callable[[str], Roots], tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    """Members that lie elsewhere, or are no files, are refused, and what came before is removed."""
    where = roots("a")
    first = [member("w/deps/good/file"), member("w/deps/link", tarfile.SYMTYPE, "/etc")]
    archive = forged(tmp_path / "x", *first, *members)
    with pytest.raises(ArchiveError):
        unpack(archive, where, places("deps"), stop=GO)
    assert [*where["w"].iterdir()] == []
    assert [*where["h"].iterdir()] == []


def test_files_below_a_link_of_the_same_archive_make_folders(
    roots: Callable[[str], Roots], tmp_path: Path
) -> None:
    """Links are made last: a link and files below its name never lead out together."""
    where = roots("a")
    link = member("w/deps/out", tarfile.SYMTYPE, str(tmp_path))
    unpack(forged(tmp_path / "x", link, member("w/deps/out/y")), where, places("deps"), stop=GO)
    assert (where["w"] / "deps/out/y").read_text() == "bad"
    assert not (where["w"] / "deps/out").is_symlink()
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("cut", [1, 100, -20, -9], ids=str)
def test_a_broken_archive_leaves_nothing(
    roots: Callable[[str], Roots], tmp_path: Path, cut: int
) -> None:
    """Cut anywhere, it is refused, and what was made of it is removed."""
    before, after, archive = roots("a"), roots("b"), tmp_path / "x"
    (before["w"] / "deps").mkdir()
    for name in range(20):
        (before["w"] / f"deps/{name}").write_bytes(os.urandom(2_000))
    pack(archive, before, places("deps"), limit=LIMIT, stop=GO)
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(ArchiveError):
        unpack(archive, after, places("deps"), stop=GO)
    assert [*after["w"].iterdir()] == []


def test_size_and_time_are_bounded(roots: Callable[[str], Roots], tmp_path: Path) -> None:
    """Beyond its bytes, or when it is to stop, packing and unpacking end."""
    where = roots("a")
    (where["w"] / "deps").write_bytes(os.urandom(100_000))
    with pytest.raises(ArchiveError, match="larger than"):
        pack(tmp_path / "x", where, places("deps"), limit=50_000, stop=GO)
    pack(tmp_path / "x", where, places("deps"), limit=LIMIT, stop=GO)
    stop = Event()
    stop.set()
    with pytest.raises(ArchiveError, match="interrupted"):
        pack(tmp_path / "y", where, places("deps"), limit=LIMIT, stop=stop)
    with pytest.raises(ArchiveError, match="interrupted"):
        unpack(tmp_path / "x", roots("b"), places("deps"), stop=stop)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b", ("w", "a", "b")), ("./a//b/", ("w", "a", "b")), ("~/.m2", ("h", ".m2")),
        ("", None), (".", None), ("~", None), ("~/", None), ("~root/x", None), ("~/~", None),
        ("/etc", None), ("a/../b", None), ("~/../x", None), ("a\0b", None),
    ],
)  # fmt: skip
def test_paths_lie_below_a_root(path: str, expected: tuple[str, ...] | None) -> None:
    """A root itself, another's home and everything outside are no places of a cache."""
    assert place_of(path) == expected

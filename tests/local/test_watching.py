"""Following the tree: every change is told, with what it broke and what it repaired."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from plue.authoring.results import Description, Diagnostic
from plue.authoring.sources import Sources
from plue.local.reading import SourceReader
from plue.local.watching import News, Seen, follow_tree, news_between

PATIENCE = 20.0


def seen(files: dict[str, str], *wrong: Diagnostic, broken: tuple[Diagnostic, ...] = ()) -> Seen:
    """Return a look at *files*."""
    return Seen(Sources(files, broken), Description((), (*broken, *wrong)))


def test_news_say_what_became_of_each_file() -> None:
    """A file that cannot be read is there all the same."""
    bad = Diagnostic("PLU005", "cannot be read", "e", 1)
    news = news_between(
        seen({"a": "1", "b": "1", "c": "1", "e": "1"}),
        seen({"a": "1", "b": "2", "d": "1"}, broken=(bad,)),
    )
    assert news.changed == {"b": "changed", "c": "gone", "d": "new", "e": "changed"}
    assert news.appeared == [bad]


def test_what_only_moved_is_no_news() -> None:
    """A line above an error is not another error."""
    before, after = (Diagnostic("PLU012", "`x` is not defined", "a", line) for line in (3, 4))
    other = Diagnostic("PLU012", "`y` is not defined", "a", 9)
    news = news_between(seen({"a": "1"}, before), seen({"a": "2"}, after, other))
    assert (news.appeared, news.fixed) == ([other], [])
    back = news_between(seen({"a": "2"}, after, other), seen({"a": "3"}, after))
    assert (back.appeared, back.fixed) == ([], [other])


class Following:
    """A follower of a folder; looks only read."""

    def __init__(self, root: Path) -> None:
        reader = SourceReader(root)

        async def look() -> Seen:
            return Seen(await asyncio.to_thread(reader.read))

        self._news: AsyncGenerator[News, None] = follow_tree(root, look)

    async def next(self) -> dict[str, str]:
        """Return what the next news says has changed."""
        news = await asyncio.wait_for(anext(self._news), PATIENCE)
        return dict(news.changed)

    async def close(self) -> None:
        """Follow no longer."""
        await self._news.aclose()


@pytest.fixture
async def following(project: Path) -> AsyncGenerator[Following, None]:
    """Follow the project for the time of a test."""
    following = Following(project)
    yield following
    await following.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project of one workflow."""
    (tmp_path / ".plue/workflows").mkdir(parents=True)
    (tmp_path / ".plue/workflows/a.py").write_text("a = 1\n")
    return tmp_path


async def test_every_change_is_followed(project: Path, following: Following) -> None:
    """Files that come, change and go; also in folders that are new."""
    assert await following.next() == {".plue/workflows/a.py": "new"}
    (project / ".plue/workflows/a.py").write_text("a = 2\n")
    assert await following.next() == {".plue/workflows/a.py": "changed"}
    (project / ".plue/lib").mkdir()
    (project / ".plue/lib/x.py").write_text("x = 1\n")
    assert await following.next() == {".plue/lib/x.py": "new"}
    (project / ".plue/workflows/a.py").unlink()
    assert await following.next() == {".plue/workflows/a.py": "gone"}


async def test_a_folder_may_come_and_go(project: Path, following: Following) -> None:
    """A checkout of another branch removes it, and another one brings it back."""
    await following.next()
    shutil.rmtree(project / ".plue")
    assert await following.next() == {".plue/workflows/a.py": "gone"}
    (project / ".plue/workflows").mkdir(parents=True)
    (project / ".plue/workflows/b.py").write_text("b = 1\n")
    assert await following.next() == {".plue/workflows/b.py": "new"}


async def test_a_change_before_the_kernel_tells_is_seen(
    project: Path, following: Following
) -> None:
    """Between the first look and the kernel's watch nothing is lost: the slow look finds it."""
    await following.next()
    (project / ".plue/workflows/a.py").write_text("a = 3\n")
    assert await following.next() == {".plue/workflows/a.py": "changed"}

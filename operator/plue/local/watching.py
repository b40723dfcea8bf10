"""Following the working tree: what changed under ``.plue``, and what is wrong there now.

The kernel's notification only wakes; reading the files decides. A slow look without one is the
safety net for file systems that do not notify, and for a folder that comes or goes.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from watchfiles import awatch

from plue.authoring.results import Description, Diagnostic
from plue.authoring.sources import Sources
from plue.local.reading import FOLDER

__all__ = ["News", "Seen", "follow_tree", "news_between"]

_SLOW_LOOK_MS: Final = 1000
_DEBOUNCE_MS: Final = 100
"""Editors write a file in several steps; a checkout writes many files."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The project as it was at one look."""

    sources: Sources = field(default_factory=Sources)
    description: Description = field(default_factory=Description)


@dataclass(frozen=True, slots=True)
class News:
    """What a look found that the one before had not.

    ``changed`` says of each path whether it is ``new``, ``changed`` or ``gone``; all three are
    empty in the first news only when nothing is there.
    """

    seen: Seen
    changed: Mapping[str, str]
    appeared: Sequence[Diagnostic]
    fixed: Sequence[Diagnostic]


async def follow_tree(
    root: Path, look: Callable[[], Awaitable[Seen]]
) -> AsyncGenerator[News, None]:
    """Yield what *look* finds now, then what is new each time that something changes."""
    before = Seen()
    first = True
    async with aclosing(_wakes(root / FOLDER)) as wakes:
        async for _ in wakes:
            now = await look()
            if first or now.sources is not before.sources:
                yield news_between(before, now)
            before, first = now, False


async def _wakes(folder: Path) -> AsyncGenerator[None, None]:
    """Yield at once, at every change below *folder*, and now and then."""
    yield
    while True:
        if not _is_there(folder):
            await asyncio.sleep(_SLOW_LOOK_MS / 1000)
            yield
            continue
        changes = awatch(
            folder,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=20,
            rust_timeout=_SLOW_LOOK_MS,
            yield_on_timeout=True,
        )
        async with aclosing(changes):
            async for _ in changes:
                yield
                if not _is_there(folder):
                    break


def _is_there(folder: Path) -> bool:
    return folder.is_dir()


def news_between(before: Seen, now: Seen) -> News:
    """Return the difference of two looks. What is wrong is the same also when it has moved."""
    old, new = before.sources.files, now.sources.files
    # An unreadable or broken file is there, though it has no text.
    old_broken = {one.file for one in before.sources.diagnostics}
    new_broken = {one.file for one in now.sources.diagnostics}
    changed = {}
    for path in sorted({*old, *new, *old_broken, *new_broken}):
        was, is_ = path in old or path in old_broken, path in new or path in new_broken
        if was != is_:
            changed[path] = "new" if is_ else "gone"
        elif old.get(path) != new.get(path):
            changed[path] = "changed"
    return News(
        now,
        changed,
        _without(now.description.diagnostics, before.description.diagnostics),
        _without(before.description.diagnostics, now.description.diagnostics),
    )


def _without(found: Sequence[Diagnostic], other: Sequence[Diagnostic]) -> list[Diagnostic]:
    known = {(one.file, one.code, one.message) for one in other}
    return [one for one in found if (one.file, one.code, one.message) not in known]

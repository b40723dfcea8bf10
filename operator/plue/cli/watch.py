"""What `--watch` says: what changed, what is wrong now that was not, and what is right again."""

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from plue.cli.lint import counted, in_order, summary

if TYPE_CHECKING:
    from plue.local.watching import News

__all__ = ["news_lines", "watch_here"]

_SHOWN = 10


def watch_here(root: Path) -> None:
    """Lint the project at *root* again and again, until Ctrl-C."""
    from plue.authoring.evaluator import Evaluator
    from plue.authoring.registry import Registry
    from plue.local.reading import SourceReader
    from plue.local.watching import Seen, follow_tree

    async def watch() -> None:
        evaluator, reader = Evaluator(), SourceReader(root)
        registry = Registry(evaluator)

        async def look() -> Seen:
            sources = await asyncio.to_thread(reader.read)
            return Seen(sources, (await registry.scan(sources)).description)

        await evaluator.start()
        try:
            async for news in follow_tree(root, look):
                print(news_lines(news, clock=_clock), flush=True)
        finally:
            await evaluator.close()

    asyncio.run(watch())


def _clock() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


def news_lines(news: "News", *, clock: Callable[[], str] = _clock) -> str:
    """Return *news* for people; the last line says how things stand."""
    from plue.cli.diagnostics import diagnostic_text

    paths = list(news.changed.items())
    lines = [f"{clock()} {what} {path}" for path, what in paths[:_SHOWN]]
    if len(paths) > _SHOWN:
        lines.append(f"{clock()} and {counted(len(paths) - _SHOWN, 'more file')}")
    lines += [f"fixed: {one.code} {one.file}:{one.line} {one.message}" for one in news.fixed]
    if news.appeared:
        lines.append(diagnostic_text(in_order(news.appeared), stream=sys.stdout) + "\n")
    description = news.seen.description
    workflows = counted(len(description.workflows), "workflow")
    wrong = description.diagnostics
    lines.append(f"{workflows}, {summary(in_order(wrong)) if wrong else 'nothing is wrong'}")
    return "\n".join(lines)

"""Discovery of a project's workflows: for the first time, again, and after one change."""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cases.evaluation import source
from bench.figures import Figure
from bench.usage import Part, metered
from bench.world import World
from plue.authoring.evaluator import Evaluator
from plue.authoring.registry import Registry
from plue.local.reading import SourceReader

__all__ = ["discovery"]

_STEPS = 10
_AGED = time.time() - 3600


@contextmanager
def _project(files: int) -> Iterator[Path]:
    """Give a project of so many workflow files."""
    with TemporaryDirectory() as folder:
        workflows = Path(folder, ".plue", "workflows")
        workflows.mkdir(parents=True)
        for number in range(files):
            _write(workflows / f"w{number}.py", number, 0)
        yield Path(folder)


def _write(path: Path, number: int, mark: int) -> None:
    path.write_text(source(_STEPS, mark).replace("def steps(", f"def w{number}("))
    os.utime(path, (_AGED, _AGED))


async def discovery(world: World, _history: int | None) -> list[Figure]:
    """Look at 1,000 workflow files: read from the disk and described, as the server does it."""
    count = world.n(1000, 20)
    cold, unchanged, one = [], [], []
    marks = itertools.count(1)
    with _project(count) as root:
        for _ in range(world.n(5, 1)):
            evaluator = Evaluator()
            await evaluator.start()
            pid = evaluator._link._process.pid if evaluator._link else 0
            reader, registry = SourceReader(root), Registry(evaluator)

            async def look(
                expected: int, reader: SourceReader = reader, registry: Registry = registry
            ) -> float:
                begun = time.perf_counter()
                found = await registry.scan(reader.read())
                spent = (time.perf_counter() - begun) * 1000
                if found.evaluated != expected or found.files != count:
                    raise RuntimeError(f"{found.evaluated} of {found.files} files were evaluated")
                return spent

            try:
                with metered({"evaluator": Part(pid, below=True)}) as usage:
                    cold.append(await look(count))
                for _ in range(world.n(20, 1)):
                    unchanged.append(await look(0))
                    _write(root / ".plue/workflows/w7.py", 7, next(marks))
                    one.append(await look(1))
            finally:
                await evaluator.close()
    what = f"{count:,} files"
    return [
        Figure(bench="discovery", what=f"{what}, cold", values=cold, cpu=usage.cpu),
        Figure(bench="discovery", what=f"{what}, one changed", values=one),
        Figure(bench="discovery", what=f"{what}, unchanged", values=unchanged),
    ]

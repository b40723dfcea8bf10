"""What a project declares, kept up to date: only files that changed are evaluated again.

A file of workflows or of `lib` is named by its content and by that of the files that it may
import; what was found for that name is kept. Files are evaluated in batches, one child process of
the evaluator each; when a file breaks its batch the evaluator tries each alone, so that a broken
file hides no other.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plue.authoring.evaluator import Evaluator, merged
from plue.authoring.imports import Imports, is_source_file
from plue.authoring.results import Description, Diagnostic, WorkflowInfo
from plue.authoring.sources import Sources, content_key

__all__ = ["Discovery", "Registry"]

_BATCH: Final = 32
"""Files in one evaluation: one fork for many, and few to try again when one of them breaks it."""

_KEPT: Final = 8192
"""Results that are kept, so that changing branches back and forth costs nothing."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a scan found. ``evaluated`` files were new or changed, of ``files`` in all."""

    description: Description
    files: int = 0
    evaluated: int = 0


@dataclass(frozen=True, slots=True)
class _Unit:
    """A file of workflows or of `lib`, with what it may import."""

    path: str
    key: str
    needs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Result:
    workflows: Sequence[WorkflowInfo]
    diagnostics: Sequence[Diagnostic]


class Registry:
    """The workflows of one project, as often as somebody asks."""

    def __init__(self, evaluator: Evaluator) -> None:
        """Evaluate with *evaluator*; nothing is known yet."""
        self._evaluator = evaluator
        self._results: OrderedDict[str, _Result] = OrderedDict()
        self._last: tuple[Sources, Discovery] | None = None
        self._lock = asyncio.Lock()

    async def scan(self, sources: Sources) -> Discovery:
        """Return what *sources* declare. Raises UnavailableError when the evaluator is away."""
        async with self._lock:
            if self._last is not None and self._last[0] is sources:
                found = self._last[1]
                return Discovery(found.description, found.files)
            units = list(_units(sources.files))
            changed = [unit for unit in units if unit.key not in self._results]
            prompts, _ = await asyncio.gather(
                self._evaluator.describe_prompts(sources.files), self._evaluate(changed)
            )
            whole = self._put_together(sources, units, prompts)
            found = Discovery(whole, len(units), len(changed))
            self._last = (sources, found)
            return found

    async def _evaluate(self, units: Sequence[_Unit]) -> None:
        batches = [units[at : at + _BATCH] for at in range(0, len(units), _BATCH)]
        for results in await asyncio.gather(*(self._batch(batch) for batch in batches)):
            self._results.update(results)

    async def _batch(self, units: Sequence[_Unit]) -> dict[str, _Result]:
        files: dict[str, str] = {}
        for unit in units:
            files.update(unit.needs)
        description = await self._evaluator.describe_separately(files)
        return {unit.key: _part(description, unit) for unit in units}

    def _put_together(
        self, sources: Sources, units: Sequence[_Unit], prompts: Description
    ) -> Description:
        results = []
        for unit in units:
            self._results.move_to_end(unit.key)
            results.append(self._results[unit.key])
        while len(self._results) > max(_KEPT, len(units)):
            self._results.popitem(last=False)
        found = [Description(r.workflows, r.diagnostics) for r in results]
        whole = merged([*found, prompts], sources.files)
        # What is wrong in a shared file is found with every file that imports it.
        unique = list(dict.fromkeys([*sources.diagnostics, *whole.diagnostics]))
        return Description(whole.workflows, unique, whole.prompts)


def _part(description: Description, unit: _Unit) -> _Result:
    """Return what belongs to *unit*: its own file, and what it imports."""
    return _Result(
        [info for info in description.workflows if info.file == unit.path],
        [one for one in description.diagnostics if one.file in unit.needs],
    )


def _units(files: Mapping[str, str]) -> Iterator[_Unit]:
    imports = Imports(files)
    for path, text in files.items():
        if is_source_file(path):
            needs = {path: text} | {name: files[name] for name in imports.of(path)}
            digest = hashlib.sha256()
            for name, content in sorted(needs.items()):
                digest.update(bytes.fromhex(content_key(name, content)))
            yield _Unit(path, digest.hexdigest(), needs)

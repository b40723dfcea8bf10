"""What a project declares, kept up to date: only files that changed are evaluated again.

A workflow file is named by its content and by that of the files that it may import; what was found
for that name is kept. Files are evaluated in batches, one child process of the evaluator each; when
a file breaks its batch the evaluator tries each alone, so that a broken file hides no other.
"""

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plue.authoring.evaluator import Evaluator, is_workflow_file, merged
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
    """A workflow file with what it may import."""

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
            await self._evaluate(changed)
            found = Discovery(self._put_together(sources, units), len(units), len(changed))
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

    def _put_together(self, sources: Sources, units: Sequence[_Unit]) -> Description:
        results = []
        for unit in units:
            self._results.move_to_end(unit.key)
            results.append(self._results[unit.key])
        while len(self._results) > max(_KEPT, len(units)):
            self._results.popitem(last=False)
        whole = merged([Description(r.workflows, r.diagnostics) for r in results], sources.files)
        # What is wrong in a shared file is found with every file that imports it.
        unique = list(dict.fromkeys([*sources.diagnostics, *whole.diagnostics]))
        return Description(whole.workflows, unique)


def _part(description: Description, unit: _Unit) -> _Result:
    """Return what belongs to *unit*: its own file, and what it imports."""
    return _Result(
        [info for info in description.workflows if info.file == unit.path],
        [one for one in description.diagnostics if one.file in unit.needs],
    )


# ── what a file may import ───────────────────────────────────────────────────────────────────────

# Too much is harmless here (a text that looks like an import), too little is not.
_IMPORT: Final = re.compile(r"\b(?:from|import)\b[\s\\]+([^\n]+)")
_LIB: Final = re.compile(r"\blib\b(?:\.(\w+))?")
_FOLDERS: Final = {name: re.compile(rf"\b{name}\b") for name in ("prompts", "tools")}


def _units(files: Mapping[str, str]) -> Iterator[_Unit]:
    imports = _Imports(files)
    for path, text in files.items():
        if is_workflow_file(path):
            needs = {path: text} | {name: files[name] for name in imports.of(path)}
            digest = hashlib.sha256()
            for name, content in sorted(needs.items()):
                digest.update(bytes.fromhex(content_key(name, content)))
            yield _Unit(path, digest.hexdigest(), needs)


class _Imports:
    """Which files a file may import, transitively; a little too many rather than one too few."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._direct: dict[str, frozenset[str]] = {}
        self._lib = [path for path in files if "/lib/" in path and path.endswith(".py")]
        self._always = frozenset(path for path in files if path.endswith(".plue/config.yaml"))

    def of(self, path: str) -> frozenset[str]:
        """Return the files that *path* reaches, without itself."""
        reached: set[str] = set()
        waiting = [path]
        while waiting:
            for name in self._directly(waiting.pop()):
                if name not in reached:
                    reached.add(name)
                    waiting.append(name)
        return frozenset(reached | self._always) - {path}

    def _directly(self, path: str) -> frozenset[str]:
        if path not in self._direct:
            self._direct[path] = frozenset(self._find(path))
        return self._direct[path]

    def _find(self, path: str) -> Iterator[str]:
        if not path.endswith(".py"):
            return
        for line in _IMPORT.findall(self._files[path]):
            for module in _LIB.findall(line):
                places = (f"/lib/{module}.py", f"/lib/{module}/")
                yield from (p for p in self._lib if not module or any(n in p for n in places))
            for folder, pattern in _FOLDERS.items():
                if pattern.search(line):
                    yield from (name for name in self._files if f"/{folder}/" in name)

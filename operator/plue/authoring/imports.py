"""Which files a file may import, told by its text: a little too many rather than one too few.

What it really imports, and so what its revision covers, the sandbox tells after it has compiled it.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

__all__ = [
    "Imports",
    "is_library_file",
    "is_source_file",
    "is_workflow_file",
    "prompt_files",
    "prompts_for",
]


def is_workflow_file(path: str) -> bool:
    """Whether *path* is where workflows are: ``.plue/workflows/*.py``, or a bare file name."""
    folder, _, name = path.rpartition("/")
    known = folder in ("", "workflows", ".plue/workflows") or folder.endswith("/.plue/workflows")
    return known and name.endswith(".py")


def is_library_file(path: str) -> bool:
    """Whether *path* is a module that workflows may import: ``.plue/lib/**/*.py``."""
    return path.endswith(".py") and (path.startswith("lib/") or ".plue/lib/" in path)


def is_source_file(path: str) -> bool:
    """Whether *path* is Python that the evaluator executes."""
    return is_workflow_file(path) or is_library_file(path)


def prompt_files(files: Mapping[str, str]) -> dict[str, str]:
    """Return what prompts are made of, sorted: what they include, and the tools of agents."""
    return {
        path: text
        for path, text in sorted(files.items())
        if ".plue/prompts/" in path or (".plue/tools/" in path and path.endswith(".py"))
    }


def prompts_for(sources: Mapping[str, str], files: Mapping[str, str]) -> dict[str, str] | None:
    """Return the prompts' files, perhaps none; None when none of *sources* imports a prompt."""
    wanted = any(map(_names_prompts, sources.values()))
    return prompt_files(files) if wanted else None


_PROMPTS: Final = re.compile(r"plue\s*\.\s*prompts\b")

# Too much is harmless here (a text that looks like an import), too little is not.
_IMPORT: Final = re.compile(r"(?:from|import)\b[\s\\]+([^\n]+)")
_MODULE: Final = re.compile(r"\b(lib|workflows)\b(?:\.(\w+))?")
_FOLDERS: Final = {name: re.compile(rf"\b{name}\b") for name in ("prompts", "tools")}


@lru_cache(maxsize=1024)
def _names_prompts(text: str) -> bool:
    return _PROMPTS.search(text) is not None


@lru_cache(maxsize=1024)
def _imported_by(text: str) -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
    """Return the modules, and the folders that are not Python, which a file may import.

    Remembered: a run's code is looked at before each of its stages.
    """
    modules: set[tuple[str, str]] = set()
    folders: set[str] = set()
    for line in _IMPORT.findall(text):
        modules.update(_MODULE.findall(line))
        folders.update(name for name, pattern in _FOLDERS.items() if pattern.search(line))
    if "prompts" in folders:
        folders.add("tools")  # agents have them
    return frozenset(modules), frozenset(folders)


class Imports:
    """Which files a file may import, transitively; a little too many rather than one too few."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._direct: dict[str, frozenset[str]] = {}
        self._modules = [path for path in files if is_source_file(path)]
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
        modules, folders = _imported_by(self._files[path])
        if modules:
            yield from (p for p in self._modules if not modules.isdisjoint(_names_of(p)))
        for folder in folders:
            yield from (name for name in self._files if f"/{folder}/" in f"/{name}")


def _names_of(path: str) -> Iterator[tuple[str, str]]:
    """Yield (folder, module) as imports name *path* and the folders that it is in."""
    parts = path.removesuffix(".py").split("/")
    for at, folder in enumerate(parts[:-1]):
        yield folder, parts[at + 1]
        # On a line that goes on in the next one, only the folder is seen.
        yield folder, ""

"""Modules of the author's: ``from lib.x import y``, ``from workflows.release import release``.

``lib.x`` is ``.plue/lib/x.py`` and ``workflows.x`` is ``.plue/workflows/x.py``: absolute, acyclic,
executed once an evaluation. What a module of ``lib`` has made is frozen when its last line was
executed, so that no call of its functions depends on another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import CellType, CodeType, FunctionType
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.guards import FROZEN, OrderedSet
from plue.authoring.sandbox.problems import AUTHOR, Problem, did_you_mean
from plue.authoring.sandbox.sdk import Declared

__all__ = ["FOLDERS", "Module", "cycle", "exports_of", "freeze", "module_file"]

FOLDERS: Final = ("lib", "workflows")


@dataclass(eq=False)
class Module:
    """A file of the author's: compiled, perhaps executed.

    ``imports`` are the names of the modules that it imports anywhere. ``state`` is ``fresh``,
    ``running``, ``done`` or ``failed``.
    """

    file: str
    code: CodeType | None
    imports: tuple[str, ...] = ()
    state: str = "fresh"
    names: dict[str, object] = field(default_factory=dict)
    declared: list[Declared] = field(default_factory=list)


def module_file(importer: str, module: str) -> str:
    """Return the path of *module* as a file beside *importer* imports it."""
    marker = importer.rfind(".plue/")
    base = importer[: marker + len(".plue/")] if marker >= 0 else ""
    return f"{base}{module.replace('.', '/')}.py"


class _Exports:
    """What an import statement takes names from; nothing but the module's own names."""

    __slots__ = ("_names",)

    def __init__(self, names: Mapping[str, object]) -> None:
        object.__setattr__(self, "_names", names)

    def __getattribute__(self, name: str) -> object:
        names: Mapping[str, object] = object.__getattribute__(self, "_names")
        if name.startswith("_") or name not in names:
            raise AttributeError(name)
        return names[name]


def exports_of(module: Module, wanted: tuple[str, ...] | None) -> object:
    """Return the names of *module* for an import statement that wants these. Raises Problem."""
    known = [name for name in module.names if not name.startswith("_")]
    for name in wanted or ():
        if name not in known:
            raise Problem(
                Code.IMPORT_NAME,
                f"{module.file} has no `{name}`{did_you_mean(name, known)}",
                remedy="it has: " + (", ".join(sorted(known)) or "nothing"),
            )
    return _Exports(module.names)


def cycle(running: Sequence[str], file: str) -> Problem:
    """Return the error that *file* is imported again while it and others are *running*."""
    return Problem(
        Code.IMPORT_CYCLE,
        "files import each other: " + " → ".join([*running[running.index(file) :], file]),
        remedy="move what both need into a third file",
    )


# ── frozen ───────────────────────────────────────────────────────────────────────────────────────


def freeze(names: Mapping[str, object]) -> None:
    """Let nobody change what the module's *names* reach: lists, dicts, sets, objects, classes."""
    waiting: list[object] = [value for name, value in names.items() if not name.startswith("_")]
    while waiting:
        value = waiting.pop()
        if id(value) in FROZEN:
            continue
        inner = _inside(value)
        if inner is not None:
            # Kept alive, so that its id stays its own.
            FROZEN[id(value)] = value
            waiting += inner


def _inside(value: object) -> list[object] | None:  # noqa: PLR0911 - a table of types
    """Return what *value* holds; None when it can hold nothing that could change."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, OrderedSet):
        return list(value.values)
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *cells]
    if isinstance(value, type) and value.__module__ == AUTHOR:
        return [item for name, item in vars(value).items() if not name.startswith("__")]
    if type(value).__module__ == AUTHOR:
        return [*getattr(value, "__dict__", {}).values()]
    return None


def _is_filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True

"""Type stubs of a project's own prompts, for editors and type checkers.

Written from what front matter declares: an editor completes a prompt's inputs and the fields of
its answer, and marks what is misspelt. ``plue.prompts`` of the package itself knows no project.
"""

import keyword
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from plue.authoring.results import PromptInfo

__all__ = ["prompts_stub"]

_HEAD: Final = '''\
"""The prompts of this project; written by `plue stubs`, which writes it anew."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, overload

from plue import Duration, Group, Handle, Reference

_T = TypeVar("_T")

class _Step:
    """The step of a prompt. It has no value itself: write ``.ok``, or a field of the answer."""

    name: str
    ok: Reference
    """Asking for it needs ``continue_on_error=True`` in the call."""
    state: Reference

class _Agent(_Step):
    """The step of an agent."""

    status: Reference
    """How it ended, in a word; always there."""
    summary: Reference
    """What it did and what it left."""
    turns: Reference
    """How often it asked its model."""

class _Fields:
    """A JSON object that may not be known yet."""

    def __bool__(self) -> bool: ...
    def __contains__(self, name: object) -> bool: ...
    def __getitem__(self, name: str) -> Any: ...
    def get(self, name: str, default: Any = None) -> Any: ...

class _Items(Generic[_T]):
    """A JSON array that may not be known yet."""

    def __bool__(self) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    def __contains__(self, item: object) -> bool: ...
    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_T]: ...

_Before = _Step | Handle | Group | str
'''

_OPTIONS: Final = (
    "name: str = ...",
    "timeout: Duration | None = None",
    "retry: int = 0",
    "depends_on: _Before | Sequence[_Before] | None = None",
    "continue_on_error: bool = False",
    'when: Literal["success", "failure", "always"] | bool = "success"',
    "once: bool = False",
    "client: str | None = None",
)
_OF_AGENTS: Final = (
    "tools: Sequence[str] | None = None",
    "max_turns: int | None = None",
)
_STEP_NAMES: Final = frozenset({"name", "ok", "state", "outputs"})
_AGENT_NAMES: Final = frozenset({"status", "summary", "turns"})
_SCALARS: Final = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def prompts_stub(prompts: Sequence[PromptInfo]) -> str:
    """Return the stub of ``plue.prompts`` with these *prompts*, in the order of their names.

    A broken one takes and gives anything: what is wrong with it is for lint to say.
    """
    parts = [_HEAD]
    for prompt in sorted(prompts, key=lambda one: one.import_name):
        if _is_name(prompt.import_name):
            parts += _broken(prompt) if prompt.broken else _described(prompt)
    return "\n".join(parts)


def _broken(prompt: PromptInfo) -> Iterator[str]:
    yield f"def {prompt.import_name}(**given: Any) -> Any:"
    yield f"    {_docstring(f'It has errors: see {prompt.file}, line {prompt.line}.')}\n"


def _described(prompt: PromptInfo) -> Iterator[str]:
    called, agent = prompt.import_name, prompt.kind == "agent"
    classes = _Classes()
    output = prompt.output_schema
    fields = classes.fields_of(output, f"_{called}") if output is not None else {}
    yield from classes.written
    answer = f"_{called}Answer"
    yield _class(f"_{called}Outputs", "_Fields", fields, f"The answer of {prompt.name}.")
    own = _STEP_NAMES | (_AGENT_NAMES if agent else set())
    shown = {name: kind for name, kind in fields.items() if name not in own}
    shown["outputs"] = f"_{called}Outputs"
    about = prompt.description or f"The step of {prompt.name}."
    yield _class(answer, "_Agent" if agent else "_Step", shown, about)
    taken = [*_inputs_of(prompt.inputs_schema), *_OPTIONS, *(_OF_AGENTS if agent else ())]
    yield f"def {called}(\n    *,"
    yield from (f"    {argument}," for argument in taken)
    yield f") -> {answer}:"
    told = (prompt.description or f"Ask a model with the prompt {prompt.name}").rstrip(".")
    yield f"    {_docstring(f'{told}: {prompt.file}, line {prompt.line}.')}\n"


class _Classes:
    """The classes of nested objects, written as they are found."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self._names: set[str] = set()

    def fields_of(self, schema: Mapping[str, Any], prefix: str) -> dict[str, str]:
        """Return the type of each field of an object that can be written as an attribute."""
        properties = schema.get("properties") or {}
        return {
            name: self._type_of(field, f"{prefix}_{name}")
            for name, field in properties.items()
            if _is_name(name)
        }

    def _type_of(self, schema: Mapping[str, Any], name: str) -> str:
        schema = _present(schema)
        match schema.get("type"):
            case "object" if schema.get("properties"):
                fields = self.fields_of(schema, name)
                while name in self._names:
                    name += "_"
                self._names.add(name)
                self.written.append(_class(name, "_Fields", fields, "A part of the answer."))
                return name
            case "object":
                return "_Fields"
            case "array":
                return f"_Items[{self._type_of(schema.get('items') or {}, f'{name}_item')}]"
            case _:
                return "Reference"


def _class(name: str, base: str, fields: Mapping[str, str], about: str) -> str:
    lines = [f"class {name}({base}):", f"    {_docstring(about)}", ""]
    lines += [f"    {field}: {kind}" for field, kind in fields.items()]
    return "\n".join(lines) + "\n"


def _inputs_of(schema: Mapping[str, Any]) -> Iterator[str]:
    required = set(schema.get("required") or ())
    for name, field in (schema.get("properties") or {}).items():
        if _is_name(name):
            default = "" if name in required else " = ..."
            yield f"{name}: {_taken(field)}{default}"


def _taken(schema: Mapping[str, Any]) -> str:
    """Return the type of what may be given for an input."""
    inner = _present(schema)
    optional = " | None" if inner is not schema else ""
    if "enum" in inner:
        values = ", ".join(repr(value) for value in inner["enum"])
        return f"Literal[{values}] | Reference{optional}"
    match inner.get("type"):
        case "array":
            return (
                f"Sequence[{_taken(inner.get('items') or {})}] | _Items[Any] | Reference{optional}"
            )
        case "object":
            return f"Mapping[str, Any] | _Fields | Reference{optional}"
        case kind if kind in _SCALARS:
            return f"{_SCALARS[kind]} | Reference{optional}"
        case _:
            return "Any"


def _present(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of a value that is not null."""
    options = schema.get("anyOf")
    if not isinstance(options, Iterable):
        return schema
    some = [one for one in options if one.get("type") != "null"]
    return some[0] if len(some) == 1 else {}


def _is_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def _docstring(text: str) -> str:
    words = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{words}"""'

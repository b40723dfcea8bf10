"""Types that authors declare in Python, and their JSON Schema.

One translation serves workflow inputs, the outputs of steps, prompts and tools; values are checked
by :mod:`plue.schemas`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import Problem
from plue.authoring.sandbox.values import Guarded, unmark
from plue.schemas import problems

__all__ = [
    "Kind",
    "StrType",
    "enum",
    "kind_of",
    "list_kind",
    "object_of",
    "optional",
    "schema",
]

_MISSING: Final = object()
_NULL: Final[dict[str, object]] = {"type": "null"}


class StrType(Guarded):
    """The name ``str`` in author code: a type for inputs, and the function that makes text."""

    __slots__ = ()


@dataclass(frozen=True)
class Kind(Guarded):
    """A declared type: its JSON Schema, and what stands in for an absent value."""

    schema: dict[str, object]
    required: bool = True
    default: object = None

    def with_default(self, default: object) -> "Kind":
        """Return this type with a default, which must be of the type itself."""
        value = unmark(default)
        wrong = next(problems(self.schema, value, "default"), None)
        if wrong is not None:
            raise Problem(
                Code.TYPE,
                f"the default does not fit its type: {wrong}",
                remedy="write a default of that type",
            )
        return Kind({**self.schema, "default": value}, required=False, default=value)


def kind_of(declared: object) -> Kind:  # noqa: PLR0911 - a table of forms
    """Return the type that an author wrote: a type's name, a Kind, or a default value."""
    if isinstance(declared, Kind):
        return declared
    if isinstance(declared, StrType):
        return Kind({"type": "string"})
    named = {int: "integer", float: "number", bool: "boolean"}
    for python, name in named.items():
        if declared is python:
            return Kind({"type": name})
    if isinstance(declared, bool):
        return Kind({"type": "boolean"}).with_default(declared)
    if isinstance(declared, int):
        return Kind({"type": "integer"}).with_default(declared)
    if isinstance(declared, float):
        return Kind({"type": "number"}).with_default(declared)
    if isinstance(declared, str):
        return Kind({"type": "string"}).with_default(declared)
    if isinstance(declared, Mapping):
        return schema(**{str(key): value for key, value in declared.items()})
    raise Problem(
        Code.TYPE,
        f"{_shown(declared)} is not a type",
        remedy="types are str, int, float, bool, list(T), enum(...), optional(T), schema(...), "
        "or a default value",
    )


def _shown(value: object) -> str:
    if value is None:
        return "None"
    return f"`{getattr(value, '__name__', type(value).__name__)}`"


def enum(*values: object, default: object = _MISSING, **unknown: object) -> Kind:
    """Return the type of one of *values*."""
    refuse_unknown("enum", unknown, ("default",))
    plain = [unmark(value) for value in values]
    if not plain or not all(isinstance(value, (str, int, float)) for value in plain):
        raise Problem(
            Code.TYPE,
            "enum takes its values: text or numbers",
            remedy='write enum("staging", "production")',
        )
    found: dict[str, object] = {"enum": plain}
    if all(isinstance(value, str) for value in plain):
        found["type"] = "string"
    kind = Kind(found)
    return kind if default is _MISSING else kind.with_default(default)


def optional(of: object, default: object = None, **unknown: object) -> Kind:
    """Return the type of *of* or nothing; what is absent is *default*."""
    refuse_unknown("optional", unknown, ("default",))
    inner = kind_of(of)
    kind = Kind({"anyOf": [inner.schema, _NULL]}, required=False)
    return kind if default is None else kind.with_default(default)


def list_kind(of: object, default: object = _MISSING) -> Kind:
    """Return the type of a list of *of*."""
    kind = Kind({"type": "array", "items": kind_of(of).schema})
    return kind if default is _MISSING else kind.with_default(default)


def schema(**fields: object) -> Kind:
    """Return the type of a JSON object with these fields."""
    return object_of({name: kind_of(field) for name, field in fields.items()})


def object_of(kinds: Mapping[str, Kind]) -> Kind:
    """Return the type of a JSON object with fields of these types and no others."""
    return Kind(
        {
            "type": "object",
            "properties": {name: kind.schema for name, kind in kinds.items()},
            "required": [name for name, kind in kinds.items() if kind.required],
            "additionalProperties": False,
        }
    )


def refuse_unknown(what: str, given: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Refuse keywords that *what* does not have."""
    from plue.authoring.sandbox.problems import did_you_mean

    for name in given:
        if name not in known:
            raise Problem(
                Code.OPTION,
                f"{what} has no option `{name}`{did_you_mean(name, known)}",
                remedy="it has: " + ", ".join(known) if known else "remove it",
            )

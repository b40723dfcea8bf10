"""Types that authors declare, their JSON Schema, and the check of a value against them.

One translation serves workflow inputs, the outputs of steps and (later) prompts and tools.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import Problem
from plue.authoring.sandbox.values import Guarded, unmark

__all__ = [
    "Kind",
    "StrType",
    "check_value",
    "enum",
    "kind_of",
    "list_kind",
    "optional",
    "parse_value",
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
        errors = check_value(self.schema, value, "default")
        if errors:
            raise Problem(
                Code.TYPE,
                f"the default does not fit its type: {errors[0]}",
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
    kinds = {name: kind_of(field) for name, field in fields.items()}
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


# ── values against types ─────────────────────────────────────────────────────────────────────────

_NAMES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def check_value(schema: Mapping[str, object], value: object, path: str) -> list[str]:  # noqa: PLR0911 - a table of forms
    """Return what is wrong with a JSON value, each with the path of the part that is meant."""
    options = schema.get("anyOf")
    if isinstance(options, list):
        if value is None:
            return []
        return check_value(options[0], value, path)
    allowed = schema.get("enum")
    if isinstance(allowed, list):
        if any(value == item and type(value) is type(item) for item in allowed):
            return []
        choices = ", ".join(json.dumps(item) for item in allowed)
        return [f"{path} is {_json(value)}, not one of {choices}"]
    kind = schema.get("type")
    if isinstance(kind, str) and not _has_type(kind, value):
        return [f"{path} is {_json(value)}, not {_NAMES[kind]}"]
    if isinstance(value, list):
        items = schema.get("items")
        inner = items if isinstance(items, Mapping) else {}
        return [e for i, item in enumerate(value) for e in check_value(inner, item, f"{path}[{i}]")]
    if isinstance(value, dict):
        return _check_fields(schema, value, path)
    return []


def _check_fields(schema: Mapping[str, object], value: dict[str, object], path: str) -> list[str]:
    fields = schema.get("properties")
    if not isinstance(fields, Mapping):
        return []
    required = schema.get("required")
    errors = [f"{path}.{name} is not declared" for name in value if name not in fields]
    needed = required if isinstance(required, list) else []
    errors += [f"{path}.{name} is missing" for name in needed if name not in value]
    for name, item in value.items():
        if name in fields:
            errors += check_value(fields[name], item, f"{path}.{name}")
    return errors


def _has_type(kind: str, value: object) -> bool:  # noqa: PLR0911 - a table of types
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case _:
            return value is None


_SHOWN = 60


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


# ── a command line's text ────────────────────────────────────────────────────────────────────────

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


def parse_value(schema: Mapping[str, object], value: object) -> object:
    """Parse text by its declared type; what does not parse comes back as it is, to be refused."""
    options = schema.get("anyOf")
    if isinstance(options, list):
        inner = options[0]
        if value == "" and inner.get("type") != "string":
            return None
        return parse_value(inner, value)
    kind = schema.get("type")
    if kind == "array":
        return _parse_list(schema, value)
    if isinstance(value, list) and value:
        value = value[-1]  # the last one wins, as with any other option
    if not isinstance(value, str):
        return value
    return _parse_text(schema, kind, value)


def _parse_text(schema: Mapping[str, object], kind: object, value: str) -> object:
    allowed = schema.get("enum")
    if isinstance(allowed, list):
        return next((item for item in allowed if str(item) == value), value)
    low = value.strip().lower()
    if kind == "boolean" and low in _TRUE | _FALSE:
        return low in _TRUE
    if kind == "integer" and re.fullmatch(r"[+-]?[0-9]+", low):
        return int(low)
    if kind == "number" and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", low):
        number = float(low)
        return int(low) if re.fullmatch(r"[+-]?[0-9]+", low) else number
    if kind == "object":
        return _from_json(value)
    return value


def _parse_list(schema: Mapping[str, object], value: object) -> object:
    items = schema.get("items")
    inner = items if isinstance(items, Mapping) else {}
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return _from_json(value)
        value = [value]
    if isinstance(value, list):
        return [parse_value(inner, item) for item in value]
    return value


def _from_json(text: str) -> object:
    try:
        found: object = json.loads(text)
    except ValueError:
        return text
    return found

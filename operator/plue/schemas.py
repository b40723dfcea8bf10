"""JSON Schema as Plue uses it: values checked against it, and one schema against another.

Everything that an author can declare (``schema(...)`` in Python, ``low | high`` in a prompt)
becomes the part of JSON Schema 2020-12 that this module knows; a keyword outside of it is told and
never ignored. The evaluator, the runner and the command line all check with this one module.

A full validator was rejected: ``jsonschema`` takes a quarter of a second to import, which every
sandbox would pay before its first step, reads files that an evaluation cannot open, and words its
errors for authors of schemas. A test compares the verdicts of both. Only the standard library is
imported here: the evaluator's sandbox preloads it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

__all__ = [
    "at_path",
    "filled",
    "mismatch",
    "options_of",
    "parse_text",
    "problems",
    "same",
    "shown",
    "type_name",
    "unknown_keyword",
]

Schema = Mapping[str, Any]

_SHOWN: Final = 60
_NOTES: Final = frozenset({"$schema", "$id", "title", "description", "default", "examples"})
_KNOWN: Final = _NOTES | {
    "type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf",
    "additionalProperties", "$comment",
}  # fmt: skip
_NAMES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


# ── a value against a schema ─────────────────────────────────────────────────────────────────────


def problems(schema: object, value: object, path: str) -> Iterator[str]:
    """Yield what is wrong with a JSON *value*, each with its path: ``a.b[2]: 7 is not text``."""
    if not isinstance(schema, Mapping):
        if schema is False:
            yield f"{path} is not declared"
        return
    kinds = schema.get("type")
    wanted = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(wanted, list) and not any(_has_type(value, kind) for kind in wanted):
        yield f"{path}: {shown(value)} is not {' or '.join(_NAMES.get(k, str(k)) for k in wanted)}"
        return
    choices = schema.get("enum")
    if isinstance(choices, list) and not any(same(value, choice) for choice in choices):
        yield f"{path}: {shown(value)} is not one of {', '.join(map(shown, choices))}"
    if "const" in schema and not same(value, schema["const"]):
        yield f"{path}: {shown(value)} is not {shown(schema['const'])}"
    yield from _choice_problems(schema, value, path)
    if isinstance(value, dict):
        yield from _field_problems(schema, value, path)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from problems(schema["items"], item, f"{path}[{index}]")


def _choice_problems(schema: Schema, value: object, path: str) -> Iterator[str]:
    for keyword in ("anyOf", "oneOf"):
        choices = schema.get(keyword)
        if not isinstance(choices, list):
            continue
        found = [list(problems(choice, value, path)) for choice in choices]
        fitting = sum(not wrong for wrong in found)
        if fitting == 0:
            # What an optional value lacks is told by its own type; `null` is no help.
            told = [wrong for wrong, c in zip(found, choices, strict=True) if not _is_null(c)]
            yield from told[0] if len(told) == 1 else [f"{path}: {shown(value)} fits no type"]
        elif fitting > 1 and keyword == "oneOf":
            yield f"{path}: {shown(value)} fits more than one of its types"


def _field_problems(schema: Schema, value: Mapping[str, object], path: str) -> Iterator[str]:
    declared = schema.get("properties")
    fields = declared if isinstance(declared, Mapping) else {}
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in fields:
            yield from problems(fields[name], item, at_path(path, name))
        elif others is False:
            near = get_close_matches(name, list(fields), n=1)
            hint = f" — did you mean `{near[0]}`?" if near else ""
            yield f"{at_path(path, name)} is not declared{hint}"
        else:
            yield from problems(others, item, at_path(path, name))
    required = schema.get("required")
    for name in required if isinstance(required, Sequence) else ():
        if name not in value:
            yield f"{at_path(path, name)} is missing"


def at_path(path: str, key: str | int) -> str:
    """Return the path of a part: ``a.b``, ``a[2]``, ``a["two words"]``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{shown(key)}]"


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def _has_type(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"  # for Python it would be a number too
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()  # JSON has one kind of number: 3.0 is an integer
    return isinstance(value, _TYPES.get(kind, ()))


def same(left: object, right: object) -> bool:
    """Whether two JSON values are equal; true is not 1, although Python says so."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return left == right


def shown(value: object) -> str:
    """Return a JSON value as it appears in a message: cut when it is long."""
    text = json.dumps(value, ensure_ascii=False, default=lambda other: type(other).__name__)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def unknown_keyword(schema: object) -> str | None:
    """Return a keyword of *schema* that is not understood here; None when there is none."""
    if not isinstance(schema, Mapping):
        return None
    for key in schema:
        if key not in _KNOWN:
            return str(key)
    below: list[object] = [schema.get("items"), schema.get("additionalProperties")]
    for several in ("anyOf", "oneOf"):
        choices = schema.get(several)
        below += choices if isinstance(choices, list) else []
    properties = schema.get("properties")
    below += properties.values() if isinstance(properties, Mapping) else ()
    return next((key for key in map(unknown_keyword, below) if key is not None), None)


# ── looking into schemas ─────────────────────────────────────────────────────────────────────────


def _is_null(schema: object) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def options_of(schema: Schema) -> tuple[Schema, bool]:
    """Return the schema of the value when it is there, and whether it may be null."""
    choices = schema.get("anyOf")
    if not isinstance(choices, list):
        return schema, False
    real = [choice for choice in choices if not _is_null(choice)]
    optional = len(real) < len(choices)
    return (real[0] if len(real) == 1 else {"anyOf": real}), optional


def type_name(schema: Schema) -> str:
    """Return the type as people read it: ``text``, ``a list of numbers`` is just ``a list``."""
    inner, optional = options_of(schema)
    choices = inner.get("enum")
    if isinstance(choices, list):
        name = "one of " + ", ".join(map(shown, choices))
    else:
        name = _NAMES.get(str(inner.get("type")), "any value")
    return f"{name} or null" if optional else name


def mismatch(given: Schema, wanted: Schema, path: str) -> str | None:  # noqa: PLR0911 - a table
    """Say why a value of type *given* can never be a *wanted*; None when it can, or may.

    What is optional may be there: whether it is, only the run knows.
    """
    source, _ = options_of(given)
    target, _ = options_of(wanted)
    kinds = source.get("type"), target.get("type")
    choices, allowed = _choices(source), _choices(target)
    if choices is not None and allowed is not None:
        odd = [one for one in choices if not any(same(one, other) for other in allowed)]
        if odd:
            return f"{path} can be {shown(odd[0])}, not only {', '.join(map(shown, allowed))}"
        return None
    if not all(isinstance(kind, str) for kind in kinds):
        return None
    if kinds[0] != kinds[1] and set(kinds) != {"integer", "number"}:
        return f"{path} is {type_name(source)}, not {type_name(target)}"
    if kinds[0] == "array":
        return mismatch(source.get("items", {}), target.get("items", {}), f"{path}[…]")
    if kinds[0] == "object":
        return _field_mismatch(source, target, path)
    return None


def _choices(schema: Schema) -> list[object] | None:
    found = schema.get("enum")
    return found if isinstance(found, list) else None


def _field_mismatch(source: Schema, target: Schema, path: str) -> str | None:
    has, wants = source.get("properties"), target.get("properties")
    if not isinstance(has, Mapping) or not isinstance(wants, Mapping):
        return None
    for name in target.get("required", ()):
        if name not in has and source.get("additionalProperties") is False:
            return f"{path} has no field `{name}`"
    for name, inner in has.items():
        if name in wants:
            found = mismatch(inner, wants[name], at_path(path, name))
            if found is not None:
                return found
        elif target.get("additionalProperties") is False:
            return f"{path} has a field `{name}`, which is not declared"
    return None


def filled(schema: object, value: object, *, nulls: bool = False) -> object:
    """Return *value* with the defaults of absent fields; with *nulls*, null where none is given.

    A whole number is an ``int`` then, however it was written: ``3.0`` is one in JSON.
    """
    if not isinstance(schema, Mapping):
        return value
    inner, _ = options_of(schema)
    if isinstance(value, float) and inner.get("type") == "integer" and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [filled(inner.get("items"), item, nulls=nulls) for item in value]
    fields = inner.get("properties")
    if not isinstance(value, dict) or not isinstance(fields, Mapping):
        return value
    found = {name: filled(fields.get(name), item, nulls=nulls) for name, item in value.items()}
    for name, field in fields.items():
        if name not in found and isinstance(field, Mapping):
            if "default" in field:
                found[name] = field["default"]
            elif nulls and options_of(field)[1]:
                found[name] = None
    return found


# ── a command line's text ────────────────────────────────────────────────────────────────────────

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


def parse_text(schema: Schema, value: object) -> object:
    """Parse text by its declared type; what does not parse comes back as it is, to be refused.

    A list is given by repetition (a list of texts) or as JSON.
    """
    inner, optional = options_of(schema)
    if optional and value == "" and inner.get("type") != "string":
        return None
    kind = inner.get("type")
    if kind == "array":
        return _parse_list(inner, value)
    if isinstance(value, list) and value:
        value = value[-1]  # the last one wins, as with any other option
    return _parse_one(inner, kind, value) if isinstance(value, str) else value


def _parse_one(schema: Schema, kind: object, value: str) -> object:
    allowed = schema.get("enum")
    if isinstance(allowed, list):
        return next((item for item in allowed if str(item) == value), value)
    low = value.strip().lower()
    if kind == "boolean" and low in _TRUE | _FALSE:
        return low in _TRUE
    if kind in ("integer", "number") and re.fullmatch(r"[+-]?[0-9]{1,4000}", low):
        return int(low)
    if kind == "number" and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", low):
        return float(low)
    return _from_json(value) if kind == "object" else value


def _parse_list(schema: Schema, value: object) -> object:
    items = schema.get("items")
    inner = items if isinstance(items, Mapping) else {}
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return _from_json(value)
        value = [value]
    return [parse_text(inner, item) for item in value] if isinstance(value, list) else value


def _from_json(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found

"""Checks JSON against the part of JSON Schema that ``schema(…)`` of the language produces.

A full validator would be a dependency that every sandbox pays for at start-up; a keyword that is
not known here is an error and never ignored.
"""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue
from pydantic_core import from_json

from plue.wire.events import Reason
from plue_runner.faults import Fault

__all__ = ["parsed", "unknown_keyword"]

_SHOWN = 80
_NOTES = {"$schema", "$id", "title", "description", "default", "examples", "$comment"}
_KNOWN = _NOTES | {
    "type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf",
    "additionalProperties",
}  # fmt: skip


def parsed(text: str, schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return *text*, a JSON object, as the schema wants it. Raises Fault (InvalidOutput)."""
    try:
        value: JsonValue = from_json(text)
    except ValueError as error:
        raise Fault(
            Reason.INVALID_OUTPUT,
            f"standard output is not JSON: {error}",
            remedy="print one JSON object and nothing else; send messages to standard error",
        ) from error
    problem = next(_problems(value, dict(schema), "output"), None)
    if problem is not None:
        raise Fault(Reason.INVALID_OUTPUT, f"standard output does not fit its schema: {problem}")
    if not isinstance(value, dict):
        raise Fault(Reason.INVALID_OUTPUT, "standard output is JSON, but not an object")
    return value


def unknown_keyword(schema: JsonValue) -> str | None:
    """Return a keyword of *schema* that is not understood here; None when there is none."""
    if not isinstance(schema, dict):
        return None
    for key in schema:
        if key not in _KNOWN:
            return key
    below: list[JsonValue] = [schema.get("items"), schema.get("additionalProperties")]
    for several in ("anyOf", "oneOf"):
        choices = schema.get(several)
        below += choices if isinstance(choices, list) else []
    properties = schema.get("properties")
    below += properties.values() if isinstance(properties, dict) else ()
    found = (unknown_keyword(part) for part in below)
    return next((key for key in found if key is not None), None)


def _problems(value: JsonValue, schema: JsonValue, place: str) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        if schema is False:
            yield f"{place} is not allowed"
        return
    kinds = schema.get("type")
    wanted = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(wanted, list) and not any(_is(value, kind) for kind in wanted):
        yield f"{place} must be {' or '.join(map(str, wanted))}, not {_shown(value)}"
        return
    choices = schema.get("enum")
    if isinstance(choices, list) and not any(_same(value, choice) for choice in choices):
        yield f"{place} must be one of {', '.join(map(_shown, choices))}, not {_shown(value)}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{place} must be {_shown(schema['const'])}, not {_shown(value)}"
    yield from _choice_problems(value, schema, place)
    if isinstance(value, dict):
        yield from _object_problems(value, schema, place)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(item, schema.get("items"), f"{place}[{index}]")


def _choice_problems(
    value: JsonValue, schema: Mapping[str, JsonValue], place: str
) -> Iterator[str]:
    for keyword in ("anyOf", "oneOf"):
        choices = schema.get(keyword)
        if not isinstance(choices, list):
            continue
        fitting = sum(next(_problems(value, c, place), None) is None for c in choices)
        if fitting == 0:
            yield f"{place} fits none of its types: {_shown(value)}"
        elif fitting > 1 and keyword == "oneOf":
            yield f"{place} fits more than one of its types: {_shown(value)}"


def _object_problems(
    value: Mapping[str, JsonValue], schema: Mapping[str, JsonValue], place: str
) -> Iterator[str]:
    required = schema.get("required")
    for name in required if isinstance(required, Sequence) else ():
        if name not in value:
            yield f"{place}.{name} is missing"
    known = schema.get("properties")
    properties = known if isinstance(known, dict) else {}
    for name, item in value.items():
        below = properties.get(name, schema.get("additionalProperties"))
        yield from _problems(item, below, f"{place}.{name}")


_TYPES: dict[JsonValue, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def _is(value: JsonValue, kind: JsonValue) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"  # for Python it would be a number too
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()  # JSON has one kind of number: 3.0 is an integer
    return isinstance(value, _TYPES.get(kind, ()))


def _same(left: JsonValue, right: JsonValue) -> bool:
    # JSON's true is not its 1, although Python says so.
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _shown(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"

"""Output schemas as the provider takes them for guaranteed output."""

from collections.abc import Mapping

from pydantic import JsonValue

__all__ = ["is_closed", "strict_schema"]

_CHECKED_HERE = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
        "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
        "default", "$schema", "title",
    }
)  # fmt: skip
"""What guaranteed output does not know; answers are checked for it after they came."""


def strict_schema(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return *schema* so that the provider can guarantee it: closed objects, known keywords only.

    What is left out is checked by the full schema when the answer is there.
    """
    found: dict[str, JsonValue] = {}
    for key, value in schema.items():
        if key in _CHECKED_HERE:
            continue
        if key == "properties" and isinstance(value, dict):
            found[key] = {name: _strict(inner) for name, inner in value.items()}
        elif key in {"items", "anyOf", "allOf", "oneOf", "$defs"}:
            found[key] = _strict(value)
        else:
            found[key] = value
    if found.get("type") == "object":
        found["additionalProperties"] = False
        found.setdefault("properties", {})
    return found


def is_closed(schema: Mapping[str, JsonValue]) -> bool:
    """Whether every object in *schema* names its fields, as guaranteed input needs it."""
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    return all(_is_closed(value) for value in schema.values())


def _is_closed(value: JsonValue) -> bool:
    match value:
        case dict():
            return is_closed(value)
        case list():
            return all(_is_closed(item) for item in value)
        case _:
            return True


def _strict(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            if "type" in value or "properties" in value or "anyOf" in value or "enum" in value:
                return strict_schema(value)
            return {name: _strict(inner) for name, inner in value.items()}
        case list():
            return [_strict(item) for item in value]
        case _:
            return value

"""Output schemas as the provider takes them for guaranteed output."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

__all__ = ["Room", "is_closed", "strict_schema"]

_CHECKED_HERE = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
        "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
        "default", "$schema", "title",
    }
)  # fmt: skip
"""What guaranteed output does not know; answers are checked for it after they came."""


@dataclass(slots=True)
class Room:
    """How much of a request may be guaranteed: what is beyond is asked for without, and checked.

    The provider refuses the whole request for one tool or one optional field too many.
    """

    tools: int = 20
    optional: int = 24
    unions: int = 16

    def takes(self, schema: Mapping[str, JsonValue], *, tools: int = 1) -> bool:
        """Whether *schema* has room too; then it is taken."""
        parts = list(_objects(dict(schema)))
        optional = sum(len(_names(part) - _required(part)) for part in parts)
        unions = sum("anyOf" in part or isinstance(part.get("type"), list) for part in parts)
        if self.tools < tools or self.optional < optional or self.unions < unions:
            return False
        self.tools, self.optional = self.tools - tools, self.optional - optional
        self.unions -= unions
        return True


def _objects(value: JsonValue) -> Iterator[dict[str, JsonValue]]:
    """Yield a schema and all that are in it."""
    match value:
        case dict():
            yield value
            for inner in value.values():
                yield from _objects(inner)
        case list():
            for item in value:
                yield from _objects(item)
        case _:
            pass


def _names(part: Mapping[str, JsonValue]) -> set[str]:
    properties = part.get("properties")
    return set(properties) if isinstance(properties, dict) else set()


def _required(part: Mapping[str, JsonValue]) -> set[str]:
    required = part.get("required")
    return set(map(str, required)) if isinstance(required, list) else set()


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

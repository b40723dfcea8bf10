"""From a pydantic model to a structural schema, as CustomResourceDefinitions need it.

Structural schemas know no ``$ref``, no ``title`` and no ``null`` type; what pydantic can say and
they cannot is an error here, and never silently dropped.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

__all__ = ["structural_schema"]

_KEPT = frozenset(
    {
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "pattern",
        "properties",
        "additionalProperties",
        "required",
        "type",
    }
)
_DROPPED = frozenset({"title", "$defs"})


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the structural schema of *model*. Raises TypeError for what cannot be said in one."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(schema, schema.get("$defs", {}), model.__name__)


def _structural(schema: Mapping[str, Any], defs: Mapping[str, Any], where: str) -> dict[str, Any]:
    schema = _resolved(schema, defs, where)
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DROPPED or (key == "default" and value is None):
            continue
        if key not in _KEPT and not key.startswith("x-kubernetes-"):
            raise TypeError(f"{where}: a structural schema cannot say {key!r}")
        result[key] = _part(key, value, defs, where)
    return dict(sorted(result.items()))


def _part(key: str, value: Any, defs: Mapping[str, Any], where: str) -> Any:
    if key == "properties":
        return {name: _structural(v, defs, f"{where}.{name}") for name, v in value.items()}
    if key in {"items", "additionalProperties"} and isinstance(value, dict):
        return _structural(value, defs, f"{where}[]")
    return value


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Put a reference's target, or the one type beside ``null``, in the place of the wrapper."""
    resolved = dict(schema)
    while True:
        if (reference := resolved.pop("$ref", None)) is not None:
            resolved = {**defs[reference.removeprefix("#/$defs/")], **resolved}
        elif (choices := resolved.pop("anyOf", None)) is not None:
            others = [choice for choice in choices if choice != {"type": "null"}]
            if len(others) != 1:
                raise TypeError(f"{where}: a structural schema cannot choose between types")
            resolved = {**others[0], **resolved}
        elif (constant := resolved.pop("const", None)) is not None:
            resolved["enum"] = [constant]
        else:
            return resolved

"""What the generated CustomResourceDefinitions promise, read from the declaration itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from plue.resources.__main__ import files
from plue.resources.crds import KINDS, definition
from plue.resources.schema import structural_schema

_CRDS = Path(__file__).parents[2] / "crds"


def _walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema below *schema* with its path."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from _walk(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _walk(schema[key], f"{path}[]")


def _schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in KINDS:
        whole = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            yield from _walk(whole["properties"][part], f"{kind.kind}.{part}")


def test_files_are_what_the_declaration_gives() -> None:
    """``crds/`` is generated: `make crds` was run after the last change."""
    assert files() == {file.name: file.read_text() for file in _CRDS.iterdir()}


def test_every_field_is_described() -> None:
    """`kubectl explain` says something about every field."""
    assert [
        path for path, s in _schemas() if not path.endswith("[]") and not s.get("description")
    ] == []


def _is_unbounded(schema: dict[str, Any]) -> bool:  # noqa: PLR0911 - one for each type
    if schema.get("enum") or schema.get("format") == "date-time":
        return False
    match schema.get("type"):
        case "string":
            return "maxLength" not in schema
        case "array":
            return "maxItems" not in schema
        case "integer" | "number":
            return "minimum" not in schema
        case "object":
            return "additionalProperties" in schema and "maxProperties" not in schema
        case "boolean":
            return False
        case _:
            return True


def test_every_value_is_bounded() -> None:
    """Every string, list, map and number has a bound."""
    assert [path for path, schema in _schemas() if _is_unbounded(schema)] == []


def test_objects_are_closed() -> None:
    """Nothing preserves fields that the schema does not know."""
    assert [p for p, s in _schemas() if "x-kubernetes-preserve-unknown-fields" in s] == []


class _Inner(BaseModel):
    """A part."""

    word: Annotated[str, Field(max_length=3)]


class _Nested(BaseModel):
    """Parts in parts."""

    one: _Inner = Field(description="One.")
    perhaps: _Inner | None = Field(default=None, description="Perhaps one.")
    kind: Literal["a"] = "a"


class _Undecided(BaseModel):
    """A choice that structural schemas cannot say."""

    value: int | str


def test_references_are_put_in_place() -> None:
    """A structural schema knows no references, titles, nulls or constants."""
    inner = {
        "type": "object",
        "properties": {"word": {"type": "string", "maxLength": 3}},
        "required": ["word"],
    }
    expected = {
        "type": "object",
        "description": "Parts in parts.",
        "required": ["one"],
        "properties": {
            "one": inner | {"description": "One."},
            "perhaps": inner | {"description": "Perhaps one."},
            "kind": {"type": "string", "enum": ["a"], "default": "a"},
        },
    }
    assert expected == structural_schema(_Nested)


def test_a_choice_of_types_is_an_error() -> None:
    """What a structural schema cannot say is refused and never dropped."""
    with pytest.raises(TypeError, match=r"_Undecided\.value"):
        structural_schema(_Undecided)

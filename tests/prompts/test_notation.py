"""The notation of types in front matter, and that Python's notation says the same."""

from typing import Any

import pytest
from authoring.sandboxed import Sandbox, workflow_of

from plue.authoring.sandbox.prompts.notation import NotationError, kind_of_notation

TEXT = {"type": "string"}
NULL = {"type": "null"}
LEVELS = {"enum": ["low", "high"], "type": "string"}

# notation, the same in Python, JSON Schema, whether it must be given
TYPES = [
    pytest.param("string", "str", TEXT, True, id="string"),
    pytest.param("integer", "int", {"type": "integer"}, True, id="integer"),
    pytest.param("number", "float", {"type": "number"}, True, id="number"),
    pytest.param("boolean", "bool", {"type": "boolean"}, True, id="boolean"),
    pytest.param("string?", "optional(str)", {"anyOf": [TEXT, NULL]}, False, id="optional"),
    pytest.param("string[]", "list(str)", {"type": "array", "items": TEXT}, True, id="list"),
    pytest.param("string[][]", "list(list(str))",
                 {"type": "array", "items": {"type": "array", "items": TEXT}}, True, id="lists"),
    pytest.param("string[]?", "optional(list(str))",
                 {"anyOf": [{"type": "array", "items": TEXT}, NULL]}, False, id="optional-list"),
    pytest.param("string?[]", "list(optional(str))",
                 {"type": "array", "items": {"anyOf": [TEXT, NULL]}}, True, id="list-of-optional"),
    pytest.param("low | high", 'enum("low", "high")', LEVELS, True, id="choice"),
    pytest.param("1 | 2", "enum(1, 2)", {"enum": [1, 2]}, True, id="choice-of-numbers"),
    pytest.param('"needs work" | ok', 'enum("needs work", "ok")',
                 {"enum": ["needs work", "ok"], "type": "string"}, True, id="quoted"),
    pytest.param("needs-work | v1.2", 'enum("needs-work", "v1.2")',
                 {"enum": ["needs-work", "v1.2"], "type": "string"}, True, id="words"),
    pytest.param("yes | no", 'enum("yes", "no")',
                 {"enum": ["yes", "no"], "type": "string"}, True, id="no-yaml-booleans"),
    pytest.param("(low | high)?", 'optional(enum("low", "high"))',
                 {"anyOf": [LEVELS, NULL]}, False, id="optional-choice"),
    pytest.param("(low | high)[]", 'list(enum("low", "high"))',
                 {"type": "array", "items": LEVELS}, True, id="list-of-choices"),
    pytest.param("integer = 5", "5", {"type": "integer", "default": 5}, False, id="default"),
    pytest.param("string = two words", '"two words"',
                 {"type": "string", "default": "two words"}, False, id="default-text"),
    pytest.param("boolean = true", "True", {"type": "boolean", "default": True}, False, id="default-bool"),
    pytest.param("low | high = high", 'enum("low", "high", default="high")',
                 {**LEVELS, "default": "high"}, False, id="default-choice"),
]  # fmt: skip


@pytest.mark.parametrize(("notation", "python", "schema", "required"), TYPES)
def test_notation_and_python_give_one_schema(
    sandbox: Sandbox, notation: str, python: str, schema: dict[str, Any], *, required: bool
) -> None:
    """A type means the same in a prompt and in a workflow: one translation."""
    kind = kind_of_notation(notation)
    assert (schema, required) == (kind.schema, kind.required)
    source = workflow_of("pass", f'triggers=[manual(inputs={{"x": {python}}})]')
    (info,) = sandbox.describe(source).workflows
    assert info.inputs_schema["properties"]["x"] == schema
    assert ("x" in info.inputs_schema["required"]) == required


WRONG = [
    pytest.param("", 0, "there is no type", "string, integer", id="empty"),
    pytest.param("str", 0, "did you mean `string`", "write `string`", id="python"),
    pytest.param("strng", 0, "did you mean `string`", "types are", id="misspelled"),
    pytest.param("low", 0, "not a type", '"low"', id="single-word"),
    pytest.param("string | low", 0, "is a type", "in quotes", id="type-in-a-choice"),
    pytest.param("string | integer", 0, "choice of types", "string?", id="union"),
    pytest.param("low | null", 6, "`null`", "(low | high)?", id="null"),
    pytest.param("low | high?", 10, "one alternative", "parentheses", id="optional-alternative"),
    pytest.param("low? | high", 3, "one alternative", "parentheses", id="optional-first"),
    pytest.param("needs work | ok", 6, "not expected", "quotes", id="two-words"),
    pytest.param("low | low", 6, "twice", "remove", id="twice"),
    pytest.param("string??", 7, "twice", "remove", id="optional-twice"),
    pytest.param("(low | high", 0, "not closed", "add )", id="open"),
    pytest.param("|", 0, "no type before", "types are", id="bar"),
    pytest.param("low |", 4, "missing", "types are", id="end"),
    pytest.param("string[", 6, "not expected", "types are", id="bracket"),
    pytest.param("integer = x", 10, "not a whole number", "default", id="default"),
    pytest.param("low | high = mid", 13, "not one of", "default", id="default-choice"),
]


@pytest.mark.parametrize(("notation", "start", "message", "remedy"), WRONG)
def test_wrong_notation_says_where_and_what(
    notation: str, start: int, message: str, remedy: str
) -> None:
    """What is not a type is told with its place in the text, and what to write."""
    with pytest.raises(NotationError) as caught:
        kind_of_notation(notation)
    assert start == caught.value.start
    assert message in caught.value.message
    assert remedy in caught.value.remedy

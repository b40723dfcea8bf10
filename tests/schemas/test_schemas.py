"""Values against schemas, schemas against schemas, and a command line's text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from plue.schemas import at_path, filled, mismatch, parse_text, problems, unknown_keyword

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
LEVEL = {"enum": ["low", "high"], "type": "string"}
MAYBE = {"anyOf": [TEXT, {"type": "null"}]}


def listed(items: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def record(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """Return the schema of an object."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


ISSUE = record(("file", "line"), file=TEXT, line=WHOLE, note=MAYBE)
REVIEW = record(("issues",), issues=listed(ISSUE), level=LEVEL)


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        pytest.param(TEXT, 7, ["x: 7 is not text"], id="text"),
        pytest.param(WHOLE, True, ["x: true is not a whole number"], id="bool-is-no-number"),
        pytest.param(WHOLE, 3.0, [], id="json-has-one-kind-of-number"),
        pytest.param(WHOLE, 3.5, ["x: 3.5 is not a whole number"], id="fraction"),
        pytest.param({"type": "number"}, 3, [], id="number"),
        pytest.param({"type": "boolean"}, 1, ["x: 1 is not true or false"], id="boolean"),
        pytest.param(LEVEL, "mid", ['x: "mid" is not one of "low", "high"'], id="enum"),
        pytest.param({"enum": [1]}, True, ["x: true is not one of 1"], id="true-is-not-1"),
        pytest.param({"enum": [[1]]}, [True], ["x: [true] is not one of [1]"], id="deep-true"),
        pytest.param(MAYBE, None, [], id="optional-null"),
        pytest.param(MAYBE, 3, ["x: 3 is not text"], id="optional-wrong"),
        pytest.param({}, {"a": [1]}, [], id="anything"),
        pytest.param(False, 1, ["x is not declared"], id="nothing"),
        pytest.param({"const": 2}, 3, ["x: 3 is not 2"], id="const"),
        pytest.param(
            {"oneOf": [TEXT, TEXT]}, "a", ['x: "a" fits more than one of its types'], id="one-of"
        ),
        pytest.param({"anyOf": [TEXT, WHOLE]}, [], ["x: [] fits no type"], id="any-of"),
        pytest.param(REVIEW, {"issues": []}, [], id="object"),
        pytest.param(
            REVIEW,
            {"issues": [{"file": "a", "line": 1}, {"file": 7, "line": "x"}], "level": 1},
            [
                "x.issues[1].file: 7 is not text",
                'x.issues[1].line: "x" is not a whole number',
                "x.level: 1 is not text",
            ],
            id="every-place-is-told",
        ),
        pytest.param(REVIEW, {}, ["x.issues is missing"], id="missing"),
        pytest.param(
            REVIEW,
            {"issues": [], "levle": "low"},
            ["x.levle is not declared — did you mean `level`?"],
            id="undeclared",
        ),
        pytest.param(record(), {"two words": 1}, ['x["two words"] is not declared'], id="odd-name"),
        pytest.param(TEXT, ["y" * 90], ['x: ["' + "y" * 57 + "… is not text"], id="long-is-cut"),
    ],
)
def test_problems_name_the_path(schema: Any, value: Any, expected: list[str]) -> None:
    """Each thing that is wrong is told with its place in the value."""
    assert expected == list(problems(schema, value, "x"))


SCALARS = st.sampled_from(
    [TEXT, WHOLE, {"type": "number"}, {"type": "boolean"}, LEVEL, {"enum": [1, 2]}]
)
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        inner.map(listed),
        inner.map(lambda one: {"anyOf": [one, {"type": "null"}]}),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
            lambda fields: record(tuple(sorted(fields)[:1]), **fields)
        ),
    ),
    max_leaves=6,
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 2, 1.0, 1.5, "low", "a", ""]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(SCHEMAS, VALUES)
def test_the_verdict_is_that_of_a_full_validator(schema: Any, value: Any) -> None:
    """What authors can declare is checked as JSON Schema 2020-12 says."""
    Draft202012Validator.check_schema(schema)
    expected = Draft202012Validator(schema).is_valid(value)
    assert expected == (next(problems(schema, value, "x"), None) is None)


@given(SCHEMAS)
def test_a_type_fits_itself(schema: Any) -> None:
    """A value of a type may always be given where that type is wanted."""
    assert mismatch(schema, schema, "x") is None


@given(SCHEMAS, SCHEMAS, VALUES)
def test_a_mismatch_is_certain(given_type: Any, wanted: Any, value: Any) -> None:
    """Types are called different only where no value but null or an empty one fits both."""
    told = mismatch(given_type, wanted, "x")
    fits = all(next(problems(s, value, "x"), None) is None for s in (given_type, wanted))
    if told is not None and fits and "can be" not in told and "has a field" not in told:
        assert value is None or _is_hollow(value)


def _is_hollow(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_hollow, value.values()))
    return value is None or (isinstance(value, list) and all(map(_is_hollow, value)))


@pytest.mark.parametrize(
    ("given_type", "wanted", "expected"),
    [
        pytest.param(TEXT, TEXT, None, id="same"),
        pytest.param({}, TEXT, None, id="unknown-may-fit"),
        pytest.param(TEXT, {}, None, id="anything-takes-all"),
        pytest.param(MAYBE, TEXT, None, id="optional-may-be-there"),
        pytest.param(TEXT, MAYBE, None, id="optional-takes-it"),
        pytest.param(WHOLE, {"type": "number"}, None, id="whole-is-a-number"),
        pytest.param({"type": "boolean"}, TEXT, "x is true or false, not text", id="scalar"),
        pytest.param(LEVEL, TEXT, None, id="enum-is-text"),
        pytest.param(TEXT, LEVEL, None, id="text-may-be-of-the-enum"),
        pytest.param(
            LEVEL, {"enum": ["low"], "type": "string"},
            'x can be "high", not only "low"', id="enum",
        ),
        pytest.param(listed(TEXT), listed(WHOLE), "x[…] is text, not a whole number", id="items"),
        pytest.param(listed(TEXT), TEXT, "x is a list, not text", id="list-for-text"),
        pytest.param(record(("a",), a=TEXT), record(("a", "b"), a=TEXT, b=TEXT),
                     "x has no field `b`", id="missing-field"),
        pytest.param(record(("a",), a=TEXT), record(("a",), a=WHOLE),
                     "x.a is text, not a whole number", id="field"),
        pytest.param(record(a=TEXT, b=TEXT), record(a=TEXT),
                     "x has a field `b`, which is not declared", id="extra-field"),
    ],
)  # fmt: skip
def test_mismatch_of_types(given_type: Any, wanted: Any, expected: str | None) -> None:
    """What can never fit is told when the plan is made; what may fit is left to the run."""
    assert expected == mismatch(given_type, wanted, "x")


def test_filled_makes_whole_numbers_integers() -> None:
    """`3.0` is an integer in JSON, and what `range` and a command are given is `3`."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "x": {"type": "number"}}}
    found = filled(schema, {"n": 3.0, "x": 3.0})
    assert found == {"n": 3, "x": 3.0}
    assert [type(v) for v in found.values()] == [int, float]  # type: ignore[attr-defined] # a dict


def test_filled_gives_defaults_at_any_depth() -> None:
    """Absent fields get their default, and null where they are optional, if that is asked for."""
    schema = record(("l",), l=listed(record(a={"type": "integer", "default": 4}, b=MAYBE)), c=MAYBE)
    assert filled(schema, {"l": [{}]}) == {"l": [{"a": 4}]}
    assert filled(schema, {"l": [{}]}, nulls=True) == {"l": [{"a": 4, "b": None}], "c": None}


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        pytest.param(WHOLE, "-3", -3, id="whole"),
        pytest.param(WHOLE, "9" * 5000, "9" * 5000, id="absurdly-long"),
        pytest.param({"type": "number"}, "1e3", 1000.0, id="exponent"),
        pytest.param({"type": "boolean"}, "Yes", True, id="yes"),
        pytest.param({"type": "boolean"}, "2", "2", id="no-boolean"),
        pytest.param({"enum": [1, 2]}, "2", 2, id="enum-of-numbers"),
        pytest.param(listed(WHOLE), ["1", "2"], [1, 2], id="repetition"),
        pytest.param(listed(WHOLE), "[1, 2]", [1, 2], id="json"),
        pytest.param(listed(WHOLE), "[1", "[1", id="broken-json"),
        pytest.param(listed(TEXT), "[" * 5000, "[" * 5000, id="deep-json"),
        pytest.param(ISSUE, '{"file": "a"}', {"file": "a"}, id="object"),
        pytest.param({"anyOf": [WHOLE, {"type": "null"}]}, "", None, id="empty-is-null"),
        pytest.param(MAYBE, "", "", id="empty-text"),
        pytest.param(WHOLE, ["1", "2"], 2, id="the-last-wins"),
    ],
)
def test_parse_text_by_type(schema: Any, text: Any, expected: Any) -> None:
    """A command line's text becomes the declared type; what does not parse stays, to be refused."""
    assert expected == parse_text(schema, text)


def test_unknown_keyword_finds_what_would_be_ignored() -> None:
    """A keyword that is not checked is found at any depth."""
    assert unknown_keyword(REVIEW) is None
    deep = {"items": {"anyOf": [{"properties": {"a": {"pattern": "x"}}}]}}
    assert unknown_keyword(deep) == "pattern"


def test_paths_read_as_code() -> None:
    """A path can be pasted into a workflow."""
    assert at_path(at_path("a", 2), "b") == "a[2].b"
    assert at_path("a", "b c") == 'a["b c"]'

"""Inputs: declared types, strict JSON, a command line's text, defaults and schemas."""

from typing import Any

import pytest
from authoring.sandboxed import Sandbox, workflow_of

MISSING = object()


def source_of(declared: str) -> str:
    """Return a workflow with one input `x`."""
    return workflow_of('ctx.run("a", "true")', f'triggers=[manual(inputs={{"x": {declared}}})]')


ACCEPTED = [
    pytest.param("str", "a b", "a b", id="str"),
    pytest.param("int", 3, 3, id="int"),
    pytest.param("float", 3, 3, id="float-takes-whole-numbers"),
    pytest.param("bool", False, False, id="bool"),
    pytest.param("list(int)", [1, 2], [1, 2], id="list"),
    pytest.param("list[str]", ["a"], ["a"], id="list-in-brackets"),
    pytest.param('enum("a", "b")', "b", "b", id="enum"),
    pytest.param("enum(1, 2)", 2, 2, id="enum-of-numbers"),
    pytest.param("optional(str)", MISSING, None, id="optional-absent"),
    pytest.param("optional(str)", None, None, id="optional-null"),
    pytest.param("optional(int, default=4)", MISSING, 4, id="optional-with-default"),
    pytest.param('"eu"', MISSING, "eu", id="default"),
    pytest.param("3", 5, 5, id="default-overridden"),
    pytest.param("True", MISSING, True, id="default-bool"),
    pytest.param('enum("a", "b", default="b")', MISSING, "b", id="enum-default"),
    pytest.param('list(str, default=["x"])', MISSING, ["x"], id="list-default"),
    pytest.param("schema(a=str, b=optional(int))", {"a": "x"}, {"a": "x"}, id="object"),
]


@pytest.mark.parametrize(("declared", "given", "expected"), ACCEPTED)
def test_json_is_accepted_by_type(
    sandbox: Sandbox, declared: str, given: Any, expected: Any
) -> None:
    """Values that fit are what the workflow sees; absent ones get their default."""
    inputs = {} if given is MISSING else {"x": given}
    planned = sandbox.plan(source_of(declared), inputs=inputs)
    assert planned.diagnostics == []
    assert planned.inputs == {"x": expected}


REFUSED = [
    pytest.param("str", 3, "PLU203", id="number-for-text"),
    pytest.param("int", "3", "PLU203", id="text-for-number"),
    pytest.param("int", True, "PLU203", id="bool-for-int"),
    pytest.param("int", 1.5, "PLU203", id="fraction-for-int"),
    pytest.param("bool", 1, "PLU203", id="number-for-bool"),
    pytest.param("list(int)", [1, "2"], "PLU203", id="element"),
    pytest.param('enum("a")', "b", "PLU203", id="enum"),
    pytest.param("str", None, "PLU203", id="null"),
    pytest.param("str", MISSING, "PLU202", id="missing"),
    pytest.param("schema(a=str)", {"a": "x", "b": 1}, "PLU203", id="unknown-field"),
    pytest.param("schema(a=str)", {}, "PLU203", id="missing-field"),
]


@pytest.mark.parametrize(("declared", "given", "code"), REFUSED)
def test_json_is_checked_strictly(sandbox: Sandbox, declared: str, given: Any, code: str) -> None:
    """What does not fit is refused and names the input."""
    inputs = {} if given is MISSING else {"x": given}
    planned = sandbox.plan(source_of(declared), inputs=inputs)
    assert planned.plan is None
    (problem,) = planned.diagnostics
    assert (problem.code, problem.field) == (code, "inputs.x")


TEXT = [
    pytest.param("int", "-3", -3, id="int"),
    pytest.param("float", "1.5", 1.5, id="float"),
    pytest.param("float", "1e3", 1000.0, id="exponent"),
    pytest.param("bool", "Yes", True, id="yes"),
    pytest.param("bool", "0", False, id="zero"),
    pytest.param("str", "3", "3", id="text-stays-text"),
    pytest.param("str", "", "", id="empty-text"),
    pytest.param("list(int)", "3", [3], id="one-element"),
    pytest.param("list(int)", ["1", "2"], [1, 2], id="repetition"),
    pytest.param("list(str)", '["a", "b"]', ["a", "b"], id="json"),
    pytest.param("enum(1, 2)", "2", 2, id="enum"),
    pytest.param("optional(int)", "", None, id="empty-is-absent"),
    pytest.param("optional(str)", "", "", id="empty-text-is-text"),
    pytest.param("schema(a=int)", '{"a": 1}', {"a": 1}, id="object"),
    pytest.param("int", ["1", "2"], 2, id="the-last-wins"),
]


@pytest.mark.parametrize(("declared", "given", "expected"), TEXT)
def test_text_is_parsed_by_type(sandbox: Sandbox, declared: str, given: Any, expected: Any) -> None:
    """A command line's text becomes the declared type (28)."""
    planned = sandbox.plan(source_of(declared), inputs={"x": given}, text_inputs=True)
    assert planned.inputs == {"x": expected}
    assert planned.diagnostics == []


@pytest.mark.parametrize(
    ("declared", "given"),
    [("int", "three"), ("int", "1_0"), ("bool", "maybe"), ("float", "nan"), ("list(int)", "[1")],
)
def test_text_that_does_not_parse_is_refused(sandbox: Sandbox, declared: str, given: str) -> None:
    """Text of another type is an error, not a guess."""
    planned = sandbox.plan(source_of(declared), inputs={"x": given}, text_inputs=True)
    assert [p.code for p in planned.diagnostics] == ["PLU203"]


def test_every_wrong_input_is_told_at_once(sandbox: Sandbox) -> None:
    """Unknown, missing and mistyped inputs come together, with did-you-mean."""
    source = workflow_of("pass", 'triggers=[manual(inputs={"target": str, "n": int})]')
    planned = sandbox.plan(source, inputs={"taget": "x", "n": "1"})
    assert [(p.code, p.field) for p in planned.diagnostics] == [
        ("PLU201", "inputs.taget"),
        ("PLU202", "inputs.target"),
        ("PLU203", "inputs.n"),
    ]
    assert "did you mean `target`" in planned.diagnostics[0].message


def test_schema_of_inputs(sandbox: Sandbox) -> None:
    """The declaration becomes JSON Schema 2020-12."""
    declared = '{"e": enum("a", "b", default="a"), "n": int, "l": list(str), "o": optional(bool)}'
    (info,) = sandbox.describe(
        workflow_of("pass", f"triggers=[manual(inputs={declared})]")
    ).workflows
    assert info.inputs_schema == {
        "type": "object",
        "properties": {
            "e": {"enum": ["a", "b"], "type": "string", "default": "a"},
            "n": {"type": "integer"},
            "l": {"type": "array", "items": {"type": "string"}},
            "o": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        },
        "required": ["n", "l"],
        "additionalProperties": False,
    }


def test_unknown_input_in_code_is_told(sandbox: Sandbox) -> None:
    """ctx.inputs has the declared names only."""
    source = workflow_of("ctx.inputs.regoin", 'triggers=[manual(inputs={"region": "eu"})]')
    (problem,) = sandbox.plan(source).diagnostics
    assert "did you mean `region`" in problem.message
    assert problem.line == 4


def test_lists_from_inputs_cannot_be_shared(sandbox: Sandbox) -> None:
    """Inputs are frozen: each reading gives a fresh value (28)."""
    body = 'ctx.inputs.l.append("x")\nctx.run("a", "true", env={"N": len(ctx.inputs.l)})'
    source = workflow_of(body, 'triggers=[manual(inputs={"l": list(str)})]')
    plan = sandbox.plan(source, inputs={"l": ["a"]}).plan
    assert plan is not None
    assert plan.steps[0].env["N"][0].model_dump() == {"text": "1"}

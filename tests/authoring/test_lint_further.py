"""Lint looks behind results that are not known: what is wrong there is told before the run."""

import time

import pytest
from authoring.sandboxed import FILE, Sandbox, workflow_of

PROMPT = """\
---
name: review
inputs: {diff: string}
output:
  approved: boolean
  verdict: good | bad
  issues:
    - file: string
      line: integer?
      by: {name: string}
---
{{ diff }} {{ output_schema }}
"""
FILES = {".plue/prompts/review.prompt.md": PROMPT}
HEAD = "from plue.prompts import Review\n"


def told(sandbox: Sandbox, body: str) -> list[tuple[str, int, str]]:
    """Return what lint says of a workflow with a prompt: code, line in the body, message."""
    found = sandbox.describe(files={FILE: HEAD + workflow_of(body), **FILES}).diagnostics
    return [(d.code, d.line - 4, d.message) for d in found if d.severity == "error"]


@pytest.mark.parametrize(
    ("body", "code", "line", "said"),
    [
        pytest.param(
            "r = Review(diff='x')\nfor issue in r.issues:\n    ctx.run('show', f'echo {issue.fil}')",
            "PLU502", 3, "did you mean `file`", id="field-of-a-loops-variable",
        ),
        pytest.param(
            "r = Review(diff='x')\nfor issue in r.issues:\n    print(issue.by.nmae)",
            "PLU502", 3, "did you mean `name`", id="field-of-a-field",
        ),
        pytest.param(
            "r = Review(diff='x')\nif r.approved:\n    ctx.run('a', 'x', retries=2)",
            "PLU107", 3, "did you mean `retry`", id="when-it-is-true",
        ),
        pytest.param(
            "r = Review(diff='x')\nif not r.approved:\n    ctx.rum('a', 'x')",
            "PLU502", 3, "did you mean `run`", id="when-it-is-false",
        ),
        pytest.param(
            "t = ctx.run('t', 'x', continue_on_error=True)\nif t.exit_code != 0:\n    Review(diff='x', dif='y')",
            "PLU723", 3, "no input `dif`", id="after-a-failure",
        ),
        pytest.param(
            "r = Review(diff='x')\nif r.verdict == 'bad':\n    ctx.run('a', f\"echo '{r}'\")",
            "PLU501", 3, "is a step", id="the-last-of-several",
        ),
        pytest.param(
            "for f in ctx.glob('*.py'):\n    ctx.run(f'lint {f}', 'x', colour=1)",
            "PLU107", 2, "colour", id="files",
        ),
        pytest.param(
            "g = ctx.parallel([ctx.run(n, 'x', continue_on_error=True) for n in 'ab'])\n"
            "if not g.ok:\n    ctx.git.push()",
            "PLU502", 3, "ctx.git has no `.push`", id="a-group",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_behind_a_result_is_told(
    sandbox: Sandbox, body: str, code: str, line: int, said: str
) -> None:
    """In a branch that some answer leads to, and in the body of a loop over results."""
    (found,) = told(sandbox, body)
    assert found[:2] == (code, line)
    assert said in found[2]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            "r = Review(diff='x')\nfor issue in r.issues:\n    if issue.line is not None:\n"
            "        ctx.run(f'show {issue.file}', f'echo {issue.line} {issue.by.name}')",
            id="loop",
        ),
        pytest.param("v = ctx.run('v', 'x')\nctx.run('a', 'x', timeout=v.stdout)", id="duration"),
        pytest.param(
            "v = ctx.run('v', 'x')\nctx.run('a', 'x', timeout=int(v.stdout.split('.')[2]))", id="index"
        ),
        pytest.param(
            "v = ctx.run('v', 'x')\nfor a in v.stdout.split(','):\n    for b in v.stdout.split(','):\n"
            "        ctx.run(a, 'x')\nfor a in v.stdout.split(','):\n    ctx.run(a, 'x')",
            id="names",
        ),
        pytest.param(
            "while True:\n    t = ctx.run('t', 'x', continue_on_error=True)\n    if t.ok:\n        break",
            id="loop-that-never-ends",
        ),
        pytest.param("v = ctx.run('v', 'x')\nn = int(v.stdout)\nwhile n:\n    n += 1", id="for-ever"),
        pytest.param(
            "v = ctx.run('v', 'x', output=schema(kind=enum('a', 'b')))\n"
            "ctx.run('w', 'x') if v.kind == 'a' else ctx.fail('no')",
            id="fail",
        ),
    ],
)  # fmt: skip
def test_what_only_values_would_make_wrong_is_not_told(sandbox: Sandbox, body: str) -> None:
    """Results are invented there: they may be no duration, or too many, or the same twice."""
    assert told(sandbox, body) == []


def test_looking_further_is_bounded(sandbox: Sandbox) -> None:
    """A loop that only a real result would end costs a part of a second."""
    began = time.monotonic()
    told(sandbox, "v = ctx.run('v', 'x')\nn = int(v.stdout)\nwhile n:\n    n += 1")
    assert time.monotonic() - began < 5


def test_a_field_that_is_not_of_the_type_is_told_when_the_value_is_known(sandbox: Sandbox) -> None:
    """Also in a later stage of a run: nothing misspelt is silently None."""
    body = (
        "v = ctx.run('v', 'x', output=schema(a=list(schema(n=optional(int)))))\n"
        "for item in v.a:\n    print(item.n)\n    print(item.m)"
    )
    known = {"v": {"ok": True, "state": "succeeded", "exit_code": 0, "outputs": {"a": [{}]}}}
    (found,) = sandbox.problems(body, known=known)
    assert (found.code, found.line) == ("PLU502", 7)
    assert found.message == "v.outputs.a[0] has no field `m`"


def test_inputs_are_read_by_their_types(sandbox: Sandbox) -> None:
    """A misspelt field of an input that is an object is an error, an absent one is None."""
    options = "triggers=[manual(inputs={'to': schema(host=str, port=optional(int))})]"
    source = workflow_of("print(ctx.inputs.to.port)\nctx.inputs.to.hots", options)
    (found,) = sandbox.plan(source, inputs={"to": {"host": "x"}}).diagnostics
    assert (found.code, found.line) == ("PLU502", 5)
    assert "did you mean `host`" in found.message

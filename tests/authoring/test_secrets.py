"""ctx.secrets: names that go into env, commands and stdin, and nowhere else (29)."""

import pytest
from authoring.sandboxed import Sandbox, workflow_of

from plue.wire.plan import Secret, secrets_of

ALLOWED = [
    pytest.param('ctx.run("a", "x", env={"T": ctx.secrets.TOKEN})', id="env"),
    pytest.param('ctx.run("a", f"x {ctx.secrets.TOKEN}")', id="command"),
    pytest.param('ctx.run("a", ["x", ctx.secrets.TOKEN])', id="word"),
    pytest.param('ctx.run("a", "x", stdin=ctx.secrets.TOKEN)', id="stdin"),
    pytest.param('ctx.run("a", "x", env={"T": f"Bearer {ctx.secrets.TOKEN}"})', id="f-string"),
    pytest.param('ctx.run("a", "x", env={"T": "Bearer " + ctx.secrets.TOKEN})', id="plus"),
    pytest.param('ctx.run("a", "x", env={"T": ":".join(["u", ctx.secrets.TOKEN])})', id="join"),
    pytest.param('ctx.run("a", "x", env={"T": "u:%s" % ctx.secrets.TOKEN})', id="percent"),
    pytest.param('ctx.run("a", "x", env={"T": "u:{}".format(ctx.secrets["TOKEN"])})', id="format"),
    pytest.param('ctx.run("a", textwrap.dedent(f"""\n  x {ctx.secrets.TOKEN}\n"""))', id="dedent"),
    pytest.param('ctx.cleanup("a", f"x {ctx.secrets.TOKEN}")', id="clean-up"),
    pytest.param('b = ctx.run("b", "x")\nctx.run("a", "x", stdin=f"{b.stdout}:{ctx.secrets.TOKEN}")',
                 id="with-a-reference"),
    pytest.param('t = ctx.secrets.TOKEN\nctx.run("a", "x", env={"A": t, "B": str(t)})', id="variable"),
]  # fmt: skip


@pytest.mark.parametrize("body", ALLOWED)
def test_secrets_go_where_a_command_gets_them(sandbox: Sandbox, body: str) -> None:
    """As references, composition included; the plan has the name and never a value."""
    steps = sandbox.steps(body)
    assert secrets_of(steps.values()) == ("TOKEN",)
    assert str(Secret(secret="TOKEN").model_dump()) in str(steps["a"].model_dump())


def test_a_secret_in_a_command_is_a_quoted_variable(sandbox: Sandbox) -> None:
    """Shown by its name, given as a variable (21, 22)."""
    action = sandbox.steps('ctx.run("a", f"curl -H \'T: {ctx.secrets.TOKEN}\'")')["a"].action
    assert action.kind == "shell"
    assert action.script == "curl -H 'T: '\"${PLUE_V1}\"''"
    assert action.shown == "curl -H 'T: <secret TOKEN>'"


REFUSED = [
    pytest.param('ctx.secrets.T == "x"', id="compared"),
    pytest.param('"x" == ctx.secrets.T', id="compared-from-the-left"),
    pytest.param('f"a{ctx.secrets.T}" == "x"', id="composition-compared"),
    pytest.param("ctx.secrets.T is None", id="identity"),
    pytest.param('"x" in ctx.secrets.T', id="in"),
    pytest.param('ctx.secrets.T in ["x"]', id="in-a-list"),
    pytest.param("if ctx.secrets.T:\n    pass", id="truth"),
    pytest.param("not ctx.secrets.T", id="not"),
    pytest.param("len(ctx.secrets.T)", id="len"),
    pytest.param("ctx.secrets.T[0]", id="index"),
    pytest.param("ctx.secrets.T[1:]", id="slice"),
    pytest.param("list(ctx.secrets.T)", id="iterated"),
    pytest.param("ctx.secrets.T.upper()", id="method"),
    pytest.param('"a".replace("a", ctx.secrets.T)', id="argument-of-a-method"),
    pytest.param("int(ctx.secrets.T)", id="int"),
    pytest.param("{ctx.secrets.T: 1}", id="key"),
    pytest.param("print(ctx.secrets.T)", id="printed"),
    pytest.param('print(f"a{ctx.secrets.T}")', id="composition-printed"),
    pytest.param("print([ctx.secrets.T])", id="printed-in-a-list"),
    pytest.param('f"{ctx.secrets.T!r}"', id="repr"),
    pytest.param('f"{ctx.secrets.T:>9}"', id="format-spec"),
    pytest.param("json.dumps(ctx.secrets.T)", id="json"),
    pytest.param('json.dumps({"a": [ctx.secrets.T]})', id="json-inside"),
    pytest.param('re.match("x", ctx.secrets.T)', id="re"),
    pytest.param('sorted([ctx.secrets.T, "a"])', id="sorted"),
    pytest.param('match ctx.secrets.T:\n    case "x":\n        pass', id="match"),
    pytest.param("ctx.fail(ctx.secrets.T)", id="fail"),
    pytest.param("ctx.success(t=ctx.secrets.T)", id="output"),
    pytest.param("ctx.success(t=[ctx.secrets.T])", id="output-inside"),
    pytest.param('ctx.run(ctx.secrets.T, "x")', id="name"),
    pytest.param('ctx.run("a", "x", cwd=ctx.secrets.T)', id="cwd"),
    pytest.param('ctx.run("a", "x", shell=ctx.secrets.T)', id="shell"),
    pytest.param('ctx.run("a", "x", timeout=ctx.secrets.T)', id="timeout"),
    pytest.param('ctx.run("a", "x", when=ctx.secrets.T == "y")', id="when"),
    pytest.param('ctx.run("a", "x", env={ctx.secrets.T: "y"})', id="name-of-a-variable"),
    pytest.param('ctx.run("a", "x", depends_on=ctx.secrets.T)', id="depends-on"),
    pytest.param("ctx.read(ctx.secrets.T)", id="read"),
    pytest.param('ctx.read("a", default=ctx.secrets.T)', id="default"),
    pytest.param('ctx.write("a", ctx.secrets.T)', id="write"),
    pytest.param('ctx.glob(f"{ctx.secrets.T}/*")', id="glob"),
    pytest.param("ctx.git.diff(base=ctx.secrets.T)", id="git"),
    pytest.param('raise ValueError(ctx.secrets.T == "")', id="raised"),
]  # fmt: skip


@pytest.mark.parametrize("body", REFUSED)
def test_a_secret_anywhere_else_is_an_error(sandbox: Sandbox, body: str) -> None:
    """At planning, with the places that may have one; nothing of it is ever said."""
    found = sandbox.plan(workflow_of(body))
    assert found.plan is None
    assert "PLU520" in [d.code for d in found.diagnostics], found.diagnostics
    assert found.printed == ""
    assert "stdin=" in (found.diagnostics[0].remedy or "")


def test_a_secret_is_no_input_of_a_call(sandbox: Sandbox) -> None:
    """A called workflow names the secrets that it needs itself."""
    text = workflow_of("pass", 'triggers=[manual(inputs={"t": str})]').replace(
        "def ci", "def other"
    )
    body = workflow_of("ctx.call(other, t=ctx.secrets.T)")
    (problem,) = sandbox.plan(f"{text}\n{body}").diagnostics
    assert problem.code == "PLU520"


def test_an_exception_with_a_secret_says_nothing_of_it(sandbox: Sandbox) -> None:
    """There is no value to say; its name is not shown either."""
    (problem,) = sandbox.problems('raise ValueError(f"a {ctx.secrets.T}")')
    assert problem.code == "PLU601"
    assert "secret" not in problem.message


PROMPT = """---
name: Review
type: llm
inputs:
  diff: string
output:
  approved: boolean
---
Look at {{ diff }}
"""


@pytest.mark.parametrize("given", ["ctx.secrets.X", 'f"a{ctx.secrets.X}"', "ctx.secrets.X + 'a'"])
def test_a_secret_never_reaches_a_prompt(sandbox: Sandbox, given: str) -> None:
    """A model would see it (29)."""
    source = f"from plue.prompts import Review\n{workflow_of(f'Review(diff={given})')}"
    found = sandbox.plan(source, files={".plue/prompts/review.prompt.md": PROMPT})
    assert found.plan is None
    assert {d.code for d in found.diagnostics} == {"PLU520"}

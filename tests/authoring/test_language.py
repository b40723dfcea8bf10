"""The language: what a workflow's code records, rule by rule (numbers are the language's rules)."""

import pytest
from authoring.sandboxed import Sandbox, workflow_of

from plue.wire.plan import Data, Lit, Ref, Step, When


def words_of(text: object) -> str:
    """Show a Text: literals as they are, data in «», references in <>."""
    assert isinstance(text, tuple)
    shown = ""
    for part in text:
        match part:
            case Lit(text=literal):
                shown += literal
            case Data(data=value):
                shown += f"«{value}»"
            case Ref():
                shown += f"<{'.'.join([part.ref, part.field, *map(str, part.path)])}>"
    return shown


def env_of(step: Step) -> dict[str, str]:
    """Show a step's environment."""
    return {name: words_of(text) for name, text in step.env.items()}


# ── values and text (1 to 8) ─────────────────────────────────────────────────────────────────────

BUILD = 'b = ctx.run("b", "make")\n'
COMPOSED = [
    pytest.param('f"{b.stdout}-x"', "<b.stdout>-x", id="f-string"),
    pytest.param('"v" + b.stdout + "-x"', "v<b.stdout>-x", id="plus"),
    pytest.param("b.stdout + b.stderr", "<b.stdout><b.stderr>", id="plus-references"),
    pytest.param('"%s: %d" % (b.stdout, 3)', "<b.stdout>: 3", id="percent"),
    pytest.param('"%(a)s" % {"a": b.stdout}', "<b.stdout>", id="percent-names"),
    pytest.param('"%s%%" % b.stdout', "<b.stdout>%", id="percent-single"),
    pytest.param('"{0}-{x}".format(b.stdout, x=1)', "<b.stdout>-1", id="format-numbers"),
    pytest.param('"{0.stdout}".format(b)', "<b.stdout>", id="format-attribute"),
    pytest.param('",".join([b.stdout, "x"])', "<b.stdout>,x", id="join"),
    pytest.param("str(b.stdout)", "<b.stdout>", id="str"),
    pytest.param("b.stdout.tail(3)", "<b.stdout>", id="tail"),
    pytest.param("b.outputs.version", "<b.outputs.version>", id="output"),
    pytest.param('b.outputs["version"]', "<b.outputs.version>", id="output-by-key"),
    pytest.param('b.outputs.get("v", "none")', "<b.outputs.v>", id="output-with-default"),
    pytest.param('f"{b.exit_code}{b.ok}"', "<b.exit_code><b.ok>", id="recording-needs-no-value"),
    pytest.param('f"{True} {3} {1.5}"', "true 3 1.5", id="numbers-and-booleans"),
    pytest.param('f"{3:03d}{\'x\':>3}"', "003  x", id="format-specification"),
    pytest.param('f"{[1, None]!r}"', "[1, None]", id="repr"),
    pytest.param('textwrap.dedent(f"""\\n  a\\n  {b.stdout}\\n""")', "\na\n<b.stdout>\n",
                 id="dedent-keeps-holes"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), COMPOSED)
def test_text_keeps_references(sandbox: Sandbox, expression: str, expected: str) -> None:
    """Composing text records references and asks for nothing (2, 3)."""
    steps = sandbox.steps(f'{BUILD}ctx.run("t", "true", env={{"X": {expression}}})')
    assert expected == words_of(steps["t"].env["X"])


MARKED = [
    pytest.param("ctx.inputs.env", "«prod»", id="input"),
    pytest.param("ctx.event.ref", "«main»", id="event"),
    pytest.param("ctx.event.pr.title", "«Fix»", id="nested-event"),
    pytest.param('f"x-{ctx.inputs.env}"', "x-«prod»", id="f-string"),
    pytest.param("ctx.inputs.env.upper()", "«PROD»", id="method"),
    pytest.param("ctx.inputs.env[1:]", "«rod»", id="slice"),
    pytest.param('"a,b".replace("a", ctx.inputs.env)', "«prod,b»", id="argument-of-a-method"),
    pytest.param('"-".join(ctx.inputs.env)', "«p»-«r»-«o»-«d»", id="characters"),
    pytest.param("sorted(ctx.inputs.env)[0]", "«d»", id="sorted"),
    pytest.param('max(ctx.inputs.env, "a")', "«prod»", id="max"),
    pytest.param('ctx.inputs.env.split("o")[0]', "«pr»", id="split"),
    pytest.param('json.loads(\'{"a": 1}\') and json.dumps({"a": ctx.inputs.env})',
                 '«{"a": "prod"}»', id="json"),
    pytest.param('re.sub("o", "0", ctx.inputs.env)', "«pr0d»", id="re-sub"),
    pytest.param('re.search("r(o)", ctx.inputs.env).group(1)', "«o»", id="re-group"),
    pytest.param("str(ctx.inputs.env)", "«prod»", id="str"),
    pytest.param("repr(ctx.inputs.env)", "«'prod'»", id="repr"),
    pytest.param('f"{ctx.inputs.env!r:>8}"', "«  'prod'»", id="conversion-and-specification"),
    pytest.param('"%5s" % ctx.inputs.env', "« prod»", id="percent-width"),
    pytest.param("list(map(str.upper, [ctx.inputs.env]))[0]", "«PROD»", id="map"),
    pytest.param("{ctx.inputs.env: 1}.keys()[0]", "«prod»", id="key"),
    pytest.param('"x{}".format(ctx.inputs.env)', "x«prod»", id="format"),
    pytest.param("ctx.inputs.env.format()", "«prod»", id="template"),
    pytest.param('(ctx.inputs.env + "{}").format("x")', "«prod»x", id="template-in-part"),
    pytest.param("str(ctx.event.pr)", '«{"title":"Fix"}»', id="object"),
    pytest.param('{"prod": "p"}[ctx.inputs.env]', "p", id="lookup-gives-the-authors-text"),
    pytest.param('"yes" if ctx.inputs.env == "prod" else "no"', "yes", id="comparison"),
    pytest.param('"yes" if "ro" in ctx.inputs.env else "no"', "yes", id="contains"),
    pytest.param("str(ctx.inputs.n + 1)", "4", id="numbers-are-numbers"),
    pytest.param('f"{isinstance(ctx.inputs.env, str)}"', "true", id="isinstance"),
    pytest.param('f"{ctx.event.tag is None}"', "true", id="missing-is-none"),
    pytest.param("ctx.env.REGION", "eu", id="env"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), MARKED)
def test_data_keeps_its_mark(sandbox: Sandbox, expression: str, expected: str) -> None:
    """Text from inputs and events stays data through everything that makes text of it (21)."""
    source = workflow_of(
        f'ctx.run("t", "true", env={{"X": {expression}}})',
        'triggers=[manual(inputs={"env": str, "n": 3})], env={"REGION": "eu"}',
    )
    event = {"ref": "main", "pr": {"title": "Fix"}}
    planned = sandbox.plan(source, inputs={"env": "prod"}, event=event)
    assert planned.plan is not None, planned.diagnostics
    assert expected == words_of(planned.plan.steps[0].env["X"])


# ── order (9 to 13) ──────────────────────────────────────────────────────────────────────────────

ORDER = [
    pytest.param('ctx.run("a", "x")\nctx.run("b", "x")\nctx.run("c", "x")',
                 {"a": (), "b": ("a",), "c": ("b",)}, id="one-after-another"),
    pytest.param('a = ctx.run("a", "x")\nctx.run("b", "x")\nctx.run("c", "x", depends_on=a)\n'
                 'ctx.run("d", "x")',
                 {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}, id="depends-on"),
    pytest.param('ctx.run("a", "x")\nctx.run("b", "x", depends_on=[])\nctx.run("c", "x")',
                 {"a": (), "b": (), "c": ("a", "b")}, id="depends-on-nothing"),
    pytest.param('a = ctx.run("a", "x")\nctx.run("b", "x")\n'
                 'ctx.run("c", f"echo {a.stdout}", depends_on=["b"])',
                 {"a": (), "b": ("a",), "c": ("b", "a")}, id="a-reference-adds-an-edge"),
    pytest.param('ctx.run("a", "x")\nctx.parallel([ctx.run("b", "x"), ctx.run("c", "x")])\n'
                 'ctx.run("d", "x")',
                 {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}, id="parallel"),
    pytest.param('def two(p):\n    ctx.run(f"{p}1", "x")\n    return ctx.run(f"{p}2", "x")\n'
                 'ctx.parallel([two(p) for p in "ab"])\nctx.run("z", "x")',
                 {"a1": (), "a2": ("a1",), "b1": (), "b2": ("b1",), "z": ("a2", "b2")},
                 id="branches-are-sequences"),
    pytest.param('ctx.parallel([ctx.parallel([ctx.run("a", "x"), ctx.run("b", "x")]),'
                 ' ctx.run("c", "x")])\nctx.run("d", "x")',
                 {"a": (), "b": (), "c": (), "d": ("a", "b", "c")}, id="nested"),
    pytest.param('ctx.run("a", "x")\nctx.parallel([])\nctx.run("b", "x")',
                 {"a": (), "b": ("a",)}, id="empty-parallel"),
    pytest.param('ctx.run("a", "x")\nctx.cleanup("down", "x")\nctx.run("b", "x")',
                 {"a": (), "down": ("a",), "b": ("a",)}, id="nothing-waits-for-a-cleanup"),
    pytest.param('g = ctx.parallel([ctx.run("a", "x"), ctx.run("b", "x")])\n'
                 'ctx.run("c", "x", depends_on=g)\nctx.run("d", "x", depends_on=g[1])',
                 {"a": (), "b": (), "c": ("a", "b"), "d": ("b",)}, id="depends-on-a-group"),
    pytest.param('ctx.run("a", "x", depends_on=["b"])\nctx.run("b", "x", depends_on=[])',
                 {"a": ("b",), "b": ()}, id="forward"),
    pytest.param('for i in range(3):\n    ctx.run("t", "x")',
                 {"t": (), "t#2": ("t",), "t#3": ("t#2",)}, id="repeated-name"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), ORDER)
def test_order(sandbox: Sandbox, body: str, expected: dict[str, tuple[str, ...]]) -> None:
    """A step starts after what is above it in its branch, unless it says otherwise (9 to 13)."""
    assert expected == {name: step.needs for name, step in sandbox.steps(body).items()}


def test_branch_is_the_place_of_a_step(sandbox: Sandbox) -> None:
    """Parallels count from 1 and elements from 0, nested ones go on."""
    body = (
        'ctx.parallel([ctx.run("a", "x")])\n'
        'ctx.parallel([ctx.run("b", "x"), ctx.parallel([ctx.run("c", "x")])])\nctx.run("d", "x")'
    )
    expected = {"a": ("1", "0"), "b": ("2", "0"), "c": ("2", "1", "1", "0"), "d": ()}
    assert expected == {name: step.branch for name, step in sandbox.steps(body).items()}


def test_parallel_returns_the_values_of_its_elements(sandbox: Sandbox) -> None:
    """The group is a tuple in the order of the elements (12)."""
    body = (
        'a, b = ctx.parallel([ctx.run("a", "x"), ctx.run("b", "x")])\n'
        'ctx.run("c", f"echo {a.stdout} {b.stdout}")'
    )
    assert sandbox.steps(body)["c"].action.shown == "echo <a.stdout> <b.stdout>"


# ── failure and ends (14 to 20) ──────────────────────────────────────────────────────────────────


def test_options_of_a_step_are_recorded(sandbox: Sandbox) -> None:
    """Every option of ctx.run stands in the plan."""
    step = sandbox.steps(
        'ctx.run("a", "x", timeout="1h30m", idle_timeout=90, retry=2, continue_on_error=True,\n'
        '        when="always", once=True, cwd="sub", env={"N": 1}, shell="sh",\n'
        "        output=schema(version=str, size=optional(int)))"
    )["a"]
    assert step.timeout_seconds == 5400.0
    assert step.idle_timeout_seconds == 90.0
    assert (
        step.retry,
        step.continue_on_error,
        step.when,
        step.once,
    ) == (2, True, When.ALWAYS, True)
    assert (words_of(step.cwd), env_of(step), step.action.shell) == ("sub", {"N": "1"}, "sh")
    assert step.output_schema is not None
    assert step.output_schema["required"] == ["version"]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        pytest.param('"success"', When.SUCCESS, id="success"),
        pytest.param('"failure"', When.FAILURE, id="failure"),
        pytest.param("True", When.SUCCESS, id="true"),
        pytest.param("False", When.NEVER, id="false"),
        pytest.param("ctx.event.ref == 'main'", When.NEVER, id="condition"),
    ],
)
def test_when(sandbox: Sandbox, when: str, expected: When) -> None:
    """A condition is a word or a bool (16)."""
    assert expected == sandbox.steps(f'ctx.run("a", "x", when={when})')["a"].when


def test_skipped_step_has_values_at_once(sandbox: Sandbox) -> None:
    """With when=False `.ok` is False and `.stdout` is empty, without waiting (16)."""
    body = (
        'a = ctx.run("a", "x", when=False)\n'
        'if not a.ok and a.stdout == "" and a.state == "skipped":\n    ctx.run("b", "x")'
    )
    assert "b" in sandbox.steps(body)


ENDS = [
    pytest.param('ctx.run("a", "x")', {}, [], id="falling-off-the-end"),
    pytest.param('b = ctx.run("b", "x")\nctx.success(v=b.stdout, n=3, l=[1])\nctx.run("z", "x")',
                 {"v": "<b.stdout>", "n": 3, "l": [1]}, [], id="success"),
    pytest.param('b = ctx.run("b", "x")\nctx.fail(f"no {b.stdout}")\nctx.run("z", "x")',
                 {}, ["no <b.stdout>"], id="fail"),
    pytest.param('ctx.parallel([ctx.fail("one"), ctx.run("b", "x")])\nctx.run("z", "x")',
                 {}, ["one"], id="fail-in-a-branch"),
    pytest.param('try:\n    ctx.fail("no")\nexcept Exception:\n    pass\nctx.run("z", "x")',
                 {}, ["no"], id="fail-cannot-be-caught"),
    pytest.param('try:\n    ctx.fail("no")\nfinally:\n    ctx.run("z", "x")',
                 {}, ["no"], id="nothing-is-recorded-after-the-end"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "outputs", "fails"), ENDS)
def test_ends(sandbox: Sandbox, body: str, outputs: dict[str, object], fails: list[str]) -> None:
    """Fail and success end the function for good; what is above them runs first (18)."""
    plan = sandbox.plan(workflow_of(body)).plan
    assert plan is not None
    assert plan.end is not None
    shown = {
        name: value["value"] if isinstance(value, dict) else words_of(value)
        for name, value in plan.end.outputs.items()
    }
    assert outputs == shown
    assert fails == [words_of(fail.reason) for fail in plan.fails]
    assert all(
        fail.needs == tuple(s.name for s in plan.steps[:1])
        for fail in plan.fails[:1]
        if plan.steps and not plan.steps[0].branch
    )
    assert "z" not in {step.name for step in plan.steps}


def test_cleanup_is_marked(sandbox: Sandbox) -> None:
    """A clean-up knows what must have been started (17)."""
    steps = sandbox.steps('ctx.run("up", "x")\nctx.cleanup("down", "y", timeout=5)')
    assert (
        steps["down"].cleanup,
        steps["down"].needs,
        steps["down"].timeout_seconds,
    ) == (True, ("up",), 5.0)


# ── commands (21 to 27) ──────────────────────────────────────────────────────────────────────────


def test_values_become_variables(sandbox: Sandbox) -> None:
    """A value in a command is a variable in the script; the same value is one variable (21, 22)."""
    step = sandbox.steps(BUILD + 'ctx.run("c", f"echo {b.stdout} \'{b.stderr}\' {b.stdout}")')["c"]
    assert step.action.script == 'echo "${PLUE_V1}" \'\'"${PLUE_V2}"\'\' "${PLUE_V1}"'
    assert {name: words_of(text) for name, text in step.action.holes.items()} == {
        "PLUE_V1": "<b.stdout>",
        "PLUE_V2": "<b.stderr>",
    }
    assert step.action.shown == "echo <b.stdout> '<b.stderr>' <b.stdout>"


def test_the_authors_text_stays_text(sandbox: Sandbox) -> None:
    """Literal text in a hole is the author's own and still splits (21)."""
    step = sandbox.steps('flags = "-a -b"\nctx.run("c", f"make {flags} {1 + 1}")')["c"]
    assert (step.action.script, step.action.holes) == ("make -a -b 2", {})


def test_list_of_words_runs_without_a_shell(sandbox: Sandbox) -> None:
    """Each element is one word, whatever is in it (24)."""
    step = sandbox.steps(BUILD + 'ctx.run("c", ["git", "tag", b.stdout, f"v{1}", 7])')["c"]
    assert step.action.argv is not None
    assert [words_of(w) for w in step.action.argv] == ["git", "tag", "<b.stdout>", "v1", "7"]
    assert step.action.script is None


@pytest.mark.parametrize("shell", ["bash", "sh", "python", "fish", "/usr/bin/env"])
def test_shell_is_recorded(sandbox: Sandbox, shell: str) -> None:
    """Any program can read the script, as long as no value stands in it (22, 24)."""
    step = sandbox.steps(
        f'ctx.run("c", "print(1)", shell="{shell}", env={{"X": ctx.event.ref or "-"}})'
    )["c"]
    assert shell == step.action.shell


def test_stdin_takes_values(sandbox: Sandbox) -> None:
    """Stdin keeps references and adds an edge (25)."""
    step = sandbox.steps(BUILD + 'ctx.run("c", "cat", stdin=b.stdout, depends_on=[])')["c"]
    assert (words_of(step.action.stdin), step.needs) == ("<b.stdout>", ("b",))


def test_schema_gives_typed_fields(sandbox: Sandbox) -> None:
    """Fields of output=schema(...) are references, nested ones too (27)."""
    body = (
        'b = ctx.run("b", "x", output=schema(image=schema(tag=str), sizes=list(int)))\n'
        'ctx.run("c", "y", env={"T": b.image.tag, "S": b.sizes[0], "O": b.outputs.image})'
    )
    expected = {
        "T": "<b.outputs.image.tag>",
        "S": "<b.outputs.sizes.0>",
        "O": "<b.outputs.image>",
    }
    assert expected == env_of(sandbox.steps(body)["c"])


# ── Python (35) ──────────────────────────────────────────────────────────────────────────────────

PYTHON = [
    pytest.param("d = {'a': 1}\nd['a'] += 2\nx = d['a']", "3", id="augmented-item"),
    pytest.param("class C:\n    n = 1\nc = C()\nc.n += 2\nx = c.n", "3", id="augmented-attribute"),
    pytest.param("x: int = 3", "3", id="annotation"),
    pytest.param("n = 1\ndef f() -> None:\n    nonlocal n\n    n += 2\nf()\nx = n", "3", id="nonlocal"),
    pytest.param("match ctx.event.ref:\n    case 'main' | 'dev':\n        x = 3\n    case _:\n        x = 4",
                 "3", id="match-literal"),
    pytest.param("match [1, 2, 3]:\n    case [a, *rest]:\n        x = a + len(rest)", "3", id="match-sequence"),
    pytest.param("match ctx.event:\n    case {'ref': r, **rest}:\n        x = 3 if r == 'main' else 4",
                 "3", id="match-mapping"),
    pytest.param("x = [i for i in range(5) if (y := i) == 3][0]", "3", id="walrus"),
    pytest.param("x = (lambda *a, **k: sum(a) + k['z'])(1, 1, z=1)", "3", id="lambda"),
    pytest.param("def g():\n    yield 1\n    yield 2\nx = sum(g())", "3", id="generator"),
    pytest.param("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    x = 3\nfinally:\n    pass", "3", id="try"),
    pytest.param("(a, (b, *c)), d = (1, (2, 3)), 4\nx = a + b", "3", id="unpacking"),
    pytest.param("x = {**{'a': 3}}['a']", "3", id="double-star"),
    pytest.param("@dataclass\nclass P:\n    a: int\n    b: int = 2\nx = P(1).a + P(1).b", "3", id="dataclass"),
    pytest.param("from dataclasses import dataclass, field\n@dataclass(frozen=True)\nclass P:\n    a: list = field(default_factory=list)\nx = len(P([1, 2, 3]).a)",
                 "3", id="dataclass-field"),
    pytest.param("class E(Exception):\n    pass\ntry:\n    raise E('no')\nexcept E as e:\n    x = len(e.args) + 2",
                 "3", id="own-exception"),
    pytest.param("import json, re\nx = json.loads('[1, 2, 3]')[-1]", "3", id="facade"),
    pytest.param("from math import ceil\nx = ceil(2.5)", "3", id="from-facade"),
    pytest.param("x = list(itertools.chain([1], [2], [3]))[2]", "3", id="itertools"),
    pytest.param("x = len({3, 1, 2, 3})", "3", id="set"),
    pytest.param("x = ''.join(str(i) for i in {3, 1, 2})", "312", id="sets-keep-their-order"),
    pytest.param("x = next(iter({i % 3 for i in [5, 4]} | {9}))", "2", id="set-comprehension"),
    pytest.param("x = [*range(4)][-1]", "3", id="star-display"),
    pytest.param("i = 0\nwhile True:\n    i += 1\n    if i > 2:\n        break\nx = i", "3", id="while"),
    pytest.param("x = int('11', 2)", "3", id="int-with-a-base"),
    pytest.param("x = getattr({'a': 3}, 'get')('a')", "3", id="getattr"),
    pytest.param("x = sorted({'b': 1, 'a': 2}.items(), key=lambda kv: kv[1])[-1][1] + 1", "3", id="sorted"),
    pytest.param("x = f\"{'a':<3}|\".index('|')", "3", id="method-of-an-f-string"),
    pytest.param("a = b = 3\nx = a if b is not None else 0", "3", id="is-not"),
    pytest.param("del_ = [1, 3]\ndel del_[0]\nx = del_[0]", "3", id="del"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), PYTHON)
def test_python_is_there(sandbox: Sandbox, code: str, expected: str) -> None:
    """Ordinary Python works (35)."""
    steps = sandbox.steps(
        f'{code}\nctx.run("t", "true", env={{"X": x}})', event={"ref": "main", "n": 1}
    )
    assert expected == words_of(steps["t"].env["X"])


def test_print_shows_references(sandbox: Sandbox) -> None:
    """Print records nothing and asks for nothing (3)."""
    body = BUILD + 'print("out", b.stdout, [b.ok], 1, None, True, f"{b.stderr}!", sep="|", end="")'
    assert (
        sandbox.plan(workflow_of(body)).printed == "out|<b.stdout>|[<b.ok>]|1|None|True|<b.stderr>!"
    )


def test_the_same_file_gives_the_same_plan(sandbox: Sandbox) -> None:
    """Evaluation is exact: two evaluations have one digest (7)."""
    body = "class C:\n    pass\nfor x in {f'{i}' for i in range(9)}:\n    ctx.run(f'{C()!r}'[1:-1] + x, 'x')"
    first, second = (sandbox.plan(workflow_of(body)).plan for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.digest == second.digest
    assert len(first.digest) == 64

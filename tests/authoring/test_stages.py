"""Stages: asking for an unknown value ends one, for good; known values let the next go on."""

from collections.abc import Mapping
from typing import Any

import pytest
from authoring.sandboxed import Sandbox, workflow_of

from plue.wire.plan import Lit, Plan, Ref

BUILD = 'b = ctx.run("b", "make")\n'
HANDLED = 'b = ctx.run("b", "make", continue_on_error=True)\n'


def done(stdout: str = "", **values: Any) -> dict[str, Any]:
    """Give the values of a step that succeeded."""
    return {
        "stdout": stdout, "stderr": "", "exit_code": 0, "ok": True, "state": "succeeded",
        "outputs": {}, **values,
    }  # fmt: skip


def failed() -> dict[str, Any]:
    """Give the values of a step that failed."""
    return done(exit_code=1, ok=False, state="failed")


def stage(sandbox: Sandbox, body: str, known: Mapping[str, Any] | None = None) -> Plan:
    """Evaluate one stage of a body."""
    planned = sandbox.plan(workflow_of(body), known=known)
    assert planned.plan is not None, planned.diagnostics
    return planned.plan


def names(plan: Plan) -> list[str]:
    """Return the names of a plan's steps."""
    return [step.name for step in plan.steps]


ASKING = [
    pytest.param('if b.stdout == "x":\n    pass', id="equals"),
    pytest.param("if b.stdout:\n    pass", id="bool"),
    pytest.param("not b.stdout", id="not"),
    pytest.param('"x" in b.stdout', id="in"),
    pytest.param("for line in b.stdout:\n    pass", id="for"),
    pytest.param("x, y = b.stdout", id="unpacking"),
    pytest.param("[*b.stdout]", id="star"),
    pytest.param("len(b.stdout)", id="len"),
    pytest.param("int(b.stdout)", id="int"),
    pytest.param("b.stdout[1:]", id="slice"),
    pytest.param("b.stdout[0]", id="index-of-text"),
    pytest.param("b.stdout.splitlines()", id="method"),
    pytest.param("{b.stdout: 1}", id="hash"),
    pytest.param("b.stdout * 2", id="arithmetic"),
    pytest.param('f"{b.stdout!r}"', id="conversion"),
    pytest.param('f"{b.stdout:>9}"', id="specification"),
    pytest.param("json.loads(b.stdout)", id="json"),
    pytest.param('re.match("x", b.stdout)', id="re"),
    pytest.param("b.stdout is None", id="is"),
    pytest.param("b.stdout < 'x'", id="less"),
    pytest.param('f"v{b.stdout}" == "v1"', id="composed-text"),
    pytest.param('len(f"v{b.stdout}")', id="len-of-composed-text"),
    pytest.param("match b.stdout:\n    case 'x':\n        pass", id="match"),
    pytest.param('ctx.run(b.stdout, "x")', id="name"),
    pytest.param('ctx.run("c", "x", when=b.stdout == "x")', id="when"),
    pytest.param('ctx.run("c", "x", timeout=b.stdout)', id="timeout"),
    pytest.param("isinstance(b.stdout, str)", id="isinstance"),
    pytest.param('{"a": 1}.get(b.stdout)', id="lookup"),
    pytest.param("sorted([b.stdout, 'a'])", id="sorted"),
]


@pytest.mark.parametrize("code", ASKING)
def test_asking_for_an_unknown_value_ends_the_stage(sandbox: Sandbox, code: str) -> None:
    """The plan so far is kept, with what it waits for; nothing after it is recorded."""
    plan = stage(sandbox, BUILD + code + '\nctx.run("z", "x")')
    assert names(plan) == ["b"]
    assert plan.end is None
    assert [(ref.ref, ref.field) for ref in plan.awaits] == [("b", "stdout")]


SWALLOWING = [
    pytest.param("try:\n    b.stdout == 'x'\nexcept Exception:\n    pass", id="except"),
    pytest.param("try:\n    b.stdout == 'x'\nexcept (ValueError, Exception) as e:\n    pass", id="tuple"),
    pytest.param("try:\n    b.stdout == 'x'\nfinally:\n    ctx.run('f', 'x')", id="finally"),
    pytest.param("class M:\n    def __enter__(self):\n        return 1\n    def __exit__(self, *a):\n"
                 "        return True\nwith M():\n    b.stdout == 'x'", id="with"),
    pytest.param("def g():\n    yield b.stdout == 'x'\nlist(g())", id="generator"),
    pytest.param("any(b.stdout == x for x in 'ab')", id="any"),
    pytest.param("hasattr(b.stdout.strip(), 'x')", id="hasattr"),
    pytest.param("getattr({}, b.stdout, None)", id="getattr-with-default"),
    pytest.param("class C:\n    def __eq__(self, other):\n        return b.stdout == 'x'\n[C()].index(1)",
                 id="inside-c-code"),
    pytest.param("sorted('ab', key=lambda x: len(b.stdout))", id="key-function"),
]  # fmt: skip


@pytest.mark.parametrize("code", SWALLOWING)
def test_the_end_of_a_stage_cannot_be_undone(sandbox: Sandbox, code: str) -> None:
    """Whatever the author catches, ctx records nothing afterwards (6)."""
    plan = stage(sandbox, BUILD + code + '\nctx.run("z", "x")')
    assert names(plan) == ["b"]
    assert plan.end is None


def test_known_values_let_the_evaluation_go_on(sandbox: Sandbox) -> None:
    """Real Python over a live result."""
    body = BUILD + 'for p in b.stdout.split():\n    ctx.run(f"t-{p}", f"make {p}")'
    first = stage(sandbox, body)
    again = stage(sandbox, body, {"b": done("api web")})
    assert names(first) == ["b"]
    assert names(again) == ["b", "t-api", "t-web"]
    assert again.end is not None
    assert "${PLUE_V1}" in (again.steps[1].action.script or "")


def test_references_stay_references(sandbox: Sandbox) -> None:
    """A known value changes no definition: plans record references, never values (1)."""
    body = HANDLED + 'ctx.run("c", f"echo {b.stdout}")\nif b.ok:\n    ctx.run("d", "x")'
    first = stage(sandbox, body)
    again = stage(sandbox, body, {"b": done("secret")})
    assert names(again) == ["b", "c", "d"]
    assert first.steps == again.steps[:2]
    assert "secret" not in again.model_dump_json()


def test_loop_until_green(sandbox: Sandbox) -> None:
    """Fix, test, until green: each round is a stage, and names count on (13)."""
    body = """
for round in range(5):
    t = ctx.run("test", "make test", continue_on_error=True)
    if t.ok:
        break
    ctx.run("fix", "make fix")
else:
    ctx.fail("still red")
ctx.run("release", "x")
"""
    known: dict[str, Any] = {}
    assert names(stage(sandbox, body, known)) == ["test"]
    known["test"] = failed()
    assert names(stage(sandbox, body, known)) == ["test", "fix", "test#2"]
    known["test#2"] = done()
    plan = stage(sandbox, body, known)
    assert names(plan) == ["test", "fix", "test#2", "release"]
    assert plan.end is not None


def test_branches_wait_for_themselves(sandbox: Sandbox) -> None:
    """An element that asks stops only itself; the caller waits for all (11, 12)."""
    body = """
def until(p):
    t = ctx.run(f"test-{p}", "x", continue_on_error=True)
    if not t.ok:
        ctx.run(f"fix-{p}", "x")
ctx.parallel([until(p) for p in "ab"])
ctx.run("after", "x")
"""
    first = stage(sandbox, body)
    assert names(first) == ["test-a", "test-b"]
    assert [ref.ref for ref in first.awaits] == ["test-a", "test-b"]
    second = stage(sandbox, body, {"test-b": failed()})
    assert names(second) == ["test-a", "test-b", "fix-b"]
    assert [ref.ref for ref in second.awaits] == ["test-a"]
    third = stage(sandbox, body, {"test-a": done(), "test-b": failed()})
    assert names(third) == ["test-a", "test-b", "fix-b", "after"]


def test_failed_value_parks_its_branch(sandbox: Sandbox) -> None:
    """What failed without being handled never becomes known: nothing more will come (14)."""
    plan = stage(sandbox, BUILD + 'if b.stdout:\n    ctx.run("c", "x")', {"b": failed()})
    assert names(plan) == ["b"]
    assert plan.awaits == ()
    assert plan.end is not None


def test_values_have_their_types(sandbox: Sandbox) -> None:
    """Known values are ordinary Python: numbers, booleans, JSON with a schema."""
    body = """
kind = schema(n=int, l=list(str), o=schema(k=str))
b = ctx.run("b", "x", continue_on_error=True, output=kind)
if b.exit_code + 1 == 3 and not b.ok and b.n > 2 and b.l[1:] == ["y"] and b.o.k == "v":
    for item in b.l:
        ctx.run(f"c-{item}", ["echo", item, b.n])
"""
    outputs = {"n": 3, "l": ["x", "y"], "o": {"k": "v"}}
    values = done(exit_code=2, ok=False, state="failed", outputs=outputs)
    assert names(stage(sandbox, body, {"b": values})) == ["b", "c-x", "c-y"]


def test_missing_output_says_so(sandbox: Sandbox) -> None:
    """An output that the step did not write is MissingValue, never empty (27)."""
    body = BUILD + 'if b.outputs.version == "1":\n    pass'
    (problem,) = sandbox.plan(workflow_of(body), known={"b": done()}).diagnostics
    assert problem.code == "PLU505"
    body = BUILD + 'if b.outputs.get("version", "none") == "none":\n    ctx.run("c", "x")'
    assert names(stage(sandbox, body, {"b": done()})) == ["b", "c"]


def test_replay_reproduces_what_was_recorded(sandbox: Sandbox) -> None:
    """The same file with the recorded steps is accepted."""
    body = HANDLED + 'if b.ok:\n    ctx.run("c", "x")'
    first = stage(sandbox, body)
    planned = sandbox.plan(workflow_of(body), known={"b": done()}, recorded=first.steps)
    assert planned.plan is not None
    assert names(planned.plan) == ["b", "c"]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        pytest.param('ctx.run("b", "make all")', "action", id="definition"),
        pytest.param('ctx.run("a", "x")\nctx.run("b", "make")', "needs", id="needs"),
        pytest.param('ctx.run("c", "make")', "not recorded again", id="name"),
    ],
)
def test_replay_that_differs_names_both_places(sandbox: Sandbox, after: str, said: str) -> None:
    """A stage that does not reproduce the recorded steps is an error with two places (5, 36)."""
    recorded = stage(sandbox, "\n\n" + 'ctx.run("b", "make")').steps
    (problem,) = sandbox.plan(workflow_of(after), recorded=recorded).diagnostics
    assert problem.code == "PLU607"
    assert said in problem.message
    assert problem.line == 4 or problem.related is not None


def test_group_ok_asks_all(sandbox: Sandbox) -> None:
    """A group's `.ok` is that of all its steps (12)."""
    body = (
        'g = ctx.parallel([ctx.run("a", "x", continue_on_error=True),'
        ' ctx.run("b", "x", continue_on_error=True)])\n'
        'if not g.ok:\n    ctx.run("c", "x")'
    )
    assert names(stage(sandbox, body, {"a": done(), "b": failed()})) == ["a", "b", "c"]
    assert names(stage(sandbox, body, {"a": done(), "b": done()})) == ["a", "b"]


def awaits(plan: Plan) -> list[tuple[str, int, int]]:
    """Return what a plan waits for: the value, the line that asks, and its question's number."""
    return [(f"{a.ref}.{a.field}", a.site.line if a.site else 0, a.together) for a in plan.awaits]


def test_awaits_say_where_they_were_asked(sandbox: Sandbox) -> None:
    """Each awaited value has its line; a group's `.ok` is one question about all its steps."""
    body = (
        "def one():\n    a = ctx.run('a', 'x')\n    if a.stdout:\n        pass\n"
        "def two():\n    g = ctx.parallel([ctx.run('b', 'x', continue_on_error=True),"
        " ctx.run('c', 'x', continue_on_error=True)])\n    if g.ok:\n        pass\n"
        "ctx.parallel([one(), two()])"
    )
    plan = stage(sandbox, body)
    assert awaits(plan) == [("a.stdout", 6, 0), ("b.ok", 10, 1), ("c.ok", 10, 1)]
    assert [a.handled for a in plan.awaits] == [False, True, True]


def test_a_group_is_not_ok_as_soon_as_one_is_not(sandbox: Sandbox) -> None:
    """The first that failed answers for all, whichever it is and whatever is unknown."""
    body = (
        'g = ctx.parallel([ctx.run("a", "x", continue_on_error=True),'
        ' ctx.run("b", "x", continue_on_error=True)])\n'
        'if not g.ok:\n    ctx.run("c", "x")'
    )
    assert names(stage(sandbox, body, {"b": failed()})) == ["a", "b", "c"]
    assert [a.ref for a in stage(sandbox, body, {"b": done()}).awaits] == ["a"]


def test_what_is_not_sent_yet_is_awaited(sandbox: Sandbox) -> None:
    """A step that ended has its state at once; what it printed comes when it is asked for."""
    ended = {"state": "succeeded", "ok": True, "exit_code": 0, "outputs": {}}
    body = HANDLED + 'if b.ok and b.stdout.tail(2) == "y":\n    ctx.run("c", "x")'
    assert [a.tail for a in stage(sandbox, body, {"b": ended}).awaits] == [2]
    known = {"b": ended | {"stdout.tail(2)": "y"}}
    assert names(stage(sandbox, body, known)) == ["b", "c"]


def test_too_large_a_value_says_what_to_write(sandbox: Sandbox) -> None:
    """What cannot be sent is an error where it is asked for (26)."""
    ended = {"state": "succeeded", "ok": True, "errors": {"stdout": "b.stdout is too long"}}
    body = BUILD + "if b.stdout:\n    pass"
    (problem,) = sandbox.plan(workflow_of(body), known={"b": ended}).diagnostics
    assert (problem.code, problem.line) == ("PLU511", 5)
    assert "tail(lines)" in (problem.remedy or "")


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        pytest.param({"state": "skipped", "reason": "Condition"}, ["b", "no"], id="condition"),
        pytest.param({"state": "skipped", "reason": "DependencyFailed"}, ["b"], id="dependency"),
        pytest.param({"state": "cancelled"}, ["b"], id="cancelled"),
    ],
)
def test_values_of_steps_that_did_not_run(
    sandbox: Sandbox, values: dict[str, Any], steps: list[str]
) -> None:
    """What `when` skipped is readable and not ok (16); what a failure skipped never is (14)."""
    body = 'b = ctx.run("b", "x", when="failure", continue_on_error=True)\n'
    body += 'ctx.run("yes" if b.ok or b.stdout else "no", "x")'
    assert names(stage(sandbox, body, {"b": values})) == steps


def test_a_clean_up_has_no_value_to_ask_for(sandbox: Sandbox) -> None:
    """It runs after everything else: waiting for it would be waiting for ever."""
    (problem,) = sandbox.problems('c = ctx.cleanup("c", "x")\nif c.stdout:\n    pass')
    assert (problem.code, problem.line) == ("PLU311", 5)
    assert problem.related == (".plue/workflows/ci.py", 4)


def test_stages_along_a_branch_are_bounded(sandbox: Sandbox) -> None:
    """After 50 waits in a row the code is told to look at its loop; others do not count (5)."""
    body = "while True:\n    if ctx.run('t', 'x').stdout == 'end':\n        break"
    known: dict[str, Any] = {}
    plan = stage(sandbox, body)
    asked: list[Any] = []
    for _ in range(50):
        assert [a.depth for a in plan.awaits] == [len(asked) + 1]
        asked += plan.awaits
        known[asked[-1].ref] = done()
        planned = sandbox.plan(workflow_of(body), known=known, recorded=plan.steps, asked=asked)
        if planned.plan is None:
            break
        plan = planned.plan
    assert len(asked) == 50
    assert [d.code for d in planned.diagnostics] == ["PLU610"]


def test_each_step_knows_the_answers_that_led_to_it(sandbox: Sandbox) -> None:
    """Why is this step here: the newest answers of its branch, with their lines."""
    body = (
        HANDLED + 'ctx.run("first", "x")\n'
        'if not b.ok and "y" in b.stdout:\n    ctx.run("c", "x")\nctx.run("d", "x")'
    )
    values = done(exit_code=1, ok=False, state="failed", stdout="xyz" * 50)
    planned = sandbox.plan(workflow_of(body), known={"b": values})
    assert {name: [a.text for a in found] for name, found in planned.why.items()} == {
        "c": ["b.ok == False, ci.py:6", f"b.stdout == '{('xyz' * 50)[:58]}…, ci.py:6"],
        "d": ["b.ok == False, ci.py:6", f"b.stdout == '{('xyz' * 50)[:58]}…, ci.py:6"],
    }


def test_replay_that_lost_a_step_names_what_is_there_instead(sandbox: Sandbox) -> None:
    """The second place is the step, or the question, that stands where the lost one was."""
    recorded = stage(sandbox, 'ctx.run("a", "x")\nctx.run("b", "x")').steps
    problems = sandbox.problems('ctx.run("a", "x")\n\n\nctx.run("c", "x")', recorded=recorded)
    (problem,) = problems
    assert (problem.code, problem.line) == ("PLU607", 5)
    assert problem.related == (".plue/workflows/ci.py", 7)
    problems = sandbox.problems(
        'a = ctx.run("a", "x")\n\nif a.stdout:\n    ctx.run("b", "x")', recorded=recorded
    )
    assert [p.related for p in problems] == [(".plue/workflows/ci.py", 6)]


def test_options_that_keep_references_ask_for_nothing(sandbox: Sandbox) -> None:
    """cmd, env, cwd, stdin and a cache's paths and key take values of later (4)."""
    steps = sandbox.steps(
        "from plue import cache\n"
        'a = ctx.run("a", "x")\nv = a.stdout\n'
        'ctx.run("b", f"echo {v}", env={"V": v, "W": f"{v}!"}, cwd=v, stdin=v,\n'
        "        cache=cache(paths=[v], key=f'k-{v}', restore_keys=[v]))\n"
        'ctx.run("c", ["echo", v], cwd=f"x/{v}")\nctx.cleanup("d", "x", cwd=v)'
    )
    assert [*steps] == ["a", "b", "c", "d"]
    assert steps["b"].cwd == (Ref(ref="a", field="stdout"),)
    assert steps["c"].cwd == (Lit(text="x/"), Ref(ref="a", field="stdout"))
    assert all("a" in steps[name].needs for name in ("b", "c", "d"))

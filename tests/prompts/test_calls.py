"""Prompts in workflows: what a call records, what its handle has, and what is wrong when planned."""

from collections.abc import Mapping
from typing import Any

import pytest
from authoring.sandboxed import Sandbox
from prompts.written import FIX, FOLDER, REVIEW, WORKFLOW, files_of, workflow_with

from plue.authoring.results import Planned
from plue.wire.plan import Fields, Items, Json, Prompt, Ref, Step

PROMPTS = {"review": REVIEW, "fix": FIX}


def planned(sandbox: Sandbox, body: str, **given: Any) -> Planned:
    """Plan a workflow with this body beside the two prompts."""
    return sandbox.call(
        sandbox.evaluator.plan(
            files_of(PROMPTS, workflow_with(body)),
            "ci",
            **{"inputs": {}, "event": {}, **given},
        )
    )


def steps(sandbox: Sandbox, body: str, **given: Any) -> dict[str, Step]:
    """Return the steps that the body records."""
    found = planned(sandbox, body, **given)
    assert found.plan is not None, found.diagnostics
    return {step.name: step for step in found.plan.steps}


def action_of(step: Step) -> Prompt:
    """Return the prompt of a step."""
    assert isinstance(step.action, Prompt)
    return step.action


def text_of(value: object) -> str:
    """Return a Text as a reader sees it."""
    assert isinstance(value, tuple)
    return "".join(
        f"<{p.ref}.{p.field}>" if isinstance(p, Ref) else getattr(p, "text", None) or p.data
        for p in value
    )


def test_a_call_is_one_step(sandbox: Sandbox) -> None:
    """The plan has what a runner needs: kind, sources, schemas, client, inputs."""
    body = 'CodeReview(diff="d", level="high", timeout="5m", retry=1)'
    step = steps(sandbox, body)["code-review"]
    action = action_of(step)
    assert (action.kind, action.prompt, action.template) == (
        "llm", "code-review", FOLDER + "review.prompt.md",
    )  # fmt: skip
    assert (step.timeout_seconds, step.retry, step.site.line if step.site else 0) == (300, 1, 5)
    assert action.client == "anthropic/claude-sonnet"
    assert action.sources[action.template].line == 18
    assert action.sources[action.template].text.startswith("Review at level")
    assert step.output_schema is not None
    assert list(step.output_schema["properties"]) == ["approved", "issues", "summary", "author"]  # type: ignore[arg-type,call-overload] # an object
    assert {name: text_of(value) for name, value in action.inputs.items()} == {
        "diff": "d", "level": "high",
    }  # fmt: skip
    assert action.shown == 'CodeReview(diff="d", level="high")'


def test_an_agent_has_tools_and_turns_that_a_call_may_change(sandbox: Sandbox) -> None:
    """Options of the call outrank the front matter."""
    body = (
        'FixErrors(errors="e", issues=[])\n'
        'FixErrors(name="second", errors="e", issues=[], tools=["glob", "grep"], '
        'max_turns=3, client="anthropic/claude-opus")'
    )
    found = steps(sandbox, body)
    first, second = action_of(found["fix-errors"]), action_of(found["second"])
    assert (first.kind, first.tools, first.max_turns) == (
        "agent", ("read_file", "edit_file", "shell"), 20,
    )  # fmt: skip
    assert (second.tools, second.max_turns, second.client) == (
        ("glob", "grep"), 3, "anthropic/claude-opus",
    )  # fmt: skip
    assert found["second"].needs == ("fix-errors",)


def test_inputs_keep_references_and_types(sandbox: Sandbox) -> None:
    """Text is parts, a reference keeps its value's type, lists and objects may hold both."""
    body = (
        'm = ctx.run("m", "make", output=schema(n=int, l=list(str)))\n'
        'r = CodeReview(diff=f"{ctx.inputs.text}{m.stdout}")\n'
        'FixErrors(errors=r.summary, rounds=m.n, issues=[{"file": m.stdout, "line": 3}, {"file": "x"}])\n'
        'FixErrors(name="all", errors=r.author.name, issues=r.issues)'
    )
    found = steps(sandbox, body, inputs={"text": "in "})
    assert text_of(action_of(found["code-review"]).inputs["diff"]) == "in <m.stdout>"
    fix = action_of(found["fix-errors"]).inputs
    assert fix["errors"] == Ref(ref="code-review", field="outputs", path=("summary",))
    assert fix["rounds"] == Ref(ref="m", field="outputs", path=("n",))
    first, second = fix["issues"].items if isinstance(fix["issues"], Items) else (None, None)
    assert isinstance(first, Fields)
    assert text_of((first.fields["file"],)) == "<m.stdout>"
    assert first.fields["line"] == Json(value=3)
    assert second == Json(value={"file": "x"})
    last = action_of(found["all"]).inputs
    assert last["errors"] == Ref(ref="code-review", field="outputs", path=("author", "name"))
    assert last["issues"] == Ref(ref="code-review", field="outputs", path=("issues",))
    assert found["fix-errors"].needs == ("code-review", "m")


def test_the_handle_has_the_fields_of_the_output(sandbox: Sandbox) -> None:
    """Fields are attributes; those that an agent has anyway are below .outputs."""
    body = (
        'r = CodeReview(diff="d")\n'
        'f = FixErrors(errors="e", issues=[])\n'
        'ctx.run("use", f"echo {r.summary} {r.author.name} {r.issues[0].file} {f.status} {f.summary} '
        '{f.turns} {f.fixed} {f.outputs.status} {f.state}")'
    )
    shown = steps(sandbox, body)["use"].action.shown
    assert shown == (
        "echo <code-review.outputs.summary> <code-review.outputs.author.name> "
        "<code-review.outputs.issues[0].file> <fix-errors.status> <fix-errors.summary> "
        "<fix-errors.turns> <fix-errors.outputs.fixed> <fix-errors.outputs.status> "
        "<fix-errors.state>"
    )


def ended(**outputs: Any) -> dict[str, Any]:
    """Return the values of a step that succeeded."""
    return {"state": "succeeded", "ok": True, "exit_code": None, "outputs": outputs}


def test_asking_for_a_field_ends_the_stage(sandbox: Sandbox) -> None:
    """`if not review.approved` waits for the answer, as for any other value."""
    body = (
        'r = CodeReview(diff="d")\n'
        "if not r.approved:\n"
        "    for issue in r.issues:\n"
        '        ctx.run(f"fix-{issue.file}", "fix")'
    )
    first = planned(sandbox, body).plan
    assert first is not None
    assert [(a.ref, a.field, a.path) for a in first.awaits] == [
        ("code-review", "outputs", ("approved",))
    ]
    known = {"code-review": ended(approved=False, issues=[{"file": "a"}, {"file": "b"}])}
    again = planned(sandbox, body, known=known, recorded=first.steps, stage=2).plan
    assert again is not None
    assert [step.name for step in again.steps] == ["code-review", "fix-a", "fix-b"]
    assert not again.awaits
    approved = {"code-review": ended(approved=True, issues=[])}
    done = planned(sandbox, body, known=approved, recorded=first.steps, stage=2).plan
    assert done is not None
    assert [step.name for step in done.steps] == ["code-review"]


def test_names_of_repeated_calls(sandbox: Sandbox) -> None:
    """The same place counts, two places need names, branches too (13)."""
    assert list(steps(sandbox, 'for d in ["a", "b"]:\n    CodeReview(diff=d)')) == [
        "code-review", "code-review#2",
    ]  # fmt: skip
    (problem,) = planned(sandbox, 'CodeReview(diff="a")\nCodeReview(diff="b")').diagnostics
    assert (problem.code, problem.line) == ("PLU302", 6)
    found = steps(sandbox, 'ctx.parallel([CodeReview(name=f"r-{d}", diff=d) for d in ["a", "b"]])')
    assert list(found) == ["r-a", "r-b"]


# body, code, line, words of message or remedy
WRONG = [
    ("positional", 'CodeReview("d")', "PLU722", 5, "by name"),
    ("unknown-input", 'CodeReview(diff="d", focsu="x")', "PLU723", 5, "did you mean `focus`"),
    ("missing", "CodeReview()", "PLU723", 5, "needs `diff`"),
    ("missing-two", "FixErrors()", "PLU723", 5, "`errors` and `issues`"),
    ("number-for-text", "CodeReview(diff=3)", "PLU723", 5, "CodeReview.diff: 3 is not text"),
    ("none-for-text", "CodeReview(diff=None)", "PLU723", 5, "null is not text"),
    ("choice", 'CodeReview(diff="d", level="mid")', "PLU723", 5, '"low", "high"'),
    ("text-for-number", 'FixErrors(errors="e", issues=[], rounds="3")', "PLU723", 5, "not a whole number"),
    ("deep", 'FixErrors(errors="e", issues=[{"file": "a"}, {"file": 7}])', "PLU723", 5, "issues[1].file: 7 is not text"),
    ("deep-missing", 'FixErrors(errors="e", issues=[{"line": 1}])', "PLU723", 5, "issues[0].file is missing"),
    ("deep-beside-reference", 'r = CodeReview(diff="d")\nFixErrors(errors="e", issues=[{"file": r.summary, "lnie": 1}])', "PLU723", 6, "did you mean `line`"),
    ("reference-type", 'r = CodeReview(diff="d")\nFixErrors(errors=r.approved, issues=[])', "PLU723", 6, "is true or false, not text"),
    ("reference-list", 'r = CodeReview(diff="d")\nFixErrors(errors=r.issues, issues=[])', "PLU723", 6, "is a list, not text"),
    ("reference-items", 'm = ctx.run("m", "x", output=schema(l=list(str)))\nFixErrors(errors="e", issues=m.l)', "PLU723", 6, "is text, not an object"),
    ("composed-for-number", 'm = ctx.run("m", "x")\nFixErrors(errors="e", issues=[], rounds=m.stdout)', "PLU723", 6, "is text, not a whole number"),
    ("handle", 'r = CodeReview(diff="d")\nFixErrors(errors=r, issues=[])', "PLU501", 6, ".approved"),
    ("field", 'r = CodeReview(diff="d")\nr.aproved', "PLU502", 6, "did you mean `approved`"),
    ("nested-field", 'r = CodeReview(diff="d")\nr.author.nmae', "PLU502", 6, "did you mean `name`"),
    ("output-field", 'f = FixErrors(errors="e", issues=[])\nf.outputs.turns', "PLU502", 6, "no output `turns`"),
    ("no-stdout", 'r = CodeReview(diff="d")\nr.stdout', "PLU502", 6, "approved, issues, summary"),
    ("in-text", 'r = CodeReview(diff="d")\nctx.run("a", f"echo {r}")', "PLU501", 6, ".approved"),
    ("condition", 'r = CodeReview(diff="d")\nif r:\n    pass', "PLU501", 6, ".approved"),
    ("ok", 'r = CodeReview(diff="d")\nif r.ok:\n    pass', "PLU310", 6, "continue_on_error"),
    ("prompt-attribute", "CodeReview.approved", "PLU722", 5, "before it is called"),
    ("turns-of-llm", 'CodeReview(diff="d", max_turns=3)', "PLU722", 5, "belongs to agents"),
    ("tools-of-llm", 'CodeReview(diff="d", tools=["shell"])', "PLU722", 5, "type: agent"),
    ("tool", 'FixErrors(errors="e", issues=[], tools=["shel"])', "PLU306", 5, "did you mean `shell`"),
    ("client", 'CodeReview(diff="d", client="sonnet")', "PLU306", 5, "anthropic/claude-sonnet"),
    ("timeout", 'CodeReview(diff="d", timeout="soon")', "PLU104", 5, "30m"),
    ("secret", "CodeReview(diff=ctx.secrets.TOKEN)", "PLU520", 5, "a model would read it"),
    ("secret-in-text", 'CodeReview(diff=f"x {ctx.secrets.TOKEN}")', "PLU520", 5, "env="),
    ("secret-inside", 'FixErrors(errors="e", issues=[{"file": ctx.secrets.TOKEN}])', "PLU520", 5, "env="),
    ("generator", 'list(CodeReview(name=d, diff=d) for d in "ab")', "PLU022", 5, "[...]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "line", "word"), [pytest.param(*row[1:], id=row[0]) for row in WRONG]
)
def test_wrong_calls(sandbox: Sandbox, body: str, code: str, line: int, word: str) -> None:
    """Each mistake is told when the plan is made, with its place and a remedy."""
    (found,) = planned(sandbox, body).diagnostics
    assert (found.code, found.line, found.file) == (code, line, WORKFLOW), found
    assert word in f"{found.message} {found.remedy}"


def test_every_wrong_input_is_told_at_once(sandbox: Sandbox) -> None:
    """One wrong input hides no other."""
    body = 'FixErrors(errors=3, issues="x", rund=1, max_turns=0)'
    found = planned(sandbox, body).diagnostics
    assert [d.code for d in found] == ["PLU723", "PLU723", "PLU723", "PLU306"]


IMPORTS = [
    ("unknown", "CodeRview", "PLU720", "did you mean `CodeReview`"),
    ("kebab", "codereview", "PLU720", "there are: CodeReview, FixErrors"),
    ("star", "*", "PLU010", "names"),
    ("private", "_x", "PLU013", "underscore"),
]


@pytest.mark.parametrize(
    ("name", "code", "word"), [pytest.param(*row[1:], id=row[0]) for row in IMPORTS]
)
def test_wrong_imports(sandbox: Sandbox, name: str, code: str, word: str) -> None:
    """What cannot be imported is told at the import."""
    files = files_of(PROMPTS, workflow_with("pass", name))
    found = sandbox.call(sandbox.evaluator.plan(files, "ci", inputs={}, event={})).diagnostics
    assert [(d.code, d.line) for d in found] == [(code, 2)]
    assert word in f"{found[0].message} {found[0].remedy}"


def test_a_broken_prompt_is_told_with_its_own_errors(sandbox: Sandbox) -> None:
    """The import names it, and the plan shows what is wrong in the prompt's file."""
    files = files_of({"review": REVIEW + "{{ nothing }}"}, workflow_with("pass", "CodeReview"))
    found = sandbox.call(sandbox.evaluator.plan(files, "ci", inputs={}, event={})).diagnostics
    told = {(d.code, d.file) for d in found}
    assert told == {("PLU721", WORKFLOW), ("PLU711", FOLDER + "review.prompt.md")}


def test_a_prompt_is_called_inside_a_workflow(sandbox: Sandbox) -> None:
    """At import there is no run to record into."""
    source = workflow_with("pass")
    source = source.replace("@workflow", "x = CodeReview(diff='d')\n@workflow", 1)
    files = files_of(PROMPTS, source)
    found = sandbox.call(sandbox.evaluator.describe(files)).diagnostics
    assert "PLU722" in {d.code for d in found}


def test_a_library_may_call_prompts(sandbox: Sandbox) -> None:
    """A module of lib imports prompts as a workflow does; the revision covers them all."""
    files = files_of(PROMPTS, "from plue import workflow\nfrom lib.steps import review\n"
                     "@workflow\ndef ci(ctx):\n    review('d')\n")  # fmt: skip
    files[".plue/lib/steps.py"] = (
        "from plue.prompts import CodeReview\ndef review(d):\n    return CodeReview(diff=d)\n"
    )
    found = sandbox.call(sandbox.evaluator.plan(files, "ci", inputs={}, event={}))
    assert found.info is not None, found.diagnostics
    assert list(found.info.files) == [
        ".plue/lib/steps.py", FOLDER + "review.prompt.md", WORKFLOW,
    ]  # fmt: skip


def revision_of(sandbox: Sandbox, files: Mapping[str, str]) -> str:
    """Return the workflow's revision."""
    (info,) = sandbox.call(sandbox.evaluator.describe(files)).workflows
    return info.revision


def test_the_revision_covers_the_imported_prompts_and_no_others(sandbox: Sandbox) -> None:
    """A change of a prompt, or of what it includes, is another revision; others are not."""
    review = REVIEW + '{% include "style.md" %}\n'
    prompts = {"review": review, "fix": FIX, "style.md": "Be kind."}
    source = workflow_with('CodeReview(diff="d")', "CodeReview")
    first = revision_of(sandbox, files_of(prompts, source))
    other = revision_of(sandbox, files_of({**prompts, "fix": FIX + "More."}, source))
    changed = revision_of(sandbox, files_of({**prompts, "style.md": "Be strict."}, source))
    prompt = revision_of(sandbox, files_of({**prompts, "review": review + "!"}, source))
    assert first == other
    assert len({first, changed, prompt}) == 3


def test_a_changed_prompt_does_not_replay(sandbox: Sandbox) -> None:
    """A later stage must find the prompt as the first one recorded it."""
    body = 'r = CodeReview(diff="d")\nif r.approved:\n    pass'
    first = planned(sandbox, body).plan
    assert first is not None
    files = files_of({**PROMPTS, "review": REVIEW + "!"}, workflow_with(body))
    again = sandbox.call(
        sandbox.evaluator.plan(
            files, "ci", inputs={}, event={}, known={"code-review": ended(approved=True)},
            recorded=first.steps, stage=2,
        )
    )  # fmt: skip
    assert [d.code for d in again.diagnostics] == ["PLU607"]

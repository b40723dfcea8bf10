"""How plans grow: what an extension adds, what is due, what the evaluator and viewers are told."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plue.authoring.codes import Code
from plue.domain.growth import (
    _REASONS,
    Answer,
    Results,
    StepResult,
    answer_of,
    due,
    plan_body,
    shown_ref,
    standings,
    trouble_of,
)
from plue.domain.progress import StepValue
from plue.wire.events import Reason, StepState
from plue.wire.plan import Await, End, Fail, Lit, Plan, Ref, Shell, Site, Step
from plue.wire.stages import (
    Extension,
    Standing,
    Trouble,
    extended,
    extension_of,
    gives_values,
    is_due,
    standing_of,
)

S = StepState
STANDINGS = st.sampled_from(list(Standing))


def a_step(name: str, **fields: Any) -> Step:
    """Return a step."""
    return Step(name=name, action=Shell(script=name, shown=f"run {name}"), **fields)


def a_plan(*names: str, **fields: Any) -> Plan:
    """Return a plan of steps."""
    return Plan(workflow="ci", revision="r", steps=tuple(map(a_step, names)), **fields)


def asked(ref: str, field: str = "ok", **fields: Any) -> Await:
    """Return a question."""
    return Await(ref=ref, field=field, **fields)  # type: ignore[arg-type] # by name


@st.composite
def grown(draw: st.DrawFn) -> tuple[Plan, Plan]:
    """Give a plan and one that reproduces it, with new steps anywhere between."""
    kinds = draw(st.lists(st.booleans(), max_size=12))
    names = [f"{'old' if old else 'new'}{at}" for at, old in enumerate(kinds)]
    reason = (Lit(text=draw(st.text(max_size=5))),)
    after = a_plan(
        *names,
        stage=draw(st.integers(2, 500)),
        digest=draw(st.text(max_size=5)),
        fails=draw(st.lists(st.just(Fail(reason=reason)), max_size=2).map(tuple)),
        awaits=draw(st.lists(st.sampled_from(names).map(asked), max_size=3)) if names else (),
        end=draw(st.none() | st.just(End(outputs={"a": reason}))),
    )
    before = a_plan(*(name for name in names if name.startswith("old")), stage=after.stage - 1)
    return before, after


@given(grown())
def test_an_extension_makes_the_later_plan_of_the_earlier_one(plans: tuple[Plan, Plan]) -> None:
    """Whatever is new, wherever it stands, and also after its way through JSON."""
    before, after = plans
    extension = extension_of(before, after)
    assert extended(before, extension) == after
    assert Extension.model_validate_json(extension.model_dump_json()) == extension
    assert [p.step.name for p in extension.steps] == [
        step.name for step in after.steps if step.name.startswith("new")
    ]


def test_trouble_plans_nothing_more_and_leaves_what_is_planned() -> None:
    """Steps and failures stay; there is neither an end nor anything to wait for."""
    plan = a_plan("a", awaits=(asked("a"),))
    trouble = Trouble(reason=Reason.WORKFLOW_ERROR, message="boom")
    after = extended(plan, Extension(stage=2, fails=plan.fails, trouble=trouble))
    assert (after.steps, after.end, after.awaits) == (plan.steps, None, ())


@pytest.mark.parametrize(
    ("state", "reason", "handled", "expected"),
    [
        (S.SUCCEEDED, None, False, True),
        (S.FAILED, "StepFailed", True, True),
        (S.FAILED, "StepFailed", False, False),
        (S.SKIPPED, "Condition", False, True),
        (S.SKIPPED, "DependencyFailed", True, False),
        (S.CANCELLED, "Cancelled", True, False),
    ],
)
def test_which_ends_give_values(
    state: StepState, reason: str | None, *, handled: bool, expected: bool
) -> None:
    """Success, a handled failure, and what its own `when` kept from running."""
    assert gives_values(state, reason, handled=handled) is expected


@pytest.mark.parametrize(
    ("one", "state", "reason", "arrived", "expected"),
    [
        (asked("a"), None, None, True, Standing.OPEN),
        (asked("a"), S.RUNNING, None, True, Standing.OPEN),
        (asked("a"), S.SUCCEEDED, None, True, Standing.KNOWN),
        (asked("a", handled=True), S.FAILED, "StepFailed", True, Standing.FALSE),
        (asked("a", "exit_code", handled=True), S.FAILED, "StepFailed", True, Standing.KNOWN),
        (asked("a"), S.FAILED, "StepFailed", True, Standing.NEVER),
        (asked("a"), S.SKIPPED, "Condition", True, Standing.FALSE),
        (asked("a", "stdout"), S.SUCCEEDED, None, False, Standing.OPEN),
        (asked("a", "stdout"), S.SUCCEEDED, None, True, Standing.KNOWN),
        (asked("a", "stdout"), S.SKIPPED, "Condition", False, Standing.KNOWN),
        (asked("a", "outputs"), S.SUCCEEDED, None, False, Standing.KNOWN),
    ],
)
def test_what_is_known_of_a_question(
    one: Await, state: StepState | None, reason: str | None, *, arrived: bool, expected: Standing
) -> None:
    """What was printed counts when it has arrived; all else comes with the step's end."""
    assert standing_of(one, state, reason, arrived=arrived) is expected


@given(st.lists(st.tuples(st.integers(0, 2), STANDINGS), max_size=6))
def test_what_is_due(told: list[tuple[int, Standing]]) -> None:
    """One question has an answer: a value of its own, a whole group's, or a group's first false."""
    awaits = [asked(f"s{at}", together=group) for at, (group, _) in enumerate(told)]
    known = {one: standing for one, (_, standing) in zip(awaits, told, strict=True)}
    alone = [s for group, s in told if group == 0]
    groups = [[s for group, s in told if group == number] for number in (1, 2)]
    expected = any(s in {Standing.KNOWN, Standing.FALSE} for s in alone) or any(
        Standing.FALSE in group or (Standing.OPEN not in group and Standing.KNOWN in group)
        for group in groups
    )
    assert is_due(awaits, known.__getitem__) is expected


@given(st.lists(st.tuples(st.integers(0, 2), STANDINGS), max_size=6), st.data())
def test_what_is_due_stays_due(told: list[tuple[int, Standing]], data: st.DataObject) -> None:
    """An answer that comes later never takes back that there was one: nobody waits for ever."""
    awaits = [asked(f"s{at}", together=group) for at, (group, _) in enumerate(told)]
    known = {one: standing for one, (_, standing) in zip(awaits, told, strict=True)}
    before = is_due(awaits, known.__getitem__)
    later = {
        one: data.draw(STANDINGS) if standing is Standing.OPEN else standing
        for one, standing in known.items()
    }
    assert is_due(awaits, later.__getitem__) or not before


def results(
    steps: Mapping[str, StepState], values: Sequence[StepValue] = (), **outputs: Any
) -> Results:
    """Return what is known of steps that ended so."""
    return Results(
        {
            name: StepResult(name, state, None, 0 if state is S.SUCCEEDED else 1, outputs)
            for name, state in steps.items()
        },
        values,
    )


def test_what_was_printed_is_known_when_it_was_sent() -> None:
    """A step's end alone answers `.ok`, not `.stdout`; all of a stream answers for its tail."""
    plan = a_plan("a", awaits=(asked("a", "log", tail=5),))
    assert not due(plan, results({"a": S.SUCCEEDED}))
    whole = StepValue("a", "log", 0, "text", None)
    other = StepValue("a", "log", 3, "text", None)
    assert due(plan, results({"a": S.SUCCEEDED}, [whole]))
    assert not due(plan, results({"a": S.SUCCEEDED}, [other]))
    assert standings(plan.awaits, results({})) == {plan.awaits[0]: Standing.OPEN}


def test_what_the_evaluator_is_given() -> None:
    """Ends and outputs by step, streams by their name, and why a stream cannot be had."""
    values = [
        StepValue("a", "stdout", 0, "out", None),
        StepValue("a", "log", 5, "end", None),
        StepValue("a", "stderr", 0, None, "it has 3 MiB"),
        StepValue("gone", "stdout", 0, "of an attempt that is over", None),
    ]
    assert results({"a": S.FAILED}, values, n="1").known() == {
        "a": {
            "state": "failed",
            "reason": None,
            "exit_code": 1,
            "ok": False,
            "outputs": {"n": "1"},
            "stdout": "out",
            "log.tail(5)": "end",
            "errors": {"stderr": "it has 3 MiB"},
        }
    }


def test_why_there_is_no_further_stage() -> None:
    """The first diagnostic's code decides; a code that is not of evaluations is an invalid plan."""
    assert trouble_of("PLU601", "boom", "ci.py:4") == Trouble(
        reason=Reason.WORKFLOW_ERROR, message="ci.py:4: boom"
    )
    assert trouble_of("PLU302", "x", None) == Trouble(reason=Reason.INVALID_PLAN, message="x")
    assert trouble_of(None, "x", None).reason is Reason.INVALID_PLAN
    assert set(_REASONS) <= {str(code) for code in Code}


@pytest.mark.parametrize(
    ("ref", "shown"),
    [
        (Ref(ref="a", field="ok"), "a.ok"),
        (Ref(ref="a b", field="outputs", path=("v", 0, "x")), "a b.outputs.v[0].x"),
        (Ref(ref="a", field="log", tail=5), "a.log.tail(5)"),
    ],
)
def test_references_are_shown_as_people_write_them(ref: Ref, shown: str) -> None:
    """The same words that --assume takes."""
    assert shown_ref(ref) == shown


def test_viewers_are_told_what_a_stage_adds() -> None:
    """New steps with their places in the whole plan, and what it waits for; all, at first."""
    where = Site(file="ci.py", line=7)
    plan = a_plan("a", "b", stage=2, digest="d", awaits=(asked("b", site=where),))
    why = {"b": [Answer("a.ok", "True", "x/ci.py", 5)]}
    told = plan_body(plan, attempt=3, new=["b"], why=why)
    assert told == {
        "attempt": 3,
        "stage": 2,
        "digest": "d",
        "steps": [
            {
                "name": "b",
                "kind": "shell",
                "needs": [],
                "branch": [],
                "shown": "run b",
                "at": 1,
                "why": [{"value": "a.ok", "is": "True", "file": "x/ci.py", "line": 5}],
            }
        ],
        "awaits": [{"value": "b.ok", "file": "ci.py", "line": 7}],
    }
    whole = plan_body(plan, attempt=3)["steps"]
    assert isinstance(whole, list)
    assert len(whole) == 2
    trouble = Trouble(reason=Reason.WORKFLOW_ERROR, message="boom")
    assert plan_body(plan, attempt=1, new=(), trouble=trouble)["message"] == "boom"


@given(st.text(), st.text(), st.none() | st.text(min_size=1), st.integers(1))
def test_answers_come_back_from_rows(value: str, shown: str, file: str | None, line: int) -> None:
    """What is stored of an answer is all of it."""
    one = Answer(value, shown, file, line if file else None)
    assert answer_of(one.json()) == one


def test_answers_are_told_in_a_few_words() -> None:
    """The value, what it was, and the line of the author's file."""
    assert Answer("a.ok", "False", ".plue/workflows/ci.py", 14).text == "a.ok == False, ci.py:14"
    assert Answer("a.ok", "False").text == "a.ok == False"

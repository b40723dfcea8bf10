"""The rules of order and failure, as tables and for any plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runner.scripted import a_plan, lit, sh

from plue.wire.events import Reason, StepState
from plue.wire.plan import Fail, Plan, Step, When
from plue_runner.graph import Order, Past, cleanup_decisions, decide, fault_in, happened

OK = Past(StepState.SUCCEEDED, None, 1, failed_above=False, broken=False)
FAILED = Past(StepState.FAILED, Reason.EXIT_CODE, 1, failed_above=True, broken=True)
HANDLED = Past(StepState.FAILED, Reason.EXIT_CODE, 1, failed_above=True, broken=False)
SKIPPED = Past(StepState.SKIPPED, Reason.DEPENDENCY_FAILED, 0, failed_above=True, broken=True)
NEVER = Past(StepState.SKIPPED, Reason.CONDITION, 0, failed_above=False, broken=False)


@pytest.mark.parametrize(
    ("when", "past", "skip"),
    [
        pytest.param(When.SUCCESS, OK, None, id="success-after-success-starts"),
        pytest.param(When.SUCCESS, FAILED, Reason.DEPENDENCY_FAILED, id="success-after-failure"),
        pytest.param(When.SUCCESS, HANDLED, None, id="success-after-handled-failure-starts"),
        pytest.param(When.SUCCESS, SKIPPED, Reason.DEPENDENCY_FAILED, id="success-after-skipped"),
        pytest.param(When.SUCCESS, NEVER, None, id="a-false-condition-blocks-nobody"),
        pytest.param(When.FAILURE, OK, Reason.CONDITION, id="failure-after-success"),
        pytest.param(When.FAILURE, FAILED, None, id="failure-after-failure-starts"),
        pytest.param(When.FAILURE, HANDLED, None, id="failure-after-handled-failure-starts"),
        pytest.param(When.FAILURE, SKIPPED, None, id="failure-after-indirect-failure-starts"),
        pytest.param(When.ALWAYS, OK, None, id="always-after-success-starts"),
        pytest.param(When.ALWAYS, FAILED, None, id="always-after-failure-starts"),
        pytest.param(When.ALWAYS, SKIPPED, None, id="always-after-skipped-starts"),
        pytest.param(When.NEVER, OK, Reason.CONDITION, id="never-after-success"),
        pytest.param(When.NEVER, FAILED, Reason.CONDITION, id="never-after-failure"),
    ],
)
def test_decide_follows_when(when: When, past: Past, skip: Reason | None) -> None:
    """``when`` decides from how the dependencies ended."""
    step = sh("b", ":", needs=("a",), when=when)
    assert skip == decide(step, {"a": past}).skip


def _play(plan: Plan, fails: set[str]) -> dict[str, Past]:
    """Run the plan on paper; the steps in *fails* fail."""
    order = Order(plan.steps)
    decided = order.first()
    while decided:
        now = decided.pop(0)
        name = now.step.name
        if now.skip is not None:
            decided += order.end(now.step, StepState.SKIPPED, now.skip, 0)
        else:
            state = StepState.FAILED if name in fails else StepState.SUCCEEDED
            decided += order.end(now.step, state, None, 1)
    return order.past


def _states(plan: Plan, *fails: str) -> dict[str, str]:
    return {name: past.state.value for name, past in _play(plan, set(fails)).items()}


def test_order_does_not_hide_a_failure_behind_a_step_that_always_runs() -> None:
    """A plain step is skipped when anything that it depends on failed, directly or not."""
    plan = a_plan(
        sh("build", ":"),
        sh("report", ":", needs=("build",), when="always"),
        sh("deploy", ":", needs=("report",)),
    )
    expected = {"build": "failed", "report": "succeeded", "deploy": "skipped"}
    assert expected == _states(plan, "build")


def test_order_lets_independent_branches_go_on_after_a_failure() -> None:
    """What does not depend on the failure runs."""
    plan = a_plan(sh("a", ":"), sh("b", ":"), sh("a2", ":", needs=("a",)), sh("b2", ":"))
    expected = {"a": "failed", "b": "succeeded", "b2": "succeeded", "a2": "skipped"}
    assert expected == _states(plan, "a")


def test_order_goes_on_after_a_failure_step_that_was_not_needed() -> None:
    """A ``when="failure"`` step that did not run does not stop what stands below it."""
    plan = a_plan(
        sh("build", ":"),
        sh("notify", ":", needs=("build",), when="failure"),
        sh("deploy", ":", needs=("notify",)),
    )
    expected = {"build": "succeeded", "notify": "skipped", "deploy": "succeeded"}
    assert expected == _states(plan)


def test_cleanup_runs_newest_first_for_what_was_started() -> None:
    """Clean-up is decided last to first; without its step having started it is skipped."""
    steps = (
        sh("db", ":"),
        sh("stop db", ":", needs=("db",), cleanup=True),
        sh("web", ":", needs=("db",)),
        sh("stop web", ":", needs=("web",), cleanup=True),
    )
    decisions = cleanup_decisions(steps, _play(a_plan(*steps), {"db"}))
    expected = [("stop web", Reason.DEPENDENCY_FAILED), ("stop db", None)]
    assert expected == [(d.step.name, d.skip) for d in decisions]


def test_fail_happens_only_when_nothing_it_needs_is_broken() -> None:
    """A ``ctx.fail`` below a failed step was not reached; the first reached one counts."""
    plan = a_plan(
        sh("a", ":"),
        sh("b", ":"),
        fails=(Fail(reason=lit("after a"), needs=("a",)), Fail(reason=lit("after b"))),
    )
    assert plan.fails[1] == happened(plan.fails, _play(plan, {"a"}))
    assert plan.fails[0] == happened(plan.fails, _play(plan, set()))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        pytest.param((sh("a", ":"), sh("a", ":")), "two steps have the name 'a'", id="twice"),
        pytest.param((sh("a", ":", needs=("x",)),), "'a' needs 'x'", id="unknown-need"),
        pytest.param((sh("a", ":", needs=("a",)),), "'a' needs itself", id="itself"),
        pytest.param(
            (sh("a", ":", needs=("b",)), sh("b", ":", needs=("a",))), "needs itself", id="circle"
        ),
    ],
)
def test_fault_in_names_what_cannot_be_ordered(steps: tuple[Step, ...], said: str) -> None:
    """A plan that cannot be put in order is refused, and the message names the step."""
    fault = fault_in(a_plan(*steps))
    assert fault is not None
    assert said in fault


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, set[str]]:
    """Draw a plan without circles, and which of its steps fail."""
    count = draw(st.integers(1, 12))
    steps = []
    for index in range(count):
        above = [f"s{i}" for i in range(index)]
        needs = draw(st.lists(st.sampled_from(above), unique=True)) if above else []
        when = draw(st.sampled_from(When))
        handled = draw(st.booleans())
        steps.append(sh(f"s{index}", ":", needs=needs, when=when, continue_on_error=handled))
    return a_plan(*steps), draw(st.sets(st.sampled_from([s.name for s in steps])))


@given(plans())
def test_every_step_of_any_plan_ends_once_and_by_the_rules(drawn: tuple[Plan, set[str]]) -> None:
    """Whatever fails: all steps end, and success-steps run iff nothing above is unhandled."""
    plan, fails = drawn
    assert fault_in(plan) is None
    past = _play(plan, fails)
    assert {step.name for step in plan.steps} == set(past)
    above: dict[str, set[str]] = {}
    for step in plan.steps:
        above[step.name] = set(step.needs).union(*(above[need] for need in step.needs))
        ran = past[step.name].tries > 0
        bad = {n for n in above[step.name] if past[n].state is StepState.FAILED}
        unhandled = {n for n in bad if not _step(plan, n).continue_on_error}
        expected = {
            When.SUCCESS: not unhandled,
            When.FAILURE: bool(bad),
            When.ALWAYS: True,
            When.NEVER: False,
        }[step.when]
        assert expected == ran


def _step(plan: Plan, name: str) -> Step:
    return next(step for step in plan.steps if step.name == name)

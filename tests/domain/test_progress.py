"""What events mean for the rows of steps."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plue.domain.progress import StepChange, step_changes
from plue.wire.events import EventType, RunnerEvent, StepState

STARTED, COMPLETED, OUTPUT = (
    EventType.STEP_STARTED,
    EventType.STEP_COMPLETED,
    EventType.STEP_OUTPUT,
)


FIRST_TRY: dict[str, Any] = {"try": 1}
"""A word of Python cannot name an argument."""


def said(kind: EventType, step: str = "a", **body: Any) -> RunnerEvent:
    """Return an event."""
    return RunnerEvent(n=1, type=kind, step=step, body=body)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([said(OUTPUT)], [], id="output-changes-no-row"),
        pytest.param(
            [said(STARTED, **FIRST_TRY)],
            [StepChange("a", StepState.RUNNING, tries=1, started=True)],
            id="started",
        ),
        pytest.param(
            [said(STARTED, **FIRST_TRY), said(COMPLETED, state="failed", exit_code=3, tries=1)],
            [
                StepChange(
                    "a",
                    StepState.FAILED,
                    tries=1,
                    started=True,
                    ended=True,
                    exit_code=3,
                    duration_ms=0,
                    outputs={},
                )
            ],
            id="both-in-one-batch-are-one-change",
        ),
        pytest.param(
            [said(COMPLETED, state="running")],
            [StepChange("a", StepState.FAILED, ended=True, duration_ms=0, outputs={})],
            id="a-state-that-is-no-end-counts-as-failure",
        ),
    ],
)
def test_step_changes(events: list[RunnerEvent], expected: list[StepChange]) -> None:
    """A batch says of each step one thing: the last."""
    assert expected == step_changes(events)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.builds(
            RunnerEvent,
            n=st.just(1),
            type=st.sampled_from(list(EventType)),
            step=st.none() | st.sampled_from("ab"),
            body=st.dictionaries(
                st.sampled_from(
                    ["try", "tries", "state", "exit_code", "duration_ms", "outputs", "message"]
                ),
                _json,
            ),
        )
    )
)
def test_no_body_that_a_runner_sends_breaks_a_row(events: list[RunnerEvent]) -> None:
    """Whatever stands in a body, what comes out fits the columns."""
    changes = step_changes(events)
    assert len({c.name for c in changes}) == len(changes)
    for change in changes:
        assert change.ended == change.state.is_end
        assert all(
            -(2**31) <= (n or 0) < 2**31
            for n in (change.tries, change.exit_code, change.duration_ms)
        )
        assert "\0" not in (change.message or "")

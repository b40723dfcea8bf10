"""A run in words, from recorded events; no terminal and no server."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from cli.recorded import Recording, planned

from plue.cli.live import live_tree
from plue.cli.progress import RunProgress
from plue.cli.report import ASCII, UNICODE, PlainReport, summary

Events = Sequence[Mapping[str, Any]]


def _plain(events: Events, name: str = "ci-1") -> list[str]:
    report = PlainReport(RunProgress(name))
    return [line for event in events for line in report.take(event)]


def _progress(events: Events) -> RunProgress:
    run = RunProgress("ci-1")
    for event in events:
        run.take(event)
    return run


def test_plain_lines_name_their_step() -> None:
    """Each line begins with its step's name, padded to the longest; starts and ends are lines."""
    recording = Recording().begin(planned("lint"), planned("tests", "lint"))
    events = (
        recording.step("lint", "one\ntwo\n").step("tests", "ok\n").end("succeeded", "Succeeded")
    )
    assert _plain(events) == [
        "ci-1 queued",
        "ci-1 started",
        "lint  > started: do lint",
        "lint  | one",
        "lint  | two",
        "lint  < succeeded in 1.2 s",
        "tests > started: do tests",
        "tests | ok",
        "tests < succeeded in 1.2 s",
    ]


def test_a_line_in_pieces_is_one_line() -> None:
    """A partial chunk waits for its rest, per stream, and at the step's end at the latest."""
    recording = Recording().begin(planned("a"))
    recording.add("step_started", "a", **{"try": 1})
    for text, stream, partial in [
        ("be", "stdout", True),
        ("err", "stderr", True),
        ("gin\nnext", "stdout", True),
    ]:
        body = {"try": 1, "stream": stream, "text": text, "line": 1, "partial": partial}
        recording.add("step_output", "a", **body)
    recording.add("step_completed", "a", state="succeeded", tries=1, duration_ms=0)
    lines = [line for line in _plain(recording.events) if " | " in line]
    assert lines == ["a | begin", "a | next", "a | err"]


def test_blank_lines_are_lines() -> None:
    """An empty line of a step is shown as one."""
    events = Recording().begin(planned("a")).step("a", "\n\nx\n").events
    assert [line for line in _plain(events) if line.startswith("a |")] == ["a |", "a |", "a | x"]


def test_output_cannot_steer_the_terminal() -> None:
    """Escapes in output, names and messages are neutralised."""
    recording = Recording().begin(planned("a\x1b[2J"))
    recording.step("a\x1b[2J", "\x1b]0;x\x07\x1b[31mred\n", state="failed", message="\x1b[Hm")
    shown = "\n".join(_plain(recording.events))
    assert "\x1b" not in shown
    assert "| red" in shown
    run = _progress(recording.end("failed", "StepFailed", outputs={"o\x1b[1m": "\x1bcv"}))
    assert "\x1b" not in "\n".join(summary(run, icons=UNICODE))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            {"state": "failed", "exit_code": 3, "reason": "ExitCode"},
            "a < failed: exit code 3 in 1.2 s",
            id="exit-code",
        ),
        pytest.param(
            {"state": "failed", "message": "no such shell", "reason": "CannotStart"},
            "a < failed: no such shell (CannotStart) in 1.2 s",
            id="message-and-reason",
        ),
        pytest.param(
            {"state": "cancelled", "reason": "Cancelled"},
            "a < cancelled: Cancelled in 1.2 s",
            id="cancelled",
        ),
    ],
)
def test_a_step_says_how_it_ended(body: dict[str, Any], expected: str) -> None:
    """State, reason and duration are in the step's last line."""
    assert expected == _plain(Recording().begin(planned("a")).step("a", **body).events)[-1]


def test_a_skipped_step_has_no_duration() -> None:
    """What never started took no time."""
    recording = Recording().begin(planned("a"))
    recording.add("step_completed", "a", state="skipped", reason="DependencyFailed", tries=0)
    assert _plain(recording.events)[-1] == "a < skipped: DependencyFailed"


def test_tries_are_counted() -> None:
    """A repeated step says so when it starts and when it ends."""
    recording = Recording().begin(planned("a"))
    recording.add("step_started", "a", **{"try": 1, "shown": "x\ny"})
    recording.add("step_started", "a", **{"try": 2, "shown": "x\ny"})
    recording.add("step_completed", "a", state="succeeded", tries=2, duration_ms=100)
    assert _plain(recording.events)[-3:] == [
        "a > started: x …",
        "a > started (try 2): x …",
        "a < succeeded after 2 tries in 0.1 s",
    ]


def test_waiting_says_why() -> None:
    """A run that comes back to the queue says why, and counts its attempts."""
    recording = Recording().begin(planned("a")).step("a")
    recording.add("run_queued", attempt=2, reason="Lease")
    recording.add("run_started", attempt=2)
    assert _plain(recording.events)[-2:] == [
        "ci-1 queued: waiting until the lost runner has surely ended",
        "ci-1 started (attempt 2)",
    ]
    assert _progress(recording.events).steps == {}


def test_the_summary_has_all_that_matters() -> None:
    """State, duration and reason of run and steps, last lines of failures, outputs, the hint."""
    recording = Recording().begin(planned("lint"), planned("tests"), planned("deploy", "tests"))
    recording.step("lint").step("tests", "one\n", state="failed", exit_code=1, tail="E1\nE2\n")
    recording.add("step_completed", "deploy", state="skipped", reason="DependencyFailed", tries=0)
    outputs = {"version": "1.2", "list": [1, 2], "long": "a\nb"}
    events = recording.end("failed", "StepFailed", message="'tests' failed", outputs=outputs)
    assert summary(_progress(events), icons=ASCII, hint="plue run view ci-1") == [
        "x ci-1 failed in 2.5 s: 'tests' failed (StepFailed)",
        "  + lint        1.2 s",
        "  x tests       1.2 s  failed: exit code 1",
        "      E1",
        "      E2",
        "  - deploy             skipped: DependencyFailed",
        "outputs",
        "  version  1.2",
        "  list     [1, 2]",
        "  long     a … (2 lines)",
        "see it again: plue run view ci-1",
    ]


def test_without_a_reported_tail_the_last_lines_stand_in() -> None:
    """A failed step shows its own last lines, however it failed."""
    recording = Recording().begin(planned("a"))
    recording.step("a", "".join(f"{n}\n" for n in range(50)), state="failed", exit_code=1)
    lines = summary(_progress(recording.end("failed", "StepFailed")), icons=ASCII)
    assert lines[-1] == "      49"
    assert len(lines) == 2 + 12


def test_an_unknown_event_changes_nothing() -> None:
    """A newer server may say more than we understand."""
    recording = Recording().begin(planned("a"))
    before = _plain(recording.events)
    assert before == _plain(recording.add("llm_token", "a", text="x").events)


# ── the live tree ────────────────────────────────────────────────────────────────────────────────

_NOW = datetime(2026, 1, 2, 3, 4, 15, tzinfo=UTC)


def _tree(events: Events, *, width: int = 60, height: int = 20, note: str = "") -> list[str]:
    run = _progress(events)
    text = live_tree(run, now=_NOW, width=width, height=height, icons=ASCII, note=note)
    return text.plain.split("\n")


def _running(steps: int = 2, lines: int = 5) -> Events:
    branches = [planned(f"s{n}", branch=("1", str(n))) for n in range(steps)]
    recording = Recording().begin(planned("first"), *branches, planned("last"))
    recording.step("first")
    for n in range(steps):
        recording.add("step_started", f"s{n}", **{"try": 1, "shown": "x"})
        text = "".join(f"line {i}\n" for i in range(lines))
        body = {"try": 1, "stream": "stdout", "text": text, "line": 1}
        recording.add("step_output", f"s{n}", **body)
    return recording.events


def test_the_tree_shows_state_time_and_last_lines() -> None:
    """Running steps have their last output below them, parallel ones are indented."""
    assert _tree(_running(1)) == [
        "> ci-1  running  8.0 s",
        "  + first  succeeded  1.2 s",
        "    > s0  running  6.5 s",
        "        line 2",
        "        line 3",
        "        line 4",
        "  . last  pending",
    ]


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        pytest.param(6, 6, id="less-output"),
        pytest.param(5, 5, id="no-output"),
        pytest.param(3, 3, id="steps-that-run"),
    ],
)
def test_the_tree_fits_the_terminal(height: int, expected: int) -> None:
    """With little room output goes first; what runs stays as long as it can."""
    lines = _tree(_running(2), height=height)
    assert expected >= len(lines)
    assert any("s0  running" in line for line in lines)


def test_many_steps_are_summed_up() -> None:
    """What does not fit is counted."""
    lines = _tree(_running(30), height=10)
    assert len(lines) <= 10
    assert lines[-1] == "  … 24 steps more; 1 of 32 ended"


def test_long_lines_are_cut() -> None:
    """A line never wraps: that would break the painting."""
    recording = Recording().begin(planned("a"))
    recording.add("step_started", "a", **{"try": 1, "shown": "x"})
    body = {"try": 1, "stream": "stdout", "text": "w" * 500 + "\n", "line": 1}
    recording.add("step_output", "a", **body)
    assert max(map(len, _tree(recording.events, width=30))) < 30


def test_a_failed_step_shows_its_last_lines_and_a_note_is_last() -> None:
    """Failures are seen while the rest runs on."""
    recording = Recording().begin(planned("a"), planned("b"))
    recording.step("a", state="failed", exit_code=2, tail="boom\n")
    lines = _tree(recording.events, note="cancelling; Ctrl-C again leaves")
    assert "  x a  failed: exit code 2  1.2 s" in lines
    assert "      boom" in lines
    assert lines[-1] == "cancelling; Ctrl-C again leaves"


def test_what_a_model_does_is_shown_as_lines() -> None:
    """Tokens become lines, tools and waiting have lines of their own, and tokens are summed up."""
    said: list[tuple[str, dict[str, object]]] = [
        ("step_started", {"try": 1, "shown": "Fix()"}),
        ("llm_token", {"text": "I look\nat"}),
        ("llm_token", {"text": " it."}),
        ("agent_turn", {"usage": {"input": 10, "output": 5, "cache_read": 90}}),
        ("tool_start", {"name": "shell", "input": {"command": "make"}}),
        ("tool_end", {"name": "shell", "ok": False, "result": "no\nrule"}),
        ("step_waiting", {"reason": "Budget", "message": "extend it"}),
        ("step_waiting", {}),
    ]
    run = RunProgress("fix-1")
    report = PlainReport(run)
    lines = [
        line
        for n, (kind, body) in enumerate(said, 1)
        for line in report.take(
            {"n": n, "time": "2026-01-01T00:00:00Z", "type": kind, "step": "fix", "body": body}
        )
    ]
    assert lines == [
        "fix > started: Fix()",
        "fix | I look",
        "fix | at it.",
        'fix | → shell {"command": "make"}',
        "fix | ✗ shell: no …",
        "fix | waits: extend it",
        "fix | goes on",
    ]
    assert "[100 tokens in, 5 out]" in "\n".join(summary(run, icons=UNICODE))
    assert not any("cost" in line for line in summary(run, icons=UNICODE))
    run.usd = 0.00561
    assert "models cost $0.0056" in summary(run, icons=UNICODE)

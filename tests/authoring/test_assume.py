"""Assumed results: from words to known values, and to the plan that they lead to."""

from pathlib import Path
from typing import Any

import pytest
from authoring.sandboxed import workflow_of

from plue.authoring.assume import assumed, known_of
from plue.errors import RejectedError, UsageError
from plue.testing import plan


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        pytest.param("t.ok=false", "t.ok", False, id="json"),
        pytest.param("t.exit_code=3", "t.exit_code", 3, id="number"),
        pytest.param("t.stdout=12", "t.stdout", "12", id="what-is-printed-is-text"),
        pytest.param('t.stdout="a b"', "t.stdout", "a b", id="quoted-text"),
        pytest.param("t.stdout=a=b", "t.stdout", "a=b", id="equals-in-the-value"),
        pytest.param("t.summary=3 files", "t.summary", "3 files", id="what-an-agent-says"),
        pytest.param("t.turns=3", "t.turns", 3, id="an-agents-turns"),
        pytest.param("t.outputs.n=[1]", "t.outputs.n", [1], id="list"),
        pytest.param("t.outputs.n=x y", "t.outputs.n", "x y", id="not-json-is-text"),
    ],
)
def test_words_are_read_as_their_field_wants(word: str, key: str, value: Any) -> None:
    """Values are JSON, or else text; what a program prints is always text."""
    assert assumed([word]) == {key: value}


def test_what_is_not_said_follows_or_stays_unknown() -> None:
    """`ok=false` is a failure with exit code 1; outputs that were not assumed are not missing."""
    known = known_of({"a b.ok": False, "v1.ok.x.outputs.n": 3, "c#2.log.tail(5)": "x"})
    assert known == {
        "a b": {"partial": True, "outputs": {}, "ok": False, "state": "failed", "exit_code": 1},
        "v1.ok.x": {
            "partial": True, "outputs": {"n": 3}, "ok": True, "state": "succeeded", "exit_code": 0,
        },
        "c#2": {
            "partial": True, "outputs": {}, "log.tail(5)": "x", "ok": True, "state": "succeeded",
            "exit_code": 0,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "assume",
    [{"ok": True}, {"t.okay": True}, {"t.ok": "yes"}, {"t.exit_code": True}, {"t.stdout": 3}],
)
def test_wrong_assumptions_say_how_to_write_them(assume: dict[str, Any]) -> None:
    """A field that there is not, and a value of another type, are errors with a remedy."""
    with pytest.raises(UsageError) as caught:
        known_of(assume)
    assert "STEP.ok=false" in (caught.value.remedy or "")


BODY = """
unit = ctx.run("unit", "make unit", continue_on_error=True)
if not unit.ok:
    kind = ctx.run("kind", "triage")
    if kind.outputs.flaky == "yes":
        ctx.run("again", "make unit")
    else:
        ctx.fail(f"broken: {kind.stdout}")
ctx.run("ship", "make ship")
"""
FILES = {".plue/workflows/ci.py": workflow_of(BODY)}


def test_a_plan_under_test_goes_as_far_as_is_assumed() -> None:
    """In plain pytest: what is planned, why, and where it waits."""
    waiting = plan("ci", files=FILES)
    assert (waiting.names, waiting.waits_for, waiting.is_complete) == (["unit"], ["unit.ok"], False)
    red = plan("ci", files=FILES, assume={"unit.ok": False})
    assert (red.names, red.waits_for) == (["unit", "kind"], ["kind.outputs.flaky"])
    assert red.why("kind") == ["unit.ok == False, ci.py:5"]
    flaky = plan("ci", files=FILES, assume={"unit.ok": False, "kind.outputs.flaky": "yes"})
    assert (flaky.names, flaky.is_complete) == (["unit", "kind", "again", "ship"], True)
    assert "ship" in flaky
    assert flaky["again"].needs == ("kind",)
    assert [step.name for step in flaky] == flaky.names
    assert len(flaky) == 4
    broken = plan("ci", files=FILES, assume={"unit.ok": False, "kind.outputs.flaky": "no"})
    assert broken.fails
    green = plan("ci", files=FILES, assume={"unit.ok": True})
    assert green.names == ["unit", "ship"]
    with pytest.raises(KeyError, match="planned are unit, ship"):
        green["deploy"]


def test_a_plan_under_test_is_that_of_the_project_around(tmp_path: Path) -> None:
    """Without files, the project of the folder is planned; what is wrong with it is raised."""
    folder = tmp_path / ".plue" / "workflows"
    folder.mkdir(parents=True)
    (folder / "ci.py").write_text(FILES[".plue/workflows/ci.py"])
    assert plan("ci", root=tmp_path).names == ["unit"]
    with pytest.raises(RejectedError, match="PLU204"):
        plan("cd", root=tmp_path)

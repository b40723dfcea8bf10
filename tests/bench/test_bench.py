"""The benchmarks run, and their report says what was measured. No test judges a time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.__main__ import main
from bench.cases.registry import CASES
from bench.figures import Figure, Goal, percentile
from bench.world import environment


def _document(*figures: Figure) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(report.document(figures, command="make bench")))
    return made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_benchmark_runs(tmp_path: Path) -> None:
    """Each one gives figures, with values that can be true, when it is asked for little."""
    words = [sys.executable, "-m", "bench", "--smoke", "--history", "1000"]
    done = subprocess.run(
        [*words, "--json", str(tmp_path / "figures.json")],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    measured = json.loads((tmp_path / "figures.json").read_text())
    assert set(CASES) == {figure["bench"] for figure in measured["figures"]}
    for figure in measured["figures"]:
        assert figure["n"] > 0
        # What something adds is a difference of two measurements: of few, it may be below zero.
        if not figure["what"].startswith("added "):
            assert (figure["rate"] or figure["p50"]) > 0, figure


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong name is refused before anything is started, and the right ones are shown."""
    with pytest.raises(SystemExit):
        main(["nonesuch"])
    said = capsys.readouterr().err
    assert "nonesuch" in said
    assert "step-gap" in said


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        pytest.param(
            Figure(bench="b", what="w", values=[1, 2, 9], goal=Goal(p50=2)), True, id="p50"
        ),
        pytest.param(
            Figure(bench="b", what="w", values=[1, 2, 9], goal=Goal(p99=8)), False, id="p99"
        ),
        pytest.param(Figure(bench="b", what="w", rate=9, goal=Goal(at_least=10)), False, id="rate"),
        pytest.param(Figure(bench="b", what="w", values=[1]), None, id="no-goal"),
    ],
)
def test_a_figure_knows_whether_its_goal_is_met(figure: Figure, met: bool | None) -> None:
    """Bounds are of the percentile that they name; a rate has a lower bound."""
    assert met == figure.met


def test_a_percentile_is_a_value_that_was_seen() -> None:
    """Half of the values do not exceed the p50, and one in a hundred may exceed the p99."""
    values = [float(n) for n in range(1, 201)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (100, 198)


def test_the_readme_section_is_replaced_between_its_markers(tmp_path: Path) -> None:
    """Figures go between the markers, twice gives the same, and the rest stays as it is."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    figure = Figure(bench="b", what="gap", values=[3.0], goal=Goal(p50=5), reference="bare 2 ms")
    measured = _document(figure)
    report.rewrite(page, measured)
    first = page.read_text()
    report.rewrite(page, measured)
    assert first == page.read_text()
    assert first.startswith(f"before\n{report.BEGIN}\n")
    assert first.endswith(f"{report.END}\nafter\n")
    assert "| gap |  | 1 | 3 ms | 3 ms | p50 ≤ 5 | yes | bare 2 ms |" in first
    assert "old" not in first


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    """Nothing is written where the figures have no place."""
    page = tmp_path / "README.md"
    page.write_text("no place\n")
    with pytest.raises(ValueError, match="bench:begin"):
        report.rewrite(page, _document())
    assert page.read_text() == "no place\n"

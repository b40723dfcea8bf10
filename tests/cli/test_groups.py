"""Calls and fan-outs are shown together, under their names, where the first of them stands."""

from dataclasses import dataclass

import pytest

from plue.cli.groups import Heading, arranged


@dataclass(frozen=True)
class Shown:
    """A step as the display has it."""

    name: str
    group: tuple[str, ...] = ()


def drawn(*steps: Shown) -> list[str]:
    """Return what is shown, a line each, indented by its depth."""
    lines = []
    for depth, item in arranged(steps):
        text = f"[{item[0]} {item[1]}]" if isinstance(item, Heading) else item.name
        lines.append("  " * depth + text)
    return lines


A, B = Shown("test-a", ("test-{p}",)), Shown("test-b", ("test-{p}",))
CALL = Shown("release/build", ("release",)), Shown("release/publish", ("release",))
FAN = [Shown(f"to-{e}/{s}", ("to-{e}", f"to-{e}")) for e in "xy" for s in "12"]

CASES = [
    pytest.param([Shown("a"), Shown("b")], ["a", "b"], id="plain"),
    pytest.param([A, B], ["[test-{p} 2]", "  test-a", "  test-b"], id="fan-out"),
    pytest.param([A, Shown("x")], ["test-a", "x"], id="one-is-no-group"),
    pytest.param([A, Shown("x"), B], ["[test-{p} 2]", "  test-a", "  test-b", "x"], id="apart"),
    pytest.param([Shown("x"), *CALL, Shown("y")],
                 ["x", "[release 2]", "  release/build", "  release/publish", "y"], id="call"),
    pytest.param(FAN, ["[to-{e} 4]", "  [to-x 2]", "    to-x/1", "    to-x/2", "  [to-y 2]",
                       "    to-y/1", "    to-y/2"], id="calls-in-a-loop"),
    pytest.param([Shown("r/a", ("r", "a-{p}")), Shown("r/b", ("r",))], ["[r 2]", "  r/a", "  r/b"],
                 id="inner-one-is-no-group"),
    pytest.param([Shown("d/1", ("deep", "d")), Shown("d/2", ("deep", "d"))],
                 ["[deep 2]", "  [d 2]", "    d/1", "    d/2"], id="nested"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "expected"), CASES)
def test_groups_stand_where_their_first_step_does(steps: list[Shown], expected: list[str]) -> None:
    """In the plan's order, and no heading for a single step."""
    assert expected == drawn(*steps)

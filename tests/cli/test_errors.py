"""What people read when something is wrong."""

import pytest

from plue.cli.context import error_lines, exit_code_of
from plue.errors import (
    InternalError,
    NotFoundError,
    PlueError,
    RejectedError,
    UnavailableError,
    UsageError,
)


def test_an_error_is_its_message_and_its_remedy() -> None:
    """The field is named unless the message names it already."""
    error = RejectedError("must be a number", field="inputs.n", remedy="write 1")
    assert error_lines(error) == ["error: inputs.n: must be a number", "  try: write 1"]
    assert error_lines(UsageError("port 1 is taken", field="port")) == ["error: port 1 is taken"]


def test_a_servers_diagnostics_are_shown_with_place_and_caret() -> None:
    """What the server found in a file reads as what lint finds; unknown members do no harm."""
    found = {
        "code": "PLU001",
        "severity": "error",
        "message": "no such name",
        "file": ".plue/workflows/ci.py",
        "line": 3,
        "column": 5,
        "end_column": 8,
        "source": "    foo()",
        "remedy": "write bar",
        "newer": 1,
    }
    shown = "\n".join(error_lines(RejectedError("x", details={"diagnostics": [found]})))
    assert "no such name" in shown
    assert ".plue/workflows/ci.py:3:5" in shown
    assert "|     ^^^" in shown
    assert "write bar" in shown


def test_a_strangers_message_cannot_steer_the_terminal() -> None:
    """Messages may hold what a workflow said."""
    assert "\x1b" not in "".join(error_lines(PlueError("a\x1b[2J", remedy="\x1bc")))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(UsageError(), 2, id="usage"),
        pytest.param(NotFoundError(), 2, id="no-such-name"),
        pytest.param(RejectedError(), 2, id="rejected"),
        pytest.param(UnavailableError(), 1, id="unavailable"),
        pytest.param(InternalError(), 1, id="our-fault"),
    ],
)
def test_exit_codes_say_whose_turn_it_is(error: PlueError, expected: int) -> None:
    """2: change the call; 1: everything else."""
    assert expected == exit_code_of(error)

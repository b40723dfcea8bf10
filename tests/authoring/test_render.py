"""Diagnostics as text, and the explanations of their codes."""

import pytest

from plue.authoring.codes import EXPLANATIONS, Code, explanation_of
from plue.authoring.render import plain, render
from plue.authoring.results import Diagnostic

MISSPELLED = Diagnostic(
    "PLU012",
    "`biuld` is not defined",
    ".plue/workflows/ci.py",
    12,
    column=9,
    end_column=14,
    remedy="define it",
    source="\tprint(biuld)",
    related=("lib.py", 3),
)


def test_render_shows_the_line_and_a_caret() -> None:
    """The caret stands under the offending text, whatever the indentation is made of."""
    expected = (
        "error[PLU012]: `biuld` is not defined\n"
        "  --> .plue/workflows/ci.py:12:9\n"
        "   |\n"
        "12 |  print(biuld)\n"
        "   |         ^^^^^\n"
        "   = help: define it\n"
        "   = see also: lib.py:3"
    )
    assert expected == render([MISSPELLED])


def test_plain_is_one_line() -> None:
    """Other tools read file:line:column."""
    expected = ".plue/workflows/ci.py:12:9: error PLU012: `biuld` is not defined (define it)"
    assert expected == plain(MISSPELLED)


@pytest.mark.parametrize("color", [True, False])
def test_nothing_of_a_file_reaches_the_terminal_raw(color: bool) -> None:
    """Control characters of a file are shown, not sent."""
    evil = Diagnostic("PLU001", "a\x1b[2Jb", "x.py", 1, source="\x1b]0;title\x07", remedy="c\rd")
    shown = render([evil], color=color) + plain(evil)
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown
    assert "\r" not in shown
    assert "\\x1b[2J" in shown


def test_several_are_apart() -> None:
    """A blank line stands between diagnostics."""
    assert render([MISSPELLED, MISSPELLED]) == f"{render([MISSPELLED])}\n\n{render([MISSPELLED])}"


def test_every_code_is_explained() -> None:
    """Each code has a title and a text, and none is used twice."""
    assert set(Code) == set(EXPLANATIONS)
    for explanation in EXPLANATIONS.values():
        assert explanation.title
        assert len(explanation.text) > 40


def test_explanations_are_found_in_any_case() -> None:
    """`plue explain plu012` works; an unknown code has none."""
    found = explanation_of(" plu012 ")
    assert found is not None
    assert found.code == Code.UNDEFINED
    assert explanation_of("PLU999") is None

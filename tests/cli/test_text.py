"""Strangers' text on our terminal."""

import pytest

from plue.cli.text import coloured, duration, safe, table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain ü ✓", "plain ü ✓", id="ordinary-text-stays"),
        pytest.param("\x1b[31mred\x1b[0m", "red", id="colours-go"),
        pytest.param("a\x1b[2J\x1b[1;1Hb", "ab", id="clearing-and-moving"),
        pytest.param("a\x1b]52;c;ZXZpbA==\x07b", "ab", id="clipboard-by-bell"),
        pytest.param("a\x1b]0;title\x1b\\b", "ab", id="title-by-string-end"),
        pytest.param("a\x1b]0;never ended", "a", id="title-without-an-end"),
        pytest.param("a\x1bPq#0\x1b\\b", "ab", id="device-control"),
        pytest.param("a\x9b31mb", "ab", id="one-character-csi"),
        pytest.param("a\x1bcb", "ab", id="terminal-reset"),
        pytest.param("a\x08\x07\x00b\x7f", "ab", id="control-characters"),
        pytest.param("a\u202eb\u2066c", "abc", id="direction-overrides"),
        pytest.param("10%\r50%\r100%", "100%", id="progress-bar-shows-its-last-state"),
        pytest.param("done\r\nnext\r", "done\nnext", id="windows-newlines"),
        pytest.param("a\tb", "a   b", id="tabs"),
        pytest.param("\x1b", "", id="lonely-escape"),
    ],
)
def test_safe_text_obeys_nobody(text: str, expected: str) -> None:
    """What is left has nothing that a terminal would obey."""
    assert expected == safe(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("\x1b[1;31mred", "\x1b[1;31mred\x1b[0m", id="colours-stay-and-end"),
        pytest.param("\x1b[31mr\x1b[2J", "\x1b[31mr\x1b[0m", id="nothing-else-stays"),
        pytest.param("plain", "plain", id="nothing-is-added-to-plain-text"),
    ],
)
def test_coloured_text_keeps_colours_only(text: str, expected: str) -> None:
    """Colours are harmless when they end with the line."""
    assert expected == coloured(text)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        pytest.param(None, "", id="none"),
        pytest.param(0, "0.0 s", id="nothing"),
        pytest.param(9949, "9.9 s", id="tenths"),
        pytest.param(9999, "10 s", id="no-ten-point-zero"),
        pytest.param(59_999, "1 m 00 s", id="no-sixty-seconds"),
        pytest.param(185_000, "3 m 05 s", id="minutes"),
        pytest.param(3_720_000, "1 h 02 m", id="hours"),
    ],
)
def test_durations_read_as_people_say_them(milliseconds: float | None, expected: str) -> None:
    """Short and without false precision."""
    assert expected == duration(milliseconds)


def test_tables_align_their_columns() -> None:
    """The last column carries no spaces at its end."""
    assert table([["A", "B"], ["long", "x"]]) == ["A     B", "long  x"]

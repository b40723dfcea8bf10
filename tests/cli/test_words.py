"""How help texts are laid out."""

import pytest

from plue.cli.words import paragraphs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("One\ntwo.\n\nThree.", ["One two.", "Three."], id="prose-is-joined"),
        pytest.param("E:\n  a\n\n  b\n\nZ.", [["E:", "  a", "  b"], "Z."], id="examples-are-kept"),
        pytest.param("S:\n\n  a:\n    b\n", ["S:", ["  a:", "    b"]], id="a-block-of-its-own"),
    ],
)
def test_paragraphs_keep_what_is_indented(text: str, expected: list[str | list[str]]) -> None:
    """Prose is joined for wrapping; indented lines stay lines."""
    assert expected == paragraphs(text)

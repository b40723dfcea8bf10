"""No secret leaves, whatever form it has and however the text was cut."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import JsonValue

from plue_runner.masking import MASK, Masker

SECRET = 'p"ss wörd/+\\123'
# Few characters, so that secrets overlap, repeat and contain one another; none of the mask's.
LETTERS = st.text("abc\n", min_size=1, max_size=6)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(SECRET, id="itself"),
        pytest.param(base64.b64encode(SECRET.encode()).decode().rstrip("="), id="base64"),
        pytest.param(quote(SECRET, safe=""), id="url"),
        pytest.param(json.dumps(SECRET)[1:-1], id="json"),
        pytest.param(json.dumps(SECRET, ensure_ascii=False)[1:-1], id="json-unicode"),
    ],
)
def test_masker_hides_a_secret_in_the_forms_that_tools_give_it(form: str) -> None:
    """The encoded forms are hidden as the secret itself is."""
    assert f"<{MASK}>" == Masker([SECRET]).text(f"<{form}>")


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_masker_hides_base64_at_every_alignment(before: bytes, after: bytes) -> None:
    """Whatever surrounds a secret before encoding, its characters do not leave."""
    secret = "s3cret-Value-of-32-characters!!!"
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    masked = Masker([secret]).text(encoded)
    assert MASK in masked
    assert len(masked) - len(MASK) - (len(before) + len(after)) * 4 / 3 < 16


def test_masker_hides_each_line_of_a_key() -> None:
    """A secret of several lines is hidden line by line, in any order."""
    key = "-----BEGIN-----\nMIIabcdef\n}\n-----END-----"
    assert f"{MASK} }} x\n{MASK}" == Masker([key]).text("MIIabcdef } x\n-----BEGIN-----")


def test_masker_hides_secrets_inside_json() -> None:
    """Outputs are searched through, names included."""
    value: JsonValue = {"url": "https://tok@host", "tok": [1, "a tok"], "n": None}
    expected = {"url": f"https://{MASK}@host", MASK: [1, f"a {MASK}"], "n": None}
    assert expected == Masker(["tok"]).json(value)


@given(st.lists(LETTERS, min_size=1, max_size=4), st.lists(LETTERS, max_size=30))
@example(["abc", "abcabc"], ["ab", "ca", "b", "c"])
@example(["aab"], ["a", "a", "a", "b"])
def test_stream_result_does_not_depend_on_the_cuts(secrets: list[str], pieces: list[str]) -> None:
    """No form of a secret is in what leaves, and any cutting gives the same text."""
    masker = Masker(secrets)
    cut, whole = masker.stream(), masker.stream()
    leaves = "".join(map(cut.feed, pieces)) + cut.close()
    assert whole.feed("".join(pieces)) + whole.close() == leaves
    for form in masker.forms:
        assert form not in leaves


@given(st.lists(LETTERS, min_size=1, max_size=4), st.lists(LETTERS, max_size=30))
def test_stream_holds_back_only_beginnings_of_secrets(
    secrets: list[str], pieces: list[str]
) -> None:
    """What is held back is always the beginning of a longer form."""
    masker = Masker(secrets)
    stream = masker.stream()
    for piece in pieces:
        stream.feed(piece)
        held = stream._held
        assert not held or any(f.startswith(held) and f != held for f in masker.forms)


def test_stream_passes_all_text_without_secrets() -> None:
    """Without secrets nothing is held back."""
    assert Masker([" ", ""]).stream().feed("abc") == "abc"

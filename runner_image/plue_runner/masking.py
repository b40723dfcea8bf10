"""Hides secrets in everything that leaves the runner, however the text was cut into pieces.

A secret is looked for as it is, base64-encoded at each of the three alignments, URL-encoded and
JSON-escaped; one of several lines is looked for line by line, because tools print it so. What
cannot be found is a secret that a step transforms in another way: this is help against accidents.

A stream is scanned from left to right, the longest form first, and text is held back only while
its end may be the beginning of a form. So the result does not depend on where the text was cut.
"""

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from pydantic import JsonValue

__all__ = ["MASK", "MaskedStream", "Masker"]

MASK = "***"
_SHORTEST_LINE = 4  # a line such as "}" of a JSON key is no secret
_SHORTEST_ENCODED = 6  # shorter base64 pieces occur in ordinary text


def _base64_forms(secret: str) -> Iterable[str]:
    raw = secret.encode()
    for offset in range(3):
        padded = bytes(offset) + raw
        # Only the characters that depend on nothing but the secret.
        first = -(-offset * 8 // 6)
        last = len(padded) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(padded).decode().rstrip("=")
            yield encoded[first:last]
            yield encoded[first:]  # the secret ends there: its last bits are shown by nobody


def _forms(secret: str) -> Iterable[str]:
    """Every text under which *secret* may appear."""
    lines = [line.strip("\r") for line in secret.split("\n")]
    long = [line for line in lines if len(line.strip()) >= _SHORTEST_LINE]
    plain = [secret] if len(lines) == 1 or not long else long
    encoded = [
        *_base64_forms(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    ]
    yield from plain
    for line in plain:
        # What a pipe gave has U+FFFD for NUL; a secret that holds one must still be found.
        yield line.replace("\0", "\N{REPLACEMENT CHARACTER}")
    yield from (form for form in encoded if len(form) >= _SHORTEST_ENCODED)


class Masker:
    """The forms of all secrets of an attempt."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Prepare to hide each of *secrets*; blank ones are ignored."""
        found = {form for secret in secrets if secret.strip() for form in _forms(secret)}
        self.forms = sorted(found, key=lambda form: (-len(form), form))
        self.longest = max((len(form) for form in self.forms), default=0)
        self._by_first: dict[str, list[str]] = {}
        for form in self.forms:
            self._by_first.setdefault(form[0], []).append(form)
        self._any = re.compile("|".join(map(re.escape, self.forms))) if self.forms else None
        self._first = re.compile("|".join(map(re.escape, self._by_first))) if self.forms else None

    def text(self, text: str) -> str:
        """Return *text*, which is complete, without secrets."""
        if self._any is None:
            return text
        return self._any.sub(MASK, text)

    def json(self, value: JsonValue) -> JsonValue:
        """Return *value* without secrets, names of fields included."""
        if self._any is None:
            return value
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.json(item) for item in value]
            case dict():
                return {self.text(key): self.json(item) for key, item in value.items()}
            case _:
                return value

    def stream(self) -> "MaskedStream":
        """Return a new stream that hides these secrets."""
        return MaskedStream(self)

    def match(self, text: str, start: int) -> tuple[int, int] | None:
        """Return where the leftmost form at or after *start* begins and ends."""
        found = None if self._any is None else self._any.search(text, start)
        return None if found is None else found.span()

    def pending(self, text: str, start: int) -> int:
        """Return where the first unfinished form begins; ``len(text)`` when there is none."""
        if self._first is None:
            return len(text)
        for found in self._first.finditer(text, max(start, len(text) - self.longest + 1)):
            at = found.start()
            rest = text[at:]
            if any(len(f) > len(rest) and f.startswith(rest) for f in self._by_first[text[at]]):
                return at
        return len(text)


class MaskedStream:
    """One stream of text; holds back only what may be the beginning of a secret."""

    def __init__(self, masker: Masker) -> None:
        """Use ``Masker.stream``."""
        self._masker = masker
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what of the text so far can leave now."""
        masker = self._masker
        if not masker.forms:
            return text
        text, self._held = self._held + text, ""
        # Searching for each form alone is far cheaper than the alternation: most text has none.
        clean = not any(form in text for form in masker.forms)
        out: list[str] = []
        at = 0
        while True:
            pending = masker.pending(text, at)
            found = None if clean else masker.match(text, at)
            if found is None or pending <= found[0]:
                out.append(text[at:pending])
                self._held = text[pending:]
                return "".join(out)
            out += (text[at : found[0]], MASK)
            at = found[1]

    def close(self) -> str:
        """Return the rest, at the stream's end."""
        rest, self._held = self._held, ""
        return self._masker.text(rest)

"""Types in front matter: ``string``, ``T?``, ``T[]``, ``a | b | c``, ``T = default``.

They become the same :class:`Kind` that ``optional(str)`` or ``enum("a", "b")`` in Python do, and so
the same JSON Schema.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from plue.authoring.sandbox.kinds import Kind, enum, list_kind, optional
from plue.authoring.sandbox.problems import Problem, did_you_mean
from plue.schemas import parse_text

__all__ = ["NotationError", "kind_of_notation"]

_NAMES: Final = ("string", "integer", "number", "boolean")
_OTHERS: Final = {
    "str": "string", "text": "string", "int": "integer", "float": "number", "bool": "boolean",
    "double": "number", "list": "string[]", "array": "string[]",
}  # fmt: skip
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<word>[A-Za-z_][\w./+-]*)|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])"
    r"|(?P<quoted>\"[^\"]*\"|'[^']*')|(?P<sign>\[\]|[|?()=]))"
)
_FORMS: Final = (
    "types are string, integer, number, boolean, T? (may be absent), T[] (a list), low | high (one "
    "of these), T = default, or fields below it"
)


class NotationError(Exception):
    """The text is not a type; *start* and *end* count its characters from 0."""

    def __init__(self, message: str, remedy: str, start: int, end: int) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.start = start
        self.end = max(end, start + 1)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Item:
    """One alternative: a type, or a word that may turn out to be a value."""

    kind: Kind | None
    value: object
    token: _Token


def kind_of_notation(text: str) -> Kind:
    """Return the type that *text* writes. Raises NotationError."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0

    def whole(self) -> Kind:
        """Parse all of the text."""
        if not self.text.strip():
            raise NotationError("there is no type", _FORMS, 0, 1)
        kind = self._alternatives()
        token = self._next()
        if token is None:
            return kind
        if token.text == "=":
            return self._default(kind, token)
        raise _unexpected(token)

    def _default(self, kind: Kind, token: _Token) -> Kind:
        written = self.text[token.end :].strip()
        start = token.end + len(self.text[token.end :]) - len(self.text[token.end :].lstrip())
        value: object = written
        if kind.schema.get("type") != "string" or written[:1] in "\"'":
            value = _literal(written)
        try:
            return kind.with_default(parse_text(kind.schema, value))
        except Problem as problem:
            raise NotationError(
                problem.message, "write a default of that type", start, len(self.text)
            ) from None

    def _next(self) -> _Token | None:
        if self.at < len(self.tokens):
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def _peek(self) -> str | None:
        return self.tokens[self.at].text if self.at < len(self.tokens) else None

    def _alternatives(self) -> Kind:
        items = [self._item()]
        while self._peek() == "|":
            self.at += 1
            items.append(self._item())
        if len(items) > 1:
            return self._choice(items)
        (item,) = items
        if item.kind is None and self.at < len(self.tokens) and self._peek() not in ("=", ")"):
            raise _unexpected(self.tokens[self.at])
        return item.kind or self._single(item)

    def _single(self, item: _Item) -> Kind:
        token = item.token
        if token.kind != "word":
            return enum(item.value)
        known = _OTHERS.get(token.text.lower())
        hint = f" — did you mean `{known}`?" if known else did_you_mean(token.text, _NAMES)
        raise NotationError(
            f"`{token.text}` is not a type{hint}",
            f"write `{known}`" if known else f'{_FORMS}; a single value is written "{token.text}"',
            token.start,
            token.end,
        )  # fmt: skip

    def _choice(self, items: list[_Item]) -> Kind:
        for item in items:
            token = item.token
            if item.kind is None:
                continue
            remedy = f'write "{token.text}" in quotes when the word itself is meant'
            message = f"`{token.text}` is a type, and the others are values"
            if all(one.kind is not None for one in items):
                message = "a choice of types is not supported"
                remedy = "choose one type; string? is text that may be absent"
            raise NotationError(message, remedy, token.start, token.end)
        for item in items:
            if item.token.text == "null":
                raise NotationError(
                    "`null` is not a value of a choice",
                    "write (low | high)? for what may be absent",
                    item.token.start,
                    item.token.end,
                )
        values = [item.value for item in items]
        for index, item in enumerate(items):
            if item.value in values[:index]:
                raise NotationError(
                    f"`{item.token.text}` is there twice",
                    "remove one of them",
                    item.token.start,
                    item.token.end,
                )
        return enum(*values)

    def _item(self) -> _Item:
        token = self._next()
        if token is None:
            end = len(self.text)
            raise NotationError("a type is missing at the end", _FORMS, end - 1, end)
        item = self._atom(token)
        while (sign := self._peek()) in ("?", "[]"):
            mark = self.tokens[self.at]
            self.at += 1
            if item.kind is None and self._in_choice():
                raise NotationError(
                    f"`{sign}` belongs to one alternative only",
                    "put the choice into parentheses: (low | high)?, (low | high)[]",
                    mark.start,
                    mark.end,
                )
            inner = item.kind or self._single(item)
            if sign == "?" and not inner.required:
                raise NotationError("it is optional twice", "remove one `?`", mark.start, mark.end)
            kind = optional(inner) if sign == "?" else list_kind(inner)
            item = _Item(kind, None, mark)
        return item

    def _in_choice(self) -> bool:
        """Whether the alternative that was just read has another one beside it."""
        before = self.at - 3
        return self._peek() == "|" or (before >= 0 and self.tokens[before].text == "|")

    def _atom(self, token: _Token) -> _Item:
        if token.text == "(":
            kind = self._alternatives()
            closing = self._next()
            if closing is None or closing.text != ")":
                raise NotationError(
                    "the parenthesis is not closed", "add )", token.start, token.end
                )
            return _Item(kind, None, closing)
        if token.kind == "word":
            if token.text in _NAMES:
                return _Item(Kind({"type": token.text}), None, token)
            return _Item(None, token.text, token)
        if token.kind in ("number", "quoted"):
            return _Item(None, _literal(token.text), token)
        raise NotationError(f"`{token.text}` has no type before it", _FORMS, token.start, token.end)


def _unexpected(token: _Token) -> NotationError:
    remedy = _FORMS
    if token.kind == "word":
        remedy = 'write words with spaces in quotes: "needs work" | ok'
    return NotationError(f"`{token.text}` is not expected here", remedy, token.start, token.end)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            raise NotationError(f"`{text[start]}` is not expected here", _FORMS, start, start + 1)
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind), match.end(kind)))
        at = match.end()
        if found[-1].text == "=":
            break
    return found


def _literal(text: str) -> object:
    if text[:1] == "'" and text[-1:] == "'" and len(text) > 1:
        return text[1:-1]
    try:
        found: object = json.loads(text)
    except ValueError:
        return text
    return found

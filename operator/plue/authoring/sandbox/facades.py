"""The safe parts of json, re, math, itertools, textwrap and dataclasses, as authors see them.

Whatever makes text from text keeps the mark of data.
"""

import dataclasses
import itertools
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Final

from plue.authoring.sandbox.guards import Facade, marked_like
from plue.authoring.sandbox.problems import AUTHOR
from plue.authoring.sandbox.texts import text_of
from plue.authoring.sandbox.values import (
    Guarded,
    Record,
    Ref,
    RefPart,
    Text,
    concat,
    is_marked,
    parts_of,
    plain,
    remark,
    settle,
    unmark,
)

__all__ = ["FACADES", "FREE_NAMES"]


def _str(value: object, what: str) -> str:
    if isinstance(value, (str, Text, Ref)):
        return plain(value)
    raise TypeError(f"{what} is text, not {type(value).__name__}")


# ── json ─────────────────────────────────────────────────────────────────────────────────────────


def _loads(text: object) -> object:
    value = json.loads(_str(text, "what json.loads reads"))
    return _mark_all(value) if is_marked(text) else value


def _mark_all(value: object) -> object:
    if isinstance(value, str):
        return remark(value, marked=True)
    if isinstance(value, dict):
        return {remark(key, marked=True): _mark_all(item) for key, item in value.items()}
    return [_mark_all(item) for item in value] if isinstance(value, list) else value


def _dumps(value: object, *, indent: int | None = None, sort_keys: bool = False) -> object:
    text = json.dumps(unmark(value), indent=indent, sort_keys=sort_keys, ensure_ascii=False)
    return remark(text, marked=_holds_data(value))


def _holds_data(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_data(key) or _holds_data(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return any(_holds_data(item) for item in value)
    return is_marked(value) or isinstance(value, Record)


# ── re ───────────────────────────────────────────────────────────────────────────────────────────


class Match(Guarded):
    """A match of a pattern."""

    __slots__ = ("found", "source")

    def __init__(self, found: "re.Match[str]", source: object) -> None:
        self.found = found
        self.source = source

    def attribute(self, name: str) -> object:
        """Return a method of a match."""
        simple = {"start": self.found.start, "end": self.found.end, "span": self.found.span}
        if name in simple:
            return simple[name]
        if name == "group":
            return lambda *which: self._group(which)
        if name == "groups":
            return lambda: self._marked(self.found.groups())
        if name == "groupdict":
            return lambda: {k: self._marked(v) for k, v in self.found.groupdict().items()}
        raise AttributeError(f"a match has no `.{name}`")

    def _group(self, which: tuple[object, ...]) -> object:
        names = [name for name in map(unmark, which) if isinstance(name, (str, int))]
        return self._marked(self.found.group(*names))

    def _marked(self, value: object) -> object:
        if isinstance(value, str):
            return marked_like(value, self.source)
        if isinstance(value, tuple):
            return tuple(self._marked(item) for item in value)
        return value

    def __getitem__(self, which: int | str) -> object:
        return self._marked(self.found[which])

    def __bool__(self) -> bool:
        return True


def _match_of(found: "re.Match[str] | None", source: object) -> Match | None:
    return None if found is None else Match(found, source)


class Pattern(Guarded):
    """A compiled pattern."""

    __slots__ = ("pattern",)

    def __init__(self, pattern: object, flags: int = 0) -> None:
        self.pattern = re.compile(_str(pattern, "a pattern"), flags)

    def attribute(self, name: str) -> object:
        """Return a method of a pattern."""
        methods: dict[str, Callable[..., object]] = {
            "search": lambda t: _match_of(self.pattern.search(_str(t, "text")), t),
            "match": lambda t: _match_of(self.pattern.match(_str(t, "text")), t),
            "fullmatch": lambda t: _match_of(self.pattern.fullmatch(_str(t, "text")), t),
            "finditer": lambda t: [Match(m, t) for m in self.pattern.finditer(_str(t, "text"))],
            "findall": lambda t: _relabel(self.pattern.findall(_str(t, "text")), t),
            "split": lambda t, maxsplit=0: _relabel(
                self.pattern.split(_str(t, "text"), maxsplit), t
            ),
            "sub": self._sub,
        }
        if name in methods:
            return methods[name]
        raise AttributeError(f"a pattern has no `.{name}`")

    def _sub(self, replacement: object, text: object, count: int = 0) -> object:
        source = _str(text, "text")
        if isinstance(replacement, (str, Text, Ref)):
            result = self.pattern.sub(_str(replacement, "a replacement"), source, count)
            return marked_like(result, replacement, text)
        if not callable(replacement):
            raise TypeError("a replacement is text or a function")
        made: list[object] = []

        def replace(found: "re.Match[str]") -> str:
            made.append(replacement(Match(found, text)))
            return _str(made[-1], "a replacement")

        result = self.pattern.sub(replace, source, count)
        return marked_like(result, text, *made)


def _relabel(value: object, source: object) -> object:
    if isinstance(value, str):
        return marked_like(value, source)
    if isinstance(value, list):
        return [_relabel(item, source) for item in value]
    return tuple(_relabel(item, source) for item in value) if isinstance(value, tuple) else value


def _through_pattern(name: str) -> Callable[..., object]:
    def call(pattern: object, *args: object, flags: int = 0, **named: object) -> object:
        method = Pattern(pattern, flags).attribute(name)
        return method(*args, **named) if callable(method) else None

    return call


# ── textwrap ─────────────────────────────────────────────────────────────────────────────────────


def _dedent(value: object) -> object:
    """Remove common indentation; holes stay holes, and count as text that is not blank."""
    text = text_of(value)
    if isinstance(text, str):
        return textwrap.dedent(text)
    # A character that the author cannot have written stands for each hole.
    holes = [part for part in parts_of(text) if not isinstance(part, str)]
    flat = "".join(p if isinstance(p, str) else "\ue000" for p in parts_of(text))
    pieces: list[object] = []
    for index, literal in enumerate(textwrap.dedent(flat).split("\ue000")):
        if index:
            hole = holes[index - 1]
            pieces.append(Text((hole,)))
        pieces.append(literal)
    return concat(pieces)


def _indent(value: object, prefix: object) -> object:
    source = text_of(value)
    if not isinstance(source, str) and any(isinstance(p, RefPart) for p in parts_of(source)):
        source = settle(source)  # type: ignore[assignment] # text stays text
    result = textwrap.indent(_str(source, "text"), _str(prefix, "the prefix"))
    return marked_like(result, value, prefix)


# ── dataclasses ──────────────────────────────────────────────────────────────────────────────────


def _dataclass(cls: object = None, **options: bool) -> object:
    def decorate(target: type) -> type:
        if target.__module__ != AUTHOR:
            raise TypeError("@dataclass stands above a class of the workflow")
        return dataclasses.dataclass(**options)(target)  # type: ignore[call-overload,no-any-return] # flags of dataclass

    return decorate if cls is None else decorate(cls)  # type: ignore[arg-type] # a class, by Python


_MATH: Final = [
    "ceil",
    "floor",
    "trunc",
    "sqrt",
    "log",
    "log2",
    "log10",
    "exp",
    "pow",
    "gcd",
    "lcm",
    "comb",
    "perm",
    "factorial",
    "isnan",
    "isinf",
    "isfinite",
    "fabs",
    "fmod",
    "hypot",
    "prod",
    "isqrt",
    "pi",
    "e",
    "inf",
    "nan",
]
_ITERTOOLS: Final = [
    "chain",
    "product",
    "permutations",
    "combinations",
    "combinations_with_replacement",
    "zip_longest",
    "groupby",
    "accumulate",
    "islice",
    "takewhile",
    "dropwhile",
    "repeat",
    "count",
    "cycle",
    "starmap",
    "pairwise",
    "compress",
]


def _batched(items: object, size: int) -> Iterator[tuple[object, ...]]:
    rest = iter(items)  # type: ignore[call-overload] # TypeError is the author's answer
    while batch := tuple(itertools.islice(rest, size)):
        yield batch


def _flag(name: str) -> int:
    return int(getattr(re, name))


FACADES: Final = {
    "json": Facade("json", {"loads": _loads, "dumps": _dumps}),
    "re": Facade(
        "re",
        {
            "compile": Pattern,
            "escape": lambda text: marked_like(re.escape(_str(text, "text")), text),
            **{
                name: _through_pattern(name)
                for name in ("search", "match", "fullmatch", "finditer", "findall", "split", "sub")
            },
            **{
                name: _flag(name)
                for name in (
                    "IGNORECASE",
                    "I",
                    "MULTILINE",
                    "M",
                    "DOTALL",
                    "S",
                    "VERBOSE",
                    "X",
                    "ASCII",
                    "A",
                )
            },
        },
    ),
    "math": Facade("math", {name: getattr(math, name) for name in _MATH}),
    "itertools": Facade(
        "itertools",
        {**{name: getattr(itertools, name) for name in _ITERTOOLS}, "batched": _batched},
    ),
    "textwrap": Facade("textwrap", {"dedent": _dedent, "indent": _indent}),
    "dataclasses": Facade("dataclasses", {"dataclass": _dataclass, "field": dataclasses.field}),
}
"""By the name of the module."""

FREE_NAMES: Final[dict[str, object]] = {
    **{name: FACADES[name] for name in ("json", "re", "math", "itertools", "textwrap")},
    "dataclass": _dataclass,
}
"""What is there without an import."""

"""The filters and tests that a template may use; each spends from the budget of its rendering.

An allow-list: ``attr``, ``format``, ``random``, ``safe`` and the filters for HTML are not there,
and those whose result can be far larger than what they are given are our own.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Final

from jinja2 import pass_context, pass_environment
from jinja2.filters import FILTERS as STOCK
from jinja2.runtime import Undefined
from jinja2.tests import TESTS as STOCK_TESTS

from plue.templating.budget import Budget
from plue.templating.faults import FaultKind, TemplateFault

__all__ = ["CONCAT", "FILTERS", "LOOP", "SLICE", "TESTS", "text_of"]

LOOP: Final = "plue loop"
CONCAT: Final = "plue concat"
SLICE: Final = "plue slice"
"""Filters that the compiler pass puts in; no author can write a name with a space."""

# By what the stock filter wants to be given in front of its value.
_PLAIN: Final = ("abs", "count", "d", "default", "dictsort", "float", "int", "items", "length")
_OF_TEXT: Final = ("capitalize", "lower", "title", "trim", "upper", "wordcount")
_WITH_CONTEXT: Final = ("map", "reject", "rejectattr", "select", "selectattr")
_WITH_ENVIRONMENT: Final = ("first", "groupby", "last", "max", "min", "sort", "unique")
_TESTS: Final = (
    "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "ge",
    "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping",
    "ne", "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
    "==", "!=", "<", "<=", ">", ">=",
)  # fmt: skip
_MOST_INDENT: Final = 200


def text_of(value: object, budget: Budget) -> str:
    """Return *value* as it stands in text: verbatim, true/false, numbers, compact JSON."""
    if isinstance(value, Undefined):
        return str(value)  # raises, and says what is not there
    if isinstance(value, str):
        budget.make(len(value))
        return str(value)
    if value is None:
        raise TemplateFault(
            FaultKind.VALUE,
            "a null value has no text",
            remedy="test it: {% if value %}…{% endif %}, or give a default: value or 'none'",
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, list, tuple, dict)):
        return _json(value, budget)
    raise TemplateFault(
        FaultKind.VALUE,
        f"a {type(value).__name__} has no text",
        remedy="call it, or show one of its values",
    )


def _json(value: object, budget: Budget, indent: int | None = None) -> str:
    # In pieces, so that a value that holds itself a thousand times is noticed before it is text.
    separators = (",", ":") if indent is None else (",", ": ")
    encoder = json.JSONEncoder(
        ensure_ascii=False, separators=separators, indent=indent, default=_no_json
    )
    pieces = []
    for piece in encoder.iterencode(value):
        budget.make(len(piece))
        pieces.append(piece)
    return "".join(pieces)


def _no_json(value: object) -> object:
    if isinstance(value, Undefined):
        str(value)
    raise TemplateFault(
        FaultKind.VALUE,
        f"a {type(value).__name__} has no text",
        remedy="show one of its values",
    )


# ── our own ──────────────────────────────────────────────────────────────────────────────────────


@pass_environment
def _tojson(environment: Any, value: object, indent: object = None) -> str:
    wide = None if indent is None else _within(indent, 0, _MOST_INDENT, "indent")
    return _json(value, environment.budget, wide)


@pass_environment
def _join(environment: Any, value: Iterable[Any], d: object = "", attribute: object = None) -> str:
    budget = environment.budget
    if attribute is not None:
        value = (environment.getitem(item, attribute) for item in value)
    return str(d).join(text_of(item, budget) for item in _looped(budget, value, len(str(d))))


@pass_environment
def _replace(environment: Any, text: object, old: object, new: object) -> str:
    budget = environment.budget
    whole, before, after = text_of(text, budget), str(old), str(new)
    budget.make(whole.count(before) * len(after))
    return whole.replace(before, after)


@pass_environment
def _indent(environment: Any, text: object, width: object = 4, *, first: bool = False) -> str:
    budget = environment.budget
    whole = text_of(text, budget)
    space = " " * _within(width, 0, _MOST_INDENT, "indent")
    lines = whole.split("\n")
    budget.make(len(lines) * len(space))
    found = "\n".join(space + line if line.strip() else line for line in lines)
    return found if first or not lines[0].strip() else found[len(space) :]


@pass_environment
def _truncate(
    environment: Any, text: object, length: object = 255, *args: Any, **named: Any
) -> object:
    whole = text_of(text, environment.budget)
    size = _within(length, 3, 10_000_000, "length")
    return STOCK["truncate"](environment, whole, size, *args, **named)


@pass_environment
def _string(environment: Any, value: object) -> str:
    return text_of(value, environment.budget)


@pass_environment
def _list(environment: Any, value: Iterable[Any]) -> list[Any]:
    return list(_looped(environment.budget, value, 1))


@pass_environment
def _reverse(environment: Any, value: Any) -> object:
    if isinstance(value, str):
        environment.budget.make(len(value))
        return value[::-1]
    return list(_looped(environment.budget, value, 1))[::-1]


@pass_environment
def _sum(environment: Any, value: Iterable[Any], attribute: object = None) -> float:
    if attribute is not None:
        value = (environment.getitem(item, attribute) for item in value)
    total: float = 0
    for item in _looped(environment.budget, value):
        if not isinstance(item, (int, float)):
            raise TemplateFault(FaultKind.VALUE, "sum takes numbers", remedy="map them first")
        total += item
    return total


def _round(value: object, precision: object = 0) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TemplateFault(FaultKind.VALUE, "round takes a number", remedy="write value|float")
    return round(float(value), _within(precision, 0, 15, "precision"))


def _within(value: object, low: int, high: int, what: str) -> int:
    if isinstance(value, int) and low <= value <= high:
        return int(value)
    raise TemplateFault(
        FaultKind.VALUE, f"{what} is {value!r}", remedy=f"write a number from {low} to {high}"
    )


# ── what the compiler pass puts in ───────────────────────────────────────────────────────────────


def _looped(budget: Budget, value: Iterable[Any], characters: int = 0) -> Iterator[Any]:
    for item in value:
        budget.make(characters)
        yield item


@pass_environment
def _loop(environment: Any, value: object) -> Iterator[Any]:
    if isinstance(value, Undefined):
        str(value)
    if not isinstance(value, Iterable):
        raise TemplateFault(
            FaultKind.VALUE,
            f"{'null' if value is None else 'a ' + type(value).__name__} is not a list",
            remedy="loop over a list; test what is optional first",
        )
    return _looped(environment.budget, value)


@pass_environment
def _concat(environment: Any, values: Iterable[object]) -> str:
    return "".join(text_of(value, environment.budget) for value in values)


@pass_environment
def _slice(environment: Any, value: Any, start: Any, stop: Any, step: Any) -> object:
    if isinstance(value, Undefined):
        str(value)
    found: object = value[slice(start, stop, step)]
    if isinstance(found, Sized):
        environment.budget.make(len(found))
    return found


# ── the tables ───────────────────────────────────────────────────────────────────────────────────


def _spent(environment: Any, found: object) -> object:
    """Count what a stock filter made: at most some times as much as it was given."""
    environment.budget.tick()
    if isinstance(found, (str, list, tuple, dict)):
        environment.budget.make(len(found))
    return found


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_environment
    def spend(environment: Any, *args: Any, **named: Any) -> object:
        return _spent(environment, function(*args, **named))

    return spend


def _of_text(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_environment
    def spend(environment: Any, value: object, *args: Any, **named: Any) -> object:
        return _spent(environment, function(text_of(value, environment.budget), *args, **named))

    return spend


def _with_environment(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_environment
    def spend(environment: Any, *args: Any, **named: Any) -> object:
        return _spent(environment, function(environment, *args, **named))

    return spend


def _with_context(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_context
    def spend(context: Any, value: Iterable[Any], *args: Any, **named: Any) -> object:
        budget = context.environment.budget
        return _looped(budget, function(context, value, *args, **named))

    return spend


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    **{name: _plain(STOCK[name]) for name in _PLAIN},
    **{name: _of_text(STOCK[name]) for name in _OF_TEXT},
    **{name: _with_environment(STOCK[name]) for name in _WITH_ENVIRONMENT},
    **{name: _with_context(STOCK[name]) for name in _WITH_CONTEXT},
    "indent": _indent,
    "join": _join,
    "list": _list,
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    "string": _string,
    "sum": _sum,
    "tojson": _tojson,
    "truncate": _truncate,
    LOOP: _loop,
    CONCAT: _concat,
    SLICE: _slice,
}
TESTS: Final[dict[str, Any]] = {name: STOCK_TESTS[name] for name in _TESTS}

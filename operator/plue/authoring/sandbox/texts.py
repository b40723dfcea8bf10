"""Text composition: f-strings, ``%``, ``format``, ``join`` and the methods of strings.

The compiler pass sends all of them here, so that what was composed keeps its parts, and so that
nothing of an object's inside is ever shown (no addresses, no format-string tricks).
"""

import re
import string
from collections.abc import Callable, Mapping
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import AUTHOR, Place, Problem
from plue.authoring.sandbox.values import (
    DataPart,
    Guarded,
    Piece,
    Record,
    Ref,
    RefPart,
    SecretPart,
    Text,
    concat,
    data,
    is_marked,
    plain,
    remark,
    render,
    settle,
    unmark,
)

__all__ = ["STR_METHODS", "format_percent", "join_pieces", "show", "string_method", "text_of"]

STR_METHODS: Final = frozenset(
    [
        "capitalize",
        "casefold",
        "center",
        "count",
        "endswith",
        "expandtabs",
        "find",
        "index",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "isidentifier",
        "islower",
        "isnumeric",
        "isprintable",
        "isspace",
        "istitle",
        "isupper",
        "ljust",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rjust",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "upper",
        "zfill",
    ]
)


class Shown(Guarded):
    """An object of ours that shows what it holds, as Python would."""

    __slots__ = ()

    def shown(self, show_item: Callable[[object], str]) -> str:
        """Return what ``repr`` shows; *show_item* shows what is inside."""
        raise NotImplementedError


def text_of(value: object) -> str | Text:  # noqa: PLR0911 - a table of types
    """Return *value* as text, recording references instead of asking for them."""
    if isinstance(value, (str, Text)):
        return value
    if isinstance(value, Ref):
        return Text((value.part,))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if value is None:
        raise Problem(
            Code.NO_TEXT,
            "None has no text",
            remedy='say what is meant when there is nothing: `value or ""`',
            from_values=True,
        )
    if isinstance(value, Record):
        return data(render(value.plain))
    if isinstance(value, BaseException):
        return text_of(value.args[0]) if len(value.args) == 1 else show(value.args)
    if isinstance(value, Guarded) and not isinstance(value, Shown):
        refuse_handle(value)
    return show(value)


def refuse_handle(value: object) -> None:
    """Refuse what names values and has none, where a value is needed."""
    refusal = getattr(value, "refusal", None)
    name = getattr(value, "name", None)
    message, remedy = refusal or (f"`{name or 'this'}` has no value itself", "say which is meant")
    raise Problem(Code.HANDLE_AS_VALUE, message, remedy=remedy)


def join_pieces(pieces: tuple[object, ...]) -> str | Text:
    """Build an f-string: each piece is the author's text, or (value, conversion, spec, place)."""
    built: list[object] = []
    for piece in pieces:
        if isinstance(piece, str):
            built.append(piece)
        elif isinstance(piece, tuple):
            value, conversion, spec, place = piece
            built.append(_placed(formatted(value, conversion, spec), Place(*place)))
    return concat(built)


def _placed(text: str | Text, place: Place) -> str | Text:
    """Say where the hole is written, unless it came from another text that knows it."""
    if isinstance(text, str):
        return text
    parts: list[Piece] = []
    for part in text.parts:
        if isinstance(part, DataPart) and part.place is None:
            parts.append(DataPart(part.text, place))
        elif isinstance(part, RefPart) and part.place is None:
            parts.append(RefPart(part.step, part.field, part.path, part.tail, part.default, place))
        elif isinstance(part, SecretPart) and part.place is None:
            parts.append(SecretPart(part.name, place))
        else:
            parts.append(part)
    return Text(tuple(parts))


def formatted(value: object, conversion: str | None, spec: object) -> str | Text:
    """Format one replacement field."""
    if conversion in ("r", "a"):
        value = show(value)
    elif conversion == "s":
        value = text_of(value)
    pattern = "" if spec is None else plain(text_of(spec))
    if not pattern:
        return text_of(value)
    value = settle(value)
    if isinstance(value, Text):
        return remark(format(plain(value), pattern), is_marked(value))
    if isinstance(value, (str, int, float)):
        return format(value, pattern)
    raise TypeError(f"{type(value).__name__} takes no format specification")


def show(value: object) -> str | Text:
    """Return what ``repr`` shows: asks for values, has no addresses, keeps the mark of data."""
    marked: list[bool] = []
    return remark(_show(value, marked, 0), any(marked))


_MAX_DEPTH = 50


def _show(value: object, marked: list[bool], depth: int) -> str:  # noqa: PLR0911 - a table of types
    if depth > _MAX_DEPTH:
        return "…"
    value = settle(value)
    if isinstance(value, Text):
        marked.append(is_marked(value))
        return repr(plain(value))
    if value is None or isinstance(value, (str, bool, int, float, bytes, range)):
        return repr(value)
    if isinstance(value, Record):
        marked.append(True)
        return repr(value.plain)
    if isinstance(value, dict):
        inside = ", ".join(
            f"{_show(k, marked, depth + 1)}: {_show(v, marked, depth + 1)}"
            for k, v in value.items()
        )
        return f"{{{inside}}}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(_show(item, marked, depth + 1) for item in value)
        if isinstance(value, tuple):
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        return f"[{inside}]"
    if isinstance(value, Shown):
        return value.shown(lambda item: _show(item, marked, depth + 1))
    return _show_object(value, marked, depth)


def _show_object(value: object, marked: list[bool], depth: int) -> str:
    if isinstance(value, Guarded):
        name = getattr(value, "name", None)
        return f"<{name}>" if isinstance(name, str) else f"<{type(value).__name__.lower()}>"
    if isinstance(value, type):
        return f"<class {value.__name__}>"
    if isinstance(value, BaseException):
        return type(value).__name__ + _show(value.args, marked, depth + 1).replace(",)", ")")
    if type(value).__module__ == AUTHOR:
        fields = getattr(type(value), "__dataclass_fields__", None)
        name = type(value).__name__
        if fields is None:
            return f"<{name}>"
        shown = (f"{f}={_show(getattr(value, f, None), marked, depth + 1)}" for f in fields)
        return f"{name}({', '.join(shown)})"
    name = getattr(value, "__name__", type(value).__name__)
    return f"<{str(name).strip('<>')}>"


# ── methods of strings ───────────────────────────────────────────────────────────────────────────


def string_method(receiver: str | Text | Ref, name: str) -> Callable[..., object]:
    """Return the method *name* of a string, a Text or a text reference."""
    if name == "join":
        return lambda items: _join(receiver, items)
    if name == "format":
        return lambda *args, **fields: _format(receiver, args, fields)
    if name == "format_map":
        return lambda fields: _format(receiver, (), fields)
    if name == "encode" and isinstance(receiver, str):
        return receiver.encode
    if name not in STR_METHODS:
        raise AttributeError(f"text has no `.{name}`")
    return lambda *args, **named: _call(receiver, name, args, named)


def _call(
    receiver: str | Text | Ref, name: str, args: tuple[object, ...], named: dict[str, object]
) -> object:
    everything = (receiver, *args, *named.values())
    marked = any(_any_marked(item) for item in everything)
    method = getattr(plain(receiver), name)
    result = method(*map(_raw, args), **{key: _raw(item) for key, item in named.items()})
    return _remark_deep(result, marked=marked)


def _any_marked(value: object) -> bool:
    return is_marked(value) or (isinstance(value, tuple) and any(map(is_marked, value)))


def _raw(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(unmark(item) for item in value)
    return unmark(value) if isinstance(value, (Text, Ref)) else value


def _remark_deep(value: object, *, marked: bool) -> object:
    if isinstance(value, str):
        return remark(value, marked)
    if isinstance(value, list):
        return [_remark_deep(item, marked=marked) for item in value]
    if isinstance(value, tuple):
        return tuple(_remark_deep(item, marked=marked) for item in value)
    return value


def _join(separator: str | Text | Ref, items: object) -> str | Text:
    pieces: list[object] = []
    for index, item in enumerate(items):  # type: ignore[arg-type,var-annotated] # TypeError is the answer
        if not isinstance(item, (str, Text, Ref)):
            if isinstance(item, Guarded):
                refuse_handle(item)
            raise TypeError(f"join: item {index} is {type(item).__name__}, not text")
        pieces += [separator, item] if pieces else [item]
    return concat(pieces)


def _format(
    template: str | Text | Ref, args: tuple[object, ...], fields: Mapping[str, object] | object
) -> str | Text:
    from plue.authoring.sandbox.guards import read_attribute, read_item

    marked, source = is_marked(template), plain(template)
    counter = iter(range(len(args)))
    built: list[object] = []
    for literal, field, spec, conversion in string.Formatter().parse(source):
        built.append(remark(literal, marked) if literal else "")
        if field is None:
            continue
        first, rest = _split_field(field)
        value = _argument(first, args, fields, counter)
        for is_attribute, key in rest:
            value = read_attribute(value, key) if is_attribute else read_item(value, _key(key))
        nested = _format(spec, args, fields) if spec and "{" in spec else spec
        built.append(formatted(value, conversion, nested))
    return concat(built)


def _split_field(field: str) -> tuple[str, list[tuple[bool, str]]]:
    match = re.match(r"[^.\[]*", field)
    first = match.group() if match else ""
    rest = [
        (found.group(1) is not None, found.group(1) or found.group(2))
        for found in re.finditer(r"\.([^.\[]+)|\[([^\]]+)\]", field[len(first) :])
    ]
    return first, rest


def _key(key: str) -> object:
    return int(key) if key.isdecimal() else key


def _argument(first: str, args: tuple[object, ...], fields: object, counter: object) -> object:
    if first == "":
        index = next(counter, None)  # type: ignore[call-overload] # an iterator of indexes
        if index is None:
            raise IndexError("format: more fields than values")
        return args[index]
    if first.isdecimal():
        return args[int(first)]
    return fields[first]  # type: ignore[index] # a mapping, or the author's TypeError


_PERCENT = re.compile(
    r"%(?:\((?P<key>[^)]*)\))?(?P<flags>[#0\- +]*)(?P<width>\*|\d*)(?:\.(?P<precision>\*|\d*))?"
    r"[hlL]?(?P<type>.)",
    re.DOTALL,
)


def format_percent(template: object, args: object) -> object:
    """Compute ``template % args``, for text and for numbers."""
    if isinstance(template, Ref) and not template.is_text:
        return settle(template) % settle(args)  # type: ignore[operator] # the author's own operands
    if not isinstance(template, (str, Text, Ref)):
        return template % settle(args)  # type: ignore[operator] # the author's own operands
    marked, source = is_marked(template), plain(template)
    values = iter(args if isinstance(args, tuple) else (args,))
    built: list[object] = []
    last = 0
    for found in _PERCENT.finditer(source):
        built.append(remark(source[last : found.start()], marked))
        last = found.end()
        built.append(_percent_field(found, args, values))
    built.append(remark(source[last:], marked))
    if not isinstance(args, (dict, Record)) and next(values, None) is not None:
        raise TypeError("not all arguments were used by the text before %")
    return concat(built)


def _percent_field(found: re.Match[str], args: object, values: object) -> str | Text:
    kind = found["type"]
    if kind == "%":
        return "%"
    if found["key"] is not None:
        value = args[found["key"]]  # type: ignore[index] # a mapping, or the author's TypeError
    else:
        missing = object()
        value = next(values, missing)  # type: ignore[call-overload] # an iterator of arguments
        if value is missing:
            raise TypeError("not enough arguments for the text before %")
    spec = "%" + found["flags"] + found["width"]
    if found["precision"] is not None:
        spec += "." + found["precision"]
    if "*" in spec:
        raise TypeError("`*` in a % format is not supported: use an f-string")
    if kind in "sra":
        value = text_of(value) if kind == "s" else show(value)
        return value if spec == "%" else remark((spec + "s") % plain(value), is_marked(value))
    number = settle(value)
    if kind == "c" or not isinstance(number, (int, float)):
        raise TypeError(f"%{kind} needs a number, not {type(number).__name__}")
    return str((spec + kind) % number)

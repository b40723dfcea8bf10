"""What author code can reach at run time: attributes, items, writes and built-in functions.

Default deny: attributes are allowed by the type of the object, and objects of an unknown type have
none. RestrictedPython keeps names with underscores out at compile time; this is the second fence.
"""

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from RestrictedPython.Guards import guarded_iter_unpack_sequence, guarded_unpack_sequence
from RestrictedPython.transformer import INSPECT_ATTRIBUTES

from plue.authoring.codes import Code
from plue.authoring.sandbox.context import Branches
from plue.authoring.sandbox.kinds import Kind, StrType, list_kind
from plue.authoring.sandbox.problems import AUTHOR, Finish, Problem, StageEnd, did_you_mean
from plue.authoring.sandbox.texts import (
    Shown,
    format_percent,
    join_pieces,
    show,
    string_method,
    text_of,
)
from plue.authoring.sandbox.values import (
    Guarded,
    Record,
    Ref,
    Text,
    is_marked,
    plain,
    refuse_secrets,
    remark,
    settle,
)

__all__ = [
    "BUILTIN_NAMES",
    "FROZEN",
    "Facade",
    "ListType",
    "OrderedSet",
    "Printer",
    "author_globals",
]

_METHODS: Final[Mapping[type, frozenset[str]]] = {
    list: frozenset(
        [
            "append",
            "extend",
            "insert",
            "pop",
            "remove",
            "clear",
            "copy",
            "count",
            "index",
            "reverse",
            "sort",
        ]
    ),
    dict: frozenset(
        [
            "get",
            "keys",
            "values",
            "items",
            "pop",
            "popitem",
            "setdefault",
            "update",
            "clear",
            "copy",
        ]
    ),
    tuple: frozenset({"count", "index"}),
    int: frozenset({"bit_length", "bit_count", "is_integer"}),
    bool: frozenset(),
    float: frozenset({"is_integer"}),
    bytes: frozenset({"decode", "hex"}),
    range: frozenset({"start", "stop", "step", "count", "index"}),
    slice: frozenset({"start", "stop", "step"}),
    type(None): frozenset(),
}
_VIEWS: Final = frozenset({"keys", "values", "items"})
_CHANGING: Final[Mapping[type, frozenset[str]]] = {
    list: _METHODS[list] - {"copy", "count", "index"},
    dict: frozenset({"pop", "popitem", "setdefault", "update", "clear"}),
}

FROZEN: Final[dict[int, object]] = {}
"""What modules of ``lib`` have made, by id: their importers and functions only read it."""


def refuse_frozen(value: object) -> None:
    """Refuse to change what a module made when it was imported."""
    if id(value) in FROZEN:
        raise Problem(
            Code.FROZEN,
            f"this {type(value).__name__} was made by a module of lib and cannot be changed",
            remedy="change a copy: list(value), dict(value), or make it inside the function",
        )


class OrderedSet(Shown):
    """A set in insertion order: the order of Python's own depends on addresses."""

    __slots__ = ("frozen", "values")

    def __init__(self, items: Iterable[object] = (), *, frozen: bool = False) -> None:
        self.values = dict.fromkeys(items)
        self.frozen = frozen

    def shown(self, show_item: Callable[[object], str]) -> str:
        """Return the set as Python shows it, in its order."""
        inside = ", ".join(show_item(item) for item in self.values)
        written = f"{{{inside}}}" if inside else ""
        if self.frozen:
            return f"frozenset({written})"
        return written or "set()"

    def attribute(self, name: str) -> object:
        """Return a method of sets."""
        changing = {
            "add": self._add,
            "discard": self._discard,
            "remove": self._remove,
            "update": self._update,
            "clear": self.values.clear,
            "pop": self._pop,
        }
        reading = {
            "union": lambda *others: self._combined(lambda a, b: a | b, others),
            "intersection": lambda *others: self._combined(lambda a, b: a & b, others),
            "difference": lambda *others: self._combined(lambda a, b: a - b, others),
            "symmetric_difference": lambda other: self ^ OrderedSet(other),
            "issubset": lambda other: self <= OrderedSet(other),
            "issuperset": lambda other: OrderedSet(other) <= self,
            "isdisjoint": lambda other: not self & OrderedSet(other),
            "copy": lambda: OrderedSet(self.values, frozen=self.frozen),
        }
        if name in reading:
            return reading[name]
        if name in changing and not self.frozen:
            refuse_frozen(self)
            return changing[name]
        raise AttributeError(f"a set has no `.{name}`")

    def _add(self, item: object) -> None:
        self.values[item] = None

    def _discard(self, item: object) -> None:
        self.values.pop(item, None)

    def _remove(self, item: object) -> None:
        del self.values[item]

    def _update(self, *others: Iterable[object]) -> None:
        for other in others:
            self.values.update(dict.fromkeys(other))

    def _pop(self) -> object:
        if not self.values:
            raise KeyError("pop from an empty set")
        return self.values.popitem()[0]

    def _combined(
        self,
        combine: Callable[["OrderedSet", "OrderedSet"], "OrderedSet"],
        others: tuple[Iterable[object], ...],
    ) -> "OrderedSet":
        result = OrderedSet(self.values, frozen=self.frozen)
        for other in others:
            result = combine(result, OrderedSet(other))
        return result

    def __contains__(self, item: object) -> bool:
        return item in self.values

    def __iter__(self) -> Iterator[object]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __or__(self, other: "OrderedSet") -> "OrderedSet":
        return OrderedSet([*self.values, *other.values])

    def __and__(self, other: "OrderedSet") -> "OrderedSet":
        return OrderedSet([item for item in self.values if item in other.values])

    def __sub__(self, other: "OrderedSet") -> "OrderedSet":
        return OrderedSet([item for item in self.values if item not in other.values])

    def __xor__(self, other: "OrderedSet") -> "OrderedSet":
        return (self - other) | (other - self)

    def __le__(self, other: "OrderedSet") -> bool:
        return all(item in other.values for item in self.values)

    def __ge__(self, other: "OrderedSet") -> bool:
        return other <= self

    def __lt__(self, other: "OrderedSet") -> bool:
        return self <= other and len(self) < len(other)

    def __gt__(self, other: "OrderedSet") -> bool:
        return other < self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderedSet) and self.values.keys() == other.values.keys()

    def __hash__(self) -> int:
        if not self.frozen:
            raise TypeError("a set cannot be a key")
        return hash(tuple(self.values))


class Facade(Guarded):
    """A few functions of a module, and nothing else of it."""

    __slots__ = ("members", "name")

    def __init__(self, name: str, members: Mapping[str, object]) -> None:
        self.name = name
        self.members = dict(members)

    def attribute(self, name: str) -> object:
        """Return a member; also what ``from module import name`` reads."""
        if name in self.members:
            return self.members[name]
        near = did_you_mean(name, list(self.members))
        raise AttributeError(f"`{self.name}` has no `{name}` in a workflow{near}")

    def __getattr__(self, name: str) -> object:
        # IMPORT_FROM reads attributes as Python does, past the guards.
        if name in self.members:
            return self.members[name]
        raise AttributeError(name)


class ListType(Guarded):
    """The name ``list`` in author code: ``list(T)`` and ``list[T]`` are types, else the builtin."""

    __slots__ = ()

    def __call__(self, items: object = (), **options: object) -> object:
        """Return a type for a type, and a list for what can be iterated."""
        if isinstance(items, (Kind, StrType)) or items in (int, float, bool):
            return list_kind(items, **options)  # type: ignore[arg-type] # default= only
        return list(items)  # type: ignore[call-overload] # TypeError is the author's answer

    def __getitem__(self, of: object) -> Kind:
        return list_kind(of)


class TextType(StrType):
    """The name ``str`` in author code, to be called."""

    __slots__ = ()

    def __call__(self, value: object = "") -> object:
        """Return *value* as text; references are recorded, not asked for."""
        return text_of(value)

    def attribute(self, name: str) -> object:
        """Return a method as a function: ``map(str.strip, lines)``."""
        return lambda text, *args, **named: string_method(text, name)(*args, **named)


class SetType(Guarded):
    """The names ``set`` and ``frozenset``."""

    __slots__ = ("frozen",)

    def __init__(self, *, frozen: bool) -> None:
        self.frozen = frozen

    def __call__(self, items: Iterable[object] = ()) -> OrderedSet:
        """Return a set in insertion order."""
        return OrderedSet(items, frozen=self.frozen)


# ── attributes, items, writes ────────────────────────────────────────────────────────────────────


def read_attribute(value: object, name: object) -> object:
    """Return what ``value.name`` is for an author."""
    if type(name) is not str:
        raise TypeError("the name of an attribute is text")
    if name.startswith("_") or name in INSPECT_ATTRIBUTES:
        raise Problem(
            Code.INSPECTION,
            f"`.{name}` is out of reach",
            remedy="workflow code cannot look into Python itself",
        )
    if isinstance(value, str):
        return string_method(value, name)
    if isinstance(value, Ref):
        return _reference_attribute(value, name)
    if isinstance(value, Text):
        return string_method(value, name)
    if isinstance(value, Guarded):
        return value.attribute(name)
    return _plain_attribute(value, name)


def _plain_attribute(value: object, name: str) -> object:
    methods = _METHODS.get(type(value))
    if methods is not None and name in methods:
        if name in _CHANGING.get(type(value), ()):
            refuse_frozen(value)
        found = getattr(value, name)
        # Views would give Python's own sets, whose order is not ours.
        return (lambda: list(found())) if isinstance(value, dict) and name in _VIEWS else found
    if value is dict and name == "fromkeys":
        return dict.fromkeys
    if isinstance(value, BaseException) and name == "args":
        return value.args
    if _is_authors(value, name):
        return getattr(value, name)
    shown = value.__name__ if isinstance(value, type) else type(value).__name__
    near = did_you_mean(name, list(methods or ()))
    raise AttributeError(f"{shown} has no `.{name}`{near}")


def _is_authors(value: object, name: str) -> bool:
    """Whether *name* is the author's: of their class, or set on an object of their class."""
    owner = value if isinstance(value, type) else type(value)
    if owner.__module__ != AUTHOR:
        return False
    for ancestor in owner.__mro__:
        if name in ancestor.__dict__:
            return ancestor.__module__ == AUTHOR
    return not isinstance(value, type) and name in getattr(value, "__dict__", {})


def _reference_attribute(ref: Ref, name: str) -> object:
    if name == "tail" and ref.part.field in ("stdout", "stderr", "log") and not ref.part.path:
        return lambda lines: _tail(ref, lines)
    if ref.is_text:
        return string_method(ref, name)
    if ref.schema.get("type") == "array":
        return read_attribute(settle(ref), name)
    if ref.has_parts:
        return ref.at(name)
    return read_attribute(settle(ref), name)


def _tail(ref: Ref, lines: object) -> Ref:
    from dataclasses import replace

    count = settle(lines)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise Problem(Code.STEP_ARGUMENT, "tail takes a number of lines", remedy="write .tail(20)")
    return Ref(replace(ref.part, tail=count), ref.schema)


def read_item(value: object, key: object) -> object:
    """Return what ``value[key]`` is for an author."""
    if isinstance(value, (list, tuple, str, range, bytes)) and isinstance(key, Ref):
        key = settle(key)
    return value[key]  # type: ignore[index] # TypeError is the author's answer


def writable(value: object) -> object:
    """Let authors change lists, dicts and objects of their own classes, and nothing else."""
    refuse_frozen(value)
    if type(value) in (dict, list):
        return value
    owner = value if isinstance(value, type) else type(value)
    if owner.__module__ == AUTHOR:
        return value
    raise TypeError(f"{type(value).__name__} cannot be changed")


def change_item(value: Any, key: object, operator: str, operand: object) -> None:
    """Compute ``value[key] += operand``."""
    writable(value)[key] = in_place(operator, read_item(value, key), operand)  # type: ignore[index] # checked by writable


def change_attribute(value: object, name: str, operator: str, operand: object) -> None:
    """Compute ``value.name += operand``."""
    setattr(writable(value), name, in_place(operator, read_attribute(value, name), operand))


def _in_place_table() -> dict[str, Callable[[object, object], object]]:
    import operator

    names = {
        "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv,
        "%=": format_percent, "**=": operator.ipow, "<<=": operator.ilshift,
        ">>=": operator.irshift, "|=": operator.ior, "^=": operator.ixor, "&=": operator.iand,
        "//=": operator.ifloordiv, "@=": operator.imatmul,
    }  # fmt: skip
    return dict(names)


_IN_PLACE: Final = _in_place_table()


def in_place(operator: str, left: object, right: object) -> object:
    """Compute an augmented assignment."""
    if isinstance(left, (list, dict)):
        refuse_frozen(left)
    return _IN_PLACE[operator](left, right)


def is_same(left: object, right: object) -> bool:
    """Compute ``left is right``: references are asked for their value."""
    return _identity(left) is _identity(right)


def _identity(value: object) -> object:
    refuse_secrets(value, "cannot be compared")
    return settle(value) if isinstance(value, (Ref, Text)) else value


def is_instance(value: object, kinds: object) -> bool:
    """Compute ``isinstance``: text is a str, whatever parts it has."""
    value = settle(value)
    if isinstance(kinds, tuple):
        return any(is_instance(value, kind) for kind in kinds)
    if isinstance(kinds, StrType):
        return isinstance(value, (str, Text))
    if isinstance(kinds, ListType):
        return isinstance(value, list)
    if isinstance(kinds, SetType):
        return isinstance(value, OrderedSet)
    if kinds is dict:
        return isinstance(value, (dict, Record))
    return isinstance(value, kinds)  # type: ignore[arg-type] # TypeError is the author's answer


def subject_of(value: object) -> object:
    """Return the subject of ``match``: a plain value."""
    value = settle(value)
    return dict(value.items()) if isinstance(value, Record) else value


class Manager:
    """A context manager of the author's: what must pass passes, whatever its ``__exit__`` says."""

    __slots__ = ("managed",)

    def __init__(self, managed: Any) -> None:
        self.managed = managed

    def __enter__(self) -> object:
        return type(self.managed).__enter__(self.managed)

    def __exit__(self, kind: type[BaseException] | None, error: object, _traceback: object) -> bool:
        leave = type(self.managed).__exit__
        if kind is not None and issubclass(kind, FATAL):
            leave(self.managed, None, None, None)
            return False
        # Without the traceback: there is nothing in it for an author.
        return bool(leave(self.managed, kind, error, None))


FATAL: Final = (StageEnd, Finish, Problem, MemoryError, RecursionError)
"""What no ``except`` and no ``with`` of an author's ever swallows."""

_NO_DEFAULT: Final = object()


def get_attribute(value: object, name: object, default: object = _NO_DEFAULT) -> object:
    """Compute ``getattr``."""
    name = plain(name) if isinstance(name, (str, Text, Ref)) else name
    try:
        return read_attribute(value, name)
    except AttributeError:
        if default is _NO_DEFAULT:
            raise
        return default


def has_attribute(value: object, name: object) -> bool:
    """Compute ``hasattr``."""
    try:
        get_attribute(value, name)
    except AttributeError:
        return False
    return True


def make_int(value: object = 0, base: object = _NO_DEFAULT) -> int:
    """Compute ``int`` of text with a base."""
    if base is _NO_DEFAULT:
        return int(value)  # type: ignore[call-overload,no-any-return] # TypeError is the answer
    return int(plain(value), base)  # type: ignore[call-overload,no-any-return,arg-type] # as above


def apply(function: Callable[..., object], *args: object, **named: object) -> object:
    """Call with ``*`` and ``**``."""
    return function(*args, **named)


class Printer:
    """``print``: into a buffer with an end."""

    LIMIT: Final = 64 * 1024
    __name__ = "print"

    def __init__(self) -> None:
        self.text = ""

    def __call__(
        self, *values: object, sep: object = " ", end: object = "\n", **unknown: object
    ) -> None:
        """Append what is printed; references show their name."""
        if unknown:
            raise TypeError("print takes sep= and end= only")
        if len(self.text) < self.LIMIT:
            shown = [str(v) if isinstance(v, (Text, Ref)) else self._shown(v) for v in values]
            line = plain(text_of(" " if sep is None else sep)).join(shown)
            self.text = (self.text + line + plain(text_of("\n" if end is None else end)))[
                : self.LIMIT
            ]

    def _shown(self, value: object) -> str:
        if value is None or isinstance(value, bool):
            return str(value)
        if isinstance(value, (list, tuple)) and not isinstance(value, Guarded):
            inside = ", ".join(
                repr(v) if isinstance(v, str) else self._printed_inside(v) for v in value
            )
            return f"[{inside}]" if isinstance(value, list) else f"({inside})"
        return str(text_of(value)) if not isinstance(value, Guarded) else str(show(value))

    def _printed_inside(self, value: object) -> str:
        return str(value) if isinstance(value, (Text, Ref)) else str(show(value))


# ── the names of author code ─────────────────────────────────────────────────────────────────────

_SAFE: Final = [
    "abs",
    "all",
    "any",
    "bin",
    "bool",
    "callable",
    "chr",
    "dict",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "hex",
    "int",
    "iter",
    "len",
    "map",
    "max",
    "min",
    "next",
    "oct",
    "ord",
    "pow",
    "range",
    "reversed",
    "round",
    "slice",
    "sorted",
    "sum",
    "tuple",
    "zip",
    "None",
    "False",
    "True",
    "Ellipsis",
    "NotImplemented",
    "staticmethod",
    "classmethod",
    "property",
    "Exception",
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "ImportError",
    "IndexError",
    "KeyError",
    "LookupError",
    "NameError",
    "NotImplementedError",
    "OverflowError",
    "RuntimeError",
    "StopIteration",
    "TypeError",
    "UnicodeError",
    "ValueError",
    "ZeroDivisionError",
]


def _refused_import(name: str, *_rest: object) -> object:
    raise Problem(Code.IMPORT, f"`{name}` cannot be imported", remedy="remove the import")


def author_builtins(print_: Printer, import_: Callable[..., object]) -> dict[str, object]:
    """Return the built-in names of author code."""
    names: dict[str, object] = {name: getattr(builtins, name) for name in _SAFE}
    names |= {
        "str": TextType(),
        "list": ListType(),
        "set": SetType(frozen=False),
        "frozenset": SetType(frozen=True),
        "repr": show,
        "isinstance": is_instance,
        "issubclass": issubclass,
        "getattr": get_attribute,
        "hasattr": has_attribute,
        "format": lambda value, spec="": join_pieces(((value, None, spec, ("", 1)),)),
        "ord": lambda text: ord(plain(text)),
        "print": print_,
        "__build_class__": builtins.__build_class__,
        "__import__": import_,
    }
    return names


BUILTIN_NAMES: Final = frozenset(
    name for name in author_builtins(Printer(), _refused_import) if not name.startswith("_")
)


def author_globals(print_: Printer, import_: Callable[..., object]) -> dict[str, object]:
    """Return the globals that a file of the author starts with."""
    return {
        "__builtins__": author_builtins(print_, import_),
        "__name__": AUTHOR,
        "__metaclass__": type,
        "_fatal_": FATAL,
        "_manager_": Manager,
        "_getattr_": read_attribute,
        "_getitem_": read_item,
        "_getiter_": iter_of,
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "_unpack_sequence_": guarded_unpack_sequence,
        "_write_": writable,
        "_inplacevar_": in_place,
        "_inplace_item_": change_item,
        "_inplace_attr_": change_attribute,
        "_apply_": apply,
        "_text_": lambda *pieces: join_pieces(pieces),
        "_percent_": format_percent,
        "_is_": is_same,
        "_set_": OrderedSet,
        "_subject_": subject_of,
        "_branches_": Branches,
        "_int_": make_int,
    }


def iter_of(value: object) -> object:
    """Return what a loop iterates."""
    return iter(value)  # type: ignore[call-overload] # TypeError is the author's answer


def marked_like(result: str, *sources: object) -> str | Text:
    """Return *result*, marked as data when any of *sources* is."""
    return remark(result, any(is_marked(source) for source in sources))

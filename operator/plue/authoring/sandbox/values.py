"""What author code holds in place of results: references, text with provenance, frozen records.

Text is a type, not marker strings: ``f"{build.stdout}-x"`` is a :class:`Text` of parts, and it
is deliberately no subclass of ``str``. Whatever in Python's C code wants a real string fails
loudly instead of losing the mark that says "this came from outside".

Recording a reference needs no value; asking for the value of an unfinished step ends the stage.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import Place, Problem, did_you_mean
from plue.schemas import options_of

__all__ = [
    "DataPart",
    "Guarded",
    "Piece",
    "Record",
    "Ref",
    "RefPart",
    "SecretPart",
    "Source",
    "Text",
    "concat",
    "data",
    "is_marked",
    "mark",
    "parts_of",
    "plain",
    "question_of",
    "refuse_secrets",
    "render",
    "settle",
    "unmark",
]

Schema = Mapping[str, object]
TEXT: Final[Schema] = {"type": "string"}


class Guarded:
    """An object of ours that authors touch; ``attribute`` is all that they can read of it."""

    __slots__ = ()

    def attribute(self, name: str) -> object:
        """Return the attribute *name*, or raise what tells the author that there is none."""
        raise AttributeError(f"there is no `.{name}` here")


class Source(Protocol):
    """A recorded step, as its references see it."""

    @property
    def name(self) -> str:
        """The step's name."""

    def ask(self, part: "RefPart") -> object:
        """Return the JSON value of *part*; ends the stage while it is unknown."""


@dataclass(frozen=True, slots=True)
class DataPart:
    """Text from outside that is known already; ``place`` is where the author wrote the hole."""

    text: str
    place: Place | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RefPart:
    """A value of another step."""

    step: Source
    field: str
    path: tuple[str | int, ...] = ()
    tail: int | None = None
    default: str | None = None
    place: Place | None = None

    @property
    def shown(self) -> str:
        """The reference as people read it: ``<build.stdout>``."""
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path)
        tail = f".tail({self.tail})" if self.tail else ""
        return f"<{self.step.name}.{self.field}{path}{tail}>"

    @property
    def question(self) -> str:
        """What is asked, as one word: the same value asked for twice is one question."""
        return question_of(self.step.name, self.field, self.path, self.tail)

    def wire(self) -> dict[str, object]:
        """Return the part as ``plue.wire.plan.Ref`` dumps it."""
        return {
            "ref": self.step.name,
            "field": self.field,
            "path": list(self.path),
            "tail": self.tail,
            "default": self.default,
        }


def question_of(
    step: str, field: str, path: tuple[str | int, ...] = (), tail: int | None = None
) -> str:
    """Return what tells one question from another."""
    return json.dumps([step, field, list(path), tail], separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class SecretPart:
    """A secret by its name: goes into commands, and has no value for workflow code."""

    name: str
    place: Place | None = None

    @property
    def shown(self) -> str:
        """The secret as people read it in a command: ``<secret TOKEN>``."""
        return f"<secret {self.name}>"

    def refusal(self, where: str) -> Problem:
        """Return the error that the secret is used where it must not be."""
        return Problem(
            Code.SECRET,
            f"the secret {self.name} {where}",
            remedy="secrets go only into env=, into the text of commands, and into stdin=",
        )


Piece = str | DataPart | RefPart | SecretPart


def refuse_secrets(value: object, where: str) -> None:
    """Raise Problem when *value* is text with a secret in it."""
    for part in value.parts if isinstance(value, Text) else ():
        if isinstance(part, SecretPart):
            raise part.refusal(where)


def render(value: object) -> str:
    """Render a JSON value as text: verbatim, true/false, numbers, compact JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# ── text ─────────────────────────────────────────────────────────────────────────────────────────


class Text(Guarded):
    """Literal, data and referenced parts in a row."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Piece, ...]) -> None:
        self.parts = parts

    def __add__(self, other: object) -> object:
        return concat((self, other)) if isinstance(other, (str, Text, Ref)) else NotImplemented

    def __radd__(self, other: object) -> object:
        return concat((other, self)) if isinstance(other, (str, Text, Ref)) else NotImplemented

    def __mul__(self, times: object) -> object:
        if not isinstance(times, int):
            return NotImplemented
        return Text(self.parts * times) if times > 0 else ""

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        refuse_number(other, self)
        mine = plain(self)
        return isinstance(other, (str, Text, Ref)) and mine == unmark(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(plain(self))

    def __lt__(self, other: object) -> bool:
        return plain(self) < comparable(other, self)

    def __le__(self, other: object) -> bool:
        return plain(self) <= comparable(other, self)

    def __gt__(self, other: object) -> bool:
        return plain(self) > comparable(other, self)

    def __ge__(self, other: object) -> bool:
        return plain(self) >= comparable(other, self)

    def __bool__(self) -> bool:
        return bool(plain(self))

    def __len__(self) -> int:
        return len(plain(self))

    def __contains__(self, item: object) -> bool:
        return comparable(item, self) in plain(self)

    def __iter__(self) -> Iterator[object]:
        marked = is_marked(self)
        return iter([data(c) if marked else c for c in plain(self)])

    def __getitem__(self, key: int | slice) -> object:
        return remark(plain(self)[key], is_marked(self))

    def __int__(self) -> int:
        return int(plain(self))

    def __float__(self) -> float:
        return float(plain(self))

    def __format__(self, _spec: str) -> str:
        raise TypeError("text with values in it cannot be formatted here")

    def __str__(self) -> str:
        refuse_secrets(self, "cannot be printed")
        return "".join(_shown(p) for p in self.parts)

    __repr__ = __str__


def _shown(piece: Piece) -> str:
    if isinstance(piece, str):
        return piece
    return piece.text if isinstance(piece, DataPart) else piece.shown


def data(text: str) -> Text:
    """Return *text* marked as data."""
    return Text((DataPart(text),))


def remark(text: str, marked: bool) -> str | Text:  # noqa: FBT001 - read at every call as the mark
    """Return *text*, marked as data when what it was made from was."""
    return data(text) if marked else text


def concat(pieces: tuple[object, ...] | list[object]) -> str | Text:
    """Join strings, texts and references; plain when there is nothing but the author's text."""
    parts: list[Piece] = []
    for piece in pieces:
        for part in parts_of(piece):
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            elif part != "":
                parts.append(part)
    if all(isinstance(part, str) for part in parts):
        return "".join(str(part) for part in parts)
    return Text(tuple(parts))


def parts_of(value: object) -> tuple[Piece, ...]:
    """Return the parts of a string, a Text or a reference."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Text):
        return value.parts
    if isinstance(value, Ref):
        return (value.part,)
    raise TypeError(f"text was expected, not {type(value).__name__}")


def is_marked(value: object) -> bool:
    """Whether any part of *value* came from outside."""
    if isinstance(value, Text):
        return any(not isinstance(part, str) for part in value.parts)
    return isinstance(value, (Ref, Record))


def plain(value: "str | Text | Ref") -> str:
    """Return the text's value as a plain string; asks for what is not known yet."""
    if isinstance(value, str):
        return value
    return "".join(_value_of(part) for part in parts_of(value))


def _value_of(part: Piece) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, DataPart):
        return part.text
    if isinstance(part, SecretPart):
        raise part.refusal("has no value here: it cannot be compared, changed or asked for")
    value = part.step.ask(part)
    if value is None:
        raise Problem(
            Code.MISSING_VALUE,
            f"{part.shown} is null and has no text",
            remedy="test it with `is None` first",
            from_values=True,
        )
    return render(value)


def comparable(other: object, mine: object) -> str:
    """Return the plain string of *other*; numbers are refused with the remedy."""
    refuse_number(other, mine)
    if isinstance(other, (str, Text, Ref)):
        return plain(other)
    raise TypeError(f"text cannot be compared with {type(other).__name__}")


def refuse_number(other: object, mine: object) -> None:
    """Refuse to compare text with a number: it would be False forever, and silently."""
    if isinstance(other, (int, float)) and not isinstance(other, bool):
        what = mine.part.shown if isinstance(mine, Ref) else "this text"
        raise Problem(
            Code.TEXT_WITH_NUMBER,
            f"{what} is text and is compared with the number {other}",
            remedy="write int(...) around the text",
        )


# ── references ───────────────────────────────────────────────────────────────────────────────────


class Ref(Guarded):
    """A value of a step, of a type that its JSON Schema tells as far as it is known."""

    __slots__ = ("part", "schema")

    def __init__(self, part: RefPart, schema: Schema = TEXT) -> None:
        self.part = part
        self.schema = schema

    @property
    def is_text(self) -> bool:
        """Whether the value is certainly text."""
        return self.schema.get("type") == "string"

    def at(self, key: str | int) -> "Ref":
        """Return the reference to a part of this JSON value. Unknown fields are refused."""
        part = self.part
        path = (*part.path, key)
        deeper = RefPart(part.step, part.field, path, None, None, part.place)
        return Ref(deeper, sub_schema(self.schema, key, part.shown))

    @property
    def has_parts(self) -> bool:
        """Whether ``[literal]`` and attributes go into the value instead of asking for it."""
        kind = self.schema.get("type")
        return kind is None or kind in ("object", "array") or isinstance(kind, list)

    def __add__(self, other: object) -> object:
        if isinstance(other, (str, Text)) or (isinstance(other, Ref) and self.is_text):
            return concat((self, other))
        return settle(self) + settle(other)  # type: ignore[operator] # the author's own operands

    def __radd__(self, other: object) -> object:
        if isinstance(other, (str, Text)):
            return concat((other, self))
        return other + settle(self)  # type: ignore[operator] # the author's own operands

    def __eq__(self, other: object) -> bool:
        if self.is_text:
            refuse_number(other, self)
        return bool(settle(self) == settle(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(settle(self))

    def __bool__(self) -> bool:
        return bool(settle(self))

    def __len__(self) -> int:
        return len(settle(self))  # type: ignore[arg-type] # TypeError is the author's answer

    def __contains__(self, item: object) -> bool:
        return item in settle(self)  # type: ignore[operator] # TypeError is the author's answer

    def __iter__(self) -> Iterator[object]:
        return iter(settle(self))  # type: ignore[call-overload,no-any-return] # as above

    def __getitem__(self, key: object) -> object:
        if self.has_parts and isinstance(key, (str, int)) and not isinstance(key, bool):
            return self.at(key)
        return settle(self)[key]  # type: ignore[index] # TypeError is the author's answer

    def __int__(self) -> int:
        return int(settle(self))  # type: ignore[call-overload,no-any-return] # as above

    def __index__(self) -> int:
        value = settle(self)
        if isinstance(value, int):
            return value
        raise TypeError("a number was expected")

    def __float__(self) -> float:
        return float(settle(self))  # type: ignore[arg-type] # TypeError is the author's answer

    def __str__(self) -> str:
        return self.part.shown

    __repr__ = __str__


def _arithmetic() -> None:
    """Give references the operators that ask for the value on both sides."""
    import operator

    names = [
        "lt",
        "le",
        "gt",
        "ge",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "and_",
        "or_",
        "xor",
        "lshift",
        "rshift",
    ]
    for name in names:
        function = getattr(operator, name)

        def left(self: Ref, other: object, apply=function) -> object:  # type: ignore[no-untyped-def] # noqa: ANN001 - bound now
            return apply(settle(self), settle(other))

        def right(self: Ref, other: object, apply=function) -> object:  # type: ignore[no-untyped-def] # noqa: ANN001 - bound now
            return apply(settle(other), settle(self))

        setattr(Ref, f"__{name.rstrip('_')}__", left)
        if name not in {"lt", "le", "gt", "ge"}:
            setattr(Ref, f"__r{name.rstrip('_')}__", right)
    for name in ("neg", "pos", "abs", "invert"):
        function = getattr(operator, name)
        setattr(Ref, f"__{name}__", lambda self, apply=function: apply(settle(self)))
    setattr(Ref, "__round__", lambda self, *digits: round(settle(self), *digits))  # type: ignore[call-overload] # noqa: B010 - one of a family


_arithmetic()


def sub_schema(schema: Schema, key: str | int, shown: str) -> Schema:
    """Return the schema of a part of a value. A field that the schema excludes is a Problem."""
    kind = schema.get("type")
    if isinstance(key, int):
        items = schema.get("items")
        return items if isinstance(items, Mapping) else {}
    if kind == "object":
        fields = schema.get("properties")
        if isinstance(fields, Mapping):
            if key in fields:
                found = fields[key]
                return found if isinstance(found, Mapping) else {}
            near = did_you_mean(key, list(fields))
            raise Problem(
                Code.UNKNOWN_FIELD,
                f"{shown} has no field `{key}`{near}",
                remedy="its fields are: " + ", ".join(fields),
            )
    return {}


def settle(value: object) -> object:
    """Return the value of a reference, and of text with references in it; others as they are."""
    if isinstance(value, Ref):
        found = value.part.step.ask(value.part)
        # What is text by its type stays text: a value that somebody assumed may be a number.
        if value.is_text and isinstance(found, (bool, int, float)):
            found = render(found)
        return mark(found, value.schema, value.part.shown[1:-1])
    if isinstance(value, Text) and any(isinstance(part, RefPart) for part in value.parts):
        return data(plain(value))
    return value


def unmark(value: object) -> object:
    """Return *value* as plain JSON: settled, without marks."""
    value = settle(value)
    if isinstance(value, Text):
        return plain(value)
    if isinstance(value, Record):
        return value.plain
    if isinstance(value, (list, tuple)):
        return [unmark(item) for item in value]
    if isinstance(value, dict):
        return {str(unmark(key)): unmark(item) for key, item in value.items()}
    return value


# ── frozen JSON from outside ─────────────────────────────────────────────────────────────────────


def mark(value: object, schema: Schema | None = None, name: str = "") -> object:
    """Return JSON from outside with its strings marked as data and its objects frozen.

    With the *schema* that it fits and its *name*, fields that cannot be there are refused.
    """
    if isinstance(value, str):
        return data(value)
    if isinstance(value, dict):
        return Record(value, schema=schema, called=name)
    if isinstance(value, (list, tuple)):
        items = options_of(schema)[0].get("items") if schema else None
        of = items if isinstance(items, Mapping) else None
        return [mark(item, of, f"{name}[{at}]") for at, item in enumerate(value)]
    return value


class Record(Guarded):
    """A JSON object from outside: read by attribute or key; what is missing is None.

    ``strict`` names what the object is, when asking for a missing field is a mistake. Of one with
    a ``schema``, which is ``called`` so, only fields that the schema has can be missing.
    """

    __slots__ = ("called", "json", "schema", "strict")

    def __init__(
        self,
        value: dict[str, object],
        strict: str | None = None,
        *,
        schema: Schema | None = None,
        called: str = "",
    ) -> None:
        self.json = value
        self.strict = strict
        self.schema = options_of(schema)[0] if schema else {}
        self.called = called

    @property
    def plain(self) -> dict[str, object]:
        """The object as plain JSON; a called workflow's inputs may have to be asked for."""
        if any(isinstance(item, (Text, Ref)) for item in self.json.values()):
            return {key: unmark(item) for key, item in self.json.items()}
        return self.json

    def attribute(self, name: str) -> object:
        """Return a field; the methods of a mapping where no field hides them."""
        if name in self.json:
            return self._part(name)
        methods = {"get": self.get, "keys": self.keys, "items": self.items, "values": self.values}
        if name in methods:
            return methods[name]
        if self.strict is not None:
            near = did_you_mean(name, list(self.json))
            known = ", ".join(self.json) or "none"
            is_input = self.strict == "ctx.inputs"
            raise Problem(
                Code.UNKNOWN_INPUT if is_input else Code.UNKNOWN_FIELD,
                f"{self.strict} has no `{name}`{near}",
                remedy=f"{'declared are' if is_input else 'it has'}: {known}",
            )
        if self.schema:
            sub_schema(self.schema, name, self.called)
        return None

    def _part(self, name: str) -> object:
        fields = self.schema.get("properties")
        field = fields.get(name) if isinstance(fields, Mapping) else None
        return mark(self.json[name], field, f"{self.called}.{name}" if self.called else name)

    def get(self, key: object, default: object = None) -> object:
        """Return a field, or *default*."""
        name = unmark(key)
        return self._part(name) if isinstance(name, str) and name in self.json else default

    def keys(self) -> list[object]:
        """Return the names of the fields."""
        return [data(key) for key in self.json]

    def values(self) -> list[object]:
        """Return the values of the fields."""
        return [self._part(name) for name in self.json]

    def items(self) -> list[tuple[object, object]]:
        """Return names and values."""
        return [(data(name), self._part(name)) for name in self.json]

    def __getitem__(self, key: object) -> object:
        name = unmark(key)
        if isinstance(name, str) and name in self.json:
            return self._part(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[object]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.json)

    def __contains__(self, key: object) -> bool:
        return unmark(key) in self.json

    def __eq__(self, other: object) -> bool:
        return self.plain == unmark(other)

    def __hash__(self) -> int:
        raise TypeError("a JSON object cannot be a key")

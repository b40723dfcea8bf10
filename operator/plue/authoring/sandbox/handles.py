"""Handles: what ``ctx.run`` and ``ctx.parallel`` return. They name values and have none."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NoReturn

from typing_extensions import override

from plue.authoring.codes import Code
from plue.authoring.sandbox.book import Recorded
from plue.authoring.sandbox.problems import Problem, did_you_mean
from plue.authoring.sandbox.values import TEXT, Guarded, Ref, RefPart, Schema, unmark

__all__ = ["Group", "GroupOk", "Handle", "Outputs", "Valueless"]

_FIELDS: Final[Mapping[str, Schema]] = {
    "stdout": TEXT,
    "stderr": TEXT,
    "log": TEXT,
    "state": TEXT,
    "exit_code": {"type": "integer"},
    "ok": {"type": "boolean"},
}


class Valueless(Guarded):
    """Something that names values and has none itself: what asks for it is told what to write."""

    __slots__ = ()

    @property
    def refusal(self) -> tuple[str, str]:
        """What it is, and what to write instead."""
        return "this is not a value", "say which value is meant"

    def _refuse(self) -> NoReturn:
        message, remedy = self.refusal
        raise Problem(Code.HANDLE_AS_VALUE, message, remedy=remedy)

    def __bool__(self) -> bool:  # noqa: PLE0304 - it never returns
        self._refuse()

    def __eq__(self, _other: object) -> bool:
        self._refuse()

    def __ne__(self, _other: object) -> bool:
        self._refuse()

    def __hash__(self) -> int:  # noqa: PLE0309 - it never returns
        self._refuse()

    def __iter__(self) -> Iterator[object]:
        self._refuse()

    def __len__(self) -> int:  # noqa: PLE0303 - it never returns
        self._refuse()

    def __contains__(self, _item: object) -> bool:
        self._refuse()

    def __getitem__(self, _key: object) -> object:
        self._refuse()

    def __lt__(self, _other: object) -> bool:
        self._refuse()

    __le__ = __gt__ = __ge__ = __lt__

    def __add__(self, _other: object) -> object:
        self._refuse()

    __radd__ = __sub__ = __mul__ = __add__

    def __int__(self) -> int:
        self._refuse()

    def __float__(self) -> float:
        self._refuse()


class Handle(Valueless):
    """A recorded step."""

    __slots__ = ("schema", "step")

    def __init__(self, step: Recorded, schema: Schema | None = None) -> None:
        self.step = step
        self.schema = schema

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    @property
    @override
    def refusal(self) -> tuple[str, str]:
        label = self.name if self.name.isidentifier() else "handle"
        what = f"`{self.name}` is a step and has no value itself"
        return what, f"write {label}.ok or {label}.stdout"

    def attribute(self, name: str) -> object:
        """Return a reference to one of the step's values."""
        if name == "name":
            return self.step.name
        if name == "outputs":
            return Outputs(self)
        if name in _FIELDS:
            return Ref(RefPart(self.step, name), _FIELDS[name])
        fields = self._declared()
        if name in fields:
            return self.output(name)
        known = [*_FIELDS, "outputs", "name", *fields]
        raise Problem(
            Code.UNKNOWN_FIELD,
            f"step `{self.name}` has no `.{name}`{did_you_mean(name, known)}",
            remedy=f"what a step writes to $PLUE_OUTPUT is .outputs.{name}",
        )

    def _declared(self) -> Mapping[str, object]:
        fields = (self.schema or {}).get("properties")
        return fields if isinstance(fields, Mapping) else {}

    def output(self, name: str, default: str | None = None) -> Ref:
        """Return the reference to an output."""
        fields = self._declared()
        if self.schema is not None and name not in fields:
            raise Problem(
                Code.UNKNOWN_FIELD,
                f"step `{self.name}` has no output `{name}`{did_you_mean(name, list(fields))}",
                remedy="its output= schema declares: " + ", ".join(fields),
            )
        found = fields.get(name, TEXT)
        schema = found if isinstance(found, Mapping) else TEXT
        return Ref(RefPart(self.step, "outputs", (name,), None, default), schema)


class Outputs(Valueless):
    """The outputs of a step, by name."""

    __slots__ = ("handle",)

    def __init__(self, handle: Handle) -> None:
        self.handle = handle

    @property
    @override
    def refusal(self) -> tuple[str, str]:
        what = f"the outputs of `{self.name}` are read one by one"
        return what, "write .outputs.version, or .outputs.get(name, default)"

    def attribute(self, name: str) -> object:
        """Return the reference to an output; ``get`` is the method."""
        return self.get if name == "get" else self.handle.output(name)

    def get(self, name: object, default: object = None) -> Ref:
        """Return the reference to an output that may be missing."""
        key, value = unmark(name), unmark(default)
        if not isinstance(key, str) or not isinstance(value, str):
            raise Problem(
                Code.STEP_ARGUMENT,
                "outputs.get takes a name and the text that stands in for a missing output",
                remedy='write .outputs.get("version", "none")',
            )
        return self.handle.output(key, value)

    @override
    def __getitem__(self, key: object) -> Ref:
        name = unmark(key)
        if not isinstance(name, str):
            raise TypeError("outputs have names")
        return self.handle.output(name)

    @property
    def name(self) -> str:
        """The step's name, for messages."""
        return self.handle.name


class GroupOk(Guarded):
    """Whether every step of a group succeeded: one question about all of them."""

    __slots__ = ("steps",)

    def __init__(self, steps: Sequence[Recorded]) -> None:
        self.steps = steps

    def __bool__(self) -> bool:
        if not self.steps:
            return True
        return self.steps[0].book.ask_all([(step, RefPart(step, "ok")) for step in self.steps])

    def __eq__(self, other: object) -> bool:
        return bool(self) == other

    def __hash__(self) -> int:
        return hash(bool(self))

    @property
    def name(self) -> str:
        """For messages."""
        return "ctx.parallel(...).ok"


class Group(tuple[object, ...], Guarded):  # noqa: SLOT001 - a tuple takes no slots of its own
    """The values of the elements of ``ctx.parallel``, in order; ``steps`` are all of theirs."""

    steps: Sequence[Recorded] = ()

    def attribute(self, name: str) -> object:
        """Return ``ok``, or what a tuple has."""
        if name == "ok":
            return GroupOk(self.steps)
        if name in ("index", "count"):
            return getattr(tuple(self), name)
        raise AttributeError(f"what ctx.parallel returns has no `.{name}`")

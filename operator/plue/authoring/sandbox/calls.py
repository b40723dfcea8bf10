"""``ctx.call``: a workflow inside of another one, evaluated in its place.

The callee records its steps into the caller's book, in the caller's branch, under names that begin
with the call's: ``release/build``. It has its own inputs, ``env=`` and ``idle_timeout=``; its
triggers, pool, timeouts and concurrency are about runs of its own and do not apply.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from typing_extensions import override

from plue.authoring.codes import Code
from plue.authoring.sandbox.book import Book, Recorded
from plue.authoring.sandbox.handles import Valueless
from plue.authoring.sandbox.kinds import Kind
from plue.authoring.sandbox.problems import Problem, did_you_mean
from plue.authoring.sandbox.texts import text_of
from plue.authoring.sandbox.values import (
    TEXT,
    Guarded,
    Record,
    Ref,
    RefPart,
    Text,
    mark,
    refuse_secrets,
    unmark,
)
from plue.schemas import filled, problems

__all__ = ["MAX_DEPTH", "Called", "inputs_of"]

MAX_DEPTH: Final = 8
_ONLY_TEXT: Final = frozenset({"type", "default", "description", "title"})


class Called(Valueless):
    """What ``ctx.call`` returns."""

    __slots__ = ("_outputs", "failed", "name", "steps")

    def __init__(self, name: str, steps: list[Recorded]) -> None:
        """Name the call and the steps that it made."""
        self.name = name
        self.steps = steps
        self.failed: Recorded | None = None
        self._outputs: dict[str, object] = {}

    @property
    @override
    def refusal(self) -> tuple[str, str]:
        return f"`{self.name}` is a call and has no value itself", "write .outputs.NAME"

    def succeed(self, outputs: Mapping[str, object]) -> None:
        """Keep what the callee gave to ctx.success; text keeps its references."""
        for name, value in outputs.items():
            is_text = isinstance(value, (Text, Ref))
            self._outputs[name] = value if is_text else mark(unmark(value))

    def attribute(self, name: str) -> object:
        """Return ``name`` or ``outputs``."""
        if name == "name":
            return self.name
        if name == "outputs":
            return _CalledOutputs(self)
        raise Problem(
            Code.UNKNOWN_FIELD,
            f"the call `{self.name}` has no `.{name}`",
            remedy="it has .outputs, which the called workflow gives to ctx.success; a failure "
            "of it is not handled here, so what follows is skipped",
        )

    def output(self, name: str, default: object = None) -> object:
        """Return an output. Raises Problem when the callee gives none of that name."""
        if self.failed is not None:
            # Never known, so that whoever uses it is skipped as after any failed step.
            return Ref(RefPart(self.failed, "outputs", (name,)), TEXT)
        if name in self._outputs:
            return self._outputs[name]
        if default is not None:
            return default
        known = ", ".join(self._outputs) or "none"
        near = did_you_mean(name, list(self._outputs))
        raise Problem(
            Code.UNKNOWN_FIELD,
            f"the call `{self.name}` has no output `{name}`{near}",
            remedy=f"what the called workflow gives to ctx.success: {known}",
            from_values=True,
        )


class _CalledOutputs(Valueless):
    __slots__ = ("call",)

    def __init__(self, call: Called) -> None:
        self.call = call

    @property
    @override
    def refusal(self) -> tuple[str, str]:
        return f"the outputs of `{self.call.name}` are read one by one", "write .outputs.NAME"

    def attribute(self, name: str) -> object:
        if name == "get":
            return lambda key, default=None: self.call.output(str(unmark(key)), default)
        return self.call.output(name)

    @override
    def __getitem__(self, key: object) -> object:
        return self.call.output(str(unmark(key)))


def inputs_of(
    book: Book, workflow: str, kinds: Mapping[str, Kind], given: Mapping[str, object]
) -> Record:
    """Return the callee's inputs, checked by their types; what is wrong is noted.

    Text that is not known yet goes as it is where any text will do; other types ask for it.
    """
    for name in given:
        if name not in kinds:
            known = "declared are: " + ", ".join(kinds) if kinds else "it has no inputs"
            near = did_you_mean(name, list(kinds))
            message = f"workflow `{workflow}` has no input `{name}`{near}"
            book.report(Problem(Code.UNKNOWN_INPUT, message, remedy=known))
    values: dict[str, object] = {}
    for name, kind in kinds.items():
        if name in given:
            values[name] = _input(book, name, kind, given[name])
        elif kind.required:
            message = f"input `{name}` of workflow `{workflow}` is required"
            book.report(Problem(Code.MISSING_INPUT, message, remedy=f"write {name}=..."))
            values[name] = ""
        else:
            values[name] = kind.default
    return Record(values, strict="ctx.inputs")


def _input(book: Book, name: str, kind: Kind, value: object) -> object:
    refuse_secrets(value, "cannot be an input")
    if isinstance(value, Ref) and value.is_text:
        value = text_of(value)
    any_text = kind.schema.get("type") == "string" and _ONLY_TEXT.issuperset(kind.schema)
    if isinstance(value, Text) and any_text:
        return value
    if isinstance(value, Guarded) and not isinstance(value, (Text, Ref, Record)):
        text_of(value)  # a handle says itself what to write
    found = unmark(value)
    for error in islice(problems(kind.schema, found, name), 5):
        message, remedy = f"input {error}", "give a value of that type"
        book.report(Problem(Code.INPUT_TYPE, message, remedy=remedy, from_values=True))
    return filled(kind.schema, found)

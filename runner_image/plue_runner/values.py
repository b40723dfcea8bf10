"""The values of steps that have ended, and the text that is made of them when a step starts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue
from pydantic_core import to_json

from plue.wire.events import Reason, StepState
from plue.wire.plan import (
    Action,
    Data,
    Failure,
    Fields,
    Git,
    Glob,
    HashFiles,
    Items,
    Json,
    Lit,
    Part,
    Plan,
    Prompt,
    Read,
    Ref,
    RefField,
    Secret,
    Shell,
    Text,
    Value,
    Write,
)
from plue_runner.capture import Capture
from plue_runner.faults import Fault

__all__ = ["Kept", "Result", "Values", "refs_of", "rendered"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a step left for others. ``captures`` has the streams that the plan refers to.

    ``agent`` has ``status``, ``summary`` and ``turns`` of an agent.
    """

    state: StepState
    reason: Reason | None = None
    exit_code: int | None = None
    captures: Mapping[RefField, Capture] = field(default_factory=dict)
    outputs: Mapping[str, JsonValue] = field(default_factory=dict)
    agent: Mapping[str, JsonValue] = field(default_factory=dict)


def rendered(value: JsonValue) -> str:
    """Return *value* as it appears in text: verbatim, true/false, numbers, compact JSON."""
    return value if isinstance(value, str) else to_json(value).decode()


class Values:
    """What is known so far in an attempt."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        """Know nothing but *secrets*."""
        self._results: dict[str, Result] = {}
        self.secrets = dict(secrets or {})

    def record(self, step: str, result: Result) -> None:
        """Remember what *step* left."""
        self._results[step] = result

    def answer(self, ref: Ref) -> str:
        """Return what a step printed, or an agent says of itself, for the workflow's code.

        Raises Fault as ``text`` does.
        """
        found = self._value(ref)
        return "" if found is None else rendered(found)

    def text(self, text: Text) -> str:
        """Return *text* with every reference resolved.

        Raises Fault: MissingValue for what is absent or null, OutputTooLarge for a stream that
        is too long to be used whole.
        """
        return "".join(map(self._part, text))

    def json(self, value: Value) -> JsonValue:
        """Return *value* with every reference resolved; what is absent is null.

        Raises Fault as ``text`` does for text that is composed of references.
        """
        match value:
            case tuple():
                return self.text(value)
            case Ref():
                found = self._value(value)
                return value.default if found is None else found
            case Json():
                return value.value
            case Items():
                return [self.json(item) for item in value.items]
            case Fields():
                return {name: self.json(item) for name, item in value.fields.items()}

    def _part(self, part: Part) -> str:
        match part:
            case Lit():
                return part.text
            case Data():
                return part.data
            case Secret():
                return self._secret(part.secret)
            case Ref():
                value = self._value(part)
                if value is not None:
                    return rendered(value)
                if part.default is not None:
                    return part.default
                raise self.missing(part)

    def _value(self, ref: Ref) -> JsonValue:  # noqa: PLR0911 - a table of fields
        """Return the value, or None when it is absent or null."""
        result = self._results.get(ref.ref)
        if result is None:
            return None
        match ref.field:
            case "ok":
                return result.state is StepState.SUCCEEDED
            case "state":
                return result.state.value
            case "exit_code":
                return result.exit_code
            case "outputs":
                return _at(dict(result.outputs), ref.path) if ref.path else None
            case "stdout" | "stderr" | "log":
                return self._stream(result, ref)
            case "status" | "summary" | "turns":
                return _of_agent(result, ref.field)

    def _secret(self, name: str) -> str:
        if name in self.secrets:
            return self.secrets[name]
        raise Fault(
            Reason.MISSING_SECRET,
            f"the server has no value for the secret {name}",
            remedy="set it and make a new run",
        )

    @staticmethod
    def _stream(result: Result, ref: Ref) -> str | None:
        capture = result.captures.get(ref.field)
        if capture is not None:
            if ref.tail is not None:
                return capture.tail(ref.tail)
            return capture.complete(f"{ref.ref}.{ref.field}")
        # `when=False` gives empty text; what was skipped for a failure never gets a value.
        return "" if result.reason is Reason.CONDITION else None

    def missing(self, ref: Ref) -> Fault:
        """Say why *ref* has no value."""
        name = ".".join(map(str, (ref.ref, ref.field, *ref.path)))
        result = self._results.get(ref.ref)
        if result is None:
            return Fault(Reason.MISSING_VALUE, f"{name} is not known: {ref.ref!r} has not ended")
        if result.state in {StepState.SKIPPED, StepState.CANCELLED}:
            return Fault(Reason.MISSING_VALUE, f"{name} has no value: it was {result.state}")
        if ref.field == "outputs":
            key = ref.path[0] if ref.path else "NAME"
            return Fault(
                Reason.MISSING_VALUE,
                f"{name} has no value: {ref.ref!r} did not set it",
                remedy=f'write it with `echo "{key}=…" >> "$PLUE_OUTPUT"`, '
                f'or use .outputs.get("{key}", default)',
            )
        return Fault(Reason.MISSING_VALUE, f"{name} has no value")


def _of_agent(result: Result, field: RefField) -> JsonValue:
    """Return what every agent has, however it ended: also one that never came to ask."""
    skipped = result.reason is Reason.CONDITION
    instead: dict[RefField, JsonValue] = {
        "status": "skipped" if skipped else result.state.value,
        "summary": "",
        "turns": 0,
    }
    return result.agent.get(field, instead.get(field))


def _at(value: JsonValue, path: tuple[str | int, ...]) -> JsonValue:
    for key in path:
        match value, key:
            case dict(), str():
                value = value.get(key)
            case list(), int() if -len(value) <= key < len(value):
                value = value[key]
            case _:
                return None
    return value


class Kept:
    """Which streams of which steps are kept: what the plan refers to; all, while it may grow."""

    def __init__(self, plan: Plan, env: Mapping[str, Text]) -> None:
        """Begin with the first stage and the workflow's *env*."""
        self._env = env
        self._files = 0
        self.update(plan)

    def update(self, plan: Plan) -> None:
        """Take the plan as it is now."""
        self.grows = bool(plan.awaits)
        self._refs = refs_of(plan, self._env)

    def file_name(self) -> str:
        """Return the name of a file for a text that is put aside."""
        self._files += 1
        return f"{self._files:05}.kept"

    def wants(self, step: str, field: RefField) -> bool:
        """Whether the field of that step is to be kept."""
        return self.grows or (step, field) in self._refs


def refs_of(plan: Plan, env: Mapping[str, Text]) -> set[tuple[str, RefField]]:
    """Return which fields of which steps the plan, or the workflow's *env*, uses."""
    texts: list[Value] = [*env.values(), *(fail.reason for fail in plan.fails)]
    for step in plan.steps:
        texts += (*step.env.values(), step.cwd, *_values_of(step.action))
        texts += (t for c in step.cache for t in (*c.paths, c.key, *c.restore_keys))
    if plan.end is not None:
        texts += (value for value in plan.end.outputs.values() if isinstance(value, tuple))
    refs = {(ref.ref, ref.field) for value in texts for ref in _refs_in(value)}
    refs.update((ref.ref, ref.field) for ref in plan.awaits)
    return refs


def _values_of(action: Action) -> list[Value]:  # noqa: PLR0911 - a table of actions
    match action:
        case Shell():
            stdin = () if action.stdin is None else (action.stdin,)
            return [*(action.argv or ()), *action.holes.values(), *stdin]
        case Read():
            return [action.path, action.default or ()]
        case Write():
            return [action.path, action.text]
        case Glob() | HashFiles():
            return [*action.patterns]
        case Git():
            return [*(base.rev for base in action.bases), *action.paths]
        case Failure():
            return [action.reason]
        case Prompt():
            return [*action.inputs.values()]


def _refs_in(value: Value) -> Iterator[Ref]:
    match value:
        case tuple():
            yield from (part for part in value if isinstance(part, Ref))
        case Ref():
            yield value
        case Json():
            return
        case Items():
            for item in value.items:
                yield from _refs_in(item)
        case Fields():
            for item in value.fields.values():
                yield from _refs_in(item)

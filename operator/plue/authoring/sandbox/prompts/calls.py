"""A prompt in a workflow: ``review = CodeReview(diff=...)`` records one step and gives its handle.

Inputs are checked when the plan is made: plain values by their type, references by the type of
what they refer to, as far as it is known; the runner checks the rest when the values are there.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from typing_extensions import override

from plue.authoring.codes import Code
from plue.authoring.sandbox.book import Book, Recorded
from plue.authoring.sandbox.context import RUNNING
from plue.authoring.sandbox.handles import Handle
from plue.authoring.sandbox.problems import Problem, did_you_mean
from plue.authoring.sandbox.prompts.frontmatter import tool_problem
from plue.authoring.sandbox.prompts.library import AGENT_FIELDS, Prompt
from plue.authoring.sandbox.steps import Action, attempt, number_of, references_in, wire_text
from plue.authoring.sandbox.texts import text_of
from plue.authoring.sandbox.values import (
    TEXT,
    Guarded,
    Record,
    Ref,
    RefPart,
    Schema,
    SecretPart,
    Text,
    is_marked,
    parts_of,
    refuse_secrets,
    unmark,
)
from plue.schemas import at_path, filled, mismatch, options_of, problems, shown, type_name

__all__ = ["OPTIONS", "PromptCallable", "PromptHandle", "prompt_action"]

OPTIONS: Final = (
    "name", "timeout", "retry", "depends_on", "continue_on_error", "when", "once",
    "client", "tools", "max_turns",
)  # fmt: skip
"""What a call of a prompt may be given beside its inputs."""

_OF_AGENTS: Final = ("tools", "max_turns")
_ITS_FIELDS: Final[Mapping[str, Schema]] = {"state": TEXT, "ok": {"type": "boolean"}}
_MOST_TURNS: Final = 1000


class PromptCallable(Guarded):
    """What ``from plue.prompts import CodeReview`` gives."""

    __slots__ = ("prompt",)

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt

    @property
    def name(self) -> str:
        """The name under which it is imported, for messages."""
        return self.prompt.import_name

    def __call__(self, *args: object, **given: object) -> "PromptHandle":
        """Record a step that asks a model."""
        if not RUNNING:
            raise Problem(
                Code.PROMPT_CALL,
                f"{self.name} is called outside of a workflow",
                remedy="call it inside the function below @workflow",
            )
        return RUNNING[-1].prompt(self.prompt, args, given)

    def attribute(self, name: str) -> object:
        """Refuse: what an author wants to read is the answer."""
        raise Problem(
            Code.PROMPT_CALL,
            f"{self.name} is a prompt and has no `.{name}` before it is called",
            remedy=f"write review = {self.name}(…) and read review.{name}",
        )


# ── the handle ───────────────────────────────────────────────────────────────────────────────────


class PromptHandle(Handle):
    """The step of a call; the fields of its output are its attributes."""

    __slots__ = ("prompt",)

    def __init__(self, step: Recorded, prompt: Prompt) -> None:
        super().__init__(step, prompt.output_schema or {"type": "object", "properties": {}})
        self.prompt = prompt

    @property
    @override
    def refusal(self) -> tuple[str, str]:
        field = next(iter(self._names()), "ok")
        return (
            f"`{self.name}` is a step and has no value itself",
            f"say which of its values is meant: .{field}",
        )

    def _own(self) -> Mapping[str, Schema]:
        return {**_ITS_FIELDS, **(AGENT_FIELDS if self.prompt.kind == "agent" else {})}

    def _names(self) -> list[str]:
        return [*self._declared(), *self._own()]

    @override
    def attribute(self, name: str) -> object:
        """Return a reference to a field of the answer, or to what its step has."""
        own = self._own()
        if name in own:
            return Ref(RefPart(self.step, name), own[name])
        if name in ("name", "outputs") or name in self._declared():
            return super().attribute(name)
        known = [*self._names(), "outputs", "name"]
        raise Problem(
            Code.UNKNOWN_FIELD,
            f"prompt {self.prompt.import_name} has no `.{name}`{did_you_mean(name, known)}",
            remedy="it has: " + ", ".join(self._names()),
        )


# ── the action ───────────────────────────────────────────────────────────────────────────────────


def prompt_action(
    book: Book, prompt: Prompt, args: Sequence[object], given: Mapping[str, object]
) -> Action:
    """Return the action of a call; everything that is wrong with its arguments is noted."""
    if args:
        book.report(
            Problem(
                Code.PROMPT_CALL,
                f"{prompt.import_name} takes its inputs by name",
                remedy=f"write {prompt.import_name}({next(iter(prompt.inputs), 'name')}=…)",
            )
        )
    inputs = {name: value for name, value in given.items() if name not in OPTIONS}
    for problem in _name_problems(prompt, inputs, given, positional=bool(args)):
        book.report(problem)
    wire: dict[str, object] = {}
    for name, value in inputs.items():
        if name in prompt.inputs:
            wire[name] = _noted(book, prompt, name, value)
    tools = attempt(book, lambda: _tools(prompt, given.get("tools")), prompt.tools)
    turns = attempt(book, lambda: _turns(prompt, given.get("max_turns")), prompt.max_turns)
    client = attempt(book, lambda: _client(prompt, given.get("client")), prompt.client)
    action: dict[str, object] = {
        **prompt.wire(),
        "inputs": wire,
        "client": client,
        "tools": list(tools),
        "equipment": prompt.workshop.equipment(tools),
        "max_turns": turns,
        "shown": _shown_call(prompt, inputs),
    }
    return Action(action, _references(*inputs.values()), [])


def _name_problems(
    prompt: Prompt,
    inputs: Mapping[str, object],
    given: Mapping[str, object],
    *,
    positional: bool,
) -> list[Problem]:
    found = []
    called = prompt.import_name
    for name in inputs:
        if name not in prompt.inputs:
            known = [*prompt.inputs, *OPTIONS]
            message = f"{called} has no input `{name}`{did_you_mean(name, known)}"
            remedy = "its inputs are: " + (", ".join(prompt.inputs) or "none")
            found.append(Problem(Code.PROMPT_INPUT, message, remedy=remedy))
    if prompt.kind != "agent":
        found += [
            Problem(
                Code.PROMPT_CALL,
                f"`{name}=` belongs to agents, and {called} is an llm prompt",
                remedy=f"remove it, or write `type: agent` in {prompt.file}",
            )
            for name in _OF_AGENTS
            if given.get(name) is not None
        ]
    missing = [name for name, kind in prompt.inputs.items() if kind.required and name not in inputs]
    if missing and not positional:
        names = " and ".join(f"`{name}`" for name in missing)
        remedy = ", ".join(f"{name}=…" for name in missing)
        found.append(
            Problem(
                Code.PROMPT_INPUT, f"{called} needs {names}", remedy=f"write {called}({remedy})"
            )
        )
    return found


def _noted(book: Book, prompt: Prompt, name: str, value: object) -> object:
    instead: object = {"value": None}
    return attempt(book, lambda: _input(prompt, name, value), instead)


def _input(prompt: Prompt, name: str, value: object) -> object:
    """Return an input as ``plue.wire.plan.Value`` dumps it. Raises Problem when it cannot fit."""
    kind = prompt.inputs[name]
    if value is None and not kind.required:
        value = kind.default
    path = f"{prompt.import_name}.{name}"
    told: list[str] = []
    wire = _wire_value(value, kind.schema, path, told)
    if told:
        what = type_name(kind.schema)
        remedy = f"`{name}` takes {what}, as {prompt.file} declares"
        if what == "text" and isinstance(value, Ref) and not value.is_text:
            remedy = f'write it as text: {name}=f"{{…}}"'
        raise Problem(Code.PROMPT_INPUT, told[0], remedy=remedy, from_values=_holds_marks(value))
    return wire


def _wire_value(value: object, schema: Schema, path: str, told: list[str]) -> object:
    """Return the wire form of *value*; what does not fit *schema* is put into *told*."""
    if isinstance(value, Ref):
        problem = mismatch(value.schema, schema, path)
        if problem is not None:
            told.append(problem)
        return value.part.wire()
    if isinstance(value, (str, Text)):
        return _wire_text(value, schema, path, told)
    if isinstance(value, Guarded) and not isinstance(value, Record):
        text_of(value)  # a handle says itself what to write
    if isinstance(value, (list, tuple)) and _references(value):
        return _wire_items(value, schema, path, told)
    if isinstance(value, Mapping) and _references(value):
        return _wire_fields(value, schema, path, told)
    plain = unmark(value)
    if not _is_json(plain):
        raise Problem(
            Code.PROMPT_INPUT,
            f"{path} cannot be {type(value).__name__}",
            remedy="pass text, numbers, booleans, None, lists and dicts of these",
        )
    told += list(problems(schema, plain, path))[:3]
    return {"value": filled(schema, plain)}


def _wire_text(
    value: str | Text, schema: Schema, path: str, told: list[str]
) -> list[dict[str, object]]:
    refuse_secrets(value, "cannot be an input of a prompt: a model would read it")
    if any(isinstance(part, RefPart) for part in parts_of(value)):
        problem = mismatch(TEXT, schema, path)
        told += [] if problem is None else [f"{problem}; int(...) makes a number of text"]
    else:
        told += list(problems(schema, unmark(value), path))[:3]
    return wire_text(value)


def _wire_items(
    value: Sequence[object], schema: Schema, path: str, told: list[str]
) -> dict[str, object]:
    inner, _ = options_of(schema)
    _expect("array", inner, path, told)
    items = inner.get("items")
    of = items if isinstance(items, Mapping) else {}
    return {"items": [_wire_value(v, of, at_path(path, i), told) for i, v in enumerate(value)]}


def _wire_fields(
    value: Mapping[object, object], schema: Schema, path: str, told: list[str]
) -> dict[str, object]:
    inner, _ = options_of(schema)
    _expect("object", inner, path, told)
    declared = inner.get("properties")
    fields = declared if isinstance(declared, Mapping) else {}
    named = {str(unmark(key)): item for key, item in value.items()}
    # Which fields there are is known; what is in them is checked below.
    present: dict[str, object] = dict.fromkeys(named)
    names_only = {**inner, "properties": {name: {} for name in fields}}
    told += list(problems(names_only, present, path))[:3]
    return {
        "fields": {
            name: _wire_value(item, fields.get(name, {}), at_path(path, name), told)
            for name, item in named.items()
        }
    }


def _expect(kind: str, schema: Schema, path: str, told: list[str]) -> None:
    problem = mismatch({"type": kind}, schema, path)
    if problem is not None:
        told.append(problem)


def _references(*values: object) -> list[str]:
    return references_in(*values)


def _holds_marks(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_marks, value))
    if isinstance(value, Mapping):
        return any(map(_holds_marks, value.values()))
    return isinstance(value, (Text, Record)) and is_marked(value)


def _is_json(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return abs(value) < float("inf")
    return value is None or isinstance(value, (str, int))


# ── options ──────────────────────────────────────────────────────────────────────────────────────


def _tools(prompt: Prompt, value: object) -> tuple[str, ...]:
    if value is None or prompt.kind != "agent":
        return prompt.tools
    names = unmark(list(value) if isinstance(value, (list, tuple)) else [value])
    found: list[str] = []
    for name in names if isinstance(names, list) else []:
        problem = _tool_problem(prompt, name)
        if problem is not None:
            raise Problem(Code.STEP_ARGUMENT, problem[0], remedy=problem[1] or None)
        found.append(str(name))
    return tuple(dict.fromkeys(found))


def _tool_problem(prompt: Prompt, name: object) -> tuple[str, str] | None:
    if not isinstance(name, str):
        return "a tool is named by text", ""
    if name.startswith("//prompts:") and name not in prompt.tools:
        # A revision covers the files that its prompts name.
        return f"prompt {prompt.name} does not name `{name}`", f"name it in {prompt.file}"
    return tool_problem(name) or prompt.workshop.problem_of(name)


def _turns(prompt: Prompt, value: object) -> int | None:
    if value is None or prompt.kind != "agent":
        return prompt.max_turns
    turns = number_of(value, "max_turns", _MOST_TURNS)
    if turns == 0:
        raise Problem(Code.STEP_ARGUMENT, "max_turns=0 would never ask", remedy="write max_turns=1")
    return turns


def _client(prompt: Prompt, value: object) -> str | None:
    if value is None:
        return prompt.client
    name = unmark(value)
    provider, slash, model = name.partition("/") if isinstance(name, str) else ("", "", "")
    if not (provider and slash and model):
        raise Problem(
            Code.STEP_ARGUMENT,
            f"client={shown(name)} is not a client",
            remedy='write client="anthropic/claude-sonnet"',
        )
    return str(name)


def _shown_call(prompt: Prompt, inputs: Mapping[str, object]) -> str:
    """Return the call as people read it: ``CodeReview(diff=<git.diff.stdout>)``."""
    parts = []
    for name, value in inputs.items():
        if isinstance(value, Ref):
            text = str(value)
        elif isinstance(value, Text):
            secret = any(isinstance(part, SecretPart) for part in parts_of(value))
            text = "…" if secret else '"' + str(value) + '"'
        elif isinstance(value, (Guarded, list, tuple, dict)):
            text = "…"
        else:
            text = shown(value)
        line = text.split("\n")[0]
        parts.append(f"{name}={line if len(line) <= 60 else line[:59] + '…'}")  # noqa: PLR2004
    return f"{prompt.import_name}({', '.join(parts)})"

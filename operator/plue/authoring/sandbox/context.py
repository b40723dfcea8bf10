"""``ctx``: what a workflow function is given."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from plue.authoring.codes import Code
from plue.authoring.sandbox.book import Book, Frame, Recorded
from plue.authoring.sandbox.caches import Caches, caches_of
from plue.authoring.sandbox.calls import MAX_DEPTH, Called, inputs_of
from plue.authoring.sandbox.handles import Group, Handle
from plue.authoring.sandbox.kinds import kind_of
from plue.authoring.sandbox.labels import label_here
from plue.authoring.sandbox.problems import (
    AUTHOR,
    Finish,
    Problem,
    did_you_mean,
)
from plue.authoring.sandbox.steps import (
    Action,
    attempt,
    command_of,
    definition_of,
    environment_of,
    number_of,
    references_in,
    refuse_nul,
    seconds_of,
    step_name_of,
    wire_text,
)
from plue.authoring.sandbox.texts import text_of
from plue.authoring.sandbox.values import Guarded, Record, Ref, SecretPart, Text, settle, unmark
from plue.authoring.sandbox.workspace import GitSteps, WorkspaceSteps, bases_of
from plue.domain.event import complete_event, repository_of

if TYPE_CHECKING:
    from plue.authoring.sandbox.prompts.calls import PromptHandle
    from plue.authoring.sandbox.prompts.library import Prompt

__all__ = ["RUNNING", "Branches", "Context", "Defaults"]

_RUN: Final = (
    "name", "cmd", "env", "cwd", "stdin", "timeout", "idle_timeout", "retry", "depends_on",
    "shell", "continue_on_error", "when", "once", "output", "cache",
)  # fmt: skip
_CLEANUP: Final = ("name", "cmd", "env", "cwd", "stdin", "shell", "timeout")
_NOT_YET: Final = {"approval": "ctx.approval"}
_BY_PROMPTS: Final = ("llm", "agent", "prompt")
_CO_GENERATOR: Final = 0x20
_NOTHING = Action({}, [], [])
_WHEN: Final = ("success", "failure", "always")


RUNNING: "list[Context]" = []
"""The last is the context of the workflow that is evaluated now: calls of prompts go there."""


class Branches(list[Callable[[], object]]):
    """The elements of ``ctx.parallel([...])``, each to be evaluated by itself."""


@dataclass(frozen=True)
class Defaults:
    """What the workflow's decorator gives to every step."""

    env: Mapping[str, str | Text] = field(default_factory=dict)
    idle_timeout: float | None = None


def unsupported(what: str) -> Problem:
    """Return the refusal of a part of the language that this version does not have."""
    return Problem(
        Code.UNSUPPORTED,
        f"{what} is not supported in this version of Plue",
        remedy="remove it; nothing is ever ignored silently",
    )


class Context(Guarded):
    """The methods are the author's; the book does the work."""

    def __init__(
        self,
        book: Book,
        inputs: Record,
        event: dict[str, object],
        defaults: Defaults,
    ) -> None:
        """Serve one call of a workflow's function."""
        self._book = book
        self._event = event
        self._defaults = defaults
        self._read: dict[str, object] = {
            "run": self.run,
            "parallel": self.parallel,
            "cleanup": self.cleanup,
            "fail": self.fail,
            "success": self.success,
            "call": self.call,
            "inputs": inputs,
            "event": Record(complete_event(event), strict="ctx.event"),
            "repo": Record(repository_of(event), strict="ctx.repo"),
            "env": Environment(defaults.env),
            "secrets": Secrets(),
            "git": GitSteps(book, _refuse_generator, bases_of(event)),
            **WorkspaceSteps(book, _refuse_generator).members,
        }
        self.outputs: dict[str, object] | None = None
        self.given: Mapping[str, object] = {}
        """What ctx.success was given, as the author has it."""
        self.failure: Recorded | None = None
        self.warnings: list[Problem] = []

    def attribute(self, name: str) -> object:
        """Return what ``ctx.<name>`` is."""
        if name in self._read:
            self._book.saw_values |= name in ("inputs", "event", "repo")
            return self._read[name]
        if name in _NOT_YET:
            raise unsupported(_NOT_YET[name])
        if name in _BY_PROMPTS:
            raise Problem(
                Code.UNKNOWN_FIELD,
                f"ctx has no `.{name}`: models and agents are asked by prompts",
                remedy="write `from plue.prompts import Review`, and call Review(diff=...)",
            )
        raise Problem(
            Code.UNKNOWN_FIELD,
            f"ctx has no `.{name}`{did_you_mean(name, list(self._read))}",
            remedy="it has: " + ", ".join(self._read),
        )

    # ── steps ────────────────────────────────────────────────────────────────────────────────────

    def run(self, *args: object, **given: object) -> Handle:
        """Record a step that runs a command."""
        options = self._arguments("ctx.run", args, given, _RUN)
        with self._book.recording(self._name(options)) as step:
            return self._record_run(step, options)

    def _record_run(self, step: Recorded, options: dict[str, object]) -> Handle:
        action = self._action(options)
        book, caches = self._book, Caches([], [])
        shape: dict[str, object] | None = None
        if "output" in options:
            shape = attempt(book, lambda: _output_schema(options["output"]), None)
        if "cache" in options:
            caches = attempt(book, lambda: caches_of(options["cache"]), caches)
            action = Action(action.wire, [*action.used, *caches.used], action.warnings)
        self._record(step, action, options, shape, caches.wire)
        return Handle(step, shape)

    def prompt(
        self, prompt: "Prompt", args: Sequence[object], given: Mapping[str, object]
    ) -> "PromptHandle":
        """Record the step of a prompt that is called: keywords only, one step each."""
        from plue.authoring.sandbox.prompts.calls import OPTIONS, PromptHandle, prompt_action

        book = self._book
        options = {name: given[name] for name in OPTIONS if name in given}
        options.setdefault("name", prompt.step_name)
        with book.recording(self._name(options)) as step:
            action = prompt_action(book, prompt, args, given)
            self._record(step, action, options, prompt.output_schema)
            return PromptHandle(step, prompt)

    def _record(
        self,
        step: Recorded,
        action: Action,
        options: dict[str, object],
        shape: dict[str, object] | None,
        caches: Sequence[dict[str, object]] = (),
    ) -> None:
        """Close the step with what *options* say of its order, failure and time."""
        book, when = self._book, "success"
        if "when" in options:
            when = attempt(book, lambda: _when(options["when"]), when)
        step.handled = _flag(book, options, "continue_on_error")
        step.never = when == "never"
        depends_on: list[str] | None = None
        if "depends_on" in options:
            depends_on = attempt(book, lambda: self._dependencies(step, options), None)
        definition = self._define(step, action, options, depends_on)
        definition |= {
            "when": when,
            "continue_on_error": step.handled,
            "once": _flag(book, options, "once"),
            "output_schema": shape,
            "idle_timeout_seconds": self._time(options, "idle_timeout")
            or self._idle_timeout(action),
        }
        if "retry" in options:
            count = attempt(book, lambda: number_of(options["retry"], "retry", 100), 0)
            definition["retry"] = count
        if caches:
            definition["cache"] = list(caches)
        book.close_step(step, definition)

    def _time(self, options: dict[str, object], name: str) -> float | None:
        if options.get(name) is None:
            return None
        return attempt(self._book, lambda: seconds_of(options[name], name), None)

    def _idle_timeout(self, action: Action) -> float | None:
        # It is about commands that hang; what a model is silent for has limits of its own.
        return self._defaults.idle_timeout if action.wire.get("kind") == "shell" else None

    def cleanup(self, *args: object, **given: object) -> Handle:
        """Record a step that runs last, if what is above it was started."""
        options = self._arguments("ctx.cleanup", args, given, _CLEANUP)
        branch = self._book.branch
        before = list(branch.frontier)
        with self._book.recording(self._name(options)) as step:
            step.cleanup = True
            definition = self._define(step, self._action(options), options, None)
            branch.frontier = before  # nothing waits for a clean-up
            definition |= {"cleanup": True, "when": "always"}
            self._book.close_step(step, definition)
        return Handle(step)

    def _name(self, options: dict[str, object]) -> str:
        self._book.check_open()
        _refuse_generator()
        return attempt(self._book, lambda: step_name_of(options.get("name")), "step")

    def _action(self, options: dict[str, object]) -> Action:
        action = attempt(
            self._book,
            lambda: command_of(options.get("cmd"), options.get("shell"), options.get("stdin")),
            _NOTHING,
        )
        self.warnings += action.warnings
        return action

    def _define(
        self,
        step: Recorded,
        action: Action,
        options: dict[str, object],
        depends_on: list[str] | None,
    ) -> dict[str, object]:
        book = self._book
        own: Mapping[str, str | Text] = {}
        if "env" in options:
            own = attempt(book, lambda: environment_of(options["env"]), own)
        # A called workflow's env= is its steps'; the run's own comes with the assignment.
        env = {**self._defaults.env, **own} if book.frame.depth else own
        cwd: str | Text = ""
        if "cwd" in options:
            cwd = attempt(book, lambda: _folder(options["cwd"]), cwd)
        used = [*action.used, *references_in(env, cwd)]
        needs = book.order(step, depends_on, list(dict.fromkeys(used)))
        definition = definition_of(step, action.wire, needs)
        if label := label_here():
            definition["group"] = [*book.frame.groups, label]
        if env:
            definition["env"] = {n: wire_text(value, secrets=True) for n, value in env.items()}
        if "cwd" in options:
            definition["cwd"] = wire_text(cwd)
        if "timeout" in options:
            definition["timeout_seconds"] = self._time(options, "timeout")
        return definition

    def _arguments(
        self, what: str, args: Sequence[object], given: Mapping[str, object], known: Sequence[str]
    ) -> dict[str, object]:
        """Return the arguments by name; unknown ones are noted with the nearest known one."""
        book, options = self._book, dict(zip(known, args, strict=False))
        for problem in _argument_problems(what, args, given, known, options):
            book.report(problem)
        options.update({name: value for name, value in given.items() if name in known})
        for name in ("name", "cmd"):
            if name not in options:
                raise Problem(
                    Code.STEP_ARGUMENT,
                    f"{what} needs {name}",
                    remedy=f'write {what}("test", "make test")',
                )
        return options

    def _dependencies(self, step: Recorded, options: dict[str, object]) -> list[str] | None:
        value = options.get("depends_on")
        if value is None:
            return None
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        names: list[str] = []
        for item in items:
            names += [name for name in self._names_of(step, item) if name not in names]
        return names

    def _names_of(self, step: Recorded, item: object) -> list[str]:
        if isinstance(item, Handle):
            return [item.name]
        if isinstance(item, Group):
            return [recorded.name for recorded in item.steps]
        if isinstance(item, Called):
            return [recorded.name for recorded in item.steps]
        if isinstance(item, (list, tuple)):
            return [name for inner in item for name in self._names_of(step, inner)]
        name = unmark(item) if isinstance(item, (str, Text)) else None
        if not isinstance(name, str):
            raise Problem(
                Code.STEP_ARGUMENT,
                "depends_on takes handles and names of steps",
                remedy="write depends_on=[build]",
            )
        name = self._book.frame.prefix + name
        if name == step.name:
            raise Problem(
                Code.SELF_DEPENDENCY,
                f"step `{name}` depends on itself",
                remedy="remove its own name from depends_on",
            )
        if name not in self._book.steps:
            self._book.forward.append((step, name))
        return [name]

    # ── branches and ends ────────────────────────────────────────────────────────────────────────

    def parallel(self, *args: object, **given: object) -> Group:
        """Evaluate the elements as branches; return their values."""
        _refuse_generator()
        elements = args[0] if len(args) == 1 else None
        if given.pop("fail_fast", False):
            raise unsupported("fail_fast=True")
        if not isinstance(elements, Branches) or given:
            unknown = f": it has no option `{next(iter(given))}`" if given else ""
            raise Problem(
                Code.PARALLEL_FORM,
                f"ctx.parallel takes one list that is written inside the call{unknown}",
                remedy="write ctx.parallel([ctx.run(...), ctx.run(...)])",
            )
        values, branches = self._book.parallel(elements)
        for index, (value, branch) in enumerate(zip(values, branches, strict=True)):
            if isinstance(value, Handle) and value.step not in branch.made:
                raise Problem(
                    Code.PARALLEL_HANDLE,
                    f"element {index + 1} is step `{value.name}`, which was recorded before",
                    remedy="write its ctx.run(...) into the list",
                    related=(value.step.place.file, value.step.place.line),
                )
        group = Group(values)
        group.steps = [step for branch in branches for step in branch.made]
        return group

    def fail(self, reason: object = "the workflow failed") -> NoReturn:
        """End the function, or this branch, as a failure."""
        book = self._book
        book.check_open()
        text = text_of(reason)
        if book.frame.depth:
            self._fail_call(text)
        needs = list(book.branch.frontier)
        needs += [name for name in references_in(text) if name not in needs]
        place = Problem("", "").place
        site = {"file": place.file, "line": place.line, "column": place.column} if place else None
        book.fails.append({"reason": wire_text(text), "needs": needs, "site": site})
        self._end()

    def success(self, *args: object, **outputs: object) -> NoReturn:
        """End the function as a success with these outputs."""
        book = self._book
        book.check_open()
        if book.branch is not book.frame.root:
            raise Problem(
                Code.SUCCESS_IN_BRANCH,
                "ctx.success inside ctx.parallel would end the function while others go on",
                remedy="call it after ctx.parallel",
            )
        if args:
            raise Problem(
                Code.STEP_ARGUMENT,
                "ctx.success takes its outputs by name",
                remedy="write ctx.success(version=build.outputs.version)",
            )
        self.given = outputs
        self.outputs = {name: _output(value) for name, value in outputs.items()}
        self._end()

    def _fail_call(self, reason: str | Text) -> NoReturn:
        """End the called function as a step that fails."""
        book = self._book
        with book.recording("fail", hidden=True) as step:
            action: dict[str, object] = {
                "kind": "fail",
                "reason": wire_text(reason),
                "shown": "fail",
            }
            needs = book.order(step, None, references_in(reason))
            book.close_step(step, definition_of(step, action, needs))
        self.failure = step
        self._end()

    def _end(self) -> NoReturn:
        book = self._book
        if book.branch is not book.frame.root:
            book.park()
        book.frame.closed = True
        book.branch.ended = book.frame.depth == 0
        raise Finish(book.frame)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    def call(self, *args: object, **given: object) -> Called:
        """Evaluate another workflow in this place."""
        from plue.authoring.sandbox.sdk import Declared

        book = self._book
        book.check_open()
        _refuse_generator()
        workflow = args[0] if len(args) == 1 else None
        if not isinstance(workflow, Declared):
            raise Problem(
                Code.CALL,
                "ctx.call takes a workflow, and its inputs by name",
                remedy="write ctx.call(release, version=...), after "
                "`from workflows.release import release`",
            )
        if book.frame.depth >= MAX_DEPTH:
            raise Problem(
                Code.CALL,
                f"calls are nested more than {MAX_DEPTH} deep",
                remedy="look for a workflow that calls itself without end",
            )
        chosen = given.pop("name", None)
        name = workflow.name
        if chosen is not None:
            name = attempt(book, lambda: step_name_of(chosen), name)
        options = workflow.options
        label = label_here()
        inputs = inputs_of(book, workflow.name, options.inputs, given)
        whole = book.open_call(name)
        groups = [*book.frame.groups, *([label] if label else []), whole.rpartition("/")[2]]
        frame = Frame(book.branch, f"{whole}/", book.frame.depth + 1, tuple(groups))
        defaults = Defaults(options.env, options.idle_timeout or self._defaults.idle_timeout)
        return self._evaluate_call(workflow.function, whole, frame, inputs, defaults)

    def _evaluate_call(
        self,
        function: Callable[..., object],
        name: str,
        frame: Frame,
        inputs: Record,
        defaults: Defaults,
    ) -> Called:
        book, branch = self._book, self._book.branch
        context = Context(book, inputs, self._event, defaults)
        context.warnings = self.warnings
        outer, start, made = book.frame, branch.start, len(branch.made)
        # Inside, `depends_on=[]` means the call's own start.
        book.frame, branch.start = frame, list(branch.frontier)
        try:
            function(context)
        except Finish as end:
            if end.frame is not frame:
                raise
        finally:
            frame.closed = True
            book.frame, branch.start = outer, start
        called = Called(name, branch.made[made:])
        called.failed = context.failure
        called.succeed(context.given)
        return called


class Environment(Guarded):
    """``ctx.env``: the workflow's own ``env=``."""

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, str | Text]) -> None:
        self.values = values

    def attribute(self, name: str) -> object:
        """Return a variable's text."""
        if name == "get":
            return lambda key, default=None: self.values.get(str(unmark(key)), default)
        if name in self.values:
            return self.values[name]
        raise Problem(
            Code.UNKNOWN_FIELD,
            f"ctx.env has no `{name}`{did_you_mean(name, list(self.values))}",
            remedy="it holds what @workflow(env={...}) declares",
        )

    def __getitem__(self, key: object) -> object:
        return self.attribute(str(unmark(key)))


_SECRET_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


class Secrets(Guarded):
    """``ctx.secrets``: names; whether there are values for them is known when a run is made."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """For messages."""
        return "ctx.secrets"

    def attribute(self, name: str) -> object:
        """Return the secret *name* as text that has no value here."""
        if not _SECRET_NAME.fullmatch(name):
            raise Problem(
                Code.SECRET,
                f"{name!r} is not a name for a secret",
                remedy="use letters, digits and _, starting with a letter: ctx.secrets.TOKEN",
            )
        return Text((SecretPart(name),))

    def __getitem__(self, key: object) -> object:
        return self.attribute(str(unmark(key)))


def _argument_problems(
    what: str,
    args: Sequence[object],
    given: Mapping[str, object],
    known: Sequence[str],
    placed: Mapping[str, object],
) -> list[Problem]:
    found = []
    if len(args) > 2:  # noqa: PLR2004 - name and cmd
        found.append(
            Problem(
                Code.STEP_ARGUMENT,
                f"{what} takes name and cmd by position, the rest by keyword",
                remedy=f"write {known[2]}=...",
            )
        )
    for name in given:
        if name in placed:
            message = f"{what} is given {name} twice"
            found.append(Problem(Code.STEP_ARGUMENT, message, remedy="remove one of them"))
        elif name in _NOT_YET:
            found.append(unsupported(f"{name}="))
        elif name not in known:
            message = f"{what} has no option `{name}`{did_you_mean(name, list(known))}"
            found.append(Problem(Code.OPTION, message, remedy="it has: " + ", ".join(known)))
    return found


def _refuse_generator() -> None:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the author's are above
    while frame is not None:
        code = frame.f_code
        if code.co_flags & _CO_GENERATOR and code.co_filename.startswith(AUTHOR):
            raise Problem(
                Code.GENERATOR,
                "steps cannot be recorded inside a generator",
                remedy="use a list comprehension [...] or a loop",
            )
        frame = frame.f_back


def _output_schema(declared: object) -> dict[str, object] | None:
    if declared is None:
        return None
    kind = kind_of(declared)
    if kind.schema.get("type") != "object":
        raise Problem(
            Code.TYPE, "output= takes a schema", remedy="write output=schema(version=str)"
        )
    return kind.schema


def _when(value: object) -> str:
    value = unmark(value)
    if isinstance(value, bool):
        return "success" if value else "never"
    if isinstance(value, str) and value in _WHEN:
        return value
    shown = f'"{value}"' if isinstance(value, str) else type(value).__name__
    raise Problem(
        Code.STEP_ARGUMENT,
        f"when={shown} is not a condition",
        remedy='write "success", "failure", "always", or a bool',
    )


def _flag(book: Book, options: Mapping[str, object], name: str) -> bool:
    if name not in options:
        return False
    value = settle(options[name])
    if isinstance(value, bool):
        return value
    message = f"{name} is True or False"
    book.report(Problem(Code.STEP_ARGUMENT, message, remedy=f"write {name}=True"))
    return False


def _folder(value: object) -> str | Text:
    if value is None:
        return ""
    text = text_of(value)
    refuse_nul(text, "cwd")
    return text


def _output(value: object) -> object:
    """Return one of the run's outputs: text keeps its references, other values are plain JSON."""
    if isinstance(value, (str, Text, Ref)):
        return wire_text(value)
    if isinstance(value, Guarded) and not isinstance(value, (Record, Group)):
        text_of(value)
    found = unmark(value)
    if not _is_json(found):
        raise Problem(
            Code.STEP_ARGUMENT,
            f"an output of the run cannot be {type(value).__name__}",
            remedy="outputs are text, numbers, booleans, None, lists and dicts of these",
        )
    return {"value": found}


def _is_json(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_json(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    if isinstance(value, float):
        return value == value and value not in (float("inf"), float("-inf"))  # noqa: PLR0124 - NaN
    return value is None or isinstance(value, (str, int))

"""What ``from plue import …`` gives: the decorator, the triggers and the types."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.caches import cache
from plue.authoring.sandbox.context import unsupported
from plue.authoring.sandbox.guards import Facade
from plue.authoring.sandbox.kinds import Kind, enum, kind_of, optional, refuse_unknown, schema
from plue.authoring.sandbox.problems import Place, Problem, author_place, did_you_mean
from plue.authoring.sandbox.steps import environment_of, number_of, seconds_of
from plue.authoring.sandbox.values import Guarded, Text, unmark
from plue.domain.schedules import cron_of

__all__ = ["SDK", "Declared", "Options", "TriggerSpec"]

_OPTIONS: Final = (
    "triggers", "pool", "timeout", "queue_timeout", "idle_timeout", "cleanup_timeout",
    "attempts", "env",
)  # fmt: skip
_NOT_YET: Final = ("concurrency", "cache", "secrets", "budget", "fail_fast", "priority", "matrix")
_POOL: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_PULL_REQUEST_TYPES: Final = (
    "opened", "synchronize", "reopened", "closed", "edited", "labeled", "unlabeled",
    "ready_for_review", "converted_to_draft", "review_requested", "assigned",
)  # fmt: skip


@dataclass(frozen=True)
class TriggerSpec(Guarded):
    """A declared trigger."""

    kind: str
    options: dict[str, object] = field(default_factory=dict)
    inputs: dict[str, Kind] = field(default_factory=dict)


@dataclass
class Options:
    """What the decorator declares, parsed."""

    triggers: list[TriggerSpec] = field(default_factory=list)
    pool: str = "default"
    timeout: float | None = None
    queue_timeout: float | None = None
    idle_timeout: float | None = None
    cleanup_timeout: float | None = None
    attempts: int = 1
    env: dict[str, str | Text] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, Kind]:
        """The declared inputs."""
        return next((t.inputs for t in self.triggers if t.kind == "manual"), {})


@dataclass(eq=False)
class Declared(Guarded):
    """A workflow: a function with its options."""

    function: FunctionType
    options: Options
    place: Place

    @property
    def name(self) -> str:
        """The workflow's name, which is its function's."""
        return self.function.__name__

    def __call__(self, *_args: object, **_named: object) -> object:
        """Refuse to be called as a function."""
        raise Problem(
            Code.CALL,
            f"workflow `{self.name}` is called as a function",
            remedy=f"write ctx.call({self.name}, ...), with its inputs by name",
        )


class Declarations:
    """The workflows and problems of the file that is being executed."""

    def __init__(self, defaults: Mapping[str, object] | None = None) -> None:
        """Declare with the project's *defaults*, which were checked before."""
        self.found: list[Declared] = []
        self.problems: list[Problem] = []
        self._defaults = defaults or {}

    def options(self) -> Options:
        """Return fresh options with the project's defaults."""
        found = Options()
        for name, value in self._defaults.items():
            if name == "env":
                found.env = dict(environment_of(value))
            else:
                is_time = name.endswith("timeout")
                setattr(found, name, seconds_of(value, name) if is_time else value)
        return found


CURRENT: list[Declarations] = []
"""The innermost is the file that is executed now; files are executed one at a time."""


def workflow(*args: object, **given: object) -> object:
    """Declare a workflow: ``@workflow(triggers=[...])`` above ``def name(ctx):``."""
    if len(args) == 1 and not given and isinstance(args[0], FunctionType):
        return _declare(args[0], CURRENT[-1].options())
    if args:
        raise Problem(
            Code.DECORATOR,
            "@workflow takes its options by name",
            remedy='write @workflow(triggers=[...], timeout="30m")',
        )
    options = _options(given)

    def decorate(function: object) -> object:
        return _declare(function, options)

    return decorate


def _declare(function: object, options: Options) -> Declared:
    if not isinstance(function, FunctionType):
        raise Problem(
            Code.DECORATOR,
            "@workflow stands above something that is not a function",
            remedy="write it directly above `def name(ctx):`",
        )
    code = function.__code__
    place = author_place() or Place("", 1)
    line = Place(place.file, code.co_firstlineno)
    if code.co_flags & 0x20:
        CURRENT[-1].problems.append(
            Problem(
                Code.DECORATOR,
                f"workflow `{code.co_name}` is a generator",
                remedy="remove `yield`",
                place=line,
            )
        )
    if code.co_argcount + code.co_kwonlyargcount != 1:
        CURRENT[-1].problems.append(
            Problem(
                Code.DECORATOR,
                f"workflow `{code.co_name}` takes {code.co_argcount} arguments, not one",
                remedy=f"write def {code.co_name}(ctx): and declare inputs with "
                "manual(inputs={...})",
                place=line,
            )
        )
    declared = Declared(function, options, line)
    CURRENT[-1].found.append(declared)
    return declared


def _options(given: Mapping[str, object]) -> Options:
    """Parse the decorator's options; every wrong one is noted."""
    options = CURRENT[-1].options()
    problems = CURRENT[-1].problems

    def take(name: str, parse: Callable[[object], object]) -> None:
        if given.get(name) is not None:
            try:
                setattr(options, name, parse(given[name]))
            except Problem as problem:
                problems.append(problem)

    take("triggers", _triggers)
    take("pool", _pool)
    for name in ("timeout", "queue_timeout", "idle_timeout", "cleanup_timeout"):
        take(name, lambda value, name=name: seconds_of(value, name))  # type: ignore[misc] # bound
    take("attempts", _attempts)
    take("env", lambda value: options.env | environment_of(value))
    for name in given:
        if name in _NOT_YET:
            problems.append(unsupported(f"@workflow({name}=...)"))
        elif name not in _OPTIONS:
            near = did_you_mean(name, [*_OPTIONS, *_NOT_YET])
            problems.append(
                Problem(
                    Code.OPTION,
                    f"@workflow has no option `{name}`{near}",
                    remedy="it has: " + ", ".join(_OPTIONS),
                )
            )
    return options


def _attempts(value: object) -> int:
    number = number_of(value, "attempts", 10)
    if number == 0:
        raise Problem(
            Code.STEP_ARGUMENT, "attempts=0 would never run", remedy="write attempts=1 or more"
        )
    return number


def _pool(value: object) -> str:
    name = unmark(value)
    if isinstance(name, str) and _POOL.fullmatch(name):
        return name
    raise Problem(
        Code.STEP_ARGUMENT,
        f"pool={name!r} is not the name of a pool",
        remedy='write pool="default": lower-case letters, digits, dots and dashes',
    )


def _triggers(value: object) -> list[TriggerSpec]:
    items: list[TriggerSpec] = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if not isinstance(item, TriggerSpec):
            called = getattr(item, "__name__", None)
            raise Problem(
                Code.TRIGGER,
                f"triggers has something that is not a trigger: {called or type(item).__name__}",
                remedy=f"write {called}()" if called else "write triggers=[push(), manual()]",
            )
        items.append(item)
    if sum(item.kind == "manual" for item in items) > 1:
        raise Problem(
            Code.TRIGGER,
            "a workflow has one manual trigger",
            remedy="write all inputs into one manual(inputs={...})",
        )
    return items


def _texts(value: object, what: str) -> list[object]:
    items = unmark(value if isinstance(value, (list, tuple)) else [value])
    if isinstance(items, list) and items and all(isinstance(i, str) and i for i in items):
        return items
    raise Problem(Code.TRIGGER, f"{what} takes a list of texts", remedy=f'write {what}=["main"]')


def _filters(what: str, given: Mapping[str, object], known: tuple[str, ...]) -> dict[str, object]:
    refuse_unknown(what, given, known)
    return {name: _texts(value, name) for name, value in given.items() if value is not None}


def push(**filters: object) -> TriggerSpec:
    """Run on pushes: ``branches``, ``tags`` and ``paths`` narrow which."""
    return TriggerSpec("push", _filters("push", filters, ("branches", "tags", "paths")))


def pull_request(**filters: object) -> TriggerSpec:
    """Run on pull requests: ``branches``, ``paths`` and ``types`` narrow which."""
    options = _filters("pull_request", filters, ("branches", "paths", "types"))
    wanted = options.get("types")
    for kind in wanted if isinstance(wanted, list) else []:
        if kind not in _PULL_REQUEST_TYPES:
            raise Problem(
                Code.TRIGGER,
                f"{kind!r} is not a type of pull request event"
                f"{did_you_mean(str(kind), _PULL_REQUEST_TYPES)}",
                remedy="types are " + ", ".join(_PULL_REQUEST_TYPES),
            )
    return TriggerSpec("pull_request", options)


def schedule(cron: object = None, **unknown: object) -> TriggerSpec:
    """Run by the clock: ``schedule("30 4 * * 1-5")``, in UTC."""
    refuse_unknown("schedule", unknown, ("cron",))
    text = unmark(cron)
    problem = "it is not text"
    if isinstance(text, str):
        try:
            return TriggerSpec("schedule", {"cron": cron_of(text)})
        except ValueError as error:
            problem = str(error)
    raise Problem(
        Code.TRIGGER,
        f"{text!r} is not a schedule: {problem}",
        remedy='write five fields: schedule("30 4 * * 1-5") is 04:30 UTC on working days',
    )


def manual(inputs: object = None, **unknown: object) -> TriggerSpec:
    """Run by hand, with typed inputs: ``manual(inputs={"env": enum("staging", "prod")})``."""
    refuse_unknown("manual", unknown, ("inputs",))
    if inputs is None:
        return TriggerSpec("manual")
    if not isinstance(inputs, dict):
        raise Problem(Code.TRIGGER, "inputs is a dict", remedy='write inputs={"env": str}')
    kinds: dict[str, Kind] = {}
    for key, declared in inputs.items():
        if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z]\w{0,99}", key):
            raise Problem(
                Code.TRIGGER,
                f"{key!r} is not a name for an input",
                remedy="use letters, digits and _, starting with a letter",
            )
        try:
            kinds[key] = kind_of(declared)
        except Problem as problem:
            problem.message = f"input `{key}`: {problem.message}"
            raise
    return TriggerSpec("manual", inputs=kinds)


def tool(*_args: object, **_options: object) -> object:
    """Refuse: tools of agents are ordinary Python, in files of their own."""
    raise Problem(
        Code.TOOL,
        "@tool stands in a file of .plue/tools/",
        remedy="move the function to .plue/tools/NAME.py, and name it in an agent's front matter:"
        " tools: [//tools:name]",
    )


class Context:
    """Only a name: so that authors can annotate ``ctx: Context``."""


SDK: Final = Facade(
    "plue",
    {
        "workflow": workflow,
        "push": push,
        "pull_request": pull_request,
        "schedule": schedule,
        "manual": manual,
        "schema": schema,
        "enum": enum,
        "optional": optional,
        "tool": tool,
        "cache": cache,
        "Context": Context,
    },
)

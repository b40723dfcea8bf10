"""A plan: what evaluating a workflow gives. Plain JSON, no code.

The evaluator makes it, the domain checks it, Postgres keeps it, the runner executes it. Values
never stand in a plan as shell text (language reference, *Shell*): a hole in a command is a
variable in ``env``, and the value of a variable is a :data:`Text`.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = [
    "HIDDEN_KINDS",
    "Action",
    "Await",
    "Cache",
    "Data",
    "End",
    "Equipment",
    "Fail",
    "Failure",
    "Fields",
    "Function",
    "Git",
    "GitBase",
    "Glob",
    "HashFiles",
    "Items",
    "Json",
    "Lit",
    "Part",
    "Plan",
    "Prompt",
    "Question",
    "Read",
    "Ref",
    "RefField",
    "Secret",
    "Server",
    "Shell",
    "Site",
    "Step",
    "Template",
    "Text",
    "Value",
    "When",
    "Write",
    "secrets_of",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lit(_Frozen):
    """The author's own text."""

    text: str


class Data(_Frozen):
    """Text that is known when the plan is made but came from outside: an input, an event field.

    It is never code: a ``Data`` part in a command became an environment variable already.
    """

    data: str


RefField = Literal[
    "stdout", "stderr", "log", "exit_code", "ok", "state", "outputs",
    "status", "summary", "turns",  # of agents only, always there
]  # fmt: skip


class Ref(_Frozen):
    """A value of another step, resolved by the runner when the step that uses it starts.

    ``path`` goes on from the field: ``outputs.version`` is ``field="outputs", path=("version",)``.
    ``tail`` keeps the last N lines of ``stdout``, ``stderr`` or ``log``. ``default`` stands in for
    a missing output (``.outputs.get(name, default)``); without it, missing fails the using step
    with ``MissingValue``.
    """

    ref: str
    field: RefField
    path: tuple[str | int, ...] = ()
    tail: int | None = Field(default=None, ge=1)
    default: str | None = None


class Secret(_Frozen):
    """A secret by its name; the runner is told its value, and nobody else."""

    secret: str


Part = Lit | Data | Ref | Secret
Text = tuple[Part, ...]
"""Literal and referenced parts; its value is their concatenation. Empty means empty text."""


class Json(_Frozen):
    """A value that is known when the plan is made."""

    value: JsonValue


class Items(_Frozen):
    """A list with references somewhere in it."""

    items: "tuple[Value, ...]"


class Fields(_Frozen):
    """An object with references somewhere in it."""

    fields: "dict[str, Value]"


Value = Text | Ref | Json | Items | Fields
"""A JSON value that may not be known yet: a Text is text, a Ref keeps its value's own type."""


class When(StrEnum):
    """Under which endings of its dependencies a step starts."""

    SUCCESS = "success"  # every dependency succeeded, was handled, or was skipped by `never`
    FAILURE = "failure"  # some dependency, direct or not, failed
    ALWAYS = "always"  # all of them have ended, however
    NEVER = "never"  # `when=False`: recorded, skipped, blocks nobody


class Site(_Frozen):
    """A place in the author's files; line and column count from 1."""

    file: str
    line: int
    column: int = 1


class Shell(_Frozen):
    """A command: either ``script`` for ``shell``, or ``argv`` without any shell.

    ``shell`` is ``bash`` (``bash --noprofile --norc -eo pipefail``), ``sh`` (``sh -e``),
    ``python`` (``python3 -``-like, from a file), or a program that takes a script's path.
    ``holes`` are the variables that the compiler put in the place of values in ``script``; they
    are set beside ``Step.env`` and their names start with ``PLUE_V``.
    ``shown`` is the command as the author wrote it, for people.
    """

    kind: Literal["shell"] = "shell"
    script: str | None = None
    argv: tuple[Text, ...] | None = None
    shell: str = "bash"
    holes: dict[str, Text] = {}
    stdin: Text | None = None
    shown: str = ""


# ── hidden steps: what the runner does itself, at its place among the others ─────────────────────


class Read(_Frozen):
    """A file's text as ``stdout``; ``default`` stands in where there is no such file."""

    kind: Literal["read"] = "read"
    path: Text
    default: Text | None = None
    shown: str = ""


class Glob(_Frozen):
    """The sorted paths of files that match, as ``outputs.files``; ``**`` is any folders."""

    kind: Literal["glob"] = "glob"
    patterns: tuple[Text, ...]
    shown: str = ""


class HashFiles(_Frozen):
    """The SHA-256 over names and contents of the files that match, in hex, as ``stdout``."""

    kind: Literal["hash"] = "hash"
    patterns: tuple[Text, ...]
    shown: str = ""


class Write(_Frozen):
    """Writes a file of the workspace, making the folders above it."""

    kind: Literal["write"] = "write"
    path: Text
    text: Text
    shown: str = ""


class GitBase(_Frozen):
    """A commit to compare with: ``rev`` itself, or where HEAD left it (``merge_base``)."""

    rev: Text
    merge_base: bool = True


class Git(_Frozen):
    """A question to git: ``diff`` and ``log`` as ``stdout``, changed files as ``outputs.files``.

    The first of ``bases`` that exists counts. ``paths`` narrow the answer; ``most`` commits are
    listed.
    """

    kind: Literal["git"] = "git"
    query: Literal["diff", "log", "changed_files"]
    bases: tuple[GitBase, ...]
    paths: tuple[Text, ...] = ()
    most: Annotated[int, Field(ge=1, le=10_000)] = 50
    shown: str = ""


class Failure(_Frozen):
    """``ctx.fail(reason)`` in a called workflow: a step that fails with this reason."""

    kind: Literal["fail"] = "fail"
    reason: Text
    shown: str = ""


HIDDEN_KINDS: frozenset[str] = frozenset({"read", "glob", "hash", "write", "git", "fail"})
"""Steps that touch nothing but the workspace: harmless to repeat, and shown discreetly."""


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────


class Template(_Frozen):
    """The body of a prompt file, or of a file that one includes, as it stands in the repository.

    ``line`` is the body's first line within the file. ``extends`` is the file whose blocks it
    fills, where the front matter says so.
    """

    text: str
    line: int = 1
    extends: str | None = None


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Function(_Frozen):
    """A repository's tool: a Python function that runs in the sandbox, in a process of its own.

    ``source`` is the text of its ``file``, ``inputs_schema`` what its arguments must fit.
    """

    kind: Literal["function"] = "function"
    function: str
    description: str
    inputs_schema: dict[str, JsonValue]
    file: str
    source: str
    timeout_seconds: Seconds | None = None


class Question(_Frozen):
    """A prompt of type llm as an agent's tool: its inputs go in, its answer comes out."""

    kind: Literal["question"] = "question"
    description: str
    prompt: "Prompt"
    output_schema: dict[str, JsonValue]


class Server(_Frozen):
    """An MCP server that is started in the workspace, with only this environment."""

    kind: Literal["mcp"] = "mcp"
    command: tuple[str, ...]
    env: dict[str, Text] = {}
    timeout_seconds: Seconds | None = None


Equipment = Annotated[Function | Question | Server, Field(discriminator="kind")]
"""What an agent's tools are, beyond the built-in ones."""


class Prompt(_Frozen):
    """A prompt for a model (``llm``) or for an agent with tools and a workspace (``agent``).

    ``prompt`` is its name. ``digest`` is the SHA-256 over all the files that it is made of.
    ``template`` is the key of its own body in ``sources``; the others are what that extends,
    includes and imports. The text is rendered where the values are known: by the runner.
    ``inputs_schema`` is what the inputs must fit once all references are resolved; the step's
    ``output_schema`` is what the answer must fit. Without ``client``, it is the server's default.
    ``equipment`` tells what those of ``tools`` are that are not built in: ``//tools:lint``,
    ``//prompts:review``, and ``mcp:tickets``, also where only ``mcp:tickets/find`` is named.
    """

    kind: Literal["llm", "agent"]
    prompt: str
    digest: str
    template: str
    sources: dict[str, Template]
    inputs: dict[str, Value] = {}
    inputs_schema: dict[str, JsonValue] = {}
    client: str | None = None
    tools: tuple[str, ...] = ()
    equipment: dict[str, Equipment] = {}
    max_turns: int | None = Field(default=None, ge=1)
    shown: str = ""


Action = Annotated[
    Shell | Read | Glob | HashFiles | Write | Git | Failure | Prompt, Field(discriminator="kind")
]
"""What a step does; ``kind`` says which, ``shown`` says it to people."""


class Cache(_Frozen):
    """Files that a step finds again in later runs, and keeps for them when it succeeded.

    ``paths`` are files and folders relative to the workspace, or to the home folder after ``~/``.
    Without a cache of exactly ``key``, the newest one does whose key begins with the first of
    ``restore_keys`` that has any.
    """

    paths: Annotated[tuple[Text, ...], Field(min_length=1)]
    key: Text
    restore_keys: tuple[Text, ...] = ()


class Step(_Frozen):
    """One unit of execution.

    ``needs`` are the steps that must have ended before this one starts: order and references.
    ``branch`` is the step's place for display and order: ``()`` is the function's own level,
    ``("2", "0")`` the first element of the second ``ctx.parallel``. ``group`` names what it is
    shown under, outermost first: calls, and names with holes such as ``test-{p}``. ``retry`` is
    the number of further tries. ``cleanup`` steps run last, newest first, if what they need was
    started. ``output_schema`` (JSON Schema 2020-12) makes a command's standard output JSON with
    typed fields, and is what a prompt's answer must fit.
    """

    name: Annotated[str, Field(min_length=1, max_length=1000)]
    action: Action
    needs: tuple[str, ...] = ()
    when: When = When.SUCCESS
    continue_on_error: bool = False
    env: dict[str, Text] = {}
    cwd: Text = ()
    timeout_seconds: Seconds | None = None
    idle_timeout_seconds: Seconds | None = None
    retry: Annotated[int, Field(ge=0, le=100)] = 0
    cleanup: bool = False
    once: bool = False
    output_schema: dict[str, JsonValue] | None = None
    cache: tuple[Cache, ...] = ()
    branch: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    site: Site | None = None


class Await(Ref):
    """A value that the workflow's code asked for and that is not known yet; it ended a branch.

    ``site`` is where it was asked. Awaits of one ``together`` other than 0 are one question (a
    group's ``.ok``): it is answered when all of them are, or by the first that is false.
    ``depth`` is how many ends of stages there are along its branch, this one included.
    ``handled`` says that the step's failure is handled: then its values are known all the same.
    """

    site: Site | None = None
    together: Annotated[int, Field(ge=0)] = 0
    depth: Annotated[int, Field(ge=1)] = 1
    handled: bool = False


def secrets_of(steps: Iterable[Step]) -> tuple[str, ...]:
    """Return the names of the secrets that *steps* are given, sorted."""
    texts: list[Text] = []
    for step in steps:
        texts += step.env.values()
        if isinstance(step.action, Shell):
            texts += (*step.action.holes.values(), *(step.action.argv or ()))
            texts += () if step.action.stdin is None else (step.action.stdin,)
        if isinstance(step.action, Prompt):
            for tool in step.action.equipment.values():
                texts += tool.env.values() if isinstance(tool, Server) else ()
    return tuple(sorted({p.secret for text in texts for p in text if isinstance(p, Secret)}))


class Fail(_Frozen):
    """``ctx.fail(reason)``: the run fails with this reason once ``needs`` have ended."""

    reason: Text
    needs: tuple[str, ...] = ()
    site: Site | None = None


class End(_Frozen):
    """How the function ended: falling off the end is success without outputs.

    ``outputs`` are the run's: a Text for what holds references, ``{"value": …}`` for plain JSON.
    """

    outputs: dict[str, Text | dict[Literal["value"], JsonValue]] = {}


class Plan(_Frozen):
    """The steps of a run so far.

    A plan with ``end=None`` goes on in a later stage: ``awaits`` names the values it waits for.
    ``digest`` is the SHA-256 of the JSON of everything else.
    """

    workflow: str
    revision: str
    stage: Annotated[int, Field(ge=1)] = 1
    steps: tuple[Step, ...] = ()
    fails: tuple[Fail, ...] = ()
    end: End | None = None
    awaits: tuple[Await, ...] = ()
    digest: str = ""

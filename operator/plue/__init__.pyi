"""Plue: what a workflow file imports, described for editors and type checkers.

These names exist only inside the evaluator's sandbox; importing them elsewhere fails.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, SupportsIndex, TypeAlias, TypeVar, overload

from typing_extensions import override

__version__: str

_Function = TypeVar("_Function", bound=Callable[..., Any])

Duration: TypeAlias = str | int | float
"""``"30m"``, ``"90s"``, ``"1h30m"``, or seconds."""

class Reference:
    """A value that may not be known yet.

    In text it is recorded (``f"{build.stdout}"``); asking for it (``if``, ``==``, ``for``,
    ``len``, ``int``) ends the stage until it is known. Once known it behaves as the value.
    """

    def __bool__(self) -> bool: ...
    @override
    def __eq__(self, other: object) -> bool: ...
    @override
    def __hash__(self) -> int: ...
    def __len__(self) -> int: ...
    def __int__(self) -> int: ...
    def __float__(self) -> float: ...
    def __index__(self) -> int: ...
    def __iter__(self) -> Any: ...
    def __contains__(self, item: object) -> bool: ...
    def __getitem__(self, key: SupportsIndex | slice | str) -> Any: ...
    def __add__(self, other: Any) -> Any: ...
    def __radd__(self, other: Any) -> Any: ...
    def __sub__(self, other: Any) -> Any: ...
    def __lt__(self, other: Any) -> bool: ...
    def __le__(self, other: Any) -> bool: ...
    def __gt__(self, other: Any) -> bool: ...
    def __ge__(self, other: Any) -> bool: ...
    def __getattr__(self, name: str) -> Any: ...

class Output(Reference):
    """What a step printed: text without its trailing newlines, complete to 1 MiB."""

    def tail(self, lines: int) -> Reference:
        """Return the last lines; works whatever the size."""

class Outputs:
    """What a step wrote to ``$PLUE_OUTPUT``, by name."""

    def get(self, name: str, default: str) -> Reference:
        """Return an output, or *default* where the step did not write it."""

    def __getattr__(self, name: str) -> Reference: ...
    def __getitem__(self, name: str) -> Reference: ...

class Handle:
    """A recorded step. It names values and has none itself: write ``build.ok``."""

    name: str
    stdout: Output
    stderr: Output
    log: Output
    """Both streams."""
    exit_code: Reference
    """Asking for it needs ``continue_on_error=True`` on the step."""
    ok: Reference
    """Asking for it needs ``continue_on_error=True`` on the step."""
    state: Reference
    outputs: Outputs
    def __getattr__(self, name: str) -> Reference:
        """Return a field of the step's ``output=`` schema."""

class Group(tuple[Any, ...]):
    """The values of the elements of ``ctx.parallel``, in order."""

    ok: Reference

class Record:
    """A JSON object from outside: fields are attributes, and what is missing is None."""

    def get(self, name: str, default: Any = None) -> Any: ...
    def keys(self) -> list[Any]: ...
    def values(self) -> list[Any]: ...
    def items(self) -> list[tuple[Any, Any]]: ...
    def __getattr__(self, name: str) -> Any: ...
    def __getitem__(self, name: str) -> Any: ...
    def __contains__(self, name: object) -> bool: ...

class Repository:
    """A repository and the commit of the run; None where it is not known."""

    name: Any
    owner: Any
    full_name: Any
    url: Any
    default_branch: Any
    sha: Any

class Commit:
    """One side of a pull request."""

    ref: Any
    """The branch's short name."""
    sha: Any

class PullRequest:
    """The pull request of an event."""

    number: Any
    title: Any
    body: Any
    url: Any
    state: Any
    draft: Any
    merged: Any
    author: Any
    labels: Any
    base: Commit
    head: Commit

class Schedule:
    """The time of a scheduled run."""

    cron: Any
    time: Any
    """When it was due: RFC 3339, in UTC."""

class Event:
    """What triggered a run. All fields exist; those that do not apply are None."""

    kind: Any
    """``manual``, ``push``, ``pull_request`` or ``schedule``."""
    action: Any
    ref: Any
    """The full name: ``refs/heads/main``."""
    branch: Any
    tag: Any
    sha: Any
    before: Any
    actor: Any
    repository: Any
    pull_request: Any
    schedule: Any
    payload: Any
    """What the other side sent, as it was."""

class Called:
    """A called workflow; its steps are named ``call/step``."""

    name: str
    outputs: Outputs
    """What the called workflow gives to ``ctx.success``."""

class Secrets:
    """Secrets by name. They have no value here: they go into env=, commands and stdin=."""

    def __getattr__(self, name: str) -> Secret: ...
    def __getitem__(self, name: str) -> Secret: ...

class Secret:
    """A secret: ``env={"TOKEN": ctx.secrets.TOKEN}``."""

    def __add__(self, other: Any) -> Any: ...
    def __radd__(self, other: Any) -> Any: ...

class Git:
    """Questions to git about the workspace as the steps above left it.

    The base is the pull request's merge base, the push's ``before``, else where the default
    branch was left; ``base=`` names another one. *paths* are folders, files and patterns.
    """

    def diff(self, *paths: Any, base: str | Reference = ...) -> Output:
        """Return the patch since the base, with uncommitted and new files."""

    def changed_files(self, *paths: Any, base: str | Reference = ...) -> Reference:
        """Return the sorted paths that differ from the base: changed, new or deleted."""

    def log(self, *paths: Any, base: str | Reference = ..., most: int = 50) -> Output:
        """Return the commits since the base, newest first: short id and subject, one a line."""

Dependency: TypeAlias = Handle | Group | Called | str

class Context:
    """What a workflow function is given."""

    inputs: Record
    """The run's inputs, checked and with defaults filled in."""
    event: Event
    """What triggered the run; fields that do not apply are None."""
    repo: Repository
    """The repository, as far as the event or the working tree knows it."""
    env: Record
    """The workflow's own ``env=``."""
    git: Git
    secrets: Secrets

    def read(self, path: str | Reference, *, default: str | Reference = ...) -> Output:
        """Return a file's text without its trailing newlines; at most 1 MiB.

        A missing file fails the run unless there is a *default*.
        """

    def write(self, path: str | Reference, text: Any) -> Handle:
        """Write a file of the workspace, making the folders above it."""

    def glob(self, *patterns: Any) -> Reference:
        """Return the sorted paths of the files that match: ``ctx.glob("packages/*/setup.py")``.

        ``*`` and ``?`` stay within a name, ``**`` is any folders.
        """

    def hash_files(self, *patterns: Any) -> Output:
        """Return one hash over names and contents of the files that match."""

    def cache_key(self, name: Any, *patterns: Any) -> Any:
        """Return a cache's key: the name, and the hash of the files that match."""

    def run(
        self,
        name: str,
        cmd: str | Sequence[Any] | Reference,
        *,
        env: Mapping[str, Any] | None = None,
        cwd: str | Reference | None = None,
        stdin: Any = None,
        timeout: Duration | None = None,
        idle_timeout: Duration | None = None,
        retry: int = 0,
        depends_on: Dependency | Sequence[Dependency] | None = None,
        shell: str | None = None,
        continue_on_error: bool = False,
        when: Literal["success", "failure", "always"] | bool = "success",
        once: bool = False,
        output: Type | None = None,
        cache: Cache | Sequence[Cache] | None = None,
    ) -> Handle:
        """Record a step that runs a command.

        *cmd* is text for ``bash`` (or ``shell=``), or a list of words that runs without a shell.
        Values in it become environment variables, never shell text. It starts after everything
        above it in its branch; *depends_on* replaces that. *retry* is the number of further
        tries. *output* makes standard output JSON with typed fields. *cache* is restored before
        the command starts and kept after it succeeded; ``$PLUE_CACHE_HIT`` says whether it was.
        """

    def parallel(self, branches: Sequence[Any], *, fail_fast: bool = False) -> Group:
        """Run the elements of a list, written inside the call, at the same time."""

    def cleanup(
        self,
        name: str,
        cmd: str | Sequence[Any] | Reference,
        *,
        env: Mapping[str, Any] | None = None,
        cwd: str | Reference | None = None,
        stdin: Any = None,
        shell: str | None = None,
        timeout: Duration | None = None,
    ) -> Handle:
        """Record a step that runs last, also after failure and cancel; newest first."""

    def call(
        self,
        workflow: Callable[[Context], Any],
        /,
        *,
        name: str | None = None,
        **inputs: Any,
    ) -> Called:
        """Run another workflow's steps in this place: ``ctx.call(release, version=v)``.

        It gets its own inputs, checked by their types. *name* stands before its steps' names. If
        it fails, what follows is skipped.
        """

    def fail(self, reason: object = ...) -> NoReturn:
        """End the function as a failure, once the steps above have run."""

    def success(self, **outputs: Any) -> NoReturn:
        """End the function as a success with these outputs of the run."""

class Cache:
    """Files that a step finds again in later runs."""

def cache(
    *,
    paths: Sequence[Any] | str | Reference,
    key: Any,
    restore_keys: Sequence[Any] | str | Reference = ...,
) -> Cache:
    """Declare files and folders to keep for later runs under *key*.

    Paths are relative to the workspace, or to the home folder after ``~/``. Without a cache of
    exactly *key*, the newest one does whose key begins with one of *restore_keys*.
    """

class Trigger:
    """When a workflow runs by itself, or what a manual run may be given."""

class Type:
    """The type of an input or an output."""

@overload
def workflow(function: Callable[[Context], Any], /) -> Callable[[Context], Any]: ...
@overload
def workflow(
    *,
    triggers: Sequence[Trigger] = (),
    pool: str = "default",
    timeout: Duration | None = None,
    queue_timeout: Duration | None = None,
    idle_timeout: Duration | None = None,
    cleanup_timeout: Duration | None = None,
    attempts: int = 1,
    env: Mapping[str, Any] | None = None,
) -> Callable[[Callable[[Context], Any]], Callable[[Context], Any]]:
    """Declare a workflow: its name is the function's, its description the docstring.

    *attempts* is how often a run may be tried when its runner is lost. *idle_timeout* is the
    default of every step.
    """

@overload
def tool(function: _Function, /) -> _Function: ...
@overload
def tool(*, timeout: Duration | None = None) -> Callable[[_Function], _Function]:
    """Declare a tool of agents, in `.plue/tools/*.py`: `//tools:name` in a prompt's `tools`.

    Its docstring is what the model is told; the types of its parameters are its input's schema.
    """

def push(
    *,
    branches: Sequence[str] | str = ...,
    tags: Sequence[str] | str = ...,
    paths: Sequence[str] | str = ...,
) -> Trigger:
    """Run on pushes."""

def pull_request(
    *,
    branches: Sequence[str] | str = ...,
    paths: Sequence[str] | str = ...,
    types: Sequence[str] | str = ...,
) -> Trigger:
    """Run on pull requests."""

def schedule(cron: str) -> Trigger:
    """Run by the clock, in UTC: ``schedule("30 4 * * 1-5")``."""

def manual(*, inputs: Mapping[str, Any] | None = None) -> Trigger:
    """Run by hand, with typed inputs: ``manual(inputs={"env": enum("staging", "production")})``.

    A type is str, int, float, bool, ``list[T]``, ``enum(...)``, ``optional(T)``, ``schema(...)``,
    or a default value.
    """

def enum(*values: str | float, default: str | float = ...) -> Type:
    """Declare one of these values."""

def optional(of: Any, default: Any = None) -> Type:
    """Declare a value of this type, or nothing; what is absent is *default*."""

def schema(**fields: Any) -> Type:
    """Declare a JSON object with these fields."""

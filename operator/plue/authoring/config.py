"""``.plue/config.yaml``: what a project's workflows have in common.

The model below is the one declaration: reading, `config.schema.json` for editors, and what
`plue config` shows are made from it. What has no effect yet is refused with a reason.
"""

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, ValidationError
from pydantic_core import ErrorDetails

from plue.authoring.codes import Code
from plue.authoring.located import Located, Mark, NotYamlError, parse_yaml
from plue.authoring.results import Diagnostic
from plue.authoring.sandbox.problems import Problem
from plue.authoring.sandbox.steps import environment_of, seconds_of

__all__ = ["CONFIG_FILE", "Config", "ConfigFile", "config_of", "parse_config", "schema_text"]

CONFIG_FILE: Final = ".plue/config.yaml"

_MOST_ERRORS: Final = 50
"""More help nobody, and each costs a search for what was meant."""

_CLIENT: Final = r"^[a-z][a-z0-9_-]*/[A-Za-z0-9][\w.:-]*$"
_SERVER: Final = r"^[a-z0-9][a-z0-9_-]{0,31}$"
_POOL: Final = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"


def _a_duration(value: str | float) -> str | float:
    _checked(seconds_of, value, "it")
    return value


def _an_environment_name(name: str) -> str:
    _checked(environment_of, {name: ""})
    return name


def _an_environment_value(value: str) -> str:
    _checked(environment_of, {"value": value})
    return value


def _checked(parse: Any, *given: Any) -> None:
    """Hand what the language refuses to pydantic in its own words, the remedy included."""
    try:
        parse(*given)
    except Problem as problem:
        message = problem.message.removeprefix("it=")
        raise ValueError(f"{message}\n{problem.remedy}") from None


Duration = Annotated[
    Annotated[str, Field(strict=True)] | Annotated[float, Field(strict=True, gt=0)],
    AfterValidator(_a_duration),
]


class McpServer(BaseModel):
    """A program that speaks the Model Context Protocol over its standard input and output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Annotated[list[StrictStr], Field(min_length=1)] = Field(
        description="The program and its arguments; it starts in the workspace, without a shell.",
        examples=[["python3", "tools/tickets.py"]],
    )
    env: dict[Annotated[str, AfterValidator(_an_environment_name)], StrictStr] = Field(
        default_factory=dict,
        description="Its environment: beside PATH, HOME, LANG and TMPDIR it sees nothing else.",
    )
    secrets: list[Annotated[str, AfterValidator(_an_environment_name)]] = Field(
        default_factory=list,
        description="Secrets that it is given as environment variables of the same names.",
    )
    timeout: Duration | None = Field(
        default=None, description="How long it may take to start, or to answer.", examples=["60s"]
    )

    def wire(self) -> dict[str, Any]:
        """Return it as a plan holds it."""
        env: dict[str, Any] = {name: [{"text": text}] for name, text in self.env.items()}
        env |= {name: [{"secret": name}] for name in self.secrets}
        seconds = None if self.timeout is None else seconds_of(self.timeout, "timeout")
        return {"kind": "mcp", "command": self.command, "env": env, "timeout_seconds": seconds}


class Config(BaseModel):
    """What the workflows of this project have in common; a workflow's own options outrank it."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Plue project configuration")

    pool: Annotated[StrictStr, Field(pattern=_POOL)] | None = Field(
        default=None, description="The pool whose runners run the workflows.", examples=["default"]
    )
    timeout: Duration | None = Field(
        default=None, description="How long a run may take.", examples=["30m"]
    )
    queue_timeout: Duration | None = Field(
        default=None, description="How long a run may wait for a runner.", examples=["24h"]
    )
    idle_timeout: Duration | None = Field(
        default=None, description="How long a step may say nothing.", examples=["10m"]
    )
    cleanup_timeout: Duration | None = Field(
        default=None, description="How long the clean-up of a run may take.", examples=["60s"]
    )
    attempts: Annotated[int, Field(strict=True, ge=1, le=10)] | None = Field(
        default=None, description="How often a run is tried when its runner is lost."
    )
    env: (
        dict[
            Annotated[str, AfterValidator(_an_environment_name)],
            Annotated[StrictStr, AfterValidator(_an_environment_value)],
        ]
        | None
    ) = Field(
        default=None,
        description="Environment variables of every step; a workflow's own `env=` outranks them.",
    )
    client: Annotated[StrictStr, Field(pattern=_CLIENT)] | None = Field(
        default=None,
        description="The model of prompts that name none.",
        examples=["anthropic/claude-sonnet"],
    )
    mcp: dict[Annotated[str, Field(pattern=_SERVER)], McpServer] | None = Field(
        default=None, description="MCP servers whose tools agents may be given, by name."
    )


_OF_MODELS: Final = frozenset({"client", "mcp"})
"""What prompts use; the rest are defaults of workflows."""

NOT_YET: Final[Mapping[str, str]] = {
    "image": "runners of a local server are processes; pools of a cluster have images",
    "budget": "budgets are settings of the server: `plue up --budget run.usd=5`",
    "budgets": "budgets are settings of the server: `plue up --budget run.usd=5`",
    "clients": "client names and model ids are settings of the server",
    "secrets": "secrets are named where they are used",
    "concurrency": "runs of one workflow do not exclude each other",
    "cache": "nothing is cached between runs",
}
"""Keys that have no effect in this version, and why."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What the file says. With an error in it ``config`` holds what is right of it."""

    config: Config = field(default_factory=Config)
    diagnostics: tuple[Diagnostic, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """Return what is set for workflows, as the evaluator takes it."""
        return self.config.model_dump(mode="json", exclude_none=True, exclude=set(_OF_MODELS))

    def models(self) -> dict[str, Any]:
        """Return what is set for prompts; servers as ``plue.wire.plan.Server`` dumps them."""
        found: dict[str, Any] = {}
        if self.config.client is not None:
            found["client"] = self.config.client
        if self.config.mcp:
            found["mcp"] = {name: server.wire() for name, server in self.config.mcp.items()}
        return found


def parse_config(text: str, file: str = CONFIG_FILE) -> ConfigFile:
    """Return what *text* sets, and everything that is wrong in it, with places."""
    lines = text.splitlines()

    def diagnostic(code: Code, message: str, mark: Mark, remedy: str) -> Diagnostic:
        source = lines[mark.line - 1][:500] if 0 < mark.line <= len(lines) else None
        return Diagnostic(
            code, message, file, mark.line, mark.column, mark.end_column, "error", remedy, source
        )

    try:
        located = parse_yaml(text)
    except NotYamlError as error:
        found = diagnostic(Code.CONFIG_SYNTAX, error.message, error.mark, error.remedy)
        return ConfigFile(diagnostics=(found,))
    if located.value is None:
        return ConfigFile()
    if not isinstance(located.value, dict):
        message = "the file holds no keys"
        found = diagnostic(Code.CONFIG_SYNTAX, message, Mark(1, 1), "write `pool: default`")
        return ConfigFile(diagnostics=(found,))
    wrong = [diagnostic(*one) for one in itertools.islice(_wrong(located), _MOST_ERRORS)]
    broken = {path[0] for path in _paths(located.value)}
    right = {name: value for name, value in located.value.items() if name not in broken}
    wrong.sort(key=lambda one: (one.line, one.column))
    return ConfigFile(Config.model_validate(right), tuple(wrong))


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> ConfigFile:
    return parse_config(text)


def config_of(files: Mapping[str, str]) -> ConfigFile:
    """Return the configuration among *files*; none is an empty one."""
    text = files.get(CONFIG_FILE)
    return ConfigFile() if text is None else _parsed(text)


def _errors(value: Mapping[str, Any]) -> list[ErrorDetails]:
    try:
        Config.model_validate(value)
    except ValidationError as error:
        return error.errors()
    return []


def _paths(value: Mapping[str, Any]) -> Iterator[tuple[int | str, ...]]:
    for error in _errors(value):
        yield error["loc"]


def _wrong(located: Located) -> Iterator[tuple[Code, str, Mark, str]]:
    told = set()
    for error in _errors(located.value):
        # A union tells once per member: the key's place is told once.
        path = error["loc"]
        where = next(
            (path[:n] for n in range(len(path), 0, -1) if path[:n] in located.values), path[:1]
        )
        if where in told:
            continue
        told.add(where)
        if error["type"] == "extra_forbidden":
            inner = list(McpServer.model_fields) if len(path) > 1 else None
            yield _unknown(str(path[-1]), located.mark_of(where, key=True), inner)
        else:
            yield _wrong_value(error, where, located)


def _unknown(name: str, mark: Mark, inner: list[str] | None) -> tuple[Code, str, Mark, str]:
    if inner is None and name in NOT_YET:
        return (
            Code.UNSUPPORTED,
            f"`{name}` has no effect in this version: {NOT_YET[name]}",
            mark,
            f"remove `{name}`",
        )
    known = inner or list(Config.model_fields)
    near = get_close_matches(name, known if inner else [*known, *NOT_YET], n=1, cutoff=0.6)
    hint = f" — did you mean `{near[0]}`?" if near else ""
    remedy = "it has: " + ", ".join(known)
    return Code.CONFIG_KEY, f"there is no key `{name}`{hint}", mark, remedy


_REMEDIES: Final = {
    "pool": "write the name of a pool: lower-case letters, digits, dots and dashes",
    "attempts": "write a whole number from 1 to 10",
    "env": 'write names and texts: CI: "true"',
    "client": "write provider/model: anthropic/claude-sonnet",
    "mcp": 'write `tickets:` below it, and below that `command: ["python3", "tickets.py"]`',
}


def _wrong_value(
    error: ErrorDetails, where: tuple[int | str, ...], located: Located
) -> tuple[Code, str, Mark, str]:
    name = ".".join(map(str, where))
    value = error["input"]
    shown = json.dumps(value, ensure_ascii=False, default=str)[:100]
    message, _, remedy = str(error.get("ctx", {}).get("error", "")).partition("\n")
    message = f"is wrong: {message}"
    if not remedy:
        message = f"cannot be {shown}"
    if len(where) > 1 and isinstance(value, (bool, int, float)):
        remedy = f'write it in quotes: "{shown}"'
    fallback = _REMEDIES.get(str(where[0]), 'write "30m", "90s", "1h30m", or a number of seconds')
    mark = located.mark_of(where, key=error["loc"][-1] == "[key]")
    return Code.CONFIG_VALUE, f"`{name}` {message}", mark, remedy or fallback


def schema_text() -> str:
    """Return the JSON Schema of the file, as it ships in ``config.schema.json``."""
    schema = Config.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2) + "\n"

"""What the evaluator answers: workflows, plans and diagnostics, as frozen values.

During an upgrade an evaluator of another version answers. What these say is told, not done: a
field that is not known here is left out, and a new one needs a default. A plan is another matter,
see ``authoring.answers.planned_of``.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import JsonValue

from plue.domain.growth import Answer
from plue.wire.plan import Plan, Text

__all__ = [
    "Description",
    "Diagnostic",
    "Planned",
    "PromptInfo",
    "Rendered",
    "Trigger",
    "WorkflowInfo",
    "read_as",
]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong in a workflow file. Lines and columns count characters from 1.

    ``field`` names the offending part of the request (``inputs.env``) where it is not the file
    that is wrong. ``related`` is a second place, for duplicates and replays.
    """

    code: str
    message: str
    file: str
    line: int
    column: int = 1
    end_column: int | None = None
    severity: Literal["error", "warning"] = "error"
    remedy: str | None = None
    source: str | None = None
    field: str | None = None
    related: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a workflow runs by itself, or what a manual run may be given."""

    kind: Literal["manual", "push", "pull_request", "schedule"]
    options: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """A workflow as its decorator declares it.

    ``revision`` is the SHA-256 over the files that it is made of, ``files`` their paths: with
    them, and with nothing else, it can be evaluated again. ``inputs_schema`` is JSON
    Schema 2020-12 of an object. ``attempts`` is how often a run may be tried when its runner is
    lost after a step had started (1: never again).
    """

    name: str
    file: str
    line: int
    revision: str
    description: str | None = None
    triggers: Sequence[Trigger] = ()
    pool: str = "default"
    timeout_seconds: float | None = None
    queue_timeout_seconds: float | None = None
    cleanup_seconds: float | None = None
    attempts: int = 1
    env: Mapping[str, Text] = field(default_factory=dict)
    inputs_schema: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PromptInfo:
    """A prompt as its front matter declares it, with what it extends.

    ``import_name`` is its name in ``from plue.prompts import``. ``files`` are those that it is
    made of, and ``digest`` the SHA-256 over them. ``output_schema`` is None for an agent without
    an output of its own. ``broken``: it has errors, and no workflow can import it.
    """

    name: str
    import_name: str
    file: str
    line: int
    kind: Literal["llm", "agent"]
    digest: str
    description: str | None = None
    client: str | None = None
    inputs_schema: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    tools: Sequence[str] = ()
    max_turns: int | None = None
    files: Sequence[str] = ()
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """What a set of files declares. A broken file gives diagnostics and hides no other file."""

    workflows: Sequence[WorkflowInfo] = ()
    diagnostics: Sequence[Diagnostic] = ()
    prompts: Sequence[PromptInfo] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt's text; None exactly when a diagnostic is an error. ``inputs`` as it saw them."""

    text: str | None = None
    prompt: PromptInfo | None = None
    inputs: Mapping[str, JsonValue] = field(default_factory=dict)
    diagnostics: Sequence[Diagnostic] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """One stage of a workflow; ``plan`` is None exactly when a diagnostic is an error.

    ``why`` names for steps the answers that led to them: the newest ones of their branch.

    ``inputs`` are the values as the workflow saw them: parsed, checked, defaults filled in.
    ``printed`` is what the author's code printed, at most 64 KiB.
    """

    plan: Plan | None = None
    info: WorkflowInfo | None = None
    inputs: Mapping[str, JsonValue] = field(default_factory=dict)
    diagnostics: Sequence[Diagnostic] = ()
    printed: str = ""
    why: Mapping[str, Sequence[Answer]] = field(default_factory=dict)


def read_as(kind: type[_T], item: Mapping[str, Any]) -> _T:
    """Return *item* as a dataclass of this version; what else it says is left out."""
    known = {one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in item.items() if name in known})

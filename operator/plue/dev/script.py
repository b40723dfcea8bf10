"""The script of a model server: which conversation is answered with which turns.

A script is YAML::

    conversations:
      - match: review the change       # a regular expression, searched in system and first message
        turns:
          - thinking: Let me look.
            text: I read the file first.
            tools:
              - {name: read_file, input: {path: app.py}}
          - json: {approved: true, summary: fine}      # text that is this value as JSON
            usage: {input: 1200, cache_read: 1000, output: 30}

The turn is chosen by how many assistant messages the request holds already: the same request has
the same answer, however often it is sent. ``order: arrival`` counts the answers instead, for
conversations whose history is shortened on the way. ``before`` puts faults in front of a turn,
each of which one request meets.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from plue.errors import RejectedError

__all__ = ["Conversation", "Fault", "Script", "ToolUse", "Turn", "Usage", "load_script"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Usage(_Part):
    """Tokens as the API counts them: ``input`` leaves out what the cache read and wrote."""

    input: Annotated[int, Field(ge=0)] | None = None
    output: Annotated[int, Field(ge=0)] | None = None
    cache_read: int = Field(default=0, ge=0)
    cache_write: int = Field(default=0, ge=0)
    cache_write_1h: int = Field(default=0, ge=0)
    web_searches: int = Field(default=0, ge=0)


class ToolUse(_Part):
    """A tool that the model uses; ``server`` means one that runs at the provider."""

    name: str
    input: dict[str, JsonValue] = {}
    server: bool = False
    result: JsonValue = None  # of a server tool


class Fault(_Part):
    """What one request meets instead of the turn.

    ``status`` answers with that HTTP status. ``cut`` closes the connection after so many events of
    the turn, ``error`` sends an error event there, ``hang`` sends nothing more.
    """

    status: Annotated[int, Field(ge=400, le=599)] | None = None
    retry_after_ms: int | None = None
    cut: Annotated[int, Field(ge=0)] | None = None
    error: Annotated[int, Field(ge=0)] | None = None
    hang: Annotated[int, Field(ge=0)] | None = None
    type: str = "overloaded_error"
    times: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if sum(x is not None for x in (self.status, self.cut, self.error, self.hang)) != 1:
            raise ValueError("give exactly one of status, cut, error and hang")
        return self


class Turn(_Part):
    """One answer of the model, whole."""

    thinking: str | None = None
    text: str | None = None
    json_: JsonValue = Field(default=None, alias="json")
    tools: tuple[ToolUse, ...] = ()
    stop: (
        Literal[
            "end_turn",
            "tool_use",
            "pause_turn",
            "refusal",
            "max_tokens",
            "stop_sequence",
            "model_context_window_exceeded",
        ]
        | None
    ) = None
    refusal: str | None = None  # a category, such as `cyber`; stops with `refusal`
    usage: Usage = Usage()
    before: tuple[Fault, ...] = ()
    delay: float = Field(default=0.0, ge=0, le=60)  # seconds between two events
    chunk: int = Field(default=12, ge=1)  # characters of an event
    repeat: bool = False  # also answers every later turn


class Conversation(_Part):
    """The turns for every conversation that ``match`` and ``model`` fit."""

    match: str = ""
    model: str = ""
    order: Literal["history", "arrival"] = "history"
    turns: Annotated[tuple[Turn, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_expressions(self) -> Self:
        for expression in (self.match, self.model):
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"{expression!r} is not a regular expression: {error}") from error
        return self

    def fits(self, model: str, opening: str) -> bool:
        """Whether this conversation answers *model* after *opening*."""
        found = re.search(self.match, opening, re.DOTALL)
        return found is not None and re.search(self.model, model) is not None


class Script(_Part):
    """All conversations; the first that fits answers."""

    conversations: Annotated[tuple[Conversation, ...], Field(min_length=1)]

    @classmethod
    def parse(cls, text: str, *, file: str = "script") -> Self:
        """Read a script. Raises RejectedError that names the place."""
        try:
            return cls.model_validate(yaml.safe_load(text))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = 1 if mark is None else mark.line + 1
            raise RejectedError(f"{file}:{line}: {error.problem or error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the script"
            raise RejectedError(
                f"{file}: {place}: {first['msg']}", remedy="plue dev model-server --help shows one"
            ) from error


def load_script(path: Path) -> Script:
    """Read the script at *path*. Raises RejectedError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RejectedError(f"the script {path} cannot be read: {error}") from error
    return Script.parse(text, file=str(path))

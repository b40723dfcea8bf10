"""What an agent can do: its tools, each with its input schema, run inside the workspace.

Results go to the model, cut where they are long; the whole text is kept in a file then, which
``read_file`` can read. A tool that fails tells the model so, and nothing more happens.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from plue.schemas import problems
from plue_runner import files
from plue_runner.faults import Fault
from plue_runner.model.commands import Commands
from plue_runner.model.schemas import Room, strict_schema
from plue_runner.model.telling import clipped

__all__ = [
    "BUILT_IN",
    "RESULT_CHARACTERS",
    "Outcome",
    "Tool",
    "ToolError",
    "Toolbox",
    "built_in_tools",
    "current_use",
]

RESULT_CHARACTERS = 30_000
"""So much of a result the model sees at once."""

_FILE_BYTES = 1024 * 1024
_LISTED = 1000

Json = dict[str, JsonValue]


_USE: ContextVar[str] = ContextVar("use")


def current_use() -> str:
    """Return the id of the use in which this task runs."""
    return _USE.get()


class ToolError(Exception):
    """The tool cannot do that; the model is told the message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model is told of a tool's use."""

    text: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. ``run`` returns its result, or raises ToolError or Fault.

    ``strict`` asks the provider to keep to the schema; where it is not ``checked`` here, whoever
    runs the tool does it.
    """

    name: str
    description: str
    schema: Json
    run: Callable[[Mapping[str, Any]], Awaitable[str]]
    strict: bool = True
    checked: bool = True

    def declared(self, room: Room) -> Json:
        """Return the tool as the model is told of it; guaranteed while *room* lasts."""
        guaranteed = strict_schema(self.schema)
        strict = self.strict and room.takes(guaranteed)
        return {
            "name": self.name,
            "description": self.description,
            "input_schema": guaranteed if strict else self.schema,
            "strict": strict,
        }


@dataclass(slots=True)
class Toolbox:
    """The tools of one agent. Long results are kept below *kept*."""

    tools: Mapping[str, Tool]
    kept: Path
    _count: int = field(default=0, init=False)

    async def use(self, name: str, given: Mapping[str, Any], use: str) -> Outcome:
        """Use a tool under the id *use*; every failure is an outcome the model can work with."""
        _USE.set(use)
        tool = self.tools.get(name)
        if tool is None:
            known = ", ".join(sorted(self.tools))
            return Outcome(f"there is no tool {name!r}; there are: {known}", ok=False)
        wrong = next(problems(tool.schema, given, name), None) if tool.checked else None
        if wrong is not None:
            return Outcome(f"wrong input: {wrong}", ok=False)
        try:
            return Outcome(await tool.run(given), ok=True)
        except (ToolError, Fault) as error:
            return Outcome(str(error), ok=False)

    async def shown(self, text: str) -> str:
        """Return *text* as the model sees it; what is too long is kept in a file and named."""
        if len(text) <= RESULT_CHARACTERS:
            return text
        notice = (
            f"\n[{len(text):,} characters in all; the whole is in {{path}}: read_file reads it]"
        )
        return clipped(text, RESULT_CHARACTERS) + await self.keep(text, notice)

    async def keep(self, text: str, notice: str) -> str:
        """Keep *text* in a file; return *notice* with its ``{path}``, if the agent can read it."""
        self._count += 1
        path = self.kept / f"{self._count}.txt"
        await asyncio.to_thread(_keep, path, text)
        return notice.format(path=path) if "read_file" in self.tools else ""


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace")


def _object(required: list[str], **properties: Json) -> Json:
    return {
        "type": "object",
        "properties": {**properties},
        "required": [*required],
        "additionalProperties": False,
    }


def _text(description: str) -> Json:
    return {"type": "string", "description": description}


def _number(description: str) -> Json:
    return {"type": "integer", "description": description}


_PATH = _text("Path relative to the workspace.")

BUILT_IN = ("read_file", "write_file", "edit_file", "glob", "grep", "shell")
"""The tools that an agent has when its prompt names none."""


def built_in_tools(workspace: Path, kept: Path, commands: Commands) -> dict[str, Tool]:
    """Return the built-in tools by name, working in *workspace*; *kept* can be read as well."""
    desk = _Desk(workspace, kept, commands)
    return {
        tool.name: tool
        for tool in (
            Tool(
                "read_file",
                "Read a text file. Lines are numbered from 1.",
                _object(
                    ["path"],
                    path=_PATH,
                    first=_number("First line to read."),
                    lines=_number("How many lines."),
                ),
                desk.read_file,
            ),
            Tool(
                "write_file",
                "Write a whole file, making the folders above it.",
                _object(["path", "text"], path=_PATH, text=_text("The file's new text.")),
                desk.write_file,
            ),
            Tool(
                "edit_file",
                "Replace a piece of a file. `old` must stand in it exactly once, or `all` be true.",
                _object(
                    ["path", "old", "new"],
                    path=_PATH,
                    old=_text("The text to replace, exactly as it stands there."),
                    new=_text("What stands there instead."),
                    all={"type": "boolean", "description": "Replace every occurrence."},
                ),
                desk.edit_file,
            ),
            Tool(
                "glob",
                "List files by a pattern such as **/*.py, sorted.",
                _object(["pattern"], pattern=_text("The pattern.")),
                desk.glob,
            ),
            Tool(
                "grep",
                "Search files for an extended regular expression; prints path:line:text.",
                _object(
                    ["pattern"],
                    pattern=_text("The regular expression."),
                    path=_text("File or folder to search; the workspace if absent."),
                ),
                desk.grep,
            ),
            Tool(
                "shell",
                "Run a bash command in the workspace; returns its output and exit code.",
                _object(
                    ["command"],
                    command=_text("The command."),
                    timeout=_number("Seconds after which it is ended; 120 if absent."),
                ),
                desk.shell,
            ),
        )
    }


@dataclass(frozen=True, slots=True)
class _Desk:
    """Where the built-in tools work."""

    workspace: Path
    kept: Path
    commands: Commands

    async def read_file(self, given: Mapping[str, Any]) -> str:
        path = given["path"]
        root, inner = self.workspace, path
        if path.startswith(f"{self.kept}/"):
            root, inner = self.kept, path.removeprefix(f"{self.kept}/")
        text = await asyncio.to_thread(files.read, root, inner, _FILE_BYTES)
        if text is None:
            raise ToolError(f"there is no file {path!r}")
        lines = text.split("\n")
        first = max(1, given.get("first") or 1)
        wanted = lines[first - 1 :][: given.get("lines") or None]
        if not wanted:
            raise ToolError(f"{path!r} has {len(lines)} lines")
        return "\n".join(f"{n:>6}\t{line}" for n, line in enumerate(wanted, first))

    async def write_file(self, given: Mapping[str, Any]) -> str:
        await asyncio.to_thread(files.write, self.workspace, given["path"], given["text"])
        return f"wrote {len(given['text']):,} characters to {given['path']}"

    async def edit_file(self, given: Mapping[str, Any]) -> str:
        path, old, new = given["path"], given["old"], given["new"]
        return await asyncio.to_thread(self._edit, path, old, new, all_=given.get("all") is True)

    def _edit(self, path: str, old: str, new: str, *, all_: bool) -> str:
        text = files.read_whole(self.workspace, path, _FILE_BYTES)
        if text is None:
            raise ToolError(f"there is no file {path!r}")
        if not old:
            raise ToolError("`old` is empty; write_file writes a whole file")
        count = text.count(old)
        if count == 0:
            raise ToolError(f"`old` does not stand in {path!r}; read the file again")
        if count > 1 and not all_:
            raise ToolError(f"`old` stands in {path!r} {count} times; give more of its lines")
        files.write(self.workspace, path, text.replace(old, new))
        return f"replaced {count} occurrence{'s' * (count != 1)} in {path}"

    async def glob(self, given: Mapping[str, Any]) -> str:
        found = await asyncio.to_thread(files.glob, self.workspace, [given["pattern"]])
        if not found:
            return "no file matches"
        more = f"\n[{len(found) - _LISTED} more]" if len(found) > _LISTED else ""
        return "\n".join(found[:_LISTED]) + more

    async def grep(self, given: Mapping[str, Any]) -> str:
        where = given.get("path") or "."
        # A link that is named is followed by grep, wherever it leads.
        inner = "." if where == "." else await asyncio.to_thread(files.place, self.workspace, where)
        done = await self.commands.quiet(
            ["grep", "-rnIE", "--exclude-dir=.git", "-e", given["pattern"], "--", inner], seconds=60
        )
        if done.code == 1 and not done.text:
            return "nothing matches"
        if done.code not in {0, 1}:
            raise ToolError(done.text.strip() or f"grep ended with {done.code}")
        return done.text

    async def shell(self, given: Mapping[str, Any]) -> str:
        seconds = max(1, min(given.get("timeout") or 120, 3600))
        done = await self.commands.loud(given["command"], seconds=seconds)
        if done.code is None:
            raise ToolError(f"{done.text}\n[it was ended after {seconds} s]".lstrip())
        return f"{done.text}\n[exit code {done.code}]".lstrip()

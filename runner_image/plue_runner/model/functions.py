"""Repository tools: a function of the run's revision, called in a process of its own.

The process is one of the step's, as the agent's shell commands are: the same environment and
folder, its output is the step's, and it ends with all that it started. Arguments are JSON on its
standard input.
"""

import asyncio
import json
from collections.abc import Mapping
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

from plue.wire.plan import Function
from plue_runner.model.commands import Commands, Done
from plue_runner.model.schemas import is_closed
from plue_runner.model.tools import Tool, ToolError

__all__ = ["function_tool"]

_SECONDS = 120.0
_RESULT_BYTES = 1024 * 1024


def function_tool(name: str, function: Function, commands: Commands, folder: Path) -> Tool:
    """Return *function* as the tool *name*; its files lie in *folder*."""
    return Tool(
        name,
        function.description,
        dict(function.inputs_schema),
        _Caller(name, function, commands, folder),
        strict=is_closed(function.inputs_schema),
    )


class _Caller:
    def __init__(self, name: str, function: Function, commands: Commands, folder: Path) -> None:
        self._name = name
        self._function = function
        self._commands = commands
        self._folder = folder
        self._numbers = count(1)

    async def __call__(self, given: Mapping[str, Any]) -> str:
        """Call the function. Raises ToolError for all that came of it but a result."""
        number = next(self._numbers)
        result = self._folder / f"{self._name}-{number}.json"
        argv = await asyncio.to_thread(self._prepare, number, result)
        seconds = self._function.timeout_seconds or _SECONDS
        stdin = json.dumps(dict(given), ensure_ascii=False).encode("utf-8", "replace")
        done = await self._commands.fed(argv, stdin, seconds=seconds)
        if done.code is None:
            raise ToolError(_with(done, f"it was ended after {seconds:g} s"))
        text = await asyncio.to_thread(_read, result)
        answer = _answer(text)
        if answer is None:
            raise ToolError(_with(done, f"it ended with exit code {done.code}, without a result"))
        ok, said = answer
        if not ok:
            raise ToolError(_with(done, said or "it failed"))
        return done.text if said is None else said

    def _prepare(self, number: int, result: Path) -> list[str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        launcher = self._folder / "launch.py"
        source = self._folder / f"{self._name}-{number}.py"
        launcher.write_text(_launcher(), encoding="utf-8")
        source.write_text(self._function.source, encoding="utf-8", errors="replace")
        function = self._function
        return ["python3", *map(str, (launcher, source, function.file, function.function, result))]


def _launcher() -> str:
    return resources.files("plue_runner.model").joinpath("launch.py").read_text("utf-8")


def _read(result: Path) -> str | None:
    try:
        with result.open("rb") as file:
            data = file.read(_RESULT_BYTES + 1)
    except OSError:
        return None
    if len(data) > _RESULT_BYTES:
        raise ToolError(f"its result is larger than {_RESULT_BYTES >> 20} MiB")
    return data.decode("utf-8", "replace")


def _answer(text: str | None) -> tuple[bool, str | None] | None:
    # The tool's own code could have written anything there.
    try:
        answer = json.loads(text or "")
    except ValueError:
        return None
    match answer:
        case {"ok": bool() as ok, "text": str() | None as said}:
            return ok, said
        case _:
            return None


def _with(done: Done, what: str) -> str:
    return f"{what}\n[it printed:]\n{done.text}" if done.text else what

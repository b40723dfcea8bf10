"""What agents can be given beyond the built-in tools: functions, prompts and MCP servers.

Names are checked when a prompt is: an unknown one is an error of the prompt's own file. What a name
means travels in the plan, so that a run uses the tools of its revision.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import Place, Problem, did_you_mean
from plue.authoring.sandbox.prompts.documents import step_name
from plue.authoring.sandbox.prompts.tools import Function, by_name, is_tools_file

if TYPE_CHECKING:
    from plue.authoring.sandbox.prompts.library import Prompt

__all__ = ["Workshop", "called"]

_FUNCTION: Final = "//tools:"
_QUESTION: Final = "//prompts:"
_SERVER: Final = "mcp:"
_TAKEN: Final = frozenset(
    {"read_file", "write_file", "edit_file", "shell", "glob", "grep", "web_search"}
    | {"finish", "report"}
)


def called(name: str) -> str:
    """Return how a model calls the tool *name*: ``//tools:lint`` is ``lint``."""
    if name.startswith(_SERVER):
        return re.sub(r"[^\w-]+", "__", name)
    return name.rpartition(":")[2]


class Workshop:
    """The tools of a project."""

    def __init__(
        self,
        files: Mapping[str, str],
        servers: Mapping[str, Mapping[str, Any]],
        prompt: "Callable[[str], Prompt | None]",
    ) -> None:
        """Offer the functions in *files*, the *servers* of the configuration, and prompts."""
        self._files = {path: text for path, text in files.items() if is_tools_file(path)}
        self._servers = servers
        self._prompt = prompt
        self._found: tuple[dict[str, Function], list[Problem]] | None = None

    @property
    def _functions(self) -> dict[str, Function]:
        if self._found is None:
            self._found = by_name(self._files)
        return self._found[0]

    def problems(self) -> list[Problem]:
        """Return all that is wrong in the files of tools."""
        _ = self._functions
        return [] if self._found is None else self._found[1]

    def files(self, names: Sequence[str]) -> list[str]:
        """Return the files that the tools *names* are made of, and those that a call may choose."""
        found = sorted(self._files)
        for name in names:
            if name.startswith(_QUESTION):
                prompt = self._prompt(name.removeprefix(_QUESTION))
                found += prompt.documents if prompt is not None else ()
        return list(dict.fromkeys(found))

    # ── names ────────────────────────────────────────────────────────────────────────────────────

    def problems_of(self, names: Sequence[str], places: Mapping[str, Place]) -> Iterator[Problem]:
        """Yield what is wrong with the tools *names* of a prompt, each at its place."""
        for name in names:
            told = self.problem_of(name)
            if told is not None:
                yield Problem(Code.UNKNOWN_TOOL, told[0], remedy=told[1], place=places[name])
        counts = Counter(called(name) for name in names)
        for name in names:
            if counts[called(name)] > 1 and name.startswith("//"):
                yield Problem(
                    Code.UNKNOWN_TOOL,
                    f"the model would know two tools as `{called(name)}`",
                    remedy="give one of them another name",
                    place=places[name],
                )

    def problem_of(self, name: str) -> tuple[str, str] | None:
        """Return what is wrong with one name, and the remedy; None when it can be used."""
        if name.startswith(_FUNCTION):
            return self._function_problem(name)
        if name.startswith(_QUESTION):
            return self._question_problem(name)
        if name.startswith(_SERVER):
            server = name.removeprefix(_SERVER).partition("/")[0]
            return None if server in self._servers else _unknown(name, server, self._servers)
        return None

    def _function_problem(self, name: str) -> tuple[str, str] | None:
        short = name.removeprefix(_FUNCTION)
        function = self._functions.get(short)
        if function is None:
            return _unknown(name, short, self._functions)
        if short in _TAKEN:
            remedy = f"give the function in {function.file} another name"
            return f"`{short}` is the name of a built-in tool", remedy
        if any(p.place and p.place.file == function.file for p in self.problems()):
            return f"{function.file} has errors", "correct them; they are told at their places"
        return None

    def _question_problem(self, name: str) -> tuple[str, str] | None:
        short = name.removeprefix(_QUESTION)
        prompt = self._prompt(short)
        if prompt is None:
            return f"there is no prompt `{short}`", "`plue prompt list` shows all"
        if prompt.kind != "llm":
            return f"`{short}` is an agent, and agents are no tools of agents", "name an llm prompt"
        if prompt.problems:
            return f"prompt `{short}` has errors", f"correct {prompt.file}"
        if step_name(short) in _TAKEN:
            return f"`{short}` is the name of a built-in tool", "give the prompt another name"
        return None

    # ── what they are ────────────────────────────────────────────────────────────────────────────

    def equipment(self, names: Sequence[str]) -> dict[str, dict[str, object]]:
        """Return the tools *names*, which are good, as ``plue.wire.plan.Equipment`` dumps them."""
        found: dict[str, dict[str, object]] = {}
        for name in names:
            if name.startswith(_FUNCTION):
                found[name] = self._function(self._functions[name.removeprefix(_FUNCTION)])
            elif name.startswith(_QUESTION):
                prompt = self._prompt(name.removeprefix(_QUESTION))
                if prompt is not None:
                    found[name] = _question(prompt)
            elif name.startswith(_SERVER):
                server = name.partition("/")[0]
                found[server] = dict(self._servers[server.removeprefix(_SERVER)])
        return found

    def _function(self, function: Function) -> dict[str, object]:
        return {
            "kind": "function",
            "function": function.name,
            "description": function.description,
            "inputs_schema": function.schema,
            "file": function.file,
            "source": self._files[function.file],
            "timeout_seconds": function.timeout_seconds,
        }


def _question(prompt: "Prompt") -> dict[str, object]:
    return {
        "kind": "question",
        "description": prompt.description or f"Ask {prompt.name}.",
        # Written out as its model dumps it: a later stage compares the two.
        "prompt": {
            **prompt.wire(),
            "inputs": {},
            "tools": [],
            "equipment": {},
            "max_turns": None,
            "shown": "",
        },
        "output_schema": prompt.output_schema,
    }


def _unknown(name: str, short: str, known: Mapping[str, object]) -> tuple[str, str]:
    names = ", ".join(sorted(known))
    what = "MCP server" if name.startswith(_SERVER) else "tool"
    where = ".plue/config.yaml has" if what == "MCP server" else ".plue/tools/ has"
    remedy = (
        f"{where}: {names}"
        if known
        else (
            "declare it in .plue/config.yaml below `mcp:`"
            if what == "MCP server"
            else "write it in .plue/tools/*.py, below @tool"
        )
    )
    return f"there is no {what} `{short}`{did_you_mean(short, list(known))}", remedy

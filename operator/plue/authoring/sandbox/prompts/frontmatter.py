"""The front matter of a prompt: YAML whose every value knows its line and column.

Every scalar is read as it is written, so ``yes | no`` stays a choice of two words. The comment
behind a field of ``inputs`` or ``output`` is its description.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from plue.authoring.codes import Code
from plue.authoring.located import Mark, NotYamlError, compose_yaml
from plue.authoring.sandbox.kinds import Kind, list_kind, object_of, optional
from plue.authoring.sandbox.problems import Place, Problem, did_you_mean
from plue.authoring.sandbox.prompts.notation import NotationError, kind_of_notation

__all__ = ["KEYS", "TOOLS", "FrontMatter", "parse_front_matter"]

KEYS: Final = (
    "name", "description", "client", "type", "inputs", "output", "tools", "max_turns", "extends",
)  # fmt: skip
TOOLS: Final = (
    "read_file", "write_file", "edit_file", "shell", "glob", "grep", "web_search",
)  # fmt: skip
RESERVED: Final = frozenset({
    "name", "cmd", "env", "cwd", "stdin", "timeout", "idle_timeout", "retry", "depends_on",
    "shell", "continue_on_error", "when", "once", "output", "cache", "secrets", "budget",
    "tools", "client", "max_turns", "output_schema", "range", "namespace", "loop", "self", "super",
    "caller", "varargs", "kwargs",
})  # fmt: skip
"""Names of step options, and of what a template has anyway: no input may be called so."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*")
_FIELD: Final = re.compile(r"[A-Za-z]\w{0,99}")
_CLIENT: Final = re.compile(r"[a-z][a-z0-9_-]*/[A-Za-z0-9][\w.:-]*")
_OTHER_TOOL: Final = re.compile(
    r"//(?:tools:[A-Za-z_]\w*|prompts:[A-Za-z][\w-]*)|mcp:[a-z0-9][\w-]*(?:/[\w.-]{1,128})?"
)
_COMMENT: Final = re.compile(r":?\s+#+\s*(\S.*?)\s*$|:?\s*$")
_MOST_TURNS: Final = 1000


@dataclass
class FrontMatter:
    """What the front matter declares; ``given`` are the keys that it has, with their places."""

    given: dict[str, Place] = field(default_factory=dict)
    name: str | None = None
    description: str | None = None
    client: str | None = None
    type: str = "llm"
    inputs: dict[str, Kind] = field(default_factory=dict)
    inputs_at: dict[str, Place] = field(default_factory=dict)
    output: Kind | None = None
    tools: tuple[str, ...] = ()
    tools_at: dict[str, Place] = field(default_factory=dict)
    max_turns: int | None = None
    extends: str | None = None


def parse_front_matter(file: str, text: str, first_line: int) -> tuple[FrontMatter, list[Problem]]:
    """Return what *text*, which begins in *first_line* of *file*, declares, and what is wrong."""
    return _Reader(file, text, first_line).read()


class _Reader:
    def __init__(self, file: str, text: str, first_line: int) -> None:
        self.file = file
        self.lines = text.split("\n")
        self.text = text
        self.first = first_line
        self.found = FrontMatter()
        self.problems: list[Problem] = []

    def read(self) -> tuple[FrontMatter, list[Problem]]:
        """Read all keys; each wrong one is noted."""
        try:
            root = compose_yaml(self.text)
        except (NotYamlError, RecursionError) as error:
            self._not_yaml(error)
            return self.found, self.problems
        if root is None:
            return self.found, self.problems
        for key, _, value in self._pairs(root, "the front matter"):
            read: Callable[[Node], None] | None = getattr(self, f"_read_{key}", None)
            if key not in KEYS or read is None:
                self._note(
                    Code.PROMPT_KEY,
                    f"a prompt has no `{key}`{did_you_mean(key, KEYS)}",
                    "it has: " + ", ".join(KEYS),
                    self.found.given.pop(key),
                )
            else:
                read(value)
        return self.found, self.problems

    # ── places and problems ──────────────────────────────────────────────────────────────────────

    def _place(self, node: Node, start: int = 0, end: int | None = None) -> Place:
        mark, last = node.start_mark, node.end_mark
        line, column = mark.line, mark.column + start
        stop = None
        if end is not None:
            stop = mark.column + end
        elif last.line == line and last.column > mark.column:
            stop = last.column
        return Place(self.file, self.first + line, column + 1, None if stop is None else stop + 1)

    def _note(self, code: Code, message: str, remedy: str, at: Node | Place) -> None:
        place = at if isinstance(at, Place) else self._place(at)
        self.problems.append(Problem(code, message, remedy=remedy, place=place))

    def _not_yaml(self, error: Exception) -> None:
        mark, what, remedy = Mark(1, 1), "it is nested too deeply", "write it flatter"
        if isinstance(error, NotYamlError):
            mark, what, remedy = error.mark, error.message, error.remedy
        line = self.lines[mark.line - 1] if mark.line <= len(self.lines) else ""
        if re.search(r":\s*[\"'].*[\"']\s*\|", line):
            remedy = "put the whole value into quotes: '\"needs work\" | ok'"
        elif re.match(r" *\t", line):
            remedy = "indent with spaces"
        place = Place(self.file, self.first + mark.line - 1, mark.column)
        self._note(Code.FRONT_MATTER, f"the front matter is not YAML: {what}", remedy, place)

    def _pairs(self, node: Node, what: str) -> Iterator[tuple[str, Node, Node]]:
        """Yield the keys of a mapping with both nodes; what is no mapping, or twice, is noted."""
        if not isinstance(node, MappingNode):
            self._note(
                Code.PROMPT_VALUE, f"{what} is not a mapping", "write `key: value` lines", node
            )
            return
        seen: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._note(Code.PROMPT_KEY, "a key is a word", "write `key: value`", key)
                continue
            name = key.value
            if name in seen:
                self._note(Code.PROMPT_KEY, f"`{name}` is there twice", "remove one of them", key)
                continue
            seen[name] = key
            if what == "the front matter":
                self.found.given[name] = self._place(key)
            yield name, key, value

    def _word(self, node: Node, what: str) -> str | None:
        if isinstance(node, ScalarNode) and node.value.strip():
            return str(node.value)
        self._note(Code.PROMPT_VALUE, f"{what} is not text", f"write `{what}: …`", node)
        return None

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────

    def _read_name(self, node: Node) -> None:
        name = self._word(node, "name")
        if name is None or _NAME.fullmatch(name):
            self.found.name = name
            return
        self._note(
            Code.PROMPT_VALUE,
            f"`{name}` is not a name for a prompt",
            "use letters and digits, and single - or _ between them: code-review",
            node,
        )

    def _read_description(self, node: Node) -> None:
        self.found.description = self._word(node, "description")

    def _read_client(self, node: Node) -> None:
        client = self._word(node, "client")
        if client is None or _CLIENT.fullmatch(client):
            self.found.client = client
            return
        self._note(
            Code.PROMPT_VALUE,
            f"`{client}` is not a client",
            "write provider/model: anthropic/claude-sonnet",
            node,
        )

    def _read_type(self, node: Node) -> None:
        kind = self._word(node, "type")
        if kind in ("llm", "agent"):
            self.found.type = kind
        elif kind is not None:
            self._note(
                Code.PROMPT_VALUE,
                f"`{kind}` is not a type of prompt{did_you_mean(kind, ('llm', 'agent'))}",
                "write llm for one call, agent for turns with tools",
                node,
            )

    def _read_extends(self, node: Node) -> None:
        self.found.extends = self._word(node, "extends")

    def _read_max_turns(self, node: Node) -> None:
        text = node.value if isinstance(node, ScalarNode) else ""
        if re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= _MOST_TURNS:
            self.found.max_turns = int(text)
            return
        self._note(
            Code.PROMPT_VALUE,
            f"max_turns is not a whole number from 1 to {_MOST_TURNS}",
            "write max_turns: 20",
            node,
        )

    def _read_tools(self, node: Node) -> None:
        if not isinstance(node, SequenceNode):
            self._note(Code.PROMPT_VALUE, "tools is not a list", "write tools: [read_file]", node)
            return
        found: list[str] = []
        for item in node.value:
            name = self._word(item, "tools")
            if name is None:
                continue
            problem = tool_problem(name)
            if name in found:
                self._note(
                    Code.PROMPT_VALUE, f"`{name}` is there twice", "remove one of them", item
                )
            elif problem is not None:
                self._note(Code.PROMPT_VALUE, *problem, item)
            else:
                found.append(name)
                self.found.tools_at[name] = self._place(item)
        self.found.tools = tuple(found)

    def _read_inputs(self, node: Node) -> None:
        kinds = self._fields(node, "inputs", self.found.inputs_at)
        for name in kinds:
            if name in RESERVED:
                self._note(
                    Code.PROMPT_RESERVED,
                    f"`{name}` is the name of a step's option or of the template language",
                    f"call the input `{name}_text`, or what it is about",
                    self.found.inputs_at[name],
                )
        self.found.inputs = kinds

    def _read_output(self, node: Node) -> None:
        if isinstance(node, MappingNode):
            self.found.output = object_of(self._fields(node, "output"))
            return
        self._note(
            Code.PROMPT_VALUE,
            "output is not fields with types",
            "write the fields below it: `  approved: boolean`",
            node,
        )

    # ── types ────────────────────────────────────────────────────────────────────────────────────

    def _fields(
        self, node: Node, what: str, places: dict[str, Place] | None = None
    ) -> dict[str, Kind]:
        kinds: dict[str, Kind] = {}
        for written, key, value in self._pairs(node, what):
            name = written.removesuffix("?")
            if not _FIELD.fullmatch(name):
                self._note(
                    Code.PROMPT_TYPE,
                    f"`{written}` is not a name for a field",
                    "use letters, digits and _, starting with a letter",
                    key,
                )
                continue
            # A field whose type is wrong is a field all the same: its name is not told as unknown.
            kind = self._kind(value) or Kind({})
            if written.endswith("?"):
                kind = optional(kind) if kind.required else kind
            if places is not None:
                places[name] = self._place(key)
            kinds[name] = self._described(kind, key, value)
        return kinds

    def _kind(self, node: Node) -> Kind | None:
        if isinstance(node, MappingNode):
            return object_of(self._fields(node, "the type"))
        if isinstance(node, SequenceNode):
            if len(node.value) == 1:
                return list_kind(self._kind(node.value[0]) or Kind({}))
            self._note(
                Code.PROMPT_TYPE,
                "a list has one type for all its items",
                "write string[], or one `- field: type` block",
                node,
            )
            return None
        return self._notation(node)

    def _notation(self, node: Node) -> Kind | None:
        written = str(node.value)
        # What stands in quotes, or over several lines, is not at its column any more.
        plain = isinstance(node, ScalarNode) and node.style is None
        try:
            return kind_of_notation(written)
        except NotationError as error:
            place = self._place(node, error.start, error.end) if plain else self._place(node)
            self._note(Code.PROMPT_TYPE, error.message, error.remedy, place)
            return None

    def _described(self, kind: Kind, key: Node, value: Node) -> Kind:
        at = key.end_mark if not isinstance(value, ScalarNode) else value.end_mark
        rest = self.lines[at.line][at.column :] if at.line < len(self.lines) else ""
        comment = _COMMENT.match(rest)
        if comment is None or comment[1] is None:
            return kind
        schema = {**kind.schema, "description": comment[1]}
        return Kind(schema, required=kind.required, default=kind.default)


def tool_problem(name: str) -> tuple[str, str] | None:
    """Return what is wrong with the form of a tool's name, and what to write instead."""
    if name in TOOLS or _OTHER_TOOL.fullmatch(name):
        return None
    known = ", ".join(TOOLS)
    return (
        f"`{name}` is not a tool{did_you_mean(name, TOOLS)}",
        f"tools are {known}, and //tools:name, //prompts:name, mcp:server, mcp:server/tool",
    )

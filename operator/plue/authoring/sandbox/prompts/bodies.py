"""A template's body, parsed and looked through: what is wrong in it before any value is known.

Every name, filter and file that it uses is found when the prompt is parsed, with its line, so that
a misspelled variable never costs a run.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jinja2 import TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator
from jinja2.idtracking import VAR_LOAD_ALIAS, VAR_LOAD_RESOLVE

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import Place, Problem, did_you_mean
from plue.schemas import options_of, type_name
from plue.templating.environment import METHODS, Fence, tree_of
from plue.templating.faults import TemplateFault
from plue.templating.filters import FILTERS, TESTS
from plue.templating.sources import SourceText, path_of

__all__ = ["Body", "Use", "field_problem", "parse_body", "place_in"]

_ROLES: Final = {nodes.Include: "include", nodes.Import: "import", nodes.FromImport: "import",
                 nodes.Extends: "extends"}  # fmt: skip
_TAG: Final = re.compile(r"\{\{.*?(?:\}\}|$)|\{%.*?(?:%\}|$)")
_FILTERS: Final = tuple(name for name in FILTERS if " " not in name)
_BLOCK_LEVEL: Final = (
    nodes.Block, nodes.Assign, nodes.AssignBlock, nodes.Macro, nodes.Import, nodes.FromImport,
    nodes.Extends,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """Another file that the body includes, imports (``sees``: with context) or extends."""

    role: str
    path: str
    place: Place
    sees: bool = True


@dataclass(frozen=True, slots=True)
class Body:
    """What was found in a body.

    ``names`` are the variables that nothing in the file defines, each with its places; ``sets``
    those that it defines, and ``locals`` all that it binds anywhere. ``chains`` are dotted paths
    that start at such a variable. ``outside`` is where text would stand outside of all blocks.
    """

    problems: list[Problem] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    names: dict[str, list[Place]] = field(default_factory=dict)
    sets: frozenset[str] = frozenset()
    locals: frozenset[str] = frozenset()
    chains: list[tuple[str, tuple[str, ...], Place]] = field(default_factory=list)
    outside: Place | None = None
    has_blocks: bool = False


def place_in(file: str, text: str, line: int, word: str | None, nth: int = 0) -> Place:
    """Return the place of *word* in the file's *line* (from 1), or of what the line begins with.

    Jinja2 knows lines only. Of several, it is the *nth* that stands inside a tag.
    """
    lines = text.split("\n")
    shown = lines[line - 1] if 0 < line <= len(lines) else ""
    if word:
        tags = [tag.span() for tag in _TAG.finditer(shown)]
        all_of_them = list(re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", shown))
        inside = [w for w in all_of_them if any(a <= w.start() < b for a, b in tags)]
        if found := inside or all_of_them:
            one = found[min(nth, len(found) - 1)]
            return Place(file, line, one.start() + 1, one.end() + 1)
    blank = len(shown) - len(shown.lstrip())
    return Place(file, line, blank + 1, max(len(shown.rstrip()), blank) + 1)


def parse_body(file: str, text: str, source: SourceText) -> Body:
    """Look through *source*, the body of *file*, whose whole *text* is for the places."""
    return _Looker(file, text, source).look()


class _Looker:
    def __init__(self, file: str, text: str, source: SourceText) -> None:
        self.file = file
        self.text = text
        self.source = source
        self.body = Body()

    def _place(self, line: int | None, word: str | None = None, nth: int = 0) -> Place:
        # Some nodes have no line.
        return place_in(self.file, self.text, (line or 1) + self.source.line - 1, word, nth)

    def _note(self, code: Code, message: str, remedy: str, place: Place) -> None:
        if all((p.code, p.place) != (code, place) for p in self.body.problems):
            self.body.problems.append(Problem(code, message, remedy=remedy, place=place))

    def look(self) -> Body:
        """Parse the body and look at every node."""
        fence = Fence({self.file: self.source})
        try:
            tree = tree_of(fence, self.file, self.source)
        except TemplateSyntaxError as error:
            self._syntax(error)
            return self.body
        except RecursionError:
            message = "the template is nested too deeply"
            self._note(Code.TEMPLATE_SYNTAX, message, "write it flatter", self._place(1))
            return self.body
        for node in tree.find_all(nodes.Node):
            self._check(node)
        for node in tree.find_all((nodes.Filter, nodes.Test)):
            # An unknown one is told already; the compiler would stop at it and find no names.
            (fence.filters if isinstance(node, nodes.Filter) else fence.tests).setdefault(
                node.name, len
            )
        self._names(fence, tree)
        return Body(
            self.body.problems,
            self.body.uses,
            self.body.names,
            frozenset(_set_names(tree)),
            frozenset(node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"),
            list(self._chains(tree)),
            self._outside(tree),
            tree.find(nodes.Block) is not None,
        )

    def _syntax(self, error: TemplateSyntaxError) -> None:
        message = error.message or "it is not a template"
        quoted = re.search(r"'([^']+)'", message)
        word = quoted[1] if quoted else None
        remedy = "look at the tag in this line; text with braces is written {% raw %}…{% endraw %}"
        unknown = re.match(r"Encountered unknown tag '(\w+)'", message)
        if unknown:
            message = f"there is no tag `{unknown[1]}`{did_you_mean(unknown[1], _TAGS)}"
            remedy = "tags are " + ", ".join(_TAGS)
        elif "Unexpected end of template" in message:
            remedy = "close the tag that was opened"
        self._note(Code.TEMPLATE_SYNTAX, message, remedy, self._place(error.lineno, word))

    # ── single nodes ─────────────────────────────────────────────────────────────────────────────

    def _check(self, node: nodes.Node) -> None:
        match node:
            case nodes.Filter() if node.name not in FILTERS:
                self._unknown("filter", node, _FILTERS)
            case nodes.Test() if node.name not in TESTS:
                self._unknown("test", node, tuple(name for name in TESTS if name.isidentifier()))
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                self._use(node)
            case nodes.EvalContextModifier() | nodes.ScopedEvalContextModifier():
                self._note(
                    Code.TEMPLATE_FORBIDDEN,
                    "`autoescape` is not part of a prompt's template",
                    "remove it: nothing is escaped",
                    self._place(node.lineno or self._line_of("autoescape"), "autoescape"),
                )
            case nodes.Getattr() if node.attr.startswith("__"):
                self._note(
                    Code.TEMPLATE_FORBIDDEN,
                    f"`.{node.attr}` is out of reach for a template",
                    "templates reach the fields of their inputs",
                    self._place(node.lineno, node.attr),
                )
            case _:
                pass

    def _line_of(self, word: str) -> int:
        """Return the first line of the body with *word*: some nodes have none of their own."""
        before, _, _ = self.source.text.partition(word)
        return before.count("\n") + 1

    def _unknown(self, what: str, node: nodes.Filter | nodes.Test, known: tuple[str, ...]) -> None:
        self._note(
            Code.TEMPLATE_FILTER,
            f"there is no {what} `{node.name}`{did_you_mean(node.name, known)}",
            f"{what}s are " + ", ".join(sorted(known)),
            self._place(node.lineno, node.name),
        )

    def _use(self, node: Any) -> None:
        role = _ROLES[type(node)]
        place = self._place(node.lineno, role)
        named = node.template
        if not isinstance(named, nodes.Const) or not isinstance(named.value, str):
            self._note(
                Code.TEMPLATE_FILE,
                f"{role} names its file by a value",
                f'write the name itself: {{% {role} "parts/style.md" %}}',
                place,
            )
            return
        if getattr(node, "ignore_missing", False):
            self._note(
                Code.TEMPLATE_FILE,
                "`ignore missing` has no meaning: files are found when the prompt is parsed",
                "remove it",
                self._place(node.lineno, "ignore"),
            )
        if role == "include" and not node.with_context:
            self._note(
                Code.TEMPLATE_FORBIDDEN,
                "an included file always sees the inputs",
                "remove `without context`",
                self._place(node.lineno, "without"),
            )
        self._named(role, named.value, place, sees=getattr(node, "with_context", True))

    def _named(self, role: str, name: str, place: Place, *, sees: bool) -> None:
        if role == "extends" and name == self.source.extends:
            self.body.uses.append(Use(role, name, place))
            return
        try:
            path = path_of(name, self.file)
        except TemplateFault as fault:
            self._note(Code.TEMPLATE_FILE, fault.message, fault.remedy or "", place)
            return
        self.body.uses.append(Use(role, path, place, sees))

    def _outside(self, tree: nodes.Template) -> Place | None:
        """Return where something stands outside of the blocks that ``extends`` would drop."""
        for node in tree.body:
            if isinstance(node, nodes.Output):
                for child in node.nodes:
                    data = child.data if isinstance(child, nodes.TemplateData) else "x"
                    if data.strip():
                        skipped = len(data) - len(data.lstrip())
                        line = child.lineno + data[:skipped].count("\n")
                        return self._place(line)
            elif not isinstance(node, _BLOCK_LEVEL):
                return self._place(node.lineno)
        return None

    # ── names ────────────────────────────────────────────────────────────────────────────────────

    def _names(self, fence: Fence, tree: nodes.Template) -> None:
        finder = _Finder(fence, self.file)
        try:
            finder.visit(tree)
        except TemplateSyntaxError as error:
            self._syntax(error)
        except (RecursionError, AssertionError) as error:
            self._note(Code.TEMPLATE_SYNTAX, f"the template cannot be compiled: {error}",
                       "write it another way", self._place(1))  # fmt: skip
        own = _set_names(tree)
        order: dict[tuple[str, int], list[int]] = {}
        for node in tree.find_all(nodes.Name):
            order.setdefault((node.name, node.lineno), []).append(id(node))
        for name, node in finder.found:
            if name in own:
                continue
            places = self.body.names.setdefault(name, [])
            nth = order[name, node.lineno].index(id(node))
            place = self._place(node.lineno, name, nth)
            if place not in places:
                places.append(place)

    def _chains(self, tree: nodes.Template) -> Iterator[tuple[str, tuple[str, ...], Place]]:
        """Yield what is read of variables from outside: ``review``, ``("issues",)``."""
        inner = {id(node.node) for node in tree.find_all(nodes.Getattr)}
        bound = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
        for node in tree.find_all(nodes.Getattr):
            if id(node) in inner:
                continue
            path: list[str] = []
            root: nodes.Node = node
            while isinstance(root, nodes.Getattr):
                path.insert(0, root.attr)
                root = root.node
            hidden = any(part.startswith("__") for part in path)  # told already
            if isinstance(root, nodes.Name) and root.name not in bound and not hidden:
                yield root.name, tuple(path), self._place(node.lineno, path[-1])


_TAGS: Final = (
    "if", "elif", "else", "endif", "for", "endfor", "set", "endset", "block", "endblock", "extends",
    "include", "macro", "endmacro", "call", "endcall", "filter", "endfilter", "import", "from",
    "with", "endwith", "raw", "endraw",
)  # fmt: skip


def _set_names(tree: nodes.Template) -> set[str]:
    """Return what ``set``, imports and macros define, perhaps under a condition."""
    found: set[str] = set()
    for node in tree.find_all((nodes.Assign, nodes.AssignBlock)):
        found |= {n.name for n in node.find_all(nodes.Name) if n.ctx == "store"}
    found |= {node.name for node in tree.find_all(nodes.Macro)}
    found |= {node.target for node in tree.find_all(nodes.Import)}
    for imported in tree.find_all(nodes.FromImport):
        found |= {one if isinstance(one, str) else one[1] for one in imported.names}
    return found


class _Finder(CodeGenerator):
    """Jinja2's own compiler, which knows every scope, as a finder of names from outside."""

    def __init__(self, environment: Fence, name: str) -> None:
        super().__init__(environment, name, name)
        self.found: list[tuple[str, nodes.Name]] = []

    def visit_Name(self, node: nodes.Name, frame: Any) -> None:
        if node.ctx == "load":
            symbols = frame.symbols
            load = symbols.find_load(symbols.ref(node.name))
            while load is not None and load[0] == VAR_LOAD_ALIAS:
                load = symbols.find_load(load[1])
            outer = load[1] if load is not None and load[0] == VAR_LOAD_RESOLVE else None
            if outer is not None and outer not in self.environment.globals:
                self.found.append((str(outer), node))
        super().visit_Name(node, frame)


def field_problem(
    schema: Mapping[str, Any], name: str, path: tuple[str, ...]
) -> tuple[str, str] | None:
    """Say which part of ``name.path`` the type excludes; None when the run has to show it."""
    walked = name
    for part in path:
        inner, _ = options_of(schema)
        kind = inner.get("type")
        fields = inner.get("properties")
        if isinstance(fields, Mapping) and inner.get("additionalProperties") is False:
            if part in fields:
                schema, walked = fields[part], f"{walked}.{part}"
                continue
            if part in METHODS[dict]:
                return None
            known = ", ".join(fields) or "none"
            message = f"`{walked}` has no field `{part}`{did_you_mean(part, list(fields))}"
            return message, f"its fields are: {known}"
        simple = kind in ("integer", "number", "boolean")
        if simple or (kind == "string" and part not in METHODS[str]):
            return f"`{walked}` is {type_name(inner)} and has no `.{part}`", "read the value itself"
        return None
    return None

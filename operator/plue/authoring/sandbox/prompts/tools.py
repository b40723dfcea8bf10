"""Repository tools: functions below ``@tool`` in ``.plue/tools/*.py``, told by their text.

A tool is ordinary Python that runs in the sandbox of a run, in a process of its own, as shell steps
do. So the evaluator only reads its text: how the function is called, what its docstring says, and
the types of its parameters, which become the JSON Schema that the model is given. Nothing of the
file is executed here, and the model's values reach the function as JSON, never as shell text.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.kinds import Kind, enum, list_kind, object_of, optional
from plue.authoring.sandbox.problems import SOURCES, Place, Problem, characters
from plue.authoring.sandbox.steps import seconds_of

__all__ = ["TOOLS_FOLDER", "Function", "functions_of", "is_tools_file"]

TOOLS_FOLDER: Final = ".plue/tools/"
MAX_CHARACTERS: Final = 128 * 1024
_PLAIN: Final = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_TYPES: Final = (
    "types are str, int, float, bool, dict, list[T], Literal[...], T | None, and"
    ' Annotated[T, "what it is"]'
)
_LONGEST_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Function:
    """A tool, as its text declares it."""

    name: str
    file: str
    line: int
    description: str
    schema: dict[str, object]
    timeout_seconds: float | None


def is_tools_file(path: str) -> bool:
    """Whether *path* is a file of tools."""
    return path.endswith(".py") and TOOLS_FOLDER in f"/{path}"


def functions_of(file: str, text: str) -> tuple[list[Function], list[Problem]]:
    """Return the tools of a file, and what is wrong in them."""
    SOURCES[file] = text.splitlines()
    if len(text) > MAX_CHARACTERS:
        size = f"the file has {len(text):,} characters; {MAX_CHARACTERS:,} are allowed"
        remedy = "call a program of the repository from the tool"
        return [], [Problem(Code.FILE_TOO_LARGE, size, remedy=remedy, place=Place(file, 1))]
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        message = getattr(error, "msg", None) or str(error) or "it is nested too deeply"
        place = Place(file, line, getattr(error, "offset", None) or 1)
        remedy = "correct it; `python3 -m py_compile` says the same"
        return [], [Problem(Code.SYNTAX, message, remedy=remedy, place=place)]
    reader = _Reader(file)
    return list(reader.read(tree)), reader.problems


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def read(self, tree: ast.Module) -> Iterator[Function]:
        for node in tree.body:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            mark = next((d for d in node.decorator_list if _is_tool(d)), None)
            if mark is None:
                continue
            if isinstance(node, ast.AsyncFunctionDef):
                self._note(node, f"tool `{node.name}` is async", f"write `def {node.name}(`")
            yield self._function(node, mark)

    def _note(self, node: ast.AST, message: str, remedy: str) -> None:
        line = getattr(node, "lineno", 1)
        start, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", None)
        if getattr(node, "end_lineno", line) != line:
            end = None
        place = Place(
            self.file,
            line,
            characters(self.file, line, start),
            None if end is None else characters(self.file, line, end),
        )
        self.problems.append(Problem(Code.TOOL, message, remedy=remedy, place=place))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, mark: ast.expr) -> Function:
        described = cleandoc(ast.get_docstring(node) or "")
        if not described:
            self._note(
                node,
                f"tool `{node.name}` has no docstring",
                "say in it what the tool does: the model is told nothing else",
            )
        return Function(
            node.name,
            self.file,
            node.lineno,
            described,
            object_of(dict(self._parameters(node))).schema,
            self._timeout(mark),
        )

    def _timeout(self, mark: ast.expr) -> float | None:
        if not isinstance(mark, ast.Call):
            return None
        found = None
        for extra in mark.args:
            self._note(extra, "@tool takes its options by name", 'write @tool(timeout="5m")')
        for option in mark.keywords:
            if option.arg != "timeout":
                self._note(option, f"@tool has no option `{option.arg}`", "it has: timeout")
                continue
            try:
                found = seconds_of(ast.literal_eval(option.value), "timeout")
            except Problem as problem:
                self._note(option, problem.message, problem.remedy or "")
            except ValueError:
                self._note(option, "timeout is not written out", 'write @tool(timeout="5m")')
        if found is not None and found > _LONGEST_SECONDS:
            self._note(mark, "timeout is longer than an hour", 'write at most "1h"')
        return found

    # ── parameters ───────────────────────────────────────────────────────────────────────────────

    def _parameters(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef
    ) -> Iterator[tuple[str, Kind]]:
        given = node.args
        for other in (given.vararg, given.kwarg, *given.posonlyargs):
            if other is not None:
                self._note(
                    other, f"`{other.arg}` cannot be given by name", "write a plain parameter"
                )
        missing: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults))
        pairs = [
            *zip(given.args, [*missing, *given.defaults], strict=False),
            *zip(given.kwonlyargs, given.kw_defaults, strict=True),
        ]
        for parameter, default in pairs:
            yield parameter.arg, self._parameter(parameter, default)

    def _parameter(self, parameter: ast.arg, default: ast.expr | None) -> Kind:
        name = parameter.arg
        if name.startswith("_"):
            self._note(parameter, f"parameter `{name}` begins with _", "begin it with a letter")
        if parameter.annotation is None:
            remedy = f"write `{name}: str`; {_TYPES}"
            self._note(parameter, f"parameter `{name}` has no type", remedy)
            return Kind({})
        try:
            kind = _kind(parameter.annotation)
        except _NoTypeError as error:
            self._note(error.node, f"`{ast.unparse(error.node)}` is no type here", _TYPES)
            return Kind({})
        if default is None:
            return Kind(kind.schema, required=True)
        try:
            value = ast.literal_eval(default)
            return kind.with_default(value) if value is not None else _optional(kind)
        except Problem as problem:
            self._note(default, problem.message, problem.remedy or "")
        except (ValueError, TypeError):
            self._note(default, f"the default of `{name}` is not written out", "write a constant")
        return kind


class _NoTypeError(Exception):
    def __init__(self, node: ast.expr) -> None:
        super().__init__()
        self.node = node


def _is_tool(mark: ast.expr) -> bool:
    called = mark.func if isinstance(mark, ast.Call) else mark
    return _name(called) == "tool"


def _name(node: ast.expr) -> str:
    """Return the last part of a dotted name: ``typing.Literal`` is Literal."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _optional(kind: Kind) -> Kind:
    return kind if "anyOf" in kind.schema else optional(kind)


def _kind(node: ast.expr) -> Kind:
    """Return the type that an annotation names. Raises _NoTypeError with the part that is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return _kind(ast.parse(node.value, mode="eval").body)
        except SyntaxError:
            raise _NoTypeError(node) from None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union(node)
    if isinstance(node, ast.Subscript):
        return _generic(node)
    match _name(node):
        case "dict":
            return Kind({"type": "object"})
        case "list":
            return Kind({"type": "array"})
        case name if name in _PLAIN:
            return Kind({"type": _PLAIN[name]})
        case _:
            raise _NoTypeError(node)


def _union(node: ast.BinOp) -> Kind:
    sides = [side for side in (node.left, node.right) if not _is_none(side)]
    if len(sides) != 1:
        raise _NoTypeError(node)
    return _optional(_kind(sides[0]))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _generic(node: ast.Subscript) -> Kind:
    inner = node.slice
    parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
    match _name(node.value).lower():
        case "list" if len(parts) == 1:
            return list_kind(_kind(inner))
        case "dict":
            return Kind({"type": "object"})
        case "optional" if len(parts) == 1:
            return _optional(_kind(inner))
        case "literal":
            values = [part.value for part in parts if isinstance(part, ast.Constant)]
            if len(values) == len(parts) and all(isinstance(v, (str, int)) for v in values):
                return enum(*values)
        case "annotated":
            words = [part.value for part in parts[1:] if isinstance(part, ast.Constant)]
            text = " ".join(word for word in words if isinstance(word, str))
            kind = _kind(parts[0])
            return Kind({**kind.schema, "description": text}, required=kind.required)
        case _:
            pass
    raise _NoTypeError(node)


def by_name(files: Mapping[str, str]) -> tuple[dict[str, Function], list[Problem]]:
    """Return the tools of all *files* by name, and what is wrong in them."""
    found: dict[str, Function] = {}
    problems: list[Problem] = []
    for file, text in sorted(files.items()):
        if not is_tools_file(file):
            continue
        functions, wrong = functions_of(file, text)
        problems += wrong
        for function in functions:
            first = found.setdefault(function.name, function)
            if first is not function:
                problems.append(
                    Problem(
                        Code.TOOL,
                        f"tool `{function.name}` is also in {first.file}, line {first.line}",
                        remedy="give one of them another name",
                        place=Place(file, function.line),
                        related=(first.file, first.line),
                    )
                )
    return found, problems

"""The compiler pass: RestrictedPython's transformer, with our language on top of it.

Every error of a file is collected, with its column and a remedy. Differences from the stock
policy: text composition goes to helpers, elements of ``ctx.parallel`` become functions, the end of
a stage passes every ``except``, sets keep their order, and the syntax that the stock policy
refuses without need is allowed (augmented assignment, annotations, ``nonlocal``, ``match``).
"""

import ast
from collections.abc import Mapping
from typing import Any, Final

from RestrictedPython.transformer import (
    INSPECT_ATTRIBUTES,
    IOPERATOR_TO_STR,
    RestrictingNodeTransformer,
    copy_locations,
)

from plue.authoring.codes import Code
from plue.authoring.imports import is_library_file
from plue.authoring.sandbox.facades import FACADES, FREE_NAMES
from plue.authoring.sandbox.guards import BUILTIN_NAMES
from plue.authoring.sandbox.problems import Place, Problem, characters, did_you_mean
from plue.authoring.sandbox.sdk import SDK

__all__ = ["Policy"]

_REFUSED_NAMES: Final[Mapping[str, str]] = {
    "open": "read files in a step: ctx.run(...)",
    "input": "declare inputs with manual(inputs={...}) and read ctx.inputs",
    "eval": "write the code itself",
    "exec": "write the code itself",
    "compile": "write the code itself",
    "__import__": "write `from plue import ...`",
    "type": "use isinstance(value, kind)",
    "object": "leave it out: every class is one",
    "super": "call the other class's function by its name",
    "globals": "use a variable",
    "locals": "use a variable",
    "vars": "use a dict",
    "dir": "write the names",
    "id": "compare values with ==; ids differ each time",
    "hash": "compare values with ==; hashes differ each time",
    "setattr": "write value.name = ...",
    "delattr": "write del value.name",
    "breakpoint": "use print(...)",
    "memoryview": "use text",
    "bytearray": "use text",
    "bytes": "use text",
    "BaseException": "name Exception, or a narrower one",
    "KeyboardInterrupt": "name Exception, or a narrower one",
    "SystemExit": "call ctx.fail(reason) or return",
    "GeneratorExit": "name Exception, or a narrower one",
    "MemoryError": "it cannot be handled",
    "RecursionError": "it cannot be handled",
    "exit": "call ctx.fail(reason) or return",
    "quit": "call ctx.fail(reason) or return",
    "printed": "print(...) needs nothing else",
}
_REFUSED_MODULES: Final[Mapping[str, str]] = {
    "os": "run it in a step, or read ctx.env and ctx.event",
    "sys": "run it in a step",
    "subprocess": "write ctx.run(name, command)",
    "time": "there is no clock: the same evaluation must always give the same plan",
    "datetime": "there is no clock: run `date` in a step and use its .stdout",
    "random": "there is no randomness: the same evaluation must always give the same plan",
    "requests": "call the network in a step: ctx.run(...)",
    "pathlib": "handle files in a step: ctx.run(...)",
    "typing": "annotations need no import: they are not evaluated",
}
_MAGIC: Final = frozenset({"__enter__", "__exit__", "__len__", "__iter__", "__bool__", "__call__"})
_RESERVED: Final = frozenset({"print", "printed", "builtins", "breakpoint"})


class Policy(RestrictingNodeTransformer):  # type: ignore[misc] # the package has no types
    """One file's pass; ``problems`` is what is wrong with it."""

    def __init__(self, file: str, tree: ast.Module) -> None:
        """Prepare for *tree* of *file*."""
        super().__init__([], [], {})
        self.file = file
        self.problems: list[Problem] = []
        self.stored = _stored_names(tree)
        self.classes = 0
        self.undefined: set[str] = set()
        self.imports: list[str] = []

    # ── errors ───────────────────────────────────────────────────────────────────────────────────

    def problem(self, node: ast.AST, code: Code, message: str, remedy: str) -> None:
        """Note one error with the place of *node*."""
        line = getattr(node, "lineno", 1)
        column = characters(self.file, line, getattr(node, "col_offset", 0))
        end = getattr(node, "end_col_offset", None)
        same_line = getattr(node, "end_lineno", None) == line
        place = Place(
            self.file,
            line,
            column,
            characters(self.file, line, end) if same_line and end is not None else None,
        )
        found = Problem(code, message, remedy=remedy, place=place)
        if all((p.code, p.place) != (code, place) for p in self.problems):
            self.problems.append(found)

    def error(self, node: ast.AST, info: str) -> None:
        """Note an error that the stock policy found."""
        if "starts with" in info or "__roles__" in info:
            name = info.split('"')[1]
            self.problem(
                node,
                Code.UNDERSCORE,
                f"`{name}` starts with an underscore, which is reserved",
                f"call it `{name.strip('_') or 'name'}`",
            )
        elif "restricted name" in info:
            self._inspection(node, info.split('"')[1])
        elif "reserved name" in info:
            name = info.split('"')[1]
            self.problem(
                node, Code.FORBIDDEN_NAME, f"`{name}` cannot be redefined", "choose another name"
            )
        elif "metaclass" in info:
            self.problem(node, Code.METACLASS, "metaclasses are not supported", "remove it")
        else:
            self.problem(node, Code.FORBIDDEN_SYNTAX, info.rstrip("."), "write it another way")

    def warn(self, node: ast.AST, info: str) -> None:
        """Ignore the stock policy's warnings: they are about its own print."""

    def not_allowed(self, node: ast.AST) -> None:
        """Refuse a statement, and go on below it so that its errors are found too."""
        name = type(node).__name__
        self.problem(
            node,
            Code.FORBIDDEN_SYNTAX,
            f"{name} is not part of the workflow language",
            "write it another way",
        )
        self.node_contents_visit(node)

    def _inspection(self, node: ast.AST, name: str) -> None:
        self.problem(
            node,
            Code.INSPECTION,
            f"`.{name}` is out of reach",
            "workflow code cannot look into Python itself",
        )

    # ── names ────────────────────────────────────────────────────────────────────────────────────

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Check a name; ``print`` is an ordinary function here."""
        if not isinstance(node.ctx, ast.Load):
            self.check_name(node, node.id)
            return node
        name = node.id
        if name.startswith("_") and name != "_" and name not in _REFUSED_NAMES:
            self.check_name(node, name)
        elif name not in self.stored and name not in BUILTIN_NAMES and name not in FREE_NAMES:
            self._undefined(node, name)
        return node

    def _undefined(self, node: ast.Name, name: str) -> None:
        if name in _REFUSED_NAMES:
            message = f"`{name}` is not there in a workflow"
            self.problem(node, Code.FORBIDDEN_NAME, message, _REFUSED_NAMES[name])
        elif name in self.undefined:
            return
        elif name in SDK.members:
            self.problem(
                node,
                Code.UNDEFINED,
                f"`{name}` is not imported",
                f"write `from plue import {name}` at the top",
            )
        elif name in FACADES or name in _REFUSED_MODULES:
            remedy = _REFUSED_MODULES.get(name, f"write `import {name}`")
            self.problem(node, Code.UNDEFINED, f"`{name}` is not defined", remedy)
        else:
            known = [*self.stored, *BUILTIN_NAMES, *FREE_NAMES]
            near = did_you_mean(name, known)
            self.problem(
                node,
                Code.UNDEFINED,
                f"`{name}` is not defined{near}",
                "define it, or correct its spelling",
            )
        self.undefined.add(name)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """Check an attribute; each is reported once."""
        if node.attr in INSPECT_ATTRIBUTES:
            self._inspection(node, node.attr)
            return self.node_contents_visit(node)
        return super().visit_Attribute(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        """Refuse keywords with an underscore, which the stock policy lets pass."""
        if node.arg is not None:
            self.check_name(node, node.arg)
        return self.node_contents_visit(node)

    # ── imports ──────────────────────────────────────────────────────────────────────────────────

    def visit_Import(self, node: ast.Import) -> ast.AST:
        """Allow ``import json`` and the other facades, nothing else."""
        for alias in node.names:
            if alias.asname:
                self.check_name(node, alias.asname)
            if alias.name == "plue" or alias.name.startswith("plue."):
                self.problem(
                    node,
                    Code.IMPORT,
                    "`plue` is imported by name",
                    "write `from plue import workflow, push, ...`",
                )
            elif alias.name.split(".")[0] in ("lib", "workflows"):
                self.problem(
                    node,
                    Code.IMPORT,
                    f"`{alias.name}` is imported by name",
                    f"write `from {alias.name} import ...`",
                )
            elif alias.name not in FACADES:
                self._refused_import(node, alias.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Allow names of ``plue`` and of the facades."""
        module = node.module or ""
        for alias in node.names:
            if alias.asname:
                self.check_name(node, alias.asname)
        head = module.split(".")[0]
        if node.level:
            self.problem(
                node,
                Code.IMPORT,
                "imports are absolute",
                "write `from lib.x import y` for .plue/lib/x.py",
            )
        elif head in ("lib", "workflows"):
            self._import_module(node, module)
        elif module == "plue.prompts":
            self._import_prompts(node)
        elif module == "plue.tools":
            self.problem(
                node,
                Code.UNSUPPORTED,
                f"`from {module} import` is not supported in this version",
                "write it into this file",
            )
        elif module != "plue" and module not in FACADES:
            self._refused_import(node, module)
        else:
            self._check_members(node, SDK.members if module == "plue" else FACADES[module].members)
        return node

    def _import_module(self, node: ast.ImportFrom, module: str) -> None:
        names = module.split(".")
        for name in names:
            self.check_name(node, name)
        if any(alias.name == "*" for alias in node.names):
            self.problem(node, Code.IMPORT, "names are imported one by one", "write the names")
        elif len(names) == 1:
            first = node.names[0].name
            self.problem(
                node,
                Code.IMPORT,
                f"`{module}` is a folder",
                f"write `from {module}.{first} import ...`",
            )
        else:
            for alias in node.names:
                self.check_name(node, alias.name)
            self.imports.append(module)

    def _import_prompts(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.problem(node, Code.IMPORT, "names are imported one by one", "write the names")
            else:
                self.check_name(node, alias.name)
                self.imports.append(f"plue.prompts.{alias.name}")

    def _check_members(self, node: ast.ImportFrom, members: Mapping[str, object]) -> None:
        for alias in node.names:
            if alias.name not in members:
                near = did_you_mean(alias.name, list(members))
                self.problem(
                    alias,
                    Code.IMPORT_NAME,
                    f"`{node.module}` has no `{alias.name}`{near}",
                    "it has: " + ", ".join(sorted(members)),
                )

    def _refused_import(self, node: ast.AST, module: str) -> None:
        self.problem(
            node,
            Code.IMPORT,
            f"`{module}` cannot be imported in a workflow",
            _REFUSED_MODULES.get(
                module.split(".", maxsplit=1)[0],
                "do it in a step: ctx.run(...) has all of the machine",
            ),
        )

    # ── text ─────────────────────────────────────────────────────────────────────────────────────

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Send an f-string to the text helper, each hole with its place."""
        pieces: list[ast.expr] = []
        before = ""
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                self._check_shell_variable(value, before)
                pieces.append(self._hole(value, node))
                before = ""
            else:
                pieces.append(value)
                before = str(value.value) if isinstance(value, ast.Constant) else ""
        call = ast.Call(ast.Name("_text_", ast.Load()), pieces, [])
        copy_locations(call, node)
        return call

    def _check_shell_variable(self, hole: ast.FormattedValue, before: str) -> None:
        inner = hole.value
        if not (before.endswith("$") and isinstance(inner, ast.Name)):
            return
        if inner.id not in self.stored and inner.id not in self.undefined:
            self.undefined.add(inner.id)
            self.problem(
                hole,
                Code.SHELL_VARIABLE,
                f"`${{{inner.id}}}` in an f-string is Python's, and `{inner.id}` is not defined",
                f"write ${inner.id}, or ${{{{{inner.id}}}}} to keep the braces",
            )

    def _hole(self, hole: ast.FormattedValue, whole: ast.JoinedStr) -> ast.expr:
        at = hole.value if _is_inside(hole.value, whole) else whole
        line = at.lineno
        column = characters(self.file, line, at.col_offset)
        end = characters(self.file, line, at.end_col_offset or 0)
        one_line = at.end_lineno == line and at is not whole
        place = (self.file, line, column, end if one_line else None)
        value = self.visit(hole.value)
        spec = self.visit(hole.format_spec) if hole.format_spec else ast.Constant(None)
        conversion = chr(hole.conversion) if hole.conversion > 0 else None
        return ast.Tuple(
            [value, ast.Constant(conversion), spec, _constant_tuple(place)], ast.Load()
        )

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Send ``%`` to the text helper."""
        node = self.node_contents_visit(node)
        if not isinstance(node.op, ast.Mod):
            return node
        call = ast.Call(ast.Name("_percent_", ast.Load()), [node.left, node.right], [])
        copy_locations(call, node)
        return call

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Let ``is`` ask for the value of references."""
        identity = [isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops]
        if len(identity) > 1 and any(identity):
            self.problem(
                node,
                Code.FORBIDDEN_SYNTAX,
                "`is` in a chain of comparisons",
                "write two comparisons with `and`",
            )
        node = self.node_contents_visit(node)
        if identity != [True]:
            return node
        call: ast.expr = ast.Call(
            ast.Name("_is_", ast.Load()), [node.left, node.comparators[0]], []
        )
        if isinstance(node.ops[0], ast.IsNot):
            call = ast.UnaryOp(ast.Not(), call)
        copy_locations(call, node)
        return call

    # ── sets ─────────────────────────────────────────────────────────────────────────────────────

    def visit_Set(self, node: ast.Set) -> ast.AST:
        """Keep a set display in order."""
        node = self.node_contents_visit(node)
        return self._ordered(node, ast.List(node.elts, ast.Load()))

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        """Keep a set comprehension in order."""
        node = self.node_contents_visit(node)
        return self._ordered(node, ast.ListComp(node.elt, node.generators))

    def _ordered(self, node: ast.expr, items: ast.expr) -> ast.AST:
        call = ast.Call(ast.Name("_set_", ast.Load()), [items], [])
        ast.copy_location(items, node)
        copy_locations(call, node)
        return call

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    def visit_Call(self, node: ast.Call) -> Any:
        """Make functions of the elements of ``ctx.parallel``."""
        if isinstance(node.func, ast.Attribute) and node.func.attr == "parallel":
            self._branches(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("exec", "eval"):
            self.visit(node.func)
            for inner in [*node.args, *node.keywords]:
                self.visit(inner)
            return node
        if isinstance(node.func, ast.Name) and node.func.id == "int" and len(node.args) == 2:  # noqa: PLR2004 - int(text, base)
            node = self.node_contents_visit(node)
            node.func = ast.copy_location(ast.Name("_int_", ast.Load()), node.func)
            return node
        return super().visit_Call(node)

    def _branches(self, node: ast.Call) -> None:
        elements = node.args[0] if len(node.args) == 1 else None
        if isinstance(elements, ast.List) and not any(
            isinstance(item, ast.Starred) for item in elements.elts
        ):
            made: ast.expr = ast.List([self._thunk(e, []) for e in elements.elts], ast.Load())
        elif isinstance(elements, (ast.ListComp, ast.GeneratorExp)):
            names = sorted({n for g in elements.generators for n in _bound_names(g.target)})
            made = ast.ListComp(self._thunk(elements.elt, names), elements.generators)
        else:
            self.problem(
                elements or node,
                Code.PARALLEL_FORM,
                "ctx.parallel takes one list that is written inside the call",
                "write ctx.parallel([ctx.run(...), ctx.run(...)]) or a comprehension",
            )
            return
        ast.copy_location(made, elements)
        call = _Trusted(ast.Name("_branches_", ast.Load()), [made], [])
        node.args[0] = ast.copy_location(call, elements)
        ast.copy_location(call.func, elements)

    def _thunk(self, element: ast.expr, names: list[str]) -> ast.expr:
        for inner in ast.walk(element):
            if isinstance(inner, (ast.NamedExpr, ast.Yield, ast.YieldFrom)):
                self.problem(
                    inner,
                    Code.PARALLEL_FORM,
                    "an assignment or `yield` inside an element of ctx.parallel",
                    "put it before the call, or into a function",
                )
        # The names of the comprehension are bound now: the element runs when its turn comes.
        arguments = ast.arguments(
            posonlyargs=[],
            args=[ast.copy_location(ast.arg(name), element) for name in names],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[ast.copy_location(ast.Name(name, ast.Load()), element) for name in names],
        )
        return ast.copy_location(ast.Lambda(arguments, element), element)

    def visit__Trusted(self, node: ast.Call) -> ast.AST:
        """Leave the function of a call that this pass made, and visit what it is given."""
        node.args = [self.visit(argument) for argument in node.args]
        call = ast.Call(node.func, node.args, [])
        return ast.copy_location(call, node)

    # ── statements ───────────────────────────────────────────────────────────────────────────────

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        """Allow ``d[k] += 1`` and ``o.a += 1``."""
        operator = ast.Constant(IOPERATOR_TO_STR[type(node.op)])
        target = node.target
        if isinstance(target, ast.Name):
            return super().visit_AugAssign(node)
        if isinstance(target, ast.Subscript):
            helper, key = "_inplace_item_", self.visit(target.slice)
        else:
            self.check_name(target, target.attr)
            if target.attr in INSPECT_ATTRIBUTES:
                self._inspection(target, target.attr)
            helper, key = "_inplace_attr_", ast.Constant(target.attr)
        arguments = [self.visit(target.value), key, operator, self.visit(node.value)]
        statement = ast.Expr(ast.Call(ast.Name(helper, ast.Load()), arguments, []))
        copy_locations(statement, node)
        return statement

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """Allow annotations; only @dataclass sees them, and only their names."""
        if self.classes and isinstance(node.target, ast.Name):
            node.annotation = ast.copy_location(ast.Constant(None), node.annotation)
            return self.node_contents_visit(node)
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        assign = ast.copy_location(ast.Assign([node.target], node.value), node)
        return self.visit(assign)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        """Allow ``nonlocal``."""
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_Global(self, node: ast.Global) -> ast.AST:
        """Allow ``global``, with checked names; what modules of lib have made is frozen."""
        if is_library_file(self.file):
            self.problem(
                node,
                Code.FROZEN,
                "a module of lib cannot change its own globals",
                "give the value as an argument and return the new one",
            )
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Drop annotations, which are for editors and type checkers."""
        node.returns = None
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        for argument in [*every, arguments.vararg, arguments.kwarg]:
            if argument is not None:
                argument.annotation = None
        classes, self.classes = self.classes, 0
        visited = super().visit_FunctionDef(node)
        self.classes = classes
        return visited

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        """Allow plain classes."""
        for keyword in node.keywords:
            self.problem(
                keyword, Code.METACLASS, "a class takes no keywords here", "remove the keyword"
            )
        node.keywords = []
        self.classes += 1
        visited: Any = super().visit_ClassDef(node)
        self.classes -= 1
        copy_locations(visited, node)
        return visited

    def visit_Try(self, node: ast.Try) -> Any:
        """Let the end of a stage pass, whatever the author catches."""
        for handler in node.handlers:
            if handler.type is None:
                self.problem(
                    handler,
                    Code.BARE_EXCEPT,
                    "a bare `except:` would swallow the end of a stage",
                    "write `except Exception:`",
                )
        for statement in node.finalbody:
            self._refuse_jumps(statement, in_loop=False)
        visited = self.node_contents_visit(node)
        if visited.handlers:
            again = ast.ExceptHandler(ast.Name("_fatal_", ast.Load()), None, [ast.Raise()])
            copy_locations(again, visited.handlers[0])
            visited.handlers.insert(0, again)
        return visited

    def _refuse_jumps(self, node: ast.AST, *, in_loop: bool) -> None:
        jumps = (ast.Return,) if in_loop else (ast.Return, ast.Break, ast.Continue)
        if isinstance(node, jumps):
            word = type(node).__name__.lower()
            self.problem(
                node,
                Code.FINALLY_JUMP,
                f"`{word}` in `finally` would swallow what is being raised",
                "put it after the try statement",
            )
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            return
        inner = in_loop or isinstance(node, (ast.For, ast.While))
        for child in ast.iter_child_nodes(node):
            self._refuse_jumps(child, in_loop=inner)

    def check_name(self, node: Any, name: Any, *magic: bool, **named: bool) -> None:
        """Check a name; a class may say what `with`, `len` and loops do with its objects."""
        allowed = any(magic) or any(named.values())
        if not (allowed and name in _MAGIC):
            super().check_name(node, name, *magic, **named)

    def visit_With(self, node: ast.With) -> Any:
        """Let the end of a stage pass every ``__exit__``."""
        visited: Any = super().visit_With(node)
        for item in visited.items:
            call = ast.Call(ast.Name("_manager_", ast.Load()), [item.context_expr], [])
            copy_locations(call, item.context_expr)
            item.context_expr = call
        return visited

    def inject_print_collector(self, node: ast.AST, position: int = 0) -> None:
        """Do nothing: print is a function of ours."""

    # ── match ────────────────────────────────────────────────────────────────────────────────────

    def visit_Match(self, node: ast.Match) -> ast.AST:
        """Allow ``match`` over the plain value of its subject."""
        node = self.node_contents_visit(node)
        call = ast.Call(ast.Name("_subject_", ast.Load()), [node.subject], [])
        copy_locations(call, node.subject)
        node.subject = call
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        """Visit pattern, guard and body."""
        return self.node_contents_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        """Allow literals."""
        if any(isinstance(inner, (ast.Attribute, ast.Name)) for inner in ast.walk(node.value)):
            self._refused_pattern(node, "a dotted name in a pattern")
        return node

    def visit_MatchSingleton(self, node: ast.MatchSingleton) -> ast.AST:
        """Allow None, True and False."""
        return node

    def visit_MatchSequence(self, node: ast.MatchSequence) -> ast.AST:
        """Allow sequences."""
        return self.node_contents_visit(node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        """Allow mappings with literal keys."""
        if any(isinstance(inner, ast.Attribute) for key in node.keys for inner in ast.walk(key)):
            self._refused_pattern(node, "a dotted name in a pattern")
        self.check_name(node, node.rest)
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        return node

    def visit_MatchStar(self, node: ast.MatchStar) -> ast.AST:
        """Allow ``*rest``."""
        self.check_name(node, node.name)
        return node

    def visit_MatchAs(self, node: ast.MatchAs) -> ast.AST:
        """Allow captures."""
        self.check_name(node, node.name)
        return self.node_contents_visit(node)

    def visit_MatchOr(self, node: ast.MatchOr) -> ast.AST:
        """Allow alternatives."""
        return self.node_contents_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        """Refuse class patterns."""
        self._refused_pattern(node, "a class pattern")
        return node

    def _refused_pattern(self, node: ast.AST, what: str) -> None:
        self.problem(
            node, Code.MATCH_CLASS, f"{what} is not supported", "write `if` with isinstance or =="
        )

    # ── what stays out ───────────────────────────────────────────────────────────────────────────

    def _asynchronous(self, node: ast.AST) -> Any:
        self.problem(
            node,
            Code.ASYNC,
            "async and await are not part of the workflow language",
            "write plain functions; ctx.parallel([...]) runs steps at the same time",
        )
        return self.node_contents_visit(node)

    visit_AsyncFunctionDef = visit_Await = visit_AsyncFor = visit_AsyncWith = _asynchronous  # noqa: N815 - as above

    def visit_TryStar(self, node: ast.AST) -> Any:
        """Refuse exception groups."""
        handlers = getattr(node, "handlers", None)
        self.problem(
            handlers[0] if handlers else node,
            Code.FORBIDDEN_SYNTAX,
            "`except*` is not supported",
            "write `except Exception:`",
        )
        return self.node_contents_visit(node)

    def visit_TemplateStr(self, node: ast.AST) -> Any:
        """Refuse t-strings."""
        self.problem(
            node, Code.FORBIDDEN_SYNTAX, "t-strings are not supported", "write an f-string"
        )
        return node


class _Trusted(ast.Call):
    """A call of a helper, made by this pass."""

    _fields = ("func", "args", "keywords")


def _constant_tuple(values: tuple[str | int | None, ...]) -> ast.Tuple:
    return ast.Tuple([ast.Constant(value) for value in values], ast.Load())


def _is_inside(node: ast.expr, whole: ast.JoinedStr) -> bool:
    """Whether Python 3.11's idea of where a hole stands can be believed."""
    last = whole.end_lineno or whole.lineno
    if not whole.lineno <= node.lineno <= last:
        return False
    begin, end = (whole.lineno, whole.col_offset), (last, whole.end_col_offset or 0)
    return begin < (node.lineno, node.col_offset) < end


def _bound_names(target: ast.expr) -> list[str]:
    return [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]


def _stored_names(tree: ast.Module) -> set[str]:
    """Return every name that is bound anywhere in the file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                names.add(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.split(".")[0])
            case _:
                pass
    return names

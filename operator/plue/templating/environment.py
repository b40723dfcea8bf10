"""Jinja2 with a fence: what templates can reach, and how each operation pays for what it makes.

Jinja2's sandbox keeps Python's insides away and ranges small; this one allows by list instead of
by exception, and closes what the stock sandbox leaves open to accidents and mischief: strings
that double, widths of a billion, loops inside of loops. The compiler pass (``Fence.compile``)
sends what cannot be intercepted otherwise (loops, ``~``, slices, literal text) through filters.

Objects from JSON answer with their fields first: ``{{ order.items }}`` is the field, not the
method. A field that is not there is an error, and so is null where text is wanted.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import BuiltinMethodType
from typing import Any, Final

from jinja2 import BaseLoader, StrictUndefined, TemplateNotFound, nodes
from jinja2.environment import Template, TemplateModule
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, TemplateReference
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, missing, pass_context
from typing_extensions import override

from plue.templating.budget import Budget
from plue.templating.faults import FaultKind, TemplateFault
from plue.templating.filters import CONCAT, FILTERS, LOOP, SLICE, TESTS, text_of
from plue.templating.lines import tidied
from plue.templating.sources import SourceText, path_of

__all__ = ["METHODS", "Fence", "tree_of"]

METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: frozenset({
        "capitalize", "count", "endswith", "find", "isalnum", "isalpha", "isdecimal", "isdigit",
        "islower", "isspace", "isupper", "lower", "lstrip", "partition", "removeprefix",
        "removesuffix", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith",
        "strip", "title", "upper",
    }),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index", "grouper", "list"}),
}  # fmt: skip
_LOOP: Final = frozenset({
    "index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0",
    "previtem", "nextitem", "cycle", "changed",
})  # fmt: skip
_OURS: Final = (Macro, LoopContext, BlockReference)
_KINDS: Final[Mapping[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    dict: "an object",
    type(None): "null",
}
_MOST_BITS: Final = 4096
_MOST_RANGE: Final = 100_000


class Missing(StrictUndefined):
    """What is not there; whatever is done with it says so."""

    __slots__ = ()

    @property
    @override
    def _undefined_message(self) -> str:
        name, thing = self._undefined_name, self._undefined_obj
        if self._undefined_hint:
            return self._undefined_hint
        if thing is missing:
            return f"`{name}` is not defined"
        if isinstance(thing, dict):
            near = get_close_matches(str(name), [str(key) for key in thing], n=1)
            hint = f" — did you mean `{near[0]}`?" if near else ""
            return f"there is no field `{name}`{hint}"
        if isinstance(thing, (list, tuple)):
            return f"the list has no item {name}"
        return f"{_kind_of(thing)} has no `.{name}`"


def _kind_of(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


@pass_context
def _shown(context: Context, value: object) -> str:
    environment = context.environment
    assert isinstance(environment, Fence)  # noqa: S101 - for the type checker
    return text_of(value, environment.budget)


class Fence(ImmutableSandboxedEnvironment):
    """The environment of one rendering; ``budget`` is what that may still spend."""

    intercepted_binops = frozenset({"+", "*", "**", "%", "-", "/", "//"})

    def __init__(self, sources: Mapping[str, SourceText]) -> None:
        """Serve templates from *sources*: the path in the repository → the file's body."""
        super().__init__(
            undefined=Missing,
            finalize=_shown,
            loader=_Loader(sources),
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            autoescape=False,
            keep_trailing_newline=True,
            cache_size=-1,
            auto_reload=False,
        )
        self.budget = Budget()
        self.policies["truncate.leeway"] = 0
        self.filters = dict(FILTERS)
        self.tests = dict(TESTS)
        self.globals.clear()
        self.globals.update({"range": self._range, "namespace": Namespace})

    @override
    def join_path(self, template: str, parent: str) -> str:
        """Return the path of the file that *parent* names *template*."""
        return template if template in self._sources else path_of(template, parent)

    @property
    def _sources(self) -> Mapping[str, SourceText]:
        assert isinstance(self.loader, _Loader)  # noqa: S101 - for the type checker
        return self.loader.sources

    def _range(self, *ends: object) -> range:
        numbers = [end for end in ends if isinstance(end, int)]
        found = range(*numbers) if len(numbers) == len(ends) else range(0)
        if len(numbers) != len(ends):
            raise TemplateFault(FaultKind.VALUE, "range takes numbers", remedy="write value|int")
        if len(found) > _MOST_RANGE:
            raise TemplateFault(
                FaultKind.LIMIT,
                f"range gives {len(found):,} numbers",
                remedy=f"{_MOST_RANGE:,} are allowed",
            )
        return found

    # ── what can be reached ──────────────────────────────────────────────────────────────────────

    @override
    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a field, an item or an allowed method; nothing of Python's insides."""
        if isinstance(obj, (dict, TemplateReference)):
            try:
                return obj[attribute]
            except KeyError:
                pass
        if self._allows(obj, attribute):
            found = getattr(obj, attribute, missing)
            if found is not missing:
                return found
        elif not isinstance(obj, (dict, list, tuple, StrictUndefined)) and hasattr(obj, attribute):
            raise TemplateFault(
                FaultKind.FORBIDDEN,
                f"`.{attribute}` of {_kind_of(obj)} is out of reach for a template",
                remedy=_instead(obj, attribute),
                word=attribute,
            )
        if isinstance(obj, StrictUndefined):
            return getattr(obj, "plue")  # noqa: B009 - raises, and says what is not there
        return self.undefined(obj=obj, name=attribute)

    @override
    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item; a name in brackets reaches what a dot reaches."""
        if isinstance(obj, (dict, list, tuple, str)):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self.getattr(obj, argument)
        if isinstance(obj, StrictUndefined):
            return obj[argument]
        return self.undefined(obj=obj, name=argument)

    @staticmethod
    def _allows(obj: object, attribute: str) -> bool:
        if attribute.startswith("_"):
            return False
        for kind, names in METHODS.items():
            if isinstance(obj, kind):
                return attribute in names
        if isinstance(obj, LoopContext):
            return attribute in _LOOP
        return isinstance(obj, (Namespace, TemplateModule))

    @override
    def is_safe_callable(self, obj: Any) -> bool:
        """Whether *obj* is a macro, a block, or a function that templates are given."""
        if isinstance(obj, _OURS) or obj in (Namespace, self.globals["range"]):
            return True
        owner = getattr(obj, "__self__", None)
        if isinstance(obj, BuiltinMethodType):
            return self._allows(owner, obj.__name__)
        return isinstance(owner, LoopContext) and obj.__name__ in _LOOP

    @override
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 - an author's keyword may be `self`
        """Call what may be called; the text that it gives is paid for."""
        if isinstance(__obj, StrictUndefined):
            return __obj()
        if not __self.is_safe_callable(__obj):
            raise TemplateFault(
                FaultKind.FORBIDDEN,
                f"{_kind_of(__obj)} cannot be called",
                remedy="call macros, blocks and the methods of text and lists",
            )
        __self.budget.tick()
        found = __context.call(__obj, *args, **kwargs)
        if isinstance(found, (str, list, tuple, dict)):
            __self.budget.make(len(found))
        return found

    # ── operators ────────────────────────────────────────────────────────────────────────────────

    @override
    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate; what would be huge is refused before it is made."""
        for side in (left, right):
            if isinstance(side, StrictUndefined):
                str(side)
        if operator in ("+", "*"):
            self._grow(operator, left, right)
        elif operator == "%" and isinstance(left, str):
            raise TemplateFault(
                FaultKind.FORBIDDEN,
                "`%` does not format text in a template",
                remedy="join it with ~, or write the values where they belong",
            )
        if _is_whole(left) and _is_whole(right):
            wide = left.bit_length() + right.bit_length()
            if operator == "**":
                wide = left.bit_length() * abs(right)
            if wide > _MOST_BITS:
                raise TemplateFault(
                    FaultKind.LIMIT, "the number is too large", remedy="calculate in a step"
                )
        return super().call_binop(context, operator, left, right)

    def _grow(self, operator: str, left: object, right: object) -> None:
        if operator == "+" and isinstance(left, str) and not isinstance(right, str):
            raise TemplateFault(
                FaultKind.VALUE,
                f"text + {_kind_of(right)}",
                remedy="join text with ~, which takes any value",
            )
        sizes = [len(side) for side in (left, right) if isinstance(side, (str, list, tuple))]
        if operator == "+":
            self.budget.make(sum(sizes))
        elif sizes:
            times = left if isinstance(left, int) else right
            self.budget.items(sizes[0] * times if isinstance(times, int) and times > 0 else 0)

    # ── compiling ────────────────────────────────────────────────────────────────────────────────

    def tree(self, path: str, source: SourceText) -> nodes.Template:
        """Return a file's parsed body, as it was written."""
        return tree_of(self, path, source)

    def code(self, path: str, source: SourceText) -> Any:
        """Return a file's compiled body, with every operation behind the fence."""
        tree = self.tree(path, source)
        _fence(tree)
        tree.set_environment(self)
        return self.compile(tree, path, path)


def tree_of(environment: Fence, path: str, source: SourceText) -> nodes.Template:
    """Parse a body; ``extends`` of its front matter comes first. Raises TemplateSyntaxError."""
    text = tidied(source.text)
    tree = environment._parse(text, path, path)  # noqa: SLF001 - `parse` rewrites the traceback
    if source.extends is not None:
        extends = nodes.Extends(nodes.Const(source.extends), lineno=1)
        tree.body.insert(0, extends)
        tree.set_environment(environment)
    return tree


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _instead(obj: object, attribute: str) -> str:
    if isinstance(obj, str) and attribute in ("format", "format_map", "join", "replace", "center"):
        filters = {"join": "list|join(', ')", "replace": "text|replace('a', 'b')"}
        return f"write {filters.get(attribute, '~ to join text')}"
    return "templates reach the fields of their inputs, and a few methods of text and lists"


def _fence(tree: nodes.Template) -> None:
    """Send loops, ``~``, slices and literal text through our filters, in place."""
    for node in list(_walk(tree)):
        if isinstance(node, nodes.Output):
            node.nodes = [
                nodes.Const(child.data, lineno=child.lineno)
                if isinstance(child, nodes.TemplateData)
                else child
                for child in node.nodes
            ]
        for name, value in node.iter_fields():
            if isinstance(value, nodes.Expr):
                setattr(node, name, _replaced(value))
            elif isinstance(value, list):
                value[:] = [_replaced(v) if isinstance(v, nodes.Expr) else v for v in value]
        if isinstance(node, nodes.For):
            node.iter = _filter(LOOP, node.iter)


def _replaced(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.Concat):
        return _filter(CONCAT, nodes.List(node.nodes, lineno=node.lineno))
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        ends = [end or nodes.Const(None, lineno=node.lineno)
                for end in (node.arg.start, node.arg.stop, node.arg.step)]  # fmt: skip
        return _filter(SLICE, node.node, ends)
    return node


def _filter(name: str, node: nodes.Node, args: Iterable[nodes.Expr] = ()) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _walk(node: nodes.Node) -> Iterable[nodes.Node]:
    for child in node.iter_child_nodes():
        yield from _walk(child)
    yield node


class _Loader(BaseLoader):
    """Loads what the prompt is made of, and nothing else."""

    def __init__(self, sources: Mapping[str, SourceText]) -> None:
        self.sources = sources

    @override
    def load(self, environment: Any, name: str, globals: Any = None) -> Template:
        """Return the compiled template."""
        source = self.sources.get(name)
        if source is None:
            raise TemplateNotFound(name)
        code = environment.code(name, source)
        return Template.from_code(environment, code, globals or {}, None)

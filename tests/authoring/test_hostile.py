"""Hostile files: each ends within its limits as an error, reaches nothing, and harms no other.

The published escapes of RestrictedPython are here by name; the sandbox must not depend on that
package alone, so what its policy lets pass is stopped by the guards, and what passes those by the
kernel.
"""

import time

import pytest
from authoring.sandboxed import Sandbox, workflow_of

SIMPLE = workflow_of('ctx.run("a", "true")')

ESCAPES = [
    pytest.param("format_map = '{0.__class__.__mro__}'.format(1)", id="format-dunder"),
    pytest.param("'{0.__class__}'.format_map({'0': 1})", id="format-map-dunder"),
    pytest.param("str.format('{0.__class__}', 1)", id="cve-2023-41039-str-format"),
    pytest.param("str.format_map('{x.__class__}', {'x': 1})", id="cve-2023-41039-format-map"),
    pytest.param("getattr(str, 'format')('{0.__init__.__globals__}', ctx)", id="getattr-format"),
    pytest.param("'{0[__class__]}'.format(ctx)", id="format-item"),
    pytest.param("x = (i for i in [1])\nx.gi_frame", id="cve-2023-37271-gi-frame"),
    pytest.param("getattr((i for i in [1]), 'gi_frame')", id="cve-2023-37271-by-getattr"),
    pytest.param("'{0.gi_frame.f_back}'.format(i for i in [1])", id="frame-by-format"),
    pytest.param("getattr((i for i in [1]), 'gi_code')", id="gi-code"),
    pytest.param("def g():\n    yield 1\ng().throw(Exception)", id="generator-throw"),
    pytest.param("try:\n    1/0\nexcept* ZeroDivisionError as e:\n    pass", id="cve-2025-22153-except-star"),
    pytest.param("import string\nstring.Formatter().format('{0.__class__}', 1)", id="cve-2024-47532-string"),
    pytest.param("from string import Formatter", id="string-formatter-2026"),
    pytest.param("def f(_getattr_, /):\n    return _getattr_", id="posonly-argument-2026"),
    pytest.param("(lambda _getattr_, /: 1)(2)", id="posonly-argument-of-a-lambda"),
    pytest.param("lambda *, _write_: 1", id="keyword-only-argument"),
    pytest.param("def f(**_getiter_):\n    pass", id="double-star-argument"),
    pytest.param("match 1:\n    case _getattr_:\n        pass", id="capture-shadows-a-guard"),
    pytest.param("match {'a': 1}:\n    case {**_write_}:\n        pass", id="mapping-capture"),
    pytest.param("match [1]:\n    case [*_getiter_]:\n        pass", id="star-capture"),
    pytest.param("(_getattr_ := 1)", id="walrus-shadows-a-guard"),
    pytest.param("from plue import workflow as _getattr_", id="import-shadows-a-guard"),
    pytest.param("for _getattr_ in [1]:\n    pass", id="loop-shadows-a-guard"),
    pytest.param("try:\n    1/0\nexcept Exception as _getattr_:\n    pass", id="handler-shadows-a-guard"),
    pytest.param("global _getattr_\n_getattr_ = 1", id="global-shadows-a-guard"),
    pytest.param("class __metaclass__:\n    pass", id="class-shadows-the-metaclass"),
    pytest.param("ctx.__class__.__init__.__globals__", id="dunder-chain"),
    pytest.param("getattr(ctx, '__class__')", id="getattr-dunder"),
    pytest.param("getattr(ctx, '_book')", id="getattr-private"),
    pytest.param("getattr(getattr, '__self__')", id="getattr-of-a-builtin"),
    pytest.param("hasattr(ctx, '__class__') and 1/0", id="hasattr-dunder"),
    pytest.param("ctx.run.func_globals", id="function-attributes"),
    pytest.param("(lambda: 1).func_code", id="lambda-attributes"),
    pytest.param("Exception.mro()", id="mro"),
    pytest.param("class E(Exception):\n    pass\nE.mro()", id="mro-of-own-class"),
    pytest.param("class E(Exception):\n    pass\nE().with_traceback(None)", id="with-traceback"),
    pytest.param("try:\n    ctx.inputs.x.y\nexcept Exception as e:\n    e.obj", id="error-object"),
    pytest.param("type(1)", id="type"),
    pytest.param("object()", id="object"),
    pytest.param("__import__('os').system('id')", id="import-function"),
    pytest.param("__builtins__['open']('/etc/passwd')", id="builtins"),
    pytest.param("globals()['__builtins__']", id="globals"),
    pytest.param("vars(ctx)", id="vars"),
    pytest.param("dir(ctx)", id="dir"),
    pytest.param("open('/etc/passwd').read()", id="open"),
    pytest.param("import os\nos.system('id')", id="os"),
    pytest.param("from json import decoder", id="module-inside-a-facade"),
    pytest.param("json.decoder.scanner", id="attribute-of-a-facade"),
    pytest.param("json.codecs.open('/etc/passwd')", id="module-of-a-module"),
    pytest.param("re.sre_compile", id="module-of-re"),
    pytest.param("re.compile('x').pattern.__class__", id="pattern"),
    pytest.param("math.__loader__", id="loader"),
    pytest.param("itertools.chain.from_iterable.__self__", id="itertools"),
    pytest.param("setattr(ctx, 'run', 1)", id="setattr"),
    pytest.param("ctx.run = 1", id="write-to-ctx"),
    pytest.param("ctx.run.x = 1", id="write-to-a-method"),
    pytest.param("json.loads = 1", id="write-to-a-facade"),
    pytest.param("str.join = 1", id="write-to-a-type"),
    pytest.param("workflow.x = 1", id="write-to-the-sdk"),
    pytest.param("class A:\n    __slots__ = ()", id="class-dunder"),
    pytest.param("class A:\n    def __del__(self):\n        pass", id="del-method"),
    pytest.param("class A:\n    def __getattr__(self, n):\n        pass", id="getattr-method"),
    pytest.param("class A(metaclass=print):\n    pass", id="metaclass"),
    pytest.param("compile('1', 'x', 'eval')", id="compile"),
    pytest.param("exec('import os')", id="exec"),
    pytest.param("breakpoint()", id="breakpoint"),
    pytest.param("print('x', file=ctx)", id="print-file"),
    pytest.param("'%s' % ctx.__dict__", id="dict"),
    pytest.param("f'{ctx.__class__}'", id="f-string-dunder"),
    pytest.param("f'{ctx!r:{ctx.__class__}}'", id="nested-specification"),
    pytest.param("[].__class__.__base__.__subclasses__()", id="subclasses"),
    pytest.param("async def f():\n    pass\nf().cr_frame", id="coroutine-frame"),
    pytest.param("dict(_getattr_=1)", id="keyword-with-underscore"),
    pytest.param("dataclass(type('x', (), {}))", id="type-by-three"),
    pytest.param("from dataclasses import make_dataclass", id="make-dataclass"),
    pytest.param("property(print).fget", id="descriptor"),
    pytest.param("b''.decode.__self__", id="bytes"),
    pytest.param("@workflow\ndef other(c):\n    pass\nother.function.__globals__", id="workflow-object"),
]  # fmt: skip


@pytest.mark.parametrize("code", ESCAPES)
def test_escape_is_an_error(sandbox: Sandbox, code: str) -> None:
    """It ends as a diagnostic in the author's file, and the next evaluation works."""
    planned = sandbox.plan(workflow_of(code))
    assert planned.plan is None
    assert planned.diagnostics
    assert {d.file for d in planned.diagnostics} == {".plue/workflows/ci.py"}
    assert not {d.code for d in planned.diagnostics} & {"PLU606", "PLU001"}
    assert sandbox.plan(SIMPLE).plan is not None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("f'{(i for i in [1])!r}'", "<genexpr>", id="generator"),
        pytest.param("repr(ctx.run)", "<run>", id="method"),
        pytest.param("f'{[print, len]}'", "[<print>, <len>]", id="functions"),
        pytest.param("class A:\n    pass\nx = f'{A()} {A}'", "<A> <class A>", id="objects"),
        pytest.param("str(Exception('a', 1))", "('a', 1)", id="exception"),
    ],
)
def test_nothing_shows_an_address(sandbox: Sandbox, code: str, expected: str) -> None:
    """What is shown of an object is the same each time, and nothing of its inside (7)."""
    body = code if "x = " in code else f"x = {code}"
    planned = sandbox.plan(workflow_of(body + "\nprint(x, end='')"))
    assert expected == planned.printed


BOMBS = [
    pytest.param("while True:\n    pass", "PLU602", id="endless-loop"),
    pytest.param("for i in itertools.count():\n    x = i", "PLU602", id="endless-iterator"),
    pytest.param("x = 10 ** 10 ** 8", "PLU602", id="huge-power-in-c"),
    pytest.param("re.match('(a+)+$', 'a' * 40 + 'b')", "PLU602", id="catastrophic-pattern"),
    pytest.param("while True:\n    try:\n        while True:\n            pass\n    finally:\n        pass",
                 "PLU602", id="loop-around-the-interrupt"),
    pytest.param(
        "try:\n    while True:\n        pass\nfinally:\n    while True:\n        pass",
        "PLU602",
        id="loop-after-the-interrupt",
    ),
    pytest.param("sorted(range(10**9))", "PLU603", id="memory-in-c"),
    pytest.param("x = 'a' * 10**10", "PLU603", id="memory-bomb"),
    pytest.param("x = []\nwhile True:\n    x.append('a' * 10**6 + str(len(x)))", "PLU603", id="slow-memory"),
    pytest.param("x = [0]\nwhile True:\n    x = x + x", "PLU603", id="doubling"),
    pytest.param("json.loads('[' * 10**6)", "PLU604", id="deep-json"),
    pytest.param("def f(n):\n    return f(n + 1)\nf(0)", "PLU604", id="recursion"),
    pytest.param("x = []\nfor i in range(10**5):\n    x = [x]\nctx.success(x=x)", "PLU604", id="deep-output"),
    pytest.param("x = []\nx.append(x)\njson.dumps(x)", "PLU604", id="cycle"),
    pytest.param("ctx.success(x=['y' * 10**6] * 8)", "PLU605", id="large-result"),
    pytest.param("class C:\n    def __eq__(self, o):\n        return self == o\nC() == 1", "PLU604", id="eq-recursion"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), BOMBS)
def test_bomb_ends_within_its_limits(impatient: Sandbox, code: str, expected: str) -> None:
    """Time and memory end with a clear code; an evaluation right after it works."""
    before = time.monotonic()
    found = impatient.problems(code)
    assert time.monotonic() - before < 4
    assert [expected] == [d.code for d in found], found
    assert impatient.plan(SIMPLE).plan is not None


def test_output_is_cut(sandbox: Sandbox) -> None:
    """What is printed has an end."""
    planned = sandbox.plan(workflow_of("for i in range(10**5):\n    print('x' * 100)"))
    assert planned.plan is not None
    assert len(planned.printed) == 64 * 1024


def test_printing_references_is_no_bomb(sandbox: Sandbox) -> None:
    """A deep list is shown to a depth."""
    planned = sandbox.plan(
        workflow_of("x = []\nfor i in range(10**4):\n    x = [x]\nprint(f'{x}')")
    )
    assert planned.plan is not None
    assert "…" in planned.printed

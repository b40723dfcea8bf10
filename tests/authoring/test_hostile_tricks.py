"""More hostile files: tricks with Python's own machinery, with text, and with time and memory.

Beside ``test_hostile``, which has the published escapes: what an author of an attack would try
next. What is harmless stays possible, and is here too, so that nobody forbids it in passing.
"""

import time

import pytest
from authoring.sandboxed import FILE, Sandbox, workflow_of

SIMPLE = workflow_of('ctx.run("a", "true")')

TRICKS = [
    pytest.param("class A:\n    def __enter__(self):\n        return self\n    def __exit__(self, t, e, tb):\n        print(tb.tb_frame)\n        return True\nwith A():\n    1/0", id="exit-traceback"),
    pytest.param("class A:\n    def __enter__(self):\n        return self\n    def __exit__(self, t, e, tb):\n        print(getattr(tb, 'tb_' + 'next', 'none'), repr(tb), t, [e])\n        return True\nwith A():\n    1/0", id="exit-traceback-getattr"),
    pytest.param("@getattr\ndef f():\n    pass", id="decorator-getattr"),
    pytest.param("class D:\n    def __get__(self, o, t):\n        return t\nclass A:\n    d = D()\nA().d", id="descriptor"),
    pytest.param("class D:\n    def __set_name__(self, o, n):\n        print(o)\nclass A:\n    d = D()", id="set-name"),
    pytest.param("class A:\n    def __getattribute__(self, n):\n        return n", id="getattribute"),
    pytest.param("class A:\n    def __init_subclass__(cls):\n        print(cls)\nclass B(A):\n    pass", id="init-subclass"),
    pytest.param("class A:\n    def __class_getitem__(cls, i):\n        return cls\nA[1]", id="class-getitem"),
    pytest.param("class A:\n    def __prepare__(self):\n        pass", id="prepare"),
    pytest.param("class A:\n    def __new__(cls):\n        return 1\nA()", id="new"),
    pytest.param("class A:\n    def __reduce__(self):\n        return (print, ())", id="reduce"),
    pytest.param("try:\n    try:\n        1/0\n    finally:\n        [][1]\nexcept Exception as e:\n    e.__context__", id="context"),
    pytest.param("try:\n    raise ValueError() from KeyError()\nexcept ValueError as e:\n    e.__cause__.__traceback__", id="cause"),
    pytest.param("try:\n    1/0\nexcept Exception as e:\n    e.add_note('x')", id="add_note"),
    pytest.param("try:\n    1/0\nexcept Exception as e:\n    e.args = (1,)", id="setargs"),
    pytest.param("try:\n    ctx.inputs['zz']\nexcept Exception as e:\n    print(e.args, e.name)", id="nameerror-name"),
    pytest.param("try:\n    next(iter([]))\nexcept StopIteration as e:\n    e.value", id="stopiteration-value"),
    pytest.param("сtx.run('a', 'b')", id="lookalike"),
    pytest.param("ctx.__ｃlass__", id="nfkc-dunder"),
    pytest.param("ｏpen('x')", id="nfkc-name"),
    pytest.param("getattr(ctx, '__ｃlass__')", id="nfkc-getattr"),
    pytest.param("_＿getattr = 1", id="nfkc-under"),
    pytest.param("x = ctx.ıd", id="dotless"),
    pytest.param("ctx.run('a\\ud800', 'b')", id="surrogate-name"),
    pytest.param("ctx.run('a', 'echo \\0')", id="nul-cmd"),
    pytest.param("ctx.run('a', 'true', env={'X': 'a\\0b'})", id="nul-env"),
    pytest.param("ctx.run('a', ['echo', 'a\\0'])", id="nul-word"),
    pytest.param("ctx.success(x=float('inf'))", id="inf-out"),
    pytest.param("ctx.run('a','b', cwd='a\\0b')", id="nul-cwd"),
    pytest.param("ctx.run('a','b',timeout=float('nan'))", id="nan-timeout"),
    pytest.param("ctx.run('a','b',timeout=float('inf'))", id="inf-timeout"),
    pytest.param("ctx.run('a','b',timeout=10**30)", id="huge-timeout"),
    pytest.param("ctx.run('a','b',timeout=10**400)", id="timeout-beyond-floats"),
    pytest.param("ctx.run('a','b',timeout='99999999999h')", id="timeout-in-hours"),
    pytest.param("ctx.run('a','b',timeout=-1)", id="neg-timeout"),
    pytest.param("ctx.run('a','b',retry=10**30)", id="huge-retry"),
    pytest.param("ctx.run('../../etc/passwd','b')", id="name-path"),
    pytest.param("ctx.run('a\\x1b[2J','b')", id="name-ansi"),
    pytest.param("ctx.run('a\\nb','b')", id="name-newline"),
    pytest.param("ctx.run('a'*101,'b')", id="name-long"),
    pytest.param("for i in range(10**5):\n    ctx.run(f's{i}', 'x')", id="many-steps"),
    pytest.param("ctx.run('a', 'x' * 10**7)", id="big-cmd"),
    pytest.param("ctx.run('a', 'b', **{'_book': 1})", id="kwargs-private"),
    pytest.param("class D(dict):\n    def items(self):\n        return 5\n    def get(self, *a):\n        return 1/0\nctx.run('a','b', env=D(x='1'))", id="dict-subclass"),
    pytest.param("class I(int):\n    def __str__(self):\n        return 'x'\n    def __format__(self, s):\n        return 'y'\n    def __index__(self):\n        return 1/0\nctx.run('a', f'echo {I(5)} {I(5):03}', retry=I(1))\nctx.success(x=I(3))", id="int-subclass"),
    pytest.param("class T(tuple):\n    def __iter__(self):\n        return iter(['a'])\nctx.run('a','b', depends_on=T(['x']))", id="tuple-subclass"),
    pytest.param('class F(float):\n    def __repr__(self):\n        return \'"; rm -rf /\'\nctx.run(\'a\', f\'echo {F(1)}\')', id="float-subclass"),
    pytest.param("class E(Exception):\n    args = 5\nraise E()", id="exception-args"),
    pytest.param("class E(Exception):\n    def __str__(self):\n        while True:\n            pass\nraise E('x')", id="exception-str"),
    pytest.param("class A:\n    x = property(lambda self: self)\nA.x.fget", id="property-secret"),
    pytest.param("staticmethod(print).__func__", id="staticmethod-func"),
    pytest.param("map(print, [1]).__reduce__()", id="map-reduce"),
    pytest.param("iter([1]).__reduce__", id="iter-reduce"),
    pytest.param("class B:\n    def __hash__(self):\n        while True:\n            pass\nd = {B(): 1}", id="hash-loop"),
    pytest.param("class B:\n    def __len__(self):\n        return 10**30\nlen(B())", id="len-neg"),
    pytest.param("class B:\n    def __iter__(self):\n        return iter([1])\n    def __length_hint__(self):\n        return 10**15\nlist(B())", id="length-hint"),
    pytest.param("def g():\n    yield ctx.run('a','b')\nlist(g())", id="gen-step"),
    pytest.param("f = lambda x=ctx: x\nf.__defaults__", id="lambda-default"),
    pytest.param("from plue import *", id="star-import"),
    pytest.param("from . import x", id="relative"),
    pytest.param("import json as __builtins__", id="import-as"),
    pytest.param("del ctx\nctx.run('a','b')", id="del-ctx"),
    pytest.param("print = None", id="override-print"),
    pytest.param("frozenset([[]])", id="frozenset-hash"),
    pytest.param("slice(1).indices(5)", id="slice-obj"),
    pytest.param("len(range(10**30))", id="range-len"),
    pytest.param("@dataclass(slots=True)\nclass A:\n    a: int = 0\nA().b", id="dataclass-slots"),
    pytest.param("from dataclasses import field\n@dataclass\nclass A:\n    a: list = field(default_factory=print)\nA().a.append", id="field-factory"),
    pytest.param("class A:\n    def f(self):\n        return super().f()\nA().f()", id="super"),
    pytest.param("class A:\n    def f(self):\n        return __class__\nA().f()", id="class-cell"),
    pytest.param("__name__", id="name"),
    pytest.param("__file__", id="file"),
    pytest.param("__annotations__", id="annotations"),
    pytest.param("__metaclass__('x', (), {})", id="metaclass-name"),
    pytest.param("__build_class__(print, 'x')", id="build-class"),
    pytest.param("(1j).real", id="complex"),
    pytest.param("with ctx:\n    pass", id="with-ctx"),
    pytest.param("list(ctx)", id="iter-ctx"),
    pytest.param("print(*ctx)", id="star-ctx"),
    pytest.param("a, b = ctx", id="unpack-ctx"),
    pytest.param("dict(**ctx)", id="dstar-ctx"),
    pytest.param("del ctx.run", id="del-attr"),
    pytest.param("del ctx.inputs['x']", id="del-item"),
    pytest.param("ctx.event.payload['x'] = 1", id="event-mutate"),
    pytest.param("ctx.run.kill(1, 9)", id="kill"),
    pytest.param("'a'.encode('idna'), 'a'.encode('rot13')", id="encode-codec"),
    pytest.param("'a'.encode('unicode_escape').decode('zlib')", id="encode-file"),
    pytest.param("b'a'.decode('../../etc/passwd')", id="decode-codec"),
    pytest.param("str(10**5000)", id="int-str"),
    pytest.param("int('9'*10**6)", id="int-digits"),
    pytest.param("'\\t'.expandtabs(10**10)", id="expandtabs"),
]  # fmt: skip

BOMBS = [
    pytest.param("class B:\n    def __bool__(self):\n        while True:\n            pass\nif B():\n    pass", "PLU602", id="bool-loop"),
    pytest.param("sum(range(10**12))", "PLU602", id="sum-range"),
    pytest.param("math.factorial(10**8)", "PLU603", id="factorial"),
    pytest.param("re.sub('(a|aa)+$', '', 'a' * 60 + 'b')", "PLU602", id="re-cat"),
    pytest.param("list(itertools.product(range(10), repeat=12))", "PLU603", id="product"),
    pytest.param("math.isqrt(10**4000000)", "PLU603", id="isqrt"),
    pytest.param("x = [1]\nfor i in x:\n    x.append(i)", "PLU603", id="cycle-set"),
    pytest.param("sorted(range(10**7), key=lambda x: [i for i in range(10**6)])", "PLU603", id="sorted-key"),
    pytest.param("'1'.zfill(10**10)", "PLU603", id="zfill"),
    pytest.param("f'{1:>{10**10}}'", "PLU603", id="format-width"),
    pytest.param("'%10000000000d' % 1", "PLU603", id="percent-width"),
    pytest.param("('a'*10**6).replace('a', 'b'*10**6)", "PLU603", id="replace-bomb"),
    pytest.param("x = list(range(10**18))", "PLU603", id="range-huge"),
    pytest.param("b'a' * 10**10", "PLU603", id="bytes-huge"),
    pytest.param("1 << 10**12", "PLU603", id="shift"),
    pytest.param("list(itertools.count())", "PLU603", id="count-list"),
    pytest.param("d = {}\nfor i in itertools.count():\n    d[i] = 'x' * 1000", "PLU603", id="dict-grow"),
    pytest.param("raise ValueError('x' * 10**9)", "PLU603", id="exception-repr-bomb"),
    pytest.param("x = ['a' * 10**8 for i in range(100)]", "PLU603", id="strmul"),
    pytest.param("[list(g) for k, g in itertools.groupby(itertools.repeat(1))]", "PLU603", id="groupby"),
    pytest.param("k = ()\nfor i in range(10**5):\n    k = (k,)\nisinstance(1, k)", "PLU604", id="isinstance-deep"),
    pytest.param("a = []\nb = []\nfor i in range(10**5):\n    a = [a]\n    b = [b]\na == b", "PLU604", id="eq-deep"),
    pytest.param("x = []\nfor i in range(10**5):\n    x = [x]\njson.dumps(x)", "PLU604", id="json-deep-dump"),
    pytest.param("re.compile('(' * 10**5)", "PLU604", id="re-nest"),
    pytest.param("def f(n):\n    return ctx.parallel([f(n-1)]) if n else ctx.run('x','y')\nf(500)", "PLU604", id="deep-parallel"),
]  # fmt: skip

HARMLESS = [
    pytest.param("@print\nclass A:\n    pass", "<class A>\n", id="decorator"),
    pytest.param("a = []\na.append(a)\nprint(len(repr(a)))", "103\n", id="cycle-shown"),
    pytest.param("print(pow(7, 10**9, 10**400) > 0)", "True\n", id="modular-power"),
    pytest.param("def str(x):\n    return 'mine'\nprint(str(1))", "mine\n", id="own-str"),
    pytest.param("print('\\ud800\\0')", "?\0\n", id="strange-print"),
    pytest.param("class A:\n    def __call__(self):\n        return 7\nprint(A()())", "7\n", id="call"),
    pytest.param("print('{' + '0.__class__' + '}')", "{0.__class__}\n", id="only-text"),
    pytest.param("print('%(x)s' % {'x': '{0.x}'})", "{0.x}\n", id="only-values"),
]  # fmt: skip


@pytest.mark.parametrize("code", TRICKS)
def test_a_trick_is_an_error(sandbox: Sandbox, code: str) -> None:
    """It ends as a diagnostic in the author's file, and the next evaluation works."""
    planned = sandbox.plan(workflow_of(code))
    assert planned.plan is None
    assert {d.file for d in planned.diagnostics} == {FILE}
    assert not {d.code for d in planned.diagnostics} & {"PLU606", "PLU602"}
    assert sandbox.plan(SIMPLE).plan is not None


@pytest.mark.parametrize(("code", "expected"), BOMBS)
def test_a_bomb_ends_within_its_limits(impatient: Sandbox, code: str, expected: str) -> None:
    """Time, memory and depth end as such, or a slow machine's time is up before its memory is."""
    before = time.monotonic()
    found = impatient.problems(code)
    assert time.monotonic() - before < 6
    assert {d.code for d in found} <= {expected, "PLU602"}, found
    assert found
    assert impatient.plan(SIMPLE).plan is not None


@pytest.mark.parametrize(("code", "expected"), HARMLESS)
def test_what_is_harmless_is_allowed(sandbox: Sandbox, code: str, expected: str) -> None:
    """It is planned, and prints what it says."""
    planned = sandbox.plan(workflow_of(code))
    assert planned.plan is not None, planned.diagnostics
    assert expected == planned.printed


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("\0", "PLU003", id="nul"),
        pytest.param("# \ud800", "PLU003", id="surrogate"),
        pytest.param("x = '\u202ex'", "PLU003", id="bidi-in-text"),
        pytest.param("# \u2066 hidden \u2069", "PLU003", id="bidi-in-a-comment"),
        pytest.param("#" * 600_000, "PLU002", id="huge"),
        pytest.param("x = " + "(" * 10_000, "PLU001", id="parentheses"),
        pytest.param("x = " + "-" * 50_000 + "1", "PLU004", id="minus"),
        pytest.param("x = a" + ".a" * 50_000, "PLU004", id="attributes"),
        pytest.param("x = " + "1 if 1 else " * 20_000 + "1", "PLU004", id="conditions"),
        pytest.param("x = " + "9" * 10_000, "PLU001", id="digits"),
        pytest.param("x = " + "lambda: " * 30_000 + "1", "PLU004", id="lambdas"),
        pytest.param("".join(" " * n + "if 1:\n" for n in range(150)), "PLU001", id="indents"),
        pytest.param("# -*- coding: utf-7 -*-\nx = AGYAbwBv", "PLU012", id="coding-cookie"),
        pytest.param("x = f'{" + "f'{" * 5 + "1" + "}'" * 6, "PLU001", id="nested-f-strings"),
    ],
)  # fmt: skip
def test_a_hostile_text_is_an_error_of_its_file(sandbox: Sandbox, text: str, code: str) -> None:
    """It is told for this file, and the other file's workflows are there."""
    other = ".plue/workflows/other.py"
    found = sandbox.describe(files={FILE: f"{text}\n{SIMPLE}", other: SIMPLE.replace("ci", "two")})
    assert {d.code for d in found.diagnostics if d.file == FILE} >= {code}
    assert [info.name for info in found.workflows if info.file == other] == ["two"]


def test_a_result_after_the_time_was_swallowed_is_bounded(impatient: Sandbox) -> None:
    """A generator's end can swallow the interrupt once; the process's end it cannot."""
    code = (
        "def g():\n    try:\n        yield 1\n    finally:\n        while True:\n            pass\n"
        "x = g()\nnext(x)\nx = None\nwhile True:\n    pass"
    )
    assert [d.code for d in impatient.problems(code)] == ["PLU602"]
    assert impatient.plan(SIMPLE).plan is not None

"""`from lib.x import y`: absolute, acyclic, frozen, and part of the revision."""

from collections.abc import Mapping

import pytest
from authoring.sandboxed import FILE, Sandbox, workflow_of

from plue.authoring.results import Planned

HEAD = "from plue import workflow, push\n"


def project(imports: str, body: str, **lib: str) -> tuple[str, Mapping[str, str]]:
    """Return a workflow file and the modules of lib beside it; `a__b` is lib/a/b.py."""
    files = {f".plue/lib/{name.replace('__', '/')}.py": text for name, text in lib.items()}
    return f"{imports}\n{workflow_of(body)}", files


def planned(sandbox: Sandbox, imports: str, body: str, **lib: str) -> Planned:
    """Plan such a project."""
    source, files = project(imports, body, **lib)
    return sandbox.plan(source, files=files)


def names(found: Planned) -> list[str]:
    """Return the names of the steps."""
    assert found.plan is not None, found.diagnostics
    return [step.name for step in found.plan.steps]


WORKING = [
    pytest.param("from lib.x import test", 'test(ctx, "a")', "test-a", id="function"),
    pytest.param("from lib.x import test as t", 't(ctx, "a")', "test-a", id="renamed"),
    pytest.param("from lib.x import NAMES", "[ctx.run(n, 'x') for n in NAMES]", "one", id="value"),
    pytest.param("from lib.y import again", "again(ctx)", "test-y", id="through-another"),
    pytest.param("from lib.deep.z import NAME", "ctx.run(NAME, 'x')", "z", id="folder"),
    pytest.param("", 'from lib.x import test\ntest(ctx, "a")', "test-a", id="inside-a-function"),
    pytest.param("from lib.x import Package", 'Package("p").test(ctx)', "test-p", id="class"),
    pytest.param("from lib.x import test, NAMES", "test(ctx, NAMES[0])", "test-one", id="two-names"),
]  # fmt: skip

X = """
from dataclasses import dataclass
NAMES = ["one"]
def test(ctx, name):
    return ctx.run(f"test-{name}", f"make test-{name}")
@dataclass
class Package:
    name: str
    def test(self, ctx):
        return test(ctx, self.name)
"""
Y = "from lib.x import test\ndef again(ctx):\n    test(ctx, 'y')\n"


@pytest.mark.parametrize(("imports", "body", "name"), WORKING)
def test_modules_of_lib_are_imported_by_name(
    sandbox: Sandbox, imports: str, body: str, name: str
) -> None:
    """Functions, classes and values; modules of lib import others (34)."""
    assert names(planned(sandbox, imports, body, x=X, y=Y, deep__z='NAME = "z"\n')) == [name]


WRONG = [
    pytest.param("from lib.z import y", {}, FILE, 1, "PLU010", "did you mean `lib.x`?", id="no-file"),
    pytest.param("from lib.x import tset", {}, FILE, 1, "PLU011", "did you mean `test`?", id="no-name"),
    pytest.param("from lib.bad import y", {"bad": "import os\n"}, ".plue/lib/bad.py", 1, "PLU010",
                 "`os` cannot be imported", id="broken"),
    pytest.param("from lib.bad import y", {"bad": "import os\n"}, FILE, 1, "PLU026",
                 ".plue/lib/bad.py has errors", id="importer-of-a-broken-one"),
    pytest.param("from lib.bad import y", {"bad": "x = 1\ny = 1 / 0\n"}, ".plue/lib/bad.py", 2,
                 "PLU601", "ZeroDivisionError", id="raises"),
    pytest.param("from lib.a import y", {"a": "from lib.b import y\n", "b": "\nfrom lib.a import y\n"},
                 ".plue/lib/b.py", 2, "PLU027",
                 ".plue/lib/a.py → .plue/lib/b.py → .plue/lib/a.py", id="cycle"),
    pytest.param("from lib.a import y", {"a": "from lib.a import y\n"}, ".plue/lib/a.py", 1, "PLU027",
                 ".plue/lib/a.py → .plue/lib/a.py", id="itself"),
    pytest.param("from lib.a import f", {"a": "N = 0\ndef f():\n    global N\n    N += 1\n"},
                 ".plue/lib/a.py", 3, "PLU028", "return the new one", id="global"),
]  # fmt: skip


@pytest.mark.parametrize(("imports", "lib", "file", "line", "code", "said"), WRONG)
def test_wrong_imports_are_told_at_their_place(  # noqa: PLR0917 - the table's columns
    sandbox: Sandbox, imports: str, lib: dict[str, str], file: str, line: int, code: str, said: str
) -> None:
    """In the file that is wrong, and at the import that fails because of it."""
    found = planned(sandbox, imports, "pass", **{"x": X, **lib})
    assert found.plan is None
    hits = [d for d in found.diagnostics if (d.file, d.line, d.code) == (file, line, code)]
    assert len(hits) == 1, found.diagnostics
    assert said in f"{hits[0].message} {hits[0].remedy}"
    assert hits[0].source


CHANGES = [
    pytest.param("from lib.s import LIST", "LIST.append(1)", id="append"),
    pytest.param("from lib.s import LIST", "LIST[0] = 2", id="item"),
    pytest.param("from lib.s import LIST", "x = LIST\nx += [2]", id="in-place"),
    pytest.param("from lib.s import MAP", 'MAP["a"]["b"] = 2', id="nested"),
    pytest.param("from lib.s import MAP", 'MAP["a"].update(b=2)', id="update"),
    pytest.param("from lib.s import MAP", 'MAP["n"] += 2', id="augmented"),
    pytest.param("from lib.s import MAP", 'del MAP["n"]', id="delete"),
    pytest.param("from lib.s import SET", "SET.add(3)", id="set"),
    pytest.param("from lib.s import OBJECT", "OBJECT.n = 3", id="object"),
    pytest.param("from lib.s import OBJECT", "OBJECT.grow()", id="method-that-changes"),
    pytest.param("from lib.s import OBJECT", "OBJECT.items.append(1)", id="inside-an-object"),
    pytest.param("from lib.s import Thing", "Thing.shared.append(1)", id="class"),
    pytest.param("from lib.s import Thing", "Thing.n = 1", id="class-attribute"),
    pytest.param("from lib.s import remember", "remember(1)", id="default-argument"),
    pytest.param("from lib.s import counted", "counted()", id="closure"),
]  # fmt: skip

STATE = """
LIST = [1]
MAP = {"a": {"b": 1}, "n": 1}
SET = {1, 2}
class Thing:
    shared = []
    def __init__(self):
        self.n = 1
        self.items = []
    def grow(self):
        self.n += 1
OBJECT = Thing()
def remember(item, seen=[]):
    seen.append(item)
def make():
    seen = []
    def counted():
        seen.append(1)
    return counted
counted = make()
"""


@pytest.mark.parametrize(("imports", "body"), CHANGES)
def test_what_a_module_has_made_is_frozen(sandbox: Sandbox, imports: str, body: str) -> None:
    """Nobody changes it, neither the importer nor the module's own functions (34)."""
    state = STATE.replace("def __init__", "def __init__")
    (problem,) = planned(sandbox, imports, body, s=state).diagnostics
    assert problem.code == "PLU028", problem
    assert "copy" in (problem.remedy or "")


def test_what_is_made_later_is_not_frozen(sandbox: Sandbox) -> None:
    """A copy, and what a function makes, are their owner's."""
    body = """
mine = list(LIST)
mine.append("two")
thing = Thing()
thing.n += 1
thing.items.append("three")
for n in mine + thing.items:
    ctx.run(f"s-{n}", "x")
"""
    found = planned(sandbox, "from lib.s import LIST, Thing", body, s=STATE)
    assert names(found) == ["s-1", "s-two", "s-three"]


def test_errors_point_into_the_right_file(sandbox: Sandbox) -> None:
    """An exception inside of a module is told there, with the place that called it (36)."""
    lib = "def f(x):\n    return 1 / x\n"
    (problem,) = planned(sandbox, "from lib.x import f", "f(0)", x=lib).diagnostics
    assert (problem.file, problem.line, problem.code) == (".plue/lib/x.py", 2, "PLU601")
    assert problem.source == "    return 1 / x"
    assert problem.related == (FILE, 5)


def test_a_step_knows_the_file_that_recorded_it(sandbox: Sandbox) -> None:
    """Two places in two files that name one step are told with both files."""
    lib = "def f(ctx):\n    ctx.run('a', 'x')\n"
    found = planned(sandbox, "from lib.x import f", "f(ctx)\nctx.run('a', 'y')", x=lib)
    (problem,) = found.diagnostics
    assert (problem.code, problem.file, problem.line) == ("PLU302", FILE, 6)
    assert problem.related == (".plue/lib/x.py", 2)
    assert "line 2 of .plue/lib/x.py" in problem.message


def test_the_revision_covers_what_is_imported_and_nothing_else(sandbox: Sandbox) -> None:
    """A change of an imported module is another revision; of another file it is the same (34)."""
    imports, body = "from lib.y import again", "again(ctx)"
    first = planned(sandbox, imports, body, x=X, y=Y, z="A = 1\n")
    changed = planned(sandbox, imports, body, x=X + "\nB = 1\n", y=Y, z="A = 1\n")
    beside = planned(sandbox, imports, body, x=X, y=Y, z="A = 2\n")
    assert first.info is not None
    assert changed.info is not None
    assert beside.info is not None
    assert first.info.files == [".plue/lib/x.py", ".plue/lib/y.py", FILE]
    assert first.info.revision == beside.info.revision != changed.info.revision
    assert first.plan is not None
    assert first.plan.revision == first.info.revision


def test_an_import_in_a_text_is_none(sandbox: Sandbox) -> None:
    """Only what the code imports counts, whatever its texts look like."""
    found = planned(sandbox, "", 'ctx.run("a", "echo from lib.x import y")', x=X)
    assert found.info is not None
    assert found.info.files == [FILE]


def test_description_covers_modules_that_nobody_imports(sandbox: Sandbox) -> None:
    """Lint finds errors of all files, and one broken module spares the workflows without it."""
    source, files = project("from lib.bad import y", "pass", bad="import os\n", lonely="x = = 1\n")
    other = f"{HEAD}@workflow(triggers=[push()])\ndef other(ctx):\n    ctx.run('a', 'x')\n"
    found = sandbox.describe(files={FILE: source, ".plue/workflows/other.py": other, **files})
    assert [info.name for info in found.workflows] == ["other"]
    assert sorted((d.file, d.code) for d in found.diagnostics) == [
        (".plue/lib/bad.py", "PLU010"),
        (".plue/lib/lonely.py", "PLU001"),
        (FILE, "PLU026"),
    ]


def test_a_module_that_never_ends_spares_the_others(impatient: Sandbox) -> None:
    """Each workflow is then evaluated alone, with what it imports."""
    source, files = project("from lib.bad import y", "pass", bad="while True:\n    pass\n", x=X)
    good = f"from lib.x import test\n{workflow_of('test(ctx, 1)').replace('def ci', 'def good')}"
    found = impatient.describe(files={FILE: source, ".plue/workflows/good.py": good, **files})
    assert [info.name for info in found.workflows] == ["good"]
    assert {d.code for d in found.diagnostics} <= {"PLU602", "PLU026"}
    assert {d.file for d in found.diagnostics} == {FILE, ".plue/lib/bad.py"}

"""Wrong files: each has its code, its line, and a remedy that says what to write."""

import pytest
from authoring.sandboxed import Sandbox, workflow_of

IMPORTS = (
    "from plue import workflow, push, schedule, manual, enum, pull_request, optional, schema\n"
)

# name, file, code, line, a word of the message or the remedy
FILES = [
    ("syntax", "def x(:\n", "PLU001", 1, "invalid syntax"),
    ("open-bracket", IMPORTS + "x = [1,\n", "PLU001", 2, "never closed"),
    ("bad-indent", IMPORTS + "if 1:\npass\n", "PLU001", 3, "indented block"),
    ("return-outside", IMPORTS + "return 1\n", "PLU001", 2, "outside function"),
    ("nul", IMPORTS + "x = '\0'\n", "PLU003", 2, "NUL"),
    ("surrogate", "x = '\ud800'\n", "PLU003", 1, "UTF-8"),
    ("too-large", "#" * (513 * 1024), "PLU002", 1, "repository"),
    ("too-nested", "x = " + "(" * 250 + ")" * 250, "PLU001", 1, "nested"),
    ("deep-tree", "x = " + "-" * 4000 + "1", "PLU004", 1, "names"),
    ("import-os", "import os\n", "PLU010", 1, "ctx.env"),
    ("import-subprocess", "from subprocess import run\n", "PLU010", 1, "ctx.run"),
    ("import-time", "import time\n", "PLU010", 1, "clock"),
    ("import-unknown", "import numpy as np\n", "PLU010", 1, "step"),
    ("import-plue", "import plue\n", "PLU010", 1, "from plue import"),
    ("import-name", "from plue import worflow\n", "PLU011", 1, "did you mean `workflow`"),
    ("import-private", "from plue import workflow as _w\n", "PLU013", 1, "underscore"),
    ("import-lib", "from lib.x import y\n", "PLU010", 1, "make the file .plue/lib/x.py"),
    ("import-lib-whole", "import lib.x\n", "PLU010", 1, "from lib.x import ..."),
    ("import-lib-folder", "from lib import x\n", "PLU010", 1, "from lib.x import ..."),
    ("import-lib-star", "from lib.x import *\n", "PLU010", 1, "write the names"),
    ("import-lib-private", "from lib.x import _y\n", "PLU013", 1, "underscore"),
    ("import-prompts", "from plue.prompts import Review\n", "PLU720", 1, ".plue/prompts/"),
    ("import-relative", "from . import x\n", "PLU010", 1, "from lib.x import y"),
    ("undefined", IMPORTS + "x = triggerz\n", "PLU012", 2, "not defined"),
    ("not-imported", "@workflow()\ndef ci(ctx):\n    pass\n", "PLU012", 1, "from plue import workflow"),
    ("misspelled", workflow_of("build = 1\nbiuld"), "PLU012", 5, "did you mean `build`"),
    ("underscore-name", "_x = 1\n", "PLU013", 1, "call it `x`"),
    ("underscore-attribute", workflow_of("ctx._book"), "PLU013", 4, "underscore"),
    ("underscore-keyword", workflow_of("dict(_x=1)"), "PLU013", 4, "underscore"),
    ("underscore-argument", "def f(_x):\n    pass\n", "PLU013", 1, "underscore"),
    ("async-def", "async def f():\n    pass\n", "PLU014", 1, "ctx.parallel"),
    ("bare-except", "try:\n    x = 1\nexcept:\n    pass\n", "PLU015", 3, "except Exception"),
    ("return-in-finally", "def f():\n    try:\n        pass\n    finally:\n        return 1\n",
     "PLU016", 5, "after the try"),
    ("open", "x = open('/etc/passwd')\n", "PLU017", 1, "ctx.run"),
    ("eval", "eval('1')\n", "PLU017", 1, "write the code"),
    ("type", "x = type(1)\n", "PLU017", 1, "isinstance"),
    ("base-exception", "try:\n    x = 1\nexcept BaseException:\n    pass\n", "PLU017", 3, "Exception"),
    ("print-redefined", "print = 1\n", "PLU017", 1, "another name"),
    ("except-star", "try:\n    x = 1\nexcept* ValueError:\n    pass\n", "PLU018", 3, "except Exception"),
    ("metaclass", "class A(metaclass=int):\n    pass\n", "PLU019", 1, "remove"),
    ("class-pattern", "match 1:\n    case int():\n        pass\n", "PLU020", 2, "isinstance"),
    ("frame", "x = (i for i in [1]).gi_frame\n", "PLU021", 1, "Python itself"),
    ("step-in-generator", workflow_of("list(ctx.run(p, 'x') for p in 'ab')"), "PLU022", 4, "[...]"),
    ("shell-variable", workflow_of('ctx.run("a", f"echo ${HOME}")'), "PLU023", 4, "write $HOME"),
    ("parallel-variable", workflow_of("l = []\nctx.parallel(l)"), "PLU024", 5, "ctx.run"),
    ("parallel-several", workflow_of('ctx.parallel(ctx.run("a", "x"), ctx.run("b", "x"))'),
     "PLU024", 4, "ctx.parallel([ctx.run"),
    ("no-workflow", "x = 1\n", "PLU025", 1, "@workflow"),
    ("decorator-on-class", IMPORTS + "@workflow()\nclass A:\n    pass\n", "PLU101", 2, "def name(ctx)"),
    ("decorator-by-position", IMPORTS + "@workflow('x')\ndef a(ctx):\n    pass\n", "PLU101", 2, "by name"),
    ("no-ctx", IMPORTS + "@workflow()\ndef a():\n    pass\n", "PLU101", 2, "def a(ctx)"),
    ("workflow-generator", IMPORTS + "@workflow()\ndef a(ctx):\n    yield 1\n", "PLU101", 2, "yield"),
    ("trigger-name", IMPORTS + "@workflow(triggers=[push])\ndef a(ctx):\n    pass\n",
     "PLU103", 2, "push()"),
    ("trigger-filter", IMPORTS + "@workflow(triggers=[push(branch='x')])\ndef a(ctx):\n    pass\n",
     "PLU107", 2, "did you mean `branches`"),
    ("cron-fields", IMPORTS + "@workflow(triggers=[schedule('* * *')])\ndef a(ctx):\n    pass\n",
     "PLU103", 2, "5"),
    ("cron-range", IMPORTS + "@workflow(triggers=[schedule('61 * * * *')])\ndef a(ctx):\n    pass\n",
     "PLU103", 2, "minute"),
    ("two-manual", IMPORTS + "@workflow(triggers=[manual(), manual()])\ndef a(ctx):\n    pass\n",
     "PLU103", 2, "one manual"),
    ("request-type", IMPORTS + "@workflow(triggers=[pull_request(types=['open'])])\ndef a(ctx):\n    pass\n",
     "PLU103", 2, "did you mean `opened`"),
    ("duration", workflow_of("pass", 'timeout="soon"'), "PLU104", 2, "1h30m"),
    ("negative-duration", workflow_of("pass", "timeout=-3"), "PLU104", 2, "greater than zero"),
    ("input-type", workflow_of("pass", "triggers=[manual(inputs={'x': None})]"), "PLU105", 2, "optional(T)"),
    ("input-default", workflow_of("pass", "triggers=[manual(inputs={'x': enum('a', default='b')})]"),
     "PLU105", 2, "default"),
    ("input-name", workflow_of("pass", "triggers=[manual(inputs={'a-b': str})]"), "PLU103", 2, "letters"),
    ("option", workflow_of("pass", "timout=3"), "PLU107", 2, "did you mean `timeout`"),
    ("concurrency", workflow_of("pass", "concurrency='x'"), "PLU901", 2, "not supported"),
    ("cache", workflow_of("ctx.run('a', 'x', cache='y')"), "PLU321", 4, "takes a cache"),
    ("secret-printed", workflow_of("print(ctx.secrets.TOKEN)"), "PLU520", 4, "cannot be printed"),
    ("secret-name", workflow_of("ctx.secrets['a-b']"), "PLU520", 4, "letters, digits"),
    ("git", workflow_of("ctx.git.push()"), "PLU502", 4, "diff, log, changed_files"),
    ("git-option", workflow_of("ctx.git.diff(since='x')"), "PLU107", 4, "base"),
    ("read-outside", workflow_of("ctx.read('../secret')"), "PLU320", 4, "without `..`"),
    ("read-absolute", workflow_of("ctx.read('/etc/passwd')"), "PLU320", 4, "workspace"),
    ("read-none", workflow_of("ctx.read('x', default=None)"), "PLU306", 4, 'default=""'),
    ("read-nothing", workflow_of("ctx.read()"), "PLU306", 4, "path"),
    ("glob-nothing", workflow_of("ctx.glob()"), "PLU306", 4, "**/*.py"),
    ("write-third", workflow_of("ctx.write('a', 'b', 'c')"), "PLU306", 4, "path, text"),
    ("call-name", workflow_of("ctx.call('ci')"), "PLU312", 4, "from workflows.release"),
    ("call-function", workflow_of("ci(ctx)"), "PLU312", 4, "ctx.call(ci"),
    ("call-endless", workflow_of("ctx.call(ci)"), "PLU312", 4, "calls itself"),
    ("ctx-llm", workflow_of("ctx.llm('say hello')"), "PLU502", 4, "from plue.prompts import"),
    ("ctx-approval", workflow_of("ctx.approval('ship it')"), "PLU901", 4, "ctx.approval"),
    ("fail-fast", workflow_of("ctx.parallel([], fail_fast=True)"), "PLU901", 4, "fail_fast"),
    ("pool", workflow_of("pass", 'pool="Big One"'), "PLU306", 2, "lower-case"),
    ("attempts", workflow_of("pass", "attempts=0"), "PLU306", 2, "attempts=1"),
    ("step-name", workflow_of('ctx.run("-x", "y")'), "PLU301", 4, "letter or digit"),
    ("step-name-control", workflow_of('ctx.run("a\\x1b[2J", "y")'), "PLU301", 4, "\\u001b"),
    ("step-name-newline", workflow_of('ctx.run("a\\n", "y")'), "PLU301", 4, "letters"),
    ("step-name-long", workflow_of('ctx.run("a" * 101, "y")'), "PLU301", 4, "100"),
    ("step-name-number", workflow_of("ctx.run(3, 'y')"), "PLU301", 4, "text"),
    ("two-places", workflow_of('ctx.run("a", "x")\nctx.run("a", "y")'), "PLU302", 5, 'f"a-{p}"'),
    ("two-branches", workflow_of('ctx.parallel([ctx.run("a", p) for p in "xy"])'), "PLU302", 4, 'f"a-{p}"'),
    ("unknown-dependency", workflow_of('ctx.run("build", "x")\nctx.run("b", "x", depends_on="biuld")'),
     "PLU303", 5, "did you mean `build`"),
    ("cycle", workflow_of('ctx.run("a", "x", depends_on="b")\nctx.run("b", "x")'), "PLU304", 4, "a → b → a"),
    ("self", workflow_of('ctx.run("a", "x", depends_on=["a"])'), "PLU305", 4, "own name"),
    ("dependency-type", workflow_of('ctx.run("a", "x", depends_on=3)'), "PLU306", 4, "depends_on=[build]"),
    ("when", workflow_of('ctx.run("a", "x", when="sometimes")'), "PLU306", 4, "always"),
    ("retry", workflow_of('ctx.run("a", "x", retry=-1)'), "PLU306", 4, "retry=2"),
    ("flag", workflow_of('ctx.run("a", "x", once=1)'), "PLU306", 4, "once=True"),
    ("env", workflow_of('ctx.run("a", "x", env=["A=b"])'), "PLU306", 4, "{"),
    ("no-cmd", workflow_of('ctx.run("a")'), "PLU306", 4, 'ctx.run("test"'),
    ("run-option", workflow_of('ctx.run("a", "x", retries=1)'), "PLU107", 4, "did you mean `retry`"),
    ("step-timeout", workflow_of('ctx.run("a", "x", timeout="5x")'), "PLU104", 4, "timeout"),
    ("too-many", workflow_of('for i in range(1001):\n    ctx.run(f"s{i}", "x")'), "PLU307", 5, "1000"),
    ("earlier-handle", workflow_of('a = ctx.run("a", "x")\nctx.parallel([a])'), "PLU308", 5, "into the list"),
    ("success-in-branch", workflow_of("ctx.parallel([ctx.success()])"), "PLU309", 4, "after ctx.parallel"),
    ("ok", workflow_of('a = ctx.run("a", "x")\nif a.ok:\n    pass'), "PLU310", 5, "continue_on_error=True"),
    ("exit-code", workflow_of('a = ctx.run("a", "x")\na.exit_code == 0'), "PLU310", 5, "continue_on_error"),
    ("group-ok", workflow_of('g = ctx.parallel([ctx.run("a", "x")])\nif g.ok:\n    pass'), "PLU310", 5, "step `a`"),
    ("cmd-data", workflow_of('ctx.run("a", f"{ctx.event.actor or \'\'}" + ctx.event.kind)'), "PLU401", 4, "one of its words"),
    ("cmd-output", workflow_of('a = ctx.run("a", "x")\nctx.run("b", a.stdout)'), "PLU401", 5, "never executed"),
    ("argv-data", workflow_of('a = ctx.run("a", "x")\nctx.run("b", [a.stdout, "x"])'), "PLU401", 5, "command itself"),
    ("hole", workflow_of('a = ctx.run("a", "x")\nctx.run("b", f"eval {a.stdout}")'), "PLU402", 5, "env="),
    ("hole-arithmetic", workflow_of('a = ctx.run("a", "x")\nctx.run("b", f"echo $(({a.stdout}))")'), "PLU402", 5, "arithmetic"),
    ("hole-python", workflow_of('a = ctx.run("a", "x")\nctx.run("b", f"print({a.stdout})", shell="python")'),
     "PLU403", 5, "env="),
    ("cmd-long", workflow_of('ctx.run("a", "x" * 100_000)'), "PLU404", 4, "file of the repository"),
    ("env-name", workflow_of('ctx.run("a", "x", env={"A-B": "c"})'), "PLU405", 4, "letters"),
    ("env-plue", workflow_of('ctx.run("a", "x", env={"PLUE_V1": "c"})'), "PLU405", 4, "Plue's own"),
    ("env-executed", workflow_of('a = ctx.run("a", "x")\nctx.run("b", "x", env={"BASH_ENV": a.stdout})'),
     "PLU405", 5, "executed"),
    ("cmd-number", workflow_of('ctx.run("a", 3)'), "PLU406", 4, "list of words"),
    ("cmd-empty", workflow_of('ctx.run("a", " ")'), "PLU406", 4, "empty"),
    ("argv-shell", workflow_of('ctx.run("a", ["x"], shell="sh")'), "PLU406", 4, "remove shell="),
    ("value-large", workflow_of('ctx.run("a", "x", env={"A": "y" * 100_000})'), "PLU407", 4, "stdin="),
    ("handle-if", workflow_of('a = ctx.run("a", "x")\nif a:\n    pass'), "PLU501", 5, "a.ok"),
    ("handle-text", workflow_of('a = ctx.run("a", "x")\nctx.run("b", f"echo {a}")'), "PLU501", 5, "a.stdout"),
    ("handle-equals", workflow_of('a = ctx.run("a", "x")\na == 1'), "PLU501", 5, "a.stdout"),
    ("handle-cmd", workflow_of('a = ctx.run("a", "x")\nctx.run("b", a)'), "PLU501", 5, "a.stdout"),
    ("field", workflow_of('a = ctx.run("a", "x")\na.stdot'), "PLU502", 5, "did you mean `stdout`"),
    ("ctx-field", workflow_of("ctx.rn"), "PLU502", 4, "did you mean `run`"),
    ("schema-field", workflow_of('a = ctx.run("a", "x", output=schema(version=str))\na.outputs.versoin'),
     "PLU502", 5, "did you mean `version`"),
    ("text-number", workflow_of('a = ctx.run("a", "x")\na.stdout == 0'), "PLU503", 5, "int(...)"),
    ("none-text", workflow_of('ctx.run("a", f"echo {None}")'), "PLU504", 4, 'or ""'),
    ("exception", workflow_of("x = [1]\nx[3]"), "PLU601", 5, "IndexError"),
    ("top-level", "x = {}['a']\n", "PLU601", 1, "KeyError"),
    ("recursion", workflow_of("def f():\n    f()\nf()"), "PLU604", 5, "condition"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "code", "line", "said"), [pytest.param(*rest, id=name) for name, *rest in FILES]
)
def test_wrong_file_is_told(sandbox: Sandbox, source: str, code: str, line: int, said: str) -> None:
    """One wrong thing gives one diagnostic: its code, its line, what to write instead."""
    planned = sandbox.describe(source).diagnostics
    if not planned:
        planned = sandbox.plan(source, event={"kind": "x"}).diagnostics
    (found,) = planned
    assert (code, line) == (found.code, found.line), found
    assert said in f"{found.message} {found.remedy}", found
    assert found.remedy


def test_every_error_of_a_file_comes_at_once(sandbox: Sandbox) -> None:
    """What is wrong in the text of a file is found in one go, in order, with columns."""
    source = (
        "import os\n"
        "from plue import workflow, puhs\n"
        "@workflow()\n"
        "def ci(ctx):\n"
        "    é = __import__('x'); y = naem\n"
        "    try:\n"
        "        eval('1')\n"
        "    except:\n"
        "        pass\n"
        "    ctx._x = 1\n"
    )
    found = sandbox.describe(source).diagnostics
    assert [(d.code, d.line, d.column) for d in found] == [
        ("PLU010", 1, 1),
        ("PLU011", 2, 28),
        ("PLU017", 5, 9),
        ("PLU012", 5, 30),
        ("PLU017", 7, 9),
        ("PLU015", 8, 5),
        ("PLU013", 10, 5),
    ]
    assert found[3].source == "    é = __import__('x'); y = naem"
    assert found[3].end_column == 34


def test_several_errors_of_steps_come_at_once(sandbox: Sandbox) -> None:
    """A wrong option does not hide the next step's."""
    body = (
        'ctx.run("a", "x", timeout="x", retry="y", nope=1)\n'
        'ctx.run("b", "", env={"1": "x"})\n'
        'ctx.run("c", "x", depends_on="zz")'
    )
    found = sandbox.problems(body)
    assert [(d.code, d.line) for d in found] == [
        ("PLU107", 4),
        ("PLU104", 4),
        ("PLU306", 4),
        ("PLU406", 5),
        ("PLU405", 5),
        ("PLU303", 6),
    ]


def test_place_of_a_hole_is_the_hole(sandbox: Sandbox) -> None:
    """The caret stands under the value, not under the call."""
    body = 'a = ctx.run("a", "x")\nctx.run("b", f"echo $(({a.stdout} + 1))")'
    (found,) = sandbox.problems(body)
    assert found.source is not None
    assert found.source[found.column - 1 :].startswith("a.stdout")


def test_place_of_an_exception_is_the_authors(sandbox: Sandbox) -> None:
    """Only the author's frames are told, with where the call came from."""
    body = "def f(x):\n    return json.loads(x)\nf('{')"
    (found,) = sandbox.problems(body)
    assert (found.line, found.related) == (5, (".plue/workflows/ci.py", 6))
    assert "JSONDecodeError" in found.message
    assert "/plue/" not in found.message

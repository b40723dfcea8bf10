"""The type stub describes what the sandbox gives, no more and no less."""

import ast
import subprocess
import sys
from pathlib import Path

import plue
from plue.authoring.sandbox.book import Book
from plue.authoring.sandbox.context import _CLEANUP, _RUN, Context, Defaults
from plue.authoring.sandbox.handles import _FIELDS
from plue.authoring.sandbox.prompts.calls import _ITS_FIELDS, OPTIONS
from plue.authoring.sandbox.prompts.library import AGENT_FIELDS
from plue.authoring.sandbox.sdk import _OPTIONS, SDK
from plue.authoring.sandbox.values import Record

STUB = Path(plue.__file__).with_suffix(".pyi")
TREE = ast.parse(STUB.read_text())


def class_of(name: str) -> ast.ClassDef:
    """Return a class of the stub."""
    return next(n for n in TREE.body if isinstance(n, ast.ClassDef) and n.name == name)


def methods_of(name: str) -> dict[str, ast.FunctionDef]:
    """Return the public methods of a class of the stub."""
    found = {n.name: n for n in class_of(name).body if isinstance(n, ast.FunctionDef)}
    return {key: node for key, node in found.items() if not key.startswith("_")}


def attributes_of(name: str) -> set[str]:
    """Return the declared attributes of a class of the stub."""
    body = class_of(name).body
    return {
        n.target.id for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }


def arguments_of(node: ast.FunctionDef) -> list[str]:
    """Return the names of a function's arguments without self."""
    return [a.arg for a in [*node.args.args, *node.args.kwonlyargs] if a.arg != "self"]


def test_functions_are_those_of_the_sdk() -> None:
    """Whatever can be imported is described."""
    functions = {n.name for n in TREE.body if isinstance(n, ast.FunctionDef)}
    assert set(SDK.members) == functions | {"Context"}


def test_context_is_that_of_the_sandbox() -> None:
    """Every attribute of ctx is described, with its arguments."""
    context = Context(Book(), Record({}), {}, Defaults())
    assert set(context._read) == set(methods_of("Context")) | attributes_of("Context")
    assert list(_RUN) == arguments_of(methods_of("Context")["run"])
    assert set(_CLEANUP) == set(arguments_of(methods_of("Context")["cleanup"]))


def test_handle_is_that_of_the_sandbox() -> None:
    """Every field of a handle is described."""
    assert {*_FIELDS, "name", "outputs"} == attributes_of("Handle")


def test_options_of_the_decorator_are_described() -> None:
    """Both have the same options."""
    nodes = [n for n in TREE.body if isinstance(n, ast.FunctionDef) and n.name == "workflow"]
    assert set(_OPTIONS) == set(arguments_of(nodes[-1]))


def test_everything_in_the_stub_explains_itself() -> None:
    """What an editor completes has a docstring."""
    for node in ast.walk(TREE):
        if isinstance(node, ast.ClassDef):
            assert ast.get_docstring(node), node.name
    for node in methods_of("Context").values():
        assert ast.get_docstring(node), node.name


WORKFLOW = """
from plue import Context, enum, manual, optional, push, schema, workflow
from plue.prompts import CodeReview

@workflow(triggers=[push(branches=["main"]), manual(inputs={"env": enum("a"), "n": 3})], timeout="5m")
def ci(ctx: Context) -> None:
    build = ctx.run("build", "make", retry=2, output=schema(version=str, note=optional(str)))
    one, two = ctx.parallel([ctx.run("a", f"x {build.version}"), ctx.run("b", ["x", build.stdout])])
    if build.stdout.tail(3) == "ok" and int(build.outputs.count) > 3:
        ctx.fail(f"no {ctx.inputs.env} {ctx.event.ref} {ctx.event.pull_request.number} {ctx.repo.name}")
    review = CodeReview(diff=ctx.git.diff(), name="review", timeout="5m")
    if not review.approved and review.outputs.status:
        ctx.run("fix", f"echo {review.author.name}", depends_on=[build])
    ctx.success(version=build.outputs.version)
"""


def test_type_checker_takes_workflows_and_finds_mistakes(tmp_path: Path) -> None:
    """Mypy accepts a right workflow and names a wrong argument."""
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(WORKFLOW)
    wrong.write_text(
        WORKFLOW.replace("retry=2", "retries=2").replace('"5m")\n    if', "[])\n    if")
    )
    command = [sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={tmp_path}"]
    done = subprocess.run(
        [*command, str(right), str(wrong)],
        env={"MYPYPATH": str(STUB.parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 2, done.stdout
    assert "wrong.py:7" in errors[0]
    assert "retries" in errors[0]
    assert "wrong.py:11" in errors[1]
    assert "timeout" in errors[1]


def test_calls_of_prompts_are_described() -> None:
    """Every option of a call is in the stub, and every field that an answer has anyway."""
    tree = ast.parse((STUB.parent / "prompts.pyi").read_text())
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    (call,) = (n for n in classes["Prompt"].body if isinstance(n, ast.FunctionDef))
    assert list(OPTIONS) == arguments_of(call)
    declared = {
        n.target.id
        for n in classes["Answer"].body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    assert declared == {*_ITS_FIELDS, *AGENT_FIELDS, "name", "outputs"}

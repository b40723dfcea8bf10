"""One evaluation: from compiled files and a request to a description or a plan, as JSON."""

import hashlib
import json
import re
from collections.abc import Mapping
from types import CodeType
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.book import Book
from plue.authoring.sandbox.context import Context, Defaults
from plue.authoring.sandbox.facades import FACADES, FREE_NAMES
from plue.authoring.sandbox.guards import Facade, Printer, author_globals
from plue.authoring.sandbox.kinds import Kind, check_value, parse_value, schema
from plue.authoring.sandbox.problems import (
    SOURCES,
    Finish,
    Place,
    Problem,
    StageEnd,
    did_you_mean,
    place_of_traceback,
)
from plue.authoring.sandbox.sdk import CURRENT, SDK, Declarations, Declared
from plue.authoring.sandbox.steps import wire_text

__all__ = ["describe", "plan", "revision_of"]

Json = dict[str, object]
_UNDEFINED: Final = re.compile(r"name '(\w+)' is not defined")


def revision_of(file: str, source: str) -> str:
    """Return the SHA-256 that names this version of a workflow."""
    return hashlib.sha256(f"{file}\0{source}".encode("utf-8", "surrogatepass")).hexdigest()


class Loaded:
    """The files of a request after their module level ran."""

    def __init__(self) -> None:
        self.workflows: list[Declared] = []
        self.diagnostics: list[Json] = []
        self.printer = Printer()

    def note(self, problem: Problem, severity: str = "error") -> None:
        """Keep a problem with its source line."""
        found = problem.diagnostic(severity)
        lines = SOURCES.get(str(found["file"]), [])
        line = found["line"]
        if isinstance(line, int) and 0 < line <= len(lines):
            found["source"] = lines[line - 1][:400]
        self.diagnostics.append(found)


def load(sources: Mapping[str, str], compiled: Mapping[str, CodeType]) -> Loaded:
    """Run the module level of each compiled file; one that fails hides no other."""
    loaded = Loaded()
    for file, code in compiled.items():
        declarations = Declarations()
        CURRENT.append(declarations)
        try:
            exec(code, _globals(loaded.printer))  # noqa: S102 - what an evaluator is for
        except BaseException as error:  # noqa: BLE001 - everything an author's code can raise
            loaded.note(problem_of(error, file))
            continue
        finally:
            CURRENT.pop()
        for problem in declarations.problems:
            loaded.note(problem)
        if not declarations.found and not declarations.problems:
            loaded.note(
                Problem(
                    Code.NO_WORKFLOW,
                    "the file declares no workflow",
                    remedy="put @workflow() above `def name(ctx):`",
                    place=Place(file, 1),
                )
            )
        _enter(loaded, declarations)
    return loaded


def _enter(loaded: Loaded, declarations: Declarations) -> None:
    for declared in declarations.found:
        _warn_required(loaded, declared)
        first = next((w for w in loaded.workflows if w.name == declared.name), None)
        if first is None:
            loaded.workflows.append(declared)
        else:
            loaded.note(
                Problem(
                    Code.DUPLICATE_WORKFLOW,
                    f"two workflows are called `{declared.name}`; the first is in"
                    f" {first.place.file}:{first.place.line}",
                    remedy="rename one of them",
                    place=declared.place,
                    related=(first.place.file, first.place.line),
                )
            )


def _warn_required(loaded: Loaded, declared: Declared) -> None:
    required = [name for name, kind in declared.options.inputs.items() if kind.required]
    others = [t.kind for t in declared.options.triggers if t.kind != "manual"]
    if required and others:
        problem = Problem(
            Code.REQUIRED_BESIDE_TRIGGER,
            f"the input `{required[0]}` is required, but a {others[0]} gives no inputs",
            remedy="give it a default, or make it optional(...)",
            place=declared.place,
        )
        loaded.note(problem, "warning")


def _globals(printer: Printer) -> dict[str, object]:
    return {**author_globals(printer, _import), **FREE_NAMES}


class _Module:
    """What ``import`` gets: names are read from it, and nothing else."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade

    def __getattr__(self, name: str) -> object:
        try:
            return self._facade.attribute(name)
        except Problem as problem:
            raise AttributeError(problem.message) from None


def _import(
    name: str, _globals: object = None, _locals: object = None, names: object = (), level: int = 0
) -> object:
    """Serve ``import json`` and ``from plue import workflow``; the policy checked both."""
    facade = SDK if name == "plue" else FACADES.get(name)
    if facade is None or level:
        raise Problem(Code.IMPORT, f"`{name}` cannot be imported in a workflow")
    return _Module(facade) if names else facade


def problem_of(error: BaseException, file: str) -> Problem:
    """Return what an exception means, at its place in the author's file."""
    if isinstance(error, Problem):
        if error.place is None:
            error.place = Place(file, 1)
        return error
    inner, _ = place_of_traceback(error.__traceback__)
    place = inner or Place(file, 1)
    if isinstance(error, MemoryError):
        return Problem(
            Code.MEMORY,
            "the evaluation needs more memory than it may have",
            remedy="work on large data belongs into steps",
            place=place,
        )
    if isinstance(error, RecursionError):
        return Problem(
            Code.RECURSION,
            "the code calls itself without end",
            remedy="give the recursion a condition that ends it",
            place=place,
        )
    if isinstance(error, StageEnd | Finish):
        return Problem(
            Code.WORKFLOW_ERROR,
            "steps are recorded inside a workflow's function only",
            remedy="move this into `def name(ctx):`",
            place=place,
        )
    return Problem(
        Code.UNDEFINED if isinstance(error, NameError) else Code.WORKFLOW_ERROR,
        f"{type(error).__name__}: {_message(error)}",
        remedy="correct the workflow at this line",
        place=place,
    )


def _message(error: BaseException) -> str:
    try:
        return ", ".join(str(arg) for arg in error.args)[:500]
    except BaseException:  # noqa: BLE001 - an author's own class may do anything in here
        return "…"


# ── describe ─────────────────────────────────────────────────────────────────────────────────────


def describe(sources: Mapping[str, str], compiled: Mapping[str, CodeType]) -> Json:
    """Return what the files declare."""
    loaded = load(sources, compiled)
    return {
        "workflows": [_info(w, sources) for w in loaded.workflows],
        "diagnostics": loaded.diagnostics,
    }


def _info(declared: Declared, sources: Mapping[str, str]) -> Json:
    options, file = declared.options, declared.place.file
    doc = declared.function.__doc__
    return {
        "name": declared.name,
        "file": file,
        "line": declared.place.line,
        "revision": revision_of(file, sources[file]),
        "description": doc.strip() if isinstance(doc, str) and doc.strip() else None,
        "triggers": [{"kind": t.kind, "options": t.options} for t in options.triggers],
        "pool": options.pool,
        "timeout_seconds": options.timeout,
        "queue_timeout_seconds": options.queue_timeout,
        "cleanup_seconds": options.cleanup_timeout,
        "attempts": options.attempts,
        "env": {name: wire_text(value) for name, value in options.env.items()},
        "inputs_schema": _schema(options.inputs),
    }


def _schema(inputs: Mapping[str, Kind]) -> Json:
    return schema(**inputs).schema


# ── plan ─────────────────────────────────────────────────────────────────────────────────────────


def plan(sources: Mapping[str, str], compiled: Mapping[str, CodeType], request: Json) -> Json:
    """Return the plan of the workflow that *request* names, as far as its values allow."""
    loaded = load(sources, compiled)
    name = str(request["workflow"])
    declared = next((w for w in loaded.workflows if w.name == name), None)
    if declared is None:
        if not any(d["severity"] == "error" for d in loaded.diagnostics):
            _unknown(loaded, name)
        return {"plan": None, "info": None, "diagnostics": loaded.diagnostics, "inputs": {}}
    # What is wrong with other files is not this run's business.
    loaded.diagnostics = [d for d in loaded.diagnostics if d["file"] == declared.place.file]
    inputs = _inputs(loaded, declared, request)
    made: Json | None = None
    if not any(d["severity"] == "error" for d in loaded.diagnostics):
        made = _evaluate(loaded, declared, inputs, request, sources)
    return {
        "plan": made,
        "info": _info(declared, sources),
        "inputs": inputs,
        "diagnostics": loaded.diagnostics,
        "printed": loaded.printer.text,
    }


def _unknown(loaded: Loaded, name: str) -> None:
    known = [w.name for w in loaded.workflows]
    loaded.note(
        Problem(
            Code.UNKNOWN_WORKFLOW,
            f"there is no workflow `{name}`{did_you_mean(name, known)}",
            remedy="there are: " + (", ".join(known) or "none; plue looks in .plue/workflows/*.py"),
            place=Place("", 1),
            field="workflow",
        )
    )


def _inputs(loaded: Loaded, declared: Declared, request: Json) -> Json:
    given = request["inputs"]
    assert isinstance(given, dict)  # noqa: S101 - checked by the server
    kinds, values = declared.options.inputs, dict[str, object]()
    for name in given:
        if name not in kinds:
            remedy = "declared are: " + (", ".join(kinds) or "none")
            message = f"the workflow has no input `{name}`{did_you_mean(name, list(kinds))}"
            _note_input(loaded, declared, Code.UNKNOWN_INPUT, name, message, remedy)
    for name, kind in kinds.items():
        if name not in given:
            values[name] = kind.default
            if kind.required:
                remedy = f"give it: -i {name}=…"
                message = f"the input `{name}` is missing"
                _note_input(loaded, declared, Code.MISSING_INPUT, name, message, remedy)
            continue
        value = given[name]
        if request.get("text_inputs"):
            value = parse_value(kind.schema, value)
        for error in check_value(kind.schema, value, f"inputs.{name}"):
            remedy = f"its type is {json.dumps(kind.schema)}"
            _note_input(loaded, declared, Code.INPUT_TYPE, name, error, remedy)
        values[name] = value
    return values


def _note_input(
    loaded: Loaded, declared: Declared, code: str, name: str, message: str, remedy: str
) -> None:
    loaded.note(Problem(code, message, remedy=remedy, place=declared.place, field=f"inputs.{name}"))


def _evaluate(
    loaded: Loaded, declared: Declared, inputs: Json, request: Json, sources: Mapping[str, str]
) -> Json | None:
    known, recorded = request.get("known") or {}, request.get("recorded") or []
    event = request.get("event") or {}
    assert isinstance(known, dict)  # noqa: S101 - checked by the server
    assert isinstance(recorded, list)  # noqa: S101 - checked by the server
    assert isinstance(event, dict)  # noqa: S101 - checked by the server
    book = Book(known, recorded)
    defaults = Defaults(declared.options.env, declared.options.idle_timeout)
    context = Context(book, inputs, event, defaults)
    ended = True
    try:
        declared.function(context)
    except Finish:
        pass
    except StageEnd:
        ended = False
    except BaseException as error:  # noqa: BLE001 - everything an author's code can raise
        book.problems.append(problem_of(error, declared.place.file))
    book.finish()
    for warning in context.warnings:
        loaded.note(warning, "warning")
    for problem in dict.fromkeys(book.problems):
        loaded.note(problem)
    if book.problems:
        return None
    return _plan(declared, book, context, sources, ended=ended and not book.awaits)


def _plan(
    declared: Declared, book: Book, context: Context, sources: Mapping[str, str], *, ended: bool
) -> Json:
    made: Json = {
        "workflow": declared.name,
        "revision": revision_of(declared.place.file, sources[declared.place.file]),
        "stage": 1,
        "steps": [step.definition for step in book.steps.values()],
        "fails": book.fails,
        "end": {"outputs": context.outputs or {}} if ended else None,
        "awaits": [part.wire() for part in book.awaits],
    }
    canonical = json.dumps(made, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return {**made, "digest": hashlib.sha256(canonical.encode()).hexdigest()}

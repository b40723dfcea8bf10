"""One request, evaluated: files are compiled and executed, a workflow is called, JSON comes out.

Runs in a child that was forked for this request and ends with it.
"""

import hashlib
import inspect
import json
import marshal
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from plue.authoring.codes import Code
from plue.authoring.imports import is_library_file, is_workflow_file
from plue.authoring.sandbox.book import Book, Earlier
from plue.authoring.sandbox.compiler import compile_file
from plue.authoring.sandbox.context import RUNNING, Context, Defaults
from plue.authoring.sandbox.facades import FACADES, FREE_NAMES
from plue.authoring.sandbox.guards import Printer, author_globals
from plue.authoring.sandbox.inventing import CERTAIN, sample_of, soon_over
from plue.authoring.sandbox.kinds import Kind, object_of
from plue.authoring.sandbox.modules import (
    FOLDERS,
    Module,
    cycle,
    exports_of,
    freeze,
    module_file,
)
from plue.authoring.sandbox.problems import (
    SOURCES,
    Finish,
    Place,
    Problem,
    StageEnd,
    author_place,
    call_places,
    did_you_mean,
    learn_calls,
    place_of_traceback,
)
from plue.authoring.sandbox.sdk import CURRENT, SDK, Declarations, Declared
from plue.authoring.sandbox.steps import wire_text
from plue.authoring.sandbox.texts import text_of
from plue.authoring.sandbox.values import Record, question_of
from plue.schemas import filled, parse_text, problems

if TYPE_CHECKING:
    from plue.authoring.sandbox.prompts.library import Library, Prompt

__all__ = ["Job", "key_of"]

MAX_DIAGNOSTICS: Final = 200
"""Of one file, so that none hides another's."""
Json = dict[str, Any]


def key_of(file: str, text: str) -> str:
    """Return the name under which a file's compiled code is kept; also its revision."""
    digest = hashlib.sha256(file.encode("utf-8", "surrogatepass") + b"\0")
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


class Job:
    """A request in its child: ``prepare`` compiles, ``run`` executes what the author wrote."""

    def __init__(self, request: Json, cache: Mapping[str, bytes]) -> None:
        """Read the request; *cache* has the code of files that were compiled before."""
        self.request = request
        self.files: dict[str, str] = request["files"]
        self.diagnostics: list[Json] = []
        self.modules: dict[str, Module] = {}
        self.printer = Printer()
        self._cache = cache
        config: Json = request.get("config") or {}
        self._defaults: Json = config.get("defaults", {})
        self._models: Json = config.get("models", {})
        self._running: list[str] = []
        self._library: Library | None = None

    def prepare(self) -> tuple[list[str], dict[str, bytes]]:
        """Compile what is not in the cache; return the used keys and the new code."""
        used, fresh = [], {}
        for file, text in self.files.items():
            key = key_of(file, text)
            SOURCES[file] = text.splitlines()
            if (cached := self._cache.get(key)) is not None:
                used.append(key)
                code, imports, places = marshal.loads(cached)  # noqa: S302 - made by ourselves
                learn_calls(code, places)
                self.modules[file] = Module(file, code, imports)
                continue
            compiled = compile_file(file, text)
            self.add(compiled.problems)
            self.modules[file] = Module(file, compiled.code, compiled.imports)
            if compiled.code is None:
                self.modules[file].state = "failed"
            else:
                places = call_places(compiled.code)
                learn_calls(compiled.code, places)
                fresh[key] = marshal.dumps((compiled.code, compiled.imports, places))
        return used, fresh

    def run(self) -> Json:
        """Answer the request."""
        match self.request["op"]:
            case "describe":
                return self._describe()
            case "plan":
                return self._plan()
            case operation:
                from plue.authoring.sandbox.prompts.answers import parsed, rendered

                return (parsed if operation == "prompts" else rendered)(self)

    def warm_up(self) -> None:
        """Do all of it once and leave nothing of it."""
        self.prepare()
        as_json(self.run())
        for file in self.files:
            SOURCES.pop(file, None)

    # ── diagnostics ──────────────────────────────────────────────────────────────────────────────

    def add(self, problems: Sequence[Problem], severity: str = "error") -> None:
        """Report *problems*, each with the line of the file."""
        for problem in problems:
            found = problem.diagnostic(severity)
            lines = SOURCES.get(str(found["file"]), [])
            line = found["line"]
            if isinstance(line, int) and 0 < line <= len(lines):
                found["source"] = lines[line - 1][:500]
            told = [one for one in self.diagnostics if one["file"] == found["file"]]
            if len(told) < MAX_DIAGNOSTICS and found not in told:
                self.diagnostics.append(found)

    @property
    def failed(self) -> bool:
        """Whether an error was reported."""
        return any(found["severity"] == "error" for found in self.diagnostics)

    def _has_errors(self, file: str) -> bool:
        return any(d["file"] == file and d["severity"] == "error" for d in self.diagnostics)

    # ── files ────────────────────────────────────────────────────────────────────────────────────

    def _execute(self, file: str) -> list[Declared]:
        """Execute a file's own statements, once; return the workflows that it declares."""
        module = self.modules[file]
        if module.state != "fresh" or module.code is None:
            return module.declared
        module.state = "running"
        names = author_globals(self.printer, self._import)
        module.names = names
        given = len(names)
        builtins = names["__builtins__"]
        if isinstance(builtins, dict):
            builtins |= FREE_NAMES
        declarations = Declarations(self._defaults)
        CURRENT.append(declarations)
        self._running.append(file)
        code = module.code
        try:
            problem = self._guarded(lambda: exec(code, names), file)  # noqa: S102 - the point
        finally:
            CURRENT.pop()
            self._running.pop()
        module.names = dict(list(names.items())[given:])
        if is_library_file(file):
            freeze(module.names)
        self.add(declarations.problems)
        if problem is not None:
            self.add([problem])
        failed = problem is not None or bool(declarations.problems)
        module.state = "failed" if failed else "done"
        module.declared = [] if problem is not None else declarations.found
        return module.declared

    def _import(
        self,
        name: str,
        _globals: object = None,
        _locals: object = None,
        wanted: tuple[str, ...] | None = None,
        *_rest: object,
    ) -> object:
        """Do what an import statement of the author's asks for."""
        if name.split(".", maxsplit=1)[0] in FOLDERS:
            return exports_of(self._module(name), wanted)
        if name == "plue.prompts":
            from plue.authoring.sandbox.prompts.importing import prompts_facade

            return prompts_facade(self.library, wanted or ())
        found = SDK if name == "plue" else FACADES.get(name)
        if found is None:
            raise Problem(Code.IMPORT, f"`{name}` cannot be imported", remedy="remove the import")
        return found

    def _module(self, name: str) -> Module:
        place = author_place()
        importer = place.file if place else ""
        file = module_file(importer, name)
        module = self.modules.get(file)
        if module is None:
            raise self._no_module(name, file, importer)
        if module.state == "running":
            raise cycle(self._running, file)
        self._execute(file)
        if module.state == "failed":
            raise Problem(
                Code.IMPORT_BROKEN,
                f"{file} has errors",
                remedy="correct them; they are told at their own places",
            )
        return module

    def _no_module(self, name: str, file: str, importer: str) -> Problem:
        known = [*self.request.get("modules", ()), *self.modules]
        head = module_file(importer, name.split(".", maxsplit=1)[0]).removesuffix(".py") + "/"
        paths = [path for path in dict.fromkeys(known) if path.startswith(head)]
        inside = module_file(importer, "x").removesuffix("x.py")
        names = [p.removeprefix(inside).removesuffix(".py").replace("/", ".") for p in paths]
        return Problem(
            Code.IMPORT,
            f"there is no {file}{did_you_mean(name, names)}",
            remedy="there are: " + ", ".join(names) if names else f"make the file {file}",
        )

    @property
    def library(self) -> "Library":
        """The prompts of the request. Python itself was loaded with them by the host."""
        if self._library is None:
            from plue.authoring.sandbox.prompts.library import Library

            self._library = Library(self.request.get("prompts") or {}, self._models)
        return self._library

    def _prompts_of(self, files: Sequence[str]) -> "list[Prompt]":
        """Return the prompts that *files* import, anywhere in them."""
        names = {
            name.removeprefix("plue.prompts.")
            for file in files
            for name in self.modules[file].imports
            if name.startswith("plue.prompts.")
        }
        found = (self.library.find(name) for name in sorted(names)) if names else ()
        return [prompt for prompt in found if prompt is not None]

    def _sources(self, workflow: Declared) -> dict[str, str]:
        """Return what a workflow is made of: its file, modules and prompts, text by path."""
        modules = self._closure(workflow.place.file)
        found = {path: self.files[path] for path in modules}
        for prompt in self._prompts_of(modules):
            found |= {path: self.library.files[path] for path in prompt.files}
        return dict(sorted(found.items()))

    def _closure(self, file: str) -> list[str]:
        """Return the file and what it imports, transitively, sorted."""
        reached, waiting = {file}, [file]
        while waiting:
            importer = waiting.pop()
            for name in self.modules[importer].imports:
                path = module_file(importer, name)
                if path in self.modules and path not in reached:
                    reached.add(path)
                    waiting.append(path)
        return sorted(reached)

    def _guarded(self, function: Callable[[], object], file: str) -> Problem | None:
        """Call *function*; return what it raised as a Problem. The end of a stage passes."""
        try:
            function()
        except Problem as problem:
            return problem
        except RecursionError as error:
            place, _ = place_of_traceback(error.__traceback__)
            return Problem(
                Code.RECURSION,
                "the code calls itself without end",
                remedy="look for a function that calls itself without a condition",
                place=place or Place(file, 1),
            )
        except MemoryError as error:
            place, _ = place_of_traceback(error.__traceback__)
            return Problem(
                Code.MEMORY,
                "the evaluation needs more memory than it may have",
                remedy="work on large data belongs into a step",
                place=place or Place(file, 1),
            )
        except Exception as error:  # noqa: BLE001 - the outermost frame of author code
            return _author_error(error, file)
        return None

    # ── describe ─────────────────────────────────────────────────────────────────────────────────

    def _describe(self) -> Json:
        declared: list[Declared] = []
        for file, module in self.modules.items():
            found = self._execute(file)
            if not found and module.state == "done" and is_workflow_file(file):
                self.add([_no_workflow(file)], "warning")
            declared += found
        kept = self._unique(declared)
        for workflow in kept:
            self.add(_lint_inputs(workflow), "warning")
            if self.request.get("dry", True) and not self._has_errors(workflow.place.file):
                self._try(workflow)
        return {
            "workflows": [self._info(workflow) for workflow in kept],
            "diagnostics": self.diagnostics,
        }

    def _unique(self, declared: list[Declared]) -> list[Declared]:
        """Drop workflows whose name their own file has taken, with an error.

        What two files declare is judged by who knows all files.
        """
        first: dict[tuple[str, str], Declared] = {}
        for workflow in declared:
            before = first.setdefault((workflow.place.file, workflow.name), workflow)
            if before is not workflow:
                self.add([_duplicate(workflow, before)])
        return list(first.values())

    def _try(self, workflow: Declared) -> None:
        """Evaluate with invented inputs, for errors that do not depend on them."""
        inputs = {name: _sample(kind) for name, kind in workflow.options.inputs.items()}
        book, context, ended = self._call(workflow, inputs, _sample_event(workflow))
        certain = [problem for problem in book.problems if not problem.from_values]
        if ended is not None and not ended.from_values:
            guessed = ended.code == Code.WORKFLOW_ERROR and book.saw_values
            certain += [] if guessed else [ended]
        self.add(certain)
        self.add(context.warnings, "warning")
        if book.awaits and not certain:
            self._look_further(workflow, inputs)
        self.printer.text = ""

    def _look_further(self, workflow: Declared, inputs: Json) -> None:
        """Evaluate what stands behind the first stage with invented results."""
        for yes in (True, False):
            earlier = Earlier(invents=yes)
            with soon_over():
                book, context, ended = self._call(
                    workflow, inputs, _sample_event(workflow), earlier
                )
            found = [*book.problems, *([] if ended is None else [ended])]
            self.add([p for p in found if p.code in CERTAIN and not p.from_values])
            self.add(context.warnings, "warning")

    def _info(self, workflow: Declared) -> Json:
        options, file = workflow.options, workflow.place.file
        return {
            "name": workflow.name,
            "file": file,
            "line": workflow.place.line,
            "revision": self._revision(workflow),
            "files": self._covered(workflow),
            "description": inspect.cleandoc(doc) if (doc := workflow.function.__doc__) else None,
            "triggers": [{"kind": t.kind, "options": t.options} for t in options.triggers],
            "pool": options.pool,
            "timeout_seconds": options.timeout,
            "queue_timeout_seconds": options.queue_timeout,
            "cleanup_seconds": options.cleanup_timeout,
            "attempts": options.attempts,
            "env": {name: wire_text(value) for name, value in options.env.items()},
            "inputs_schema": object_of(options.inputs).schema,
        }

    def _covered(self, workflow: Declared) -> list[str]:
        """Return the files whose content the workflow's revision names."""
        config = [self.request["config"]["file"]] if self._defaults or self._models else []
        return sorted([*self._sources(workflow), *config])

    def _revision(self, workflow: Declared) -> str:
        """Return the name of this version: of its files, with the defaults where there are any."""
        keys = [key_of(path, text) for path, text in self._sources(workflow).items()]
        if self._defaults or self._models:
            defaults = json.dumps(self._defaults | self._models, sort_keys=True)
            keys.append(key_of(self.request["config"]["file"], defaults))
        joined = "".join(keys).encode()
        return keys[0] if len(keys) == 1 else hashlib.sha256(joined).hexdigest()

    # ── plan ─────────────────────────────────────────────────────────────────────────────────────

    def _plan(self) -> Json:
        files = self.request.get("candidates", list(self.modules))
        declared = [workflow for file in files for workflow in self._execute(file)]
        reached = {name for file in files for name in self._closure(file)}
        for prompt in self._prompts_of(sorted(reached)):
            self.add(prompt.problems)
        wanted = [w for w in declared if w.name == self.request["workflow"]]
        answer: Json = {"plan": None, "info": None, "inputs": {}, "printed": "", "why": {}}
        if wanted:
            self._drop_other_files(wanted)
            for other in wanted[1:]:
                self.add([_duplicate(other, wanted[0])])
            answer["info"] = self._info(wanted[0])
            answer["inputs"] = self._inputs(wanted[0])
            if not self.failed:
                self._stage(wanted[0], answer)
        elif not self.failed:  # a file with errors may be the one that declares it
            self.add([self._unknown([w.name for w in declared])])
        answer["printed"] = self.printer.text
        answer["diagnostics"] = self.diagnostics
        return answer

    def _drop_other_files(self, wanted: list[Declared]) -> None:
        """Keep what is wrong in the workflow's own files: a broken file hides no other."""
        files = {file for workflow in wanted for file in self._sources(workflow)}
        self.diagnostics = [found for found in self.diagnostics if found["file"] in files]

    def _unknown(self, names: list[str]) -> Problem:
        name = self.request["workflow"]
        known = list(dict.fromkeys([*names, *self.request.get("names", ())]))
        return Problem(
            Code.UNKNOWN_WORKFLOW,
            f"there is no workflow `{name}`{did_you_mean(name, known)}",
            remedy="there are: " + ", ".join(known) if known else "add .plue/workflows/*.py",
            place=Place(".plue/workflows", 1),
            field="workflow",
        )

    def _inputs(self, workflow: Declared) -> Json:
        """Return the inputs, parsed, checked and with defaults; what is wrong is reported."""
        given = self.request["inputs"]
        kinds = workflow.options.inputs
        values: Json = {}
        for name in given:
            if name not in kinds:
                near = did_you_mean(name, list(kinds))
                known = "declared are: " + ", ".join(kinds) if kinds else "it has no inputs"
                message = f"workflow `{workflow.name}` has no input `{name}`{near}"
                self._input_problem(workflow, name, Code.UNKNOWN_INPUT, message, known)
        for name, kind in kinds.items():
            if name in given:
                values[name] = self._input(workflow, name, kind, given[name])
            elif kind.required:
                message = f"input `{name}` is required"
                remedy = f"give it: {name}=…"
                self._input_problem(workflow, name, Code.MISSING_INPUT, message, remedy)
            else:
                values[name] = kind.default
        return values

    def _input(self, workflow: Declared, name: str, kind: Kind, value: object) -> object:
        if self.request["text_inputs"]:
            value = parse_text(kind.schema, value)
        for error in islice(problems(kind.schema, value, name), 5):
            self._input_problem(
                workflow, name, Code.INPUT_TYPE, f"input {error}", "give a value of that type"
            )
        return filled(kind.schema, value)

    def _input_problem(
        self, workflow: Declared, name: str, code: Code, message: str, remedy: str
    ) -> None:
        field = f"inputs.{name}"
        problem = Problem(code, message, remedy=remedy, place=workflow.place, field=field)
        self.add([problem])

    def _call(
        self,
        workflow: Declared,
        inputs: Json,
        event: Json,
        earlier: Earlier | None = None,
    ) -> tuple[Book, Context, Problem | None]:
        """Call the workflow's function; return the book and what ended it, if it was an error."""
        options = workflow.options
        book = Book(earlier)
        record = Record(inputs, "ctx.inputs", schema=object_of(options.inputs).schema)
        context = Context(book, record, event, Defaults(options.env, options.idle_timeout))
        CURRENT.append(Declarations())
        RUNNING.append(context)

        def call() -> None:
            try:
                workflow.function(context)
            except (StageEnd, Finish):
                # Which of the two it was, the book knows.
                book.branch.ended = True

        try:
            ended = self._guarded(call, workflow.place.file)
        finally:
            CURRENT.pop()
            RUNNING.pop()
        if ended is None:
            book.finish()
        return book, context, ended

    def _stage(self, workflow: Declared, answer: Json) -> None:
        """Evaluate with the values known so far; put the plan and its reasons into *answer*."""
        request = self.request
        book, context, ended = self._call(
            workflow,
            answer["inputs"],
            request["event"],
            Earlier(
                request["known"],
                request.get("recorded", ()),
                [question_of(*question) for question in request["asked"]],
            ),
        )
        problems = list(book.problems)
        if ended is not None and ended not in problems:
            problems.append(ended)
        self.add(problems)
        self.add(context.warnings, "warning")
        if self.failed:
            return
        answer["why"] = {step.name: step.why for step in book.steps.values() if step.why}
        answer["plan"] = {
            "workflow": workflow.name,
            "revision": self._revision(workflow),
            "stage": request["stage"],
            "steps": [step.definition for step in book.steps.values()],
            "fails": book.fails,
            "end": None if book.awaits else {"outputs": context.outputs or {}},
            "awaits": book.awaits,
        }


_COMMIT: Final = "0" * 40
_SAMPLE_EVENT: Final[Json] = {
    "kind": "push",
    "ref": "refs/heads/main",
    "branch": "main",
    "sha": _COMMIT,
    "before": _COMMIT,
    "actor": "someone",
    "repository": {"name": "project", "default_branch": "main", "url": "https://example.com/x"},
}


def _sample_event(workflow: Declared) -> Json:
    """Invent the event of the workflow's first trigger, for a dry evaluation."""
    kind = next((t.kind for t in workflow.options.triggers if t.kind != "manual"), "manual")
    event = {**_SAMPLE_EVENT, "kind": kind}
    if kind == "pull_request":
        side = {"ref": "main", "sha": _COMMIT}
        request = {"number": 1, "title": "title", "body": "", "labels": [], "author": "someone"}
        event |= {"action": "opened", "pull_request": {**request, "base": side, "head": side}}
    if kind == "schedule":
        event["schedule"] = {"cron": "0 0 * * *", "time": "2026-01-01T00:00:00+00:00"}
    return event


def _sample(kind: Kind) -> object:
    """Invent an input, for a dry evaluation."""
    return sample_of(kind.schema, yes=False) if kind.required else kind.default


def _author_error(error: Exception, file: str) -> Problem:
    place, outer = place_of_traceback(error.__traceback__)
    name = type(error).__name__
    try:
        text = str(text_of(error))
    except BaseException:  # noqa: BLE001 - the author's exception may hold anything
        text = ""
    elsewhere = outer and place and (outer.file, outer.line) != (place.file, place.line)
    related = (outer.file, outer.line) if outer and elsewhere else None
    return Problem(
        Code.WORKFLOW_ERROR,
        f"{name}: {text[:2000]}" if text else name,
        remedy="it happened while the workflow was evaluated, not in a step",
        place=place or Place(file, 1),
        related=related,
    )


def _no_workflow(file: str) -> Problem:
    return Problem(
        Code.NO_WORKFLOW,
        "the file declares no workflow",
        remedy="put @workflow(triggers=[...]) above a function: def ci(ctx):",
        place=Place(file, 1),
    )


def _duplicate(workflow: Declared, before: Declared) -> Problem:
    return Problem(
        Code.DUPLICATE_WORKFLOW,
        f"workflow `{workflow.name}` is also declared in "
        f"{before.place.file}, line {before.place.line}",
        remedy="give one of them another name",
        place=workflow.place,
        related=(before.place.file, before.place.line),
    )


def _lint_inputs(workflow: Declared) -> list[Problem]:
    others = [t.kind for t in workflow.options.triggers if t.kind != "manual"]
    if not others:
        return []
    return [
        Problem(
            Code.REQUIRED_BESIDE_TRIGGER,
            f"input `{name}` is required, but {others[0]} gives no inputs",
            remedy="give it a default, or write optional(...)",
            place=workflow.place,
            field=f"inputs.{name}",
        )
        for name, kind in workflow.options.inputs.items()
        if kind.required
    ]


def as_json(value: Json) -> bytes:
    """Return *value* as JSON; lone surrogates, which no wire takes, become question marks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

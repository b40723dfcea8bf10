"""All prompts of a project: found by name, put together from their files, checked as a whole.

A prompt is its own file and whatever that extends, includes and imports, transitively; its digest
covers these and no others. ``extends``, in front matter or body, inherits both: the blocks of the
text, and every key that the prompt does not give itself; inputs come together.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.kinds import Kind, object_of
from plue.authoring.sandbox.problems import Place, Problem, did_you_mean
from plue.authoring.sandbox.prompts.bodies import Use, field_problem
from plue.authoring.sandbox.prompts.documents import (
    SUFFIX,
    Document,
    import_name,
    parse_document,
    quick_name,
    step_name,
)
from plue.authoring.sandbox.prompts.workshop import Workshop
from plue.templating.rendering import OUTPUT_SCHEMA
from plue.templating.sources import FOLDER

__all__ = ["AGENT_FIELDS", "Library", "Prompt"]

MAX_FILES: Final = 50
MAX_CHARACTERS: Final = 256 * 1024
TEXT_OUTPUT: Final = object_of({"text": Kind({"type": "string"})})
"""What a prompt of type llm answers when its front matter names no output."""

_HIDES_NAMES: Final = (Code.TEMPLATE_CYCLE, Code.FRONT_MATTER)
"""While these are there it is not known which names there are."""

AGENT_FIELDS: Final[Mapping[str, dict[str, object]]] = {
    "status": {"type": "string"},
    "summary": {"type": "string"},
    "turns": {"type": "integer"},
}
"""What every agent has, however it ended."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as a whole; broken when one of its ``problems`` is an error."""

    name: str
    file: str
    line: int
    kind: str
    description: str | None
    client: str | None
    inputs: Mapping[str, Kind]
    output: Kind | None
    tools: tuple[str, ...]
    tools_at: Mapping[str, Place]
    max_turns: int | None
    documents: Mapping[str, Document]
    digest: str
    workshop: Workshop
    problems: Sequence[Problem] = ()
    warnings: Sequence[Problem] = ()

    @property
    def import_name(self) -> str:
        """The name under which workflows import it."""
        return import_name(self.name)

    @property
    def step_name(self) -> str:
        """The name of its step, unless the call gives one."""
        return step_name(self.name)

    @property
    def inputs_schema(self) -> dict[str, object]:
        """JSON Schema 2020-12 of its inputs."""
        return object_of(dict(self.inputs)).schema

    @property
    def output_schema(self) -> dict[str, object] | None:
        """JSON Schema 2020-12 of its answer; None for an agent that has none."""
        return None if self.output is None else self.output.schema

    def sources(self) -> dict[str, dict[str, object]]:
        """Return the bodies as ``plue.wire.plan.Template`` dumps them."""
        return {
            file: {
                "text": document.source.text,
                "line": document.source.line,
                "extends": document.source.extends,
            }
            for file, document in self.documents.items()
        }

    @property
    def files(self) -> list[str]:
        """The files that it is made of, those of its tools included."""
        tools = self.workshop.files(self.tools) if self.kind == "agent" else []
        return [*self.documents, *(path for path in tools if path not in self.documents)]

    def wire(self) -> dict[str, object]:
        """Return it as ``plue.wire.plan.Prompt`` dumps it, without what a call gives."""
        return {
            "kind": self.kind,
            "prompt": self.name,
            "digest": self.digest,
            "template": self.file,
            "sources": self.sources(),
            "inputs_schema": self.inputs_schema,
            "client": self.client,
        }

    def info(self) -> dict[str, object]:
        """Return what the evaluator tells of it."""
        return {
            "name": self.name,
            "import_name": self.import_name,
            "file": self.file,
            "line": self.line,
            "kind": self.kind,
            "description": self.description,
            "client": self.client,
            "inputs_schema": self.inputs_schema,
            "output_schema": self.output_schema,
            "tools": list(self.tools),
            "max_turns": self.max_turns,
            "files": list(self.files),
            "digest": self.digest,
            "broken": bool(self.problems),
        }


@dataclass
class _Whole:
    """A prompt that is being put together."""

    documents: dict[str, Document] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    includes: dict[str, set[str]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    chain: list[Document] = field(default_factory=list)


class Library:
    """The files below ``.plue/prompts/``; each is parsed when it is first needed, once."""

    def __init__(self, files: Mapping[str, str], models: Mapping[str, Any] | None = None) -> None:
        """Offer *files*, text by path; *models* is what the project's configuration says."""
        self.files = dict(files)
        self._bodies = {path for path in files if FOLDER in f"/{path}"}
        self._client = (models or {}).get("client")
        self.workshop = Workshop(files, (models or {}).get("mcp") or {}, self.find)
        self._documents: dict[str, Document] = {}
        self._prompts: dict[str, Prompt] = {}
        self._by_name: dict[str, list[str]] = {}
        for path in sorted(self._bodies):
            if path.endswith(SUFFIX):
                name = import_name(quick_name(path, files[path]))
                self._by_name.setdefault(name, []).append(path)

    @property
    def names(self) -> list[str]:
        """The names under which prompts are imported."""
        return list(self._by_name)

    def find(self, name: str) -> Prompt | None:
        """Return the prompt that is imported as *name*, or is called *name*."""
        paths = self._by_name.get(name) or self._by_name.get(import_name(name))
        return None if not paths else self.prompt(paths[0])

    def all(self) -> Iterator[Prompt]:
        """Yield every prompt, in the order of their paths."""
        for path in sorted(path for paths in self._by_name.values() for path in paths):
            yield self.prompt(path)

    def duplicates(self) -> Iterator[Problem]:
        """Yield what is wrong between prompts: names that are taken."""
        for name, (first, *others) in self._by_name.items():
            for path in others:
                place = self.document(path).front.given.get("name", Place(path, 1))
                before = self.document(first).front.given.get("name", Place(first, 1))
                yield Problem(
                    Code.DUPLICATE_PROMPT,
                    f"prompt `{name}` is also in {first}, line {before.line}",
                    remedy="give one of them another name",
                    place=place,
                    related=(first, before.line),
                )

    def document(self, path: str) -> Document:
        """Return a parsed file."""
        if path not in self._documents:
            self._documents[path] = parse_document(path, self.files[path])
        return self._documents[path]

    def prompt(self, path: str) -> Prompt:
        """Return the prompt of a file, put together and checked."""
        if path not in self._prompts:
            # Known before its tools are looked at: prompts that are tools may name each other.
            self._prompts[path] = found = self._put_together(path)
            wrong = list(self.workshop.problems_of(found.tools, found.tools_at))
            self._prompts[path] = replace(found, problems=[*found.problems, *wrong])
        return self._prompts[path]

    # ── putting together ─────────────────────────────────────────────────────────────────────────

    def _put_together(self, path: str) -> Prompt:
        whole = _Whole()
        self._gather(whole, path, ())
        main = self.document(path)
        self._follow(whole, main)
        front, inputs = main.front, _inputs(whole.chain)
        kind = _first(whole.chain, "type", "type") or "llm"
        output = next((d.front.output for d in whole.chain if "output" in d.front.given), None)
        if output is None and kind == "llm":
            output = TEXT_OUTPUT
        whole.problems += _too_large(whole, main)
        if not any(problem.code in _HIDES_NAMES for problem in whole.problems):
            whole.problems += _bad_names(whole, inputs, has_output=output is not None)
        if kind == "llm" and main.front.type == "llm":
            whole.problems += _agent_keys(main)
        digest = hashlib.sha256()
        for file, document in sorted(whole.documents.items()):
            for part in (file, document.text):
                digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        warnings = [] if whole.problems else _unused(main, whole, front.inputs)
        max_turns = next(
            (d.front.max_turns for d in whole.chain if "max_turns" in d.front.given), None
        )
        fronts = [d.front for d in whole.chain if "tools" in d.front.given]
        tools = fronts[0].tools if fronts else ()
        return Prompt(
            name=main.name,
            file=path,
            line=front.given["name"].line if "name" in front.given else 1,
            kind=kind,
            description=front.description,
            client=_first(whole.chain, "client", "client") or self._client,
            inputs=inputs,
            output=output,
            tools=tools if kind == "agent" else (),
            tools_at=fronts[0].tools_at if fronts else {},
            max_turns=max_turns if kind == "agent" else None,
            documents=whole.documents,
            digest=digest.hexdigest(),
            workshop=self.workshop,
            problems=whole.problems,
            warnings=warnings,
        )

    def _gather(self, whole: _Whole, path: str, trail: tuple[str, ...]) -> None:
        """Collect *path* and the files that it uses, with their own problems."""
        document = self.document(path)
        if path not in whole.documents:
            whole.documents[path] = document
            whole.problems += [*document.problems, *document.body.problems]
        elif path not in trail:
            return
        for use in document.body.uses:
            place = _place_of(use, document)
            if use.path in (*trail, path):
                names = [*(*trail, path)[(*trail, path).index(use.path) :], use.path]
                shown = " → ".join(name.rpartition(FOLDER)[2] for name in names)
                whole.problems.append(
                    Problem(
                        Code.TEMPLATE_CYCLE,
                        f"files use each other: {shown}",
                        remedy="move what both need into a third file",
                        place=place,
                    )
                )
            elif use.path not in self._bodies:
                whole.problems.append(self._absent(use, place))
            else:
                if use.role == "include":
                    whole.includes.setdefault(use.path, set()).add(path)
                if use.role == "import" and not use.sees:
                    whole.hidden.add(use.path)
                self._gather(whole, use.path, (*trail, path))

    def _absent(self, use: Use, place: Place) -> Problem:
        folder, _, name = use.path.rpartition(FOLDER)
        known = [path.rpartition(FOLDER)[2] for path in sorted(self._bodies)]
        return Problem(
            Code.TEMPLATE_FILE,
            f"there is no file {folder}{FOLDER}{name}{did_you_mean(name, known)}",
            remedy=f"name a file from {FOLDER} on" if known else f"add it below {FOLDER}",
            place=place,
        )

    def _follow(self, whole: _Whole, main: Document) -> None:
        """Collect the chain of what *main* extends, itself first."""
        document: Document | None = main
        while document is not None and document not in whole.chain:
            whole.chain.append(document)
            bases = [use for use in document.body.uses if use.role == "extends"]
            if len(bases) > 1:
                whole.problems.append(
                    Problem(
                        Code.TEMPLATE_FILE,
                        "a prompt extends one other",
                        remedy="write `extends` into the front matter only",
                        place=_place_of(bases[-1], document),
                    )
                )
            if bases and document.body.outside is not None:
                whole.problems.append(
                    Problem(
                        Code.OUTSIDE_BLOCKS,
                        "what stands outside of a block does not appear in a prompt that extends",
                        remedy="put it into {% block name %}…{% endblock %} of the extended file",
                        place=document.body.outside,
                    )
                )
            document = whole.documents.get(bases[0].path) if bases else None


def _place_of(use: Use, document: Document) -> Place:
    if use.role == "extends" and use.path == document.source.extends:
        return document.front.given["extends"]
    return use.place


def _first(chain: Sequence[Document], key: str, attribute: str) -> str | None:
    found = (getattr(d.front, attribute) for d in chain if key in d.front.given)
    return next(found, None)


def _inputs(chain: Sequence[Document]) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for document in reversed(chain):
        found.update(document.front.inputs)
    return found


def _agent_keys(main: Document) -> list[Problem]:
    if "extends" not in main.front.given:
        return []  # said already
    return [
        Problem(
            Code.PROMPT_VALUE,
            f"`{key}` belongs to agents",
            remedy="write `type: agent`, or remove it",
            place=main.front.given[key],
        )
        for key in ("tools", "max_turns")
        if key in main.front.given
    ]


def _too_large(whole: _Whole, main: Document) -> list[Problem]:
    size = sum(len(document.text) for document in whole.documents.values())
    if size <= MAX_CHARACTERS and len(whole.documents) <= MAX_FILES:
        return []
    return [
        Problem(
            Code.FILE_TOO_LARGE,
            f"the prompt is made of {len(whole.documents)} files with {size:,} characters",
            remedy=f"{MAX_FILES} files and {MAX_CHARACTERS:,} characters are allowed",
            place=Place(main.file, 1),
        )
    ]


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def _bad_names(whole: _Whole, inputs: Mapping[str, Kind], *, has_output: bool) -> Iterator[Problem]:
    """Yield the variables that no file defines, and fields that a type excludes."""
    for path, document in whole.documents.items():
        hidden = path in whole.hidden and path not in whole.includes
        known = set() if hidden else {*inputs, *_visible(whole, path)}
        if has_output and not hidden:
            known.add(OUTPUT_SCHEMA)
        for name, places in document.body.names.items():
            if name not in known:
                for place in places:
                    yield _undefined(name, place, known, hidden=hidden, has_output=has_output)
        for name, chain, place in document.body.chains:
            if name in inputs and name in known and name in document.body.names:
                told = field_problem(inputs[name].schema, name, chain)
                if told is not None:
                    yield Problem(Code.TEMPLATE_NAME, told[0], remedy=told[1], place=place)


def _visible(whole: _Whole, path: str) -> set[str]:
    """Return what other files may define for *path*: those that include it, and its relatives."""
    found: set[str] = set()
    waiting, seen = [path], {path}
    while waiting:
        for user in whole.includes.get(waiting.pop(), ()):
            if user not in seen:
                seen.add(user)
                waiting.append(user)
    files = seen - {path} | {d.file for d in whole.chain}
    for file in files:
        found |= whole.documents[file].body.sets
        # A loop's variable and a macro's argument are seen by what is included there.
        found |= whole.documents[file].body.locals if file in seen - {path} else set()
    return found


def _undefined(
    name: str, place: Place, known: set[str], *, hidden: bool, has_output: bool
) -> Problem:
    if hidden:
        remedy = "an imported file does not see the inputs: pass it to the macro as an argument"
    elif name == OUTPUT_SCHEMA and not has_output:
        remedy = "declare `output:` in the front matter"
    else:
        remedy = "declare it below `inputs:`, or correct its spelling"
        if known:
            remedy += "; there are: " + ", ".join(sorted(known))
    near = did_you_mean(name, sorted(known))
    return Problem(Code.TEMPLATE_NAME, f"`{name}` is not defined{near}", remedy=remedy, place=place)


def _unused(main: Document, whole: _Whole, own: Mapping[str, Kind]) -> list[Problem]:
    if main.body.has_blocks and len(whole.chain) == 1:
        return []  # whoever extends it fills its blocks, and may use the input there
    used = {name for document in whole.documents.values() for name in document.body.names}
    return [
        Problem(
            Code.UNUSED_INPUT,
            f"input `{name}` is never used in the text",
            remedy="use it, or remove it",
            place=main.front.inputs_at[name],
        )
        for name in own
        if name not in used
    ]

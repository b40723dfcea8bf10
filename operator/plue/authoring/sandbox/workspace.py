"""``ctx.read``, ``glob``, ``write``, ``hash_files`` and ``ctx.git``: hidden steps at their place.

Each records a step that the runner executes itself, after what stands above it, and returns a
reference to its value. Nothing here touches a file: the sandbox has none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.book import Book
from plue.authoring.sandbox.handles import Handle
from plue.authoring.sandbox.kinds import refuse_unknown
from plue.authoring.sandbox.problems import Problem
from plue.authoring.sandbox.steps import (
    attempt,
    definition_of,
    number_of,
    references_in,
    refuse_nul,
    shown_text,
    wire_text,
)
from plue.authoring.sandbox.texts import text_of
from plue.authoring.sandbox.values import TEXT, Guarded, Ref, RefPart, Text, concat, parts_of

__all__ = ["GitSteps", "WorkspaceSteps", "bases_of"]

MAX_NAME: Final = 100
PATHS: Final = {"type": "array", "items": {"type": "string"}}
Json = dict[str, object]


def _named(word: str, text: object = "") -> str:
    """Return a hidden step's name: ``read VERSION``; long ones keep their end."""
    shown = "".join(c if c.isprintable() else " " for c in shown_text(text_of(text))).strip()
    room = MAX_NAME - len(word) - 1
    return f"{word} {shown if len(shown) <= room else '…' + shown[1 - room :]}".strip()


def _checked(value: object, what: str) -> str | Text:
    """Return a path or pattern, checked as far as the author wrote it. Raises Problem."""
    text = text_of(value)
    refuse_nul(text, what)
    if isinstance(text, str):
        parts = [part for part in text.split("/") if part not in {"", "."}]
        if text.startswith("/") or ".." in parts or not parts:
            raise Problem(
                Code.PATH,
                f"the {what} {text!r} is not inside the workspace",
                remedy="write it relative to the workspace, without `..`",
            )
    return text


def _positional(what: str, args: Sequence[object], names: Sequence[str]) -> Json:
    if len(args) > len(names):
        raise Problem(
            Code.STEP_ARGUMENT,
            f"{what} takes {', '.join(names) or 'nothing'} by position",
            remedy="give the rest by name",
        )
    return dict(zip(names, args, strict=False))


class _HiddenSteps:
    """Records hidden steps in a book."""

    def __init__(self, book: Book, check: Callable[[], None]) -> None:
        """Record in *book*; *check* refuses to record where no step may be recorded."""
        self._book = book
        self._check = check

    def _path(self, value: object, what: str) -> str | Text:
        """Return a path or pattern; what is wrong with it is noted."""
        stand_in: str | Text = "x"
        return attempt(self._book, lambda: _checked(value, what), stand_in)

    def record(self, name: str, action: Json, *texts: object) -> Handle:
        """Record a step that does *action*, which uses *texts*."""
        book = self._book
        book.check_open()
        self._check()
        with book.recording(name, hidden=True) as step:
            needs = book.order(step, None, references_in(*texts))
            book.close_step(step, definition_of(step, action, needs))
        return Handle(step)


class WorkspaceSteps(_HiddenSteps):
    """The methods of ctx that work on files."""

    @property
    def members(self) -> dict[str, object]:
        """The methods by name."""
        return {
            "read": self.read,
            "glob": self.glob,
            "write": self.write,
            "hash_files": self.hash_files,
            "cache_key": self.cache_key,
        }

    def read(self, *args: object, **given: object) -> Ref:
        """Read a file's text."""
        refuse_unknown("ctx.read", given, ("path", "default"))
        options = _positional("ctx.read", args, ("path",)) | given
        return self._read(options)

    def _read(self, options: Json) -> Ref:
        path = self._path(_needed("ctx.read", options, "path"), "path")
        default: str | Text | None = None
        if "default" in options:
            default = _text("default", options["default"])
        action: Json = {
            "kind": "read",
            "path": wire_text(path),
            "default": None if default is None else wire_text(default),
            "shown": _named("read", path),
        }
        step = self.record(_named("read", path), action, path, default)
        return Ref(RefPart(step.step, "stdout"), TEXT)

    def write(self, *args: object, **given: object) -> Handle:
        """Write a file's text."""
        refuse_unknown("ctx.write", given, ("path", "text"))
        options = _positional("ctx.write", args, ("path", "text")) | given
        return self._write(options)

    def _write(self, options: Json) -> Handle:
        path = self._path(_needed("ctx.write", options, "path"), "path")
        text = _text("text", _needed("ctx.write", options, "text"))
        action: Json = {
            "kind": "write",
            "path": wire_text(path),
            "text": wire_text(text),
            "shown": _named("write", path),
        }
        return self.record(_named("write", path), action, path, text)

    def glob(self, *patterns: object, **given: object) -> Ref:
        """List files by patterns."""
        return self._by_patterns("ctx.glob", "glob", patterns, given)

    def hash_files(self, *patterns: object, **given: object) -> Ref:
        """Hash the files that match."""
        return self._by_patterns("ctx.hash_files", "hash", patterns, given)

    def cache_key(self, *args: object, **given: object) -> str | Text:
        """Return a cache's key: a name, and the hash of the files that match."""
        refuse_unknown("ctx.cache_key", given, ())
        if not args:
            raise Problem(
                Code.STEP_ARGUMENT,
                "ctx.cache_key needs a name and a pattern",
                remedy='write ctx.cache_key("deps", "package-lock.json")',
            )
        found = self._by_patterns("ctx.cache_key", "hash", args[1:], {})
        return concat((text_of(args[0]), "-", found))

    def _by_patterns(
        self, what: str, kind: str, patterns: Sequence[object], given: Mapping[str, object]
    ) -> Ref:
        refuse_unknown(what, given, ())
        return self._matching(what, kind, patterns)

    def _matching(self, what: str, kind: str, given: Sequence[object]) -> Ref:
        patterns = [self._path(pattern, "pattern") for pattern in _flat(given)]
        if not patterns:
            raise Problem(
                Code.STEP_ARGUMENT, f"{what} needs a pattern", remedy=f'write {what}("**/*.py")'
            )
        name = _named(kind, " ".join(shown_text(pattern) for pattern in patterns))
        action: Json = {
            "kind": kind,
            "patterns": [wire_text(pattern) for pattern in patterns],
            "shown": name,
        }
        step = self.record(name, action, *patterns).step
        if kind == "hash":
            return Ref(RefPart(step, "stdout"), TEXT)
        return Ref(RefPart(step, "outputs", ("files",)), PATHS)


class GitSteps(_HiddenSteps, Guarded):
    """``ctx.git``."""

    def __init__(self, book: Book, check: Callable[[], None], bases: Sequence[Json]) -> None:
        """Compare with the first of *bases* that exists, unless the author names another."""
        super().__init__(book, check)
        self._bases = list(bases)

    @property
    def name(self) -> str:
        """For messages."""
        return "ctx.git"

    def attribute(self, name: str) -> object:
        """Return a method."""
        methods = {"diff": self.diff, "log": self.log, "changed_files": self.changed_files}
        if name in methods:
            return methods[name]
        raise Problem(
            Code.UNKNOWN_FIELD,
            f"ctx.git has no `.{name}`",
            remedy="it has: " + ", ".join(methods) + "; for the rest, run git in a step",
        )

    def diff(self, *paths: object, **given: object) -> Ref:
        """Return the patch since the base."""
        refuse_unknown("ctx.git.diff", given, ("base",))
        return self._ask("diff", paths, given)

    def changed_files(self, *paths: object, **given: object) -> Ref:
        """Return the paths that differ from the base."""
        refuse_unknown("ctx.git.changed_files", given, ("base",))
        return self._ask("changed_files", paths, given)

    def log(self, *paths: object, **given: object) -> Ref:
        """Return the commits since the base."""
        refuse_unknown("ctx.git.log", given, ("base", "most"))
        return self._ask("log", paths, given)

    def _ask(self, query: str, given: Sequence[object], options: Mapping[str, object]) -> Ref:
        paths = [self._path(path, "path") for path in _flat(given)]
        bases, base = self._bases, options.get("base")
        if base is not None:
            base = _text("base", base)
            bases = [{"rev": wire_text(base), "merge_base": True}]
        words = [query.replace("_", " "), *(shown_text(path) for path in paths)]
        name = _named("git", " ".join(words))
        action: Json = {
            "kind": "git",
            "query": query,
            "bases": bases,
            "paths": [wire_text(path) for path in paths],
            "most": number_of(options.get("most", 50), "most", 10_000) or 1,
            "shown": name,
        }
        step = self.record(name, action, paths, base).step
        if query == "changed_files":
            return Ref(RefPart(step, "outputs", ("files",)), PATHS)
        return Ref(RefPart(step, "stdout"), TEXT)


def bases_of(event: Mapping[str, object]) -> list[Json]:
    """Return what ``ctx.git`` compares with, the first choice first.

    A pull request's merge base; what a push's ``before`` was; else where the default branch was
    left.
    """
    bases: list[tuple[object, bool]] = []
    request = event.get("pull_request")
    if isinstance(request, dict) and isinstance(base := request.get("base"), dict):
        bases += [(base.get("sha"), True), *_branch(base.get("ref"))]
    before = event.get("before")
    if isinstance(before, str) and before.strip("0"):  # zeros: the branch is new
        bases.append((before, False))
    repository = event.get("repository")
    default = repository.get("default_branch") if isinstance(repository, dict) else None
    bases += _branch(default) if default else [("refs/remotes/origin/HEAD", True)]
    if not default:
        bases += [*_branch("main"), *_branch("master")]
    return [
        {"rev": [{"data": rev}], "merge_base": merge}
        for rev, merge in bases
        if isinstance(rev, str) and rev
    ]


def _branch(name: object) -> list[tuple[object, bool]]:
    if not isinstance(name, str) or not name:
        return []
    short = name.removeprefix("refs/heads/")
    return [(f"refs/remotes/origin/{short}", True), (f"refs/heads/{short}", True)]


def _needed(what: str, options: Json, name: str) -> object:
    if name not in options:
        raise Problem(Code.STEP_ARGUMENT, f"{what} needs {name}", remedy=f"write {name}=...")
    return options[name]


def _text(what: str, value: object) -> str | Text:
    if value is None:
        raise Problem(Code.STEP_ARGUMENT, f"{what} is None, not text", remedy=f'write {what}=""')
    text = text_of(value)
    parts_of(text)
    return text


def _flat(values: Sequence[object]) -> list[object]:
    """Return the values; one that is a list stands for its items."""
    found: list[object] = []
    for value in values:
        found += value if isinstance(value, (list, tuple)) else [value]
    return found

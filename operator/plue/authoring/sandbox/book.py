"""The book of one evaluation: what was recorded, in which order, and where it waits.

It owns names, order, branches and the end of a stage; what a step *is* comes ready-made from
``steps``. Author code never holds the book itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import Place, Problem, StageEnd, author_place, did_you_mean
from plue.authoring.sandbox.values import RefPart

__all__ = ["Book", "Branch", "Recorded"]

MAX_STEPS: Final = 1000
MAX_PROBLEMS: Final = 50


@dataclass(eq=False)
class Branch:
    """One line of steps: the function itself, or an element of ``ctx.parallel``.

    ``frontier`` are the steps that nothing recorded in this branch waits for yet.
    """

    path: tuple[str, ...] = ()
    start: list[str] = field(default_factory=list)
    frontier: list[str] = field(default_factory=list)
    parallels: int = 0
    ended: bool = False
    made: list["Recorded"] = field(default_factory=list)
    repeats: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class Recorded:
    """One recorded step. ``definition`` is its dump as ``plue.wire.plan.Step``."""

    book: "Book"
    name: str
    place: Place
    branch: Branch
    given_name: str
    handled: bool = False
    never: bool = False
    definition: dict[str, object] = field(default_factory=dict)

    def ask(self, part: RefPart) -> object:
        """Return the value of *part*, or end the stage."""
        return self.book.ask(self, part)


class Book:
    """What one evaluation records. Every method is called from the author's code."""

    def __init__(
        self,
        known: Mapping[str, Mapping[str, object]] | None = None,
        recorded: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """Begin with the values *known* so far and the steps *recorded* by earlier stages."""
        self.known = dict(known or {})
        self.expected = {str(step["name"]): step for step in recorded}
        self.branch = Branch()
        self.steps: dict[str, Recorded] = {}
        self.fails: list[dict[str, object]] = []
        self.awaits: list[RefPart] = []
        self.problems: list[Problem] = []
        self.forward: list[tuple[Recorded, str]] = []

    # ── steps ────────────────────────────────────────────────────────────────────────────────────

    def check_open(self) -> None:
        """End this branch again if it has ended: what runs afterwards records nothing."""
        if self.branch.ended:
            raise StageEnd

    def report(self, problem: Problem) -> None:
        """Note a problem that need not end the evaluation, so that others are found too."""
        self.problems.append(problem)
        if len(self.problems) >= MAX_PROBLEMS:
            raise problem

    @contextmanager
    def recording(self, name: str, *, hidden: bool = False) -> Iterator[Recorded]:
        """Give a step its final name and its place; the caller ends with ``close_step``.

        A *hidden* one was not named by the author: its name says its branch, and counts there.

        When something ends the evaluation in between, such as an option whose value is not known
        yet, the step was never there.
        """
        self.check_open()
        branch = self.branch
        frontier, repeats, forward = list(branch.frontier), dict(branch.repeats), len(self.forward)
        step = self._open_step(name, hidden=hidden)
        try:
            yield step
        except BaseException:
            del self.steps[step.name], self.forward[forward:]
            branch.made.remove(step)
            branch.frontier, branch.repeats = frontier, repeats
            raise

    def _open_step(self, name: str, *, hidden: bool) -> Recorded:
        place = author_place() or Place("", 1)
        if len(self.steps) >= MAX_STEPS:
            raise Problem(
                Code.TOO_MANY_STEPS,
                f"the run has more than {MAX_STEPS} steps",
                remedy="let one step do several things, or look for a loop that does not end",
            )
        unique = self._unique_hidden(name) if hidden else self._unique(name, place)
        step = Recorded(self, unique, place, self.branch, name)
        self.steps[step.name] = step
        self.branch.made.append(step)
        return step

    def _unique(self, name: str, place: Place) -> str:
        first = self.steps.get(name)
        if first is None:
            return name
        here = (place.file, place.line, place.column)
        if first.branch is self.branch and here == (
            first.place.file,
            first.place.line,
            first.place.column,
        ):
            count = self.branch.repeats[name] = self.branch.repeats.get(name, 1) + 1
            return f"{name}#{count}"
        which = "branches" if first.branch is not self.branch else "places"
        self.report(
            Problem(
                Code.DUPLICATE_STEP,
                f"two {which} name a step `{name}`; the first is in line {first.place.line}",
                remedy=f'give each its own name, such as f"{name}-{{p}}"',
                related=(first.place.file, first.place.line),
            )
        )
        return self._free(name)

    def _unique_hidden(self, name: str) -> str:
        branch = self.branch
        # Branches are evaluated at different times: counting over all of them would not replay.
        if branch.path:
            name = f"{name} [{'.'.join(branch.path)}]"
        if name not in self.steps:
            return name
        count = branch.repeats[name] = branch.repeats.get(name, 1) + 1
        return f"{name}#{count}"

    def _free(self, name: str) -> str:
        number = 2
        while f"{name}##{number}" in self.steps:
            number += 1
        return f"{name}##{number}"

    def order(
        self, step: Recorded, depends_on: Sequence[str] | None, used: Sequence[str]
    ) -> list[str]:
        """Return the needs of *step* and make it the branch's newest."""
        branch = self.branch
        needs = list(branch.frontier if depends_on is None else depends_on or branch.start)
        needs += [name for name in used if name not in needs]
        branch.frontier = [name for name in branch.frontier if name not in needs]
        branch.frontier.append(step.name)
        return needs

    def close_step(self, step: Recorded, definition: dict[str, object]) -> None:
        """Record the finished definition; it must be what an earlier stage recorded."""
        step.definition = definition
        before = self.expected.get(step.name)
        if before is not None and not _same(before, definition):
            self.report(self._diverged(step.name, before, definition))

    def _diverged(
        self, name: str, before: Mapping[str, object], now: Mapping[str, object]
    ) -> Problem:
        parts = [key for key in now if key != "site" and before.get(key) != now[key]]
        site = before.get("site")
        line = site["line"] if isinstance(site, dict) else 1
        return Problem(
            Code.REPLAY,
            f"step `{name}` is not what an earlier stage recorded ({', '.join(parts)} differ)",
            remedy="the same inputs and results must lead to the same steps",
            related=(str(site["file"]), int(line)) if isinstance(site, dict) else None,
        )

    # ── branches ─────────────────────────────────────────────────────────────────────────────────

    def parallel(
        self, elements: Sequence[Callable[[], object]]
    ) -> tuple[list[object], list[Branch]]:
        """Evaluate each element as a branch of its own; ends the caller if one is blocked."""
        self.check_open()
        outer = self.branch
        outer.parallels += 1
        inner: list[Branch] = []
        values: list[object] = []
        for index, element in enumerate(elements):
            path = (*outer.path, str(outer.parallels), str(index))
            branch = Branch(path, list(outer.frontier), list(outer.frontier))
            inner.append(branch)
            values.append(self._evaluate(element, branch, outer))
        self._join(outer, inner)
        if any(branch.ended for branch in inner):
            outer.ended = True
            raise StageEnd
        return values, inner

    def _evaluate(self, element: Callable[[], object], branch: Branch, outer: Branch) -> object:
        self.branch = branch
        try:
            return element()
        except StageEnd:
            branch.ended = True
            return None
        finally:
            self.branch = outer

    @staticmethod
    def _join(outer: Branch, inner: Sequence[Branch]) -> None:
        ends: list[str] = []
        for branch in inner:
            outer.made += branch.made
            if branch.made:
                ends += [name for name in branch.frontier if name not in ends]
        outer.frontier = ends or outer.frontier

    # ── values ───────────────────────────────────────────────────────────────────────────────────

    def ask(self, step: Recorded, part: RefPart) -> object:
        """Return a value that the author's code asks for."""
        self.check_open()
        if step.never:
            return _of_skipped(part)
        if part.field in ("ok", "exit_code") and not step.handled:
            raise Problem(
                Code.OK_UNHANDLED,
                f"asking {part.shown} can only ever say success: "
                f"a failure of `{step.name}` is not handled",
                remedy=f"add continue_on_error=True to step `{step.name}`",
                related=(step.place.file, step.place.line),
            )
        values = self.known.get(step.name)
        if values is None:
            self.await_part(part)
        elif values.get("state") != "succeeded" and not step.handled:
            self.park()
        else:
            return _look_up(step, part, values)
        raise StageEnd

    def await_part(self, part: RefPart) -> None:
        """End the branch until *part* is known."""
        if all(part.wire() != other.wire() for other in self.awaits):
            self.awaits.append(part)
        self.park()

    def park(self) -> None:
        """End the branch."""
        self.branch.ended = True
        raise StageEnd

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def finish(self) -> None:
        """Check what can be checked only at the end: forward dependencies, cycles, replay."""
        for step, name in self.forward:
            if name not in self.steps:
                self.problems.append(self._unknown_dependency(step, name))
                needs = step.definition.get("needs")
                if isinstance(needs, list):
                    needs.remove(name)
        self._find_cycle()
        if self.problems:
            return
        for name, before in self.expected.items():
            if name not in self.steps:
                site = before.get("site")
                file, line = (site["file"], site["line"]) if isinstance(site, dict) else ("", 1)
                self.problems.append(
                    Problem(
                        Code.REPLAY,
                        f"step `{name}` of an earlier stage was not recorded again",
                        remedy="the same inputs and results must lead to the same steps",
                        place=Place(str(file), int(line)),
                    )
                )

    def _unknown_dependency(self, step: Recorded, name: str) -> Problem:
        near = did_you_mean(name, [other for other in self.steps if other != step.name])
        return Problem(
            Code.UNKNOWN_DEPENDENCY,
            f"step `{step.name}` depends on `{name}`, which is not a step of this run{near}",
            remedy="use the handle that ctx.run returned",
            place=step.place,
        )

    def _find_cycle(self) -> None:
        done: set[str] = set()
        for name in self.steps:
            trail: list[str] = []
            if name not in done and (cycle := self._walk(name, trail, done)):
                later = self.steps[cycle[0]]
                self.problems.append(
                    Problem(
                        Code.CYCLE,
                        "steps wait for each other: " + " → ".join(cycle),
                        remedy="a step starts after what is recorded above it; move the step "
                        "that is depended on further up, or give it depends_on=[]",
                        place=later.place,
                    )
                )
                return

    def _walk(self, start: str, trail: list[str], done: set[str]) -> list[str] | None:
        # Iterative: a chain of 1,000 steps is deeper than Python's own stack likes.
        stack = [(start, iter(self._needs(start)))]
        trail.append(start)
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                trail.pop()
                done.add(name)
            elif following in trail:
                return [*trail[trail.index(following) :], following]
            elif following not in done:
                trail.append(following)
                stack.append((following, iter(self._needs(following))))
        return None

    def _needs(self, name: str) -> list[str]:
        step = self.steps.get(name)
        needs = step.definition.get("needs") if step else None
        return list(needs) if isinstance(needs, list) else []


def _same(before: Mapping[str, object], now: Mapping[str, object]) -> bool:
    return all(before.get(key) == value for key, value in now.items() if key != "site")


def _of_skipped(part: RefPart) -> object:
    """Return the values of a step with ``when=False``: not ok, no text, no outputs."""
    if part.field == "ok":
        return False
    if part.field == "state":
        return "skipped"
    if part.field in ("stdout", "stderr", "log"):
        return ""
    if part.default is not None:
        return part.default
    raise Problem(
        Code.MISSING_VALUE,
        f"{part.shown} is missing: the step is skipped (when=False)",
        remedy="test .ok first, or use .outputs.get(name, default)",
    )


def _look_up(step: Recorded, part: RefPart, values: Mapping[str, object]) -> object:
    value = values.get(part.field)
    for key in part.path:
        if isinstance(value, dict) and key in value:
            value = value[str(key)]
        elif isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
            value = value[key]
        elif part.default is not None:
            return part.default
        else:
            raise Problem(
                Code.MISSING_VALUE,
                f"{part.shown} is missing: step `{step.name}` did not give it",
                remedy="use .outputs.get(name, default) where it may be absent",
            )
    if part.tail is not None and isinstance(value, str):
        return "\n".join(value.splitlines()[-part.tail :])
    return value

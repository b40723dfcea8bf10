"""The book of one evaluation: what was recorded, in which order, and where it waits.

It owns names, order, branches and the end of a stage; what a step *is* comes ready-made from
``steps``. Author code never holds the book itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.inventing import invented
from plue.authoring.sandbox.problems import (
    Finish,
    Place,
    Problem,
    StageEnd,
    author_place,
    did_you_mean,
)
from plue.authoring.sandbox.results import UNKNOWN, Results, shown_value
from plue.authoring.sandbox.values import RefPart

__all__ = ["Book", "Branch", "Earlier", "Frame", "Recorded"]

MAX_STEPS: Final = 1000
MAX_PROBLEMS: Final = 50
MAX_STAGE_ENDS: Final = 50
MAX_INVENTED: Final = 500
"""How many answers are invented, and steps recorded, for one look behind a stage's end."""

MAX_WHY: Final = 5
"""How many of the newest answers are told of a step that depends on many."""

DEFAULTS: Final[Mapping[str, object]] = {
    "needs": [], "when": "success", "continue_on_error": False, "env": {}, "cwd": [],
    "timeout_seconds": None, "idle_timeout_seconds": None, "retry": 0, "cleanup": False,
    "once": False, "output_schema": None, "cache": [], "branch": [], "group": [],
}  # fmt: skip
"""What ``plue.wire.plan.Step`` takes for what is not there: most of a step, so not written out."""

_NONE: Final = object()

Why = dict[str, object]


@dataclass(eq=False)
class Branch:
    """One line of steps: the function itself, or an element of ``ctx.parallel``.

    ``frontier`` are the steps that nothing recorded in this branch waits for yet. ``answers`` are
    the values that the code has got since the last step, ``why`` those before it. ``waited`` are
    the questions that ended a stage along this branch.
    """

    path: tuple[str, ...] = ()
    start: list[str] = field(default_factory=list)
    frontier: list[str] = field(default_factory=list)
    parallels: int = 0
    ended: bool = False
    made: list["Recorded"] = field(default_factory=list)
    repeats: dict[str, int] = field(default_factory=dict)
    answers: list[Why] = field(default_factory=list)
    why: list[Why] = field(default_factory=list)
    waited: frozenset[str] = frozenset()

    def inner(self, path: tuple[str, ...]) -> "Branch":
        """Return a branch that begins where this one is now."""
        return Branch(
            path,
            list(self.frontier),
            list(self.frontier),
            answers=list(self.answers),
            why=list(self.why),
            waited=self.waited,
        )


@dataclass(eq=False)
class Frame:
    """One function that records: the workflow itself, or a called one.

    ``prefix`` stands before the names of its steps, ``groups`` are the display groups that it is
    in, ``root`` is the branch that it began in, ``closed`` says that it has ended.
    """

    root: Branch
    prefix: str = ""
    depth: int = 0
    groups: tuple[str, ...] = ()
    closed: bool = False


@dataclass(eq=False)
class Recorded:
    """One recorded step. ``definition`` is its dump as ``plue.wire.plan.Step``, less defaults."""

    book: "Book"
    name: str
    place: Place
    branch: Branch
    given_name: str
    handled: bool = False
    never: bool = False
    cleanup: bool = False
    definition: dict[str, object] = field(default_factory=dict)
    why: list[Why] = field(default_factory=list)

    def ask(self, part: RefPart) -> object:
        """Return the value of *part*, or end the stage."""
        return self.book.ask(self, part)


@dataclass(frozen=True)
class Earlier:
    """What earlier stages left: known values, recorded steps, and the questions they ended with.

    A question is told by ``RefPart.question``.
    """

    known: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    recorded: Sequence[Mapping[str, object]] = ()
    asked: Sequence[str] = ()
    invents: bool | None = None
    """With True or False, what is not known is invented: as if all went well, or nothing."""


class Book:
    """What one evaluation records. Every method is called from the author's code."""

    def __init__(self, earlier: Earlier | None = None) -> None:
        """Begin with what *earlier* stages left; nothing in the first."""
        earlier = earlier or Earlier()
        self.results = Results(earlier.known)
        self.expected = {str(step["name"]): step for step in earlier.recorded}
        self.asked = frozenset(earlier.asked)
        self._invents = earlier.invents
        self._invented = 0
        self.branch = Branch()
        self.frame = Frame(self.branch)
        self.calls: dict[str, tuple[Branch, Place]] = {}
        self.saw_values = False
        self.steps: dict[str, Recorded] = {}
        self.fails: list[dict[str, object]] = []
        self.awaits: list[dict[str, object]] = []
        self.problems: list[Problem] = []
        self.forward: list[tuple[Recorded, str]] = []

    # ── steps ────────────────────────────────────────────────────────────────────────────────────

    def check_open(self) -> None:
        """End this branch, or function, again if it has ended: nothing more is recorded."""
        if self.branch.ended:
            raise StageEnd
        if self.frame.closed:
            raise Finish(self.frame)

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
        step = self._open_step(self.frame.prefix + name, hidden=hidden)
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
        if self._again(first.branch, first.place, place):
            return self._counted(name)
        self.report(_taken("name a step", name, first.branch is self.branch, first.place))
        return self._free(name)

    def _again(self, branch: Branch, before: Place, now: Place) -> bool:
        """Whether it is the same place of the same branch."""
        same = (before.file, before.line, before.column) == (now.file, now.line, now.column)
        return branch is self.branch and same

    def _counted(self, name: str) -> str:
        repeats = self.branch.repeats
        count = repeats[name] = repeats.get(name, 1) + 1
        return f"{name}#{count}"

    def open_call(self, name: str) -> str:
        """Return the name of a call, whole and unique among calls."""
        self.check_open()
        place = author_place() or Place("", 1)
        name = self.frame.prefix + name
        first = self.calls.get(name)
        if first is not None and self._again(*first, place):
            name = self._counted(f"{name}/").replace("/#", "#")
        elif first is not None:
            self.report(_taken("call a workflow as", name, first[0] is self.branch, first[1]))
            name = f"{name}##{len(self.calls)}"
        self.calls[name] = (self.branch, place)
        return name

    def _unique_hidden(self, name: str) -> str:
        branch = self.branch
        # Branches are evaluated at different times: counting over all of them would not replay.
        if branch.path:
            name = f"{name} [{'.'.join(branch.path)}]"
        return self._counted(name) if name in self.steps else name

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
        step.definition = {
            key: value for key, value in definition.items() if DEFAULTS.get(key, _NONE) != value
        }
        branch = self.branch
        branch.why = step.why = (branch.answers or branch.why)[-MAX_WHY:]
        branch.answers = []
        before = self.expected.get(step.name)
        if before is not None and (parts := _differing(before, step.definition)):
            self.report(self._diverged(step.name, before, parts))

    def _diverged(self, name: str, before: Mapping[str, object], parts: Sequence[str]) -> Problem:
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
            branch = outer.inner(path)
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
        """Return a value that the author's code asks for; ends the branch while it is unknown."""
        self._check_question(step, part)
        value = self._look_up(step, part)
        if value is UNKNOWN and self._invents is not None:
            return self._invent(step, part, yes=self._invents)
        if value is UNKNOWN:
            self.await_parts([part])
        self._note(part, value)
        return value

    def _invent(self, step: Recorded, part: RefPart, *, yes: bool) -> object:
        """Return an answer that nobody gave; ends the branch when there were enough of them."""
        self._invented += 1
        if self._invented > MAX_INVENTED or len(self.steps) > MAX_INVENTED:
            self.park()
        return invented(step.definition, part, yes=yes)

    def ask_all(self, asked: Sequence[tuple[Recorded, RefPart]]) -> bool:
        """Return whether all of these are true: one question, answered by the first that is not."""
        values = []
        for step, part in asked:
            self._check_question(step, part)
            if self._invents is not None:
                values.append(self._invent(step, part, yes=self._invents))
                continue
            # What will never be known is no answer, as long as another one is False.
            open_or_never = not step.never and self.results.is_never(step.name, step.handled)
            values.append(UNKNOWN if open_or_never else self._look_up(step, part))
        false = next((p for (_, p), v in zip(asked, values, strict=True) if v is False), None)
        if false is not None:
            self._note(false, value=False)
            return False
        unknown = [p for (_, p), v in zip(asked, values, strict=True) if v is UNKNOWN]
        if unknown:
            if all(self.results.has_ended(part.step.name) for part in unknown):
                self.park()
            self.await_parts(unknown)
        for _, part in asked:
            self._note(part, value=True)
        return True

    def _check_question(self, step: Recorded, part: RefPart) -> None:
        self.check_open()
        if step.cleanup:
            raise Problem(
                Code.CLEANUP_VALUE,
                f"{part.shown} is asked for, but `{step.name}` runs after everything else",
                remedy="use ctx.run for a step whose result is needed",
                related=(step.place.file, step.place.line),
            )
        if part.field in ("ok", "exit_code") and not step.handled and not step.never:
            raise Problem(
                Code.OK_UNHANDLED,
                f"asking {part.shown} can only ever say success: "
                f"a failure of `{step.name}` is not handled",
                remedy=f"add continue_on_error=True to step `{step.name}`",
                related=(step.place.file, step.place.line),
            )

    def _look_up(self, step: Recorded, part: RefPart) -> object:
        if not step.never and self.results.is_never(step.name, step.handled):
            self.park()
        return self.results.value(part, skipped=step.never)

    def _note(self, part: RefPart, value: object) -> None:
        """Remember an answer: it is why what follows is there."""
        branch, place = self.branch, author_place()
        if (question := part.question) in self.asked:
            branch.waited |= {question}
        answer: Why = {"value": part.shown[1:-1], "is": shown_value(value)}
        if place is not None:
            answer |= {"file": place.file, "line": place.line}
        if answer not in branch.answers:
            branch.answers.append(answer)

    def await_parts(self, parts: Sequence[RefPart]) -> None:
        """End the branch until *parts*, which are one question, are known."""
        branch, place = self.branch, author_place()
        depth = len(branch.waited) + 1
        if depth > MAX_STAGE_ENDS:
            raise Problem(
                Code.TOO_MANY_STAGES,
                f"the code waits for a result {depth} times in a row; {MAX_STAGE_ENDS} are allowed",
                remedy="look for a loop without a bound: for round in range(5): …",
            )
        group = 0
        if len(parts) > 1:
            group = 1 + max((int(str(one["together"])) for one in self.awaits), default=0)
        for part in parts:
            same = part.wire()
            if not group and any(one.items() >= same.items() for one in self.awaits):
                continue
            site = place and {"file": place.file, "line": place.line, "column": place.column}
            handled = self.steps[part.step.name].handled
            more = {"site": site, "together": group, "depth": depth, "handled": handled}
            self.awaits.append(same | more)
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
        if self.forward:  # no other step can wait for one that was recorded after it
            self._find_cycle()
        if self.problems:
            return
        for name, before in self.expected.items():
            if name not in self.steps:
                self.problems.append(self._not_again(name, before))

    def _not_again(self, name: str, before: Mapping[str, object]) -> Problem:
        site = before.get("site")
        file, line = (site["file"], site["line"]) if isinstance(site, dict) else ("", 1)
        branch = before.get("branch")
        there = (s for s in self.steps.values() if list(s.branch.path) == branch)
        instead = next((s for s in there if s.name not in self.expected), None)
        related, what = None, ""
        if instead is not None:
            related = (instead.place.file, instead.place.line)
            what = f"; step `{instead.name}` of line {instead.place.line} is there instead"
        elif self.awaits and isinstance(site := self.awaits[0]["site"], dict):
            related = (str(site["file"]), int(site["line"]))
            what = f"; the code waits for a value in line {site['line']} instead"
        return Problem(
            Code.REPLAY,
            f"step `{name}` of an earlier stage was not recorded again{what}",
            remedy="the same inputs and results must lead to the same steps",
            place=Place(str(file), int(line)),
            related=related,
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


def _taken(what: str, name: str, same_branch: bool, first: Place) -> Problem:  # noqa: FBT001 - as read
    here = author_place()
    where = f"line {first.line}"
    if here is not None and here.file != first.file:
        where += f" of {first.file}"
    return Problem(
        Code.DUPLICATE_STEP,
        f"two {'places' if same_branch else 'branches'} {what} `{name}`; the first is in {where}",
        remedy=f'give each its own name, such as f"{name.rpartition("/")[2]}-{{p}}"',
        related=(first.file, first.line),
    )


def _differing(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return the fields in which a step is not what it was; defaults may stand there or not."""
    return [
        key
        for key in {**before, **now}
        if key != "site" and before.get(key, DEFAULTS.get(key)) != now.get(key, DEFAULTS.get(key))
    ]

"""Random programs of the language, and a run of them on paper in any order of completion."""

import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from plue.authoring.sandbox.evaluation import Job
from plue.domain.growth import Results, StepResult, due
from plue.domain.progress import StepValue
from plue.wire.events import Reason, StepState
from plue.wire.plan import Await, Plan
from plue.wire.stages import STREAMS, extended, extension_of
from plue_runner.graph import Decision, Order, fault_in

__all__ = ["Paper", "evaluated", "programs"]

FILE = ".plue/workflows/ci.py"
_CACHE: dict[str, bytes] = {}


def _dice(*seed: object) -> random.Random:
    digest = hashlib.sha256(repr(seed).encode()).digest()
    return random.Random(digest)  # noqa: S311 - a test's dice


class _Writer:
    """Writes one program: every step has a name of its own place, every block an indentation."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.count = 0
        self.lines: list[str] = []

    def name(self) -> str:
        self.count += 1
        return f"s{self.count}"

    def say(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def block(self, depth: int, handles: list[str], level: int) -> None:
        for _ in range(self.draw(st.integers(1, 3))):
            self.statement(depth, handles, level)

    def statement(self, depth: int, handles: list[str], level: int) -> None:  # noqa: C901 - a table
        kinds = ["run", "run", "run", "cleanup", "fail"]
        if handles:
            kinds += ["if", "if", "if", "each", "text"]
        if level > 0:
            kinds += ["parallel", "parallel", "until", "group"]
        match self.draw(st.sampled_from(kinds)):
            case "run":
                handles.append(self.run(depth, handles))
            case "cleanup":
                self.say(depth, f'ctx.cleanup("{self.name()}", "x")')
            case "fail" if level < 2:
                self.say(
                    depth, f'if {self.question(handles)}:\n{"    " * (depth + 1)}ctx.fail("no")'
                )
            case "text":
                self.say(
                    depth,
                    f'ctx.run("{self.name()}", "x", env={{"V": {self.handle(handles)}.stdout}})',
                )
            case "if" if level > 0:
                self.say(depth, f"if {self.question(handles)}:")
                self.block(depth + 1, list(handles), level - 1)
                self.say(depth, "else:")
                self.block(depth + 1, list(handles), level - 1)
            case "each":
                self.say(depth, f"for p in {self.handle(handles)}.stdout.split():")
                self.say(depth + 1, f'ctx.run(f"{self.name()}-{{p}}", "x", continue_on_error=True)')
            case "until":
                self.until(depth)
            case "parallel":
                self.parallel(depth, handles, level)
            case "group":
                first, second, name = self.name(), self.name(), self.name()
                steps = ", ".join(
                    f'ctx.run("{n}", "x", continue_on_error=True)' for n in (first, second)
                )
                self.say(depth, f"g = ctx.parallel([{steps}])")
                self.say(depth, "if not g.ok:")
                self.say(depth + 1, f'ctx.run("{name}", "x")')
            case _:
                self.say(depth, "pass")

    def run(self, depth: int, handles: list[str]) -> str:
        name = self.name()
        options = self.draw(
            st.sampled_from([
                "continue_on_error=True", "continue_on_error=True", "continue_on_error=True", "",
                'when="always", continue_on_error=True', 'when="failure", continue_on_error=True',
                "depends_on=[], continue_on_error=True",
            ])
        )  # fmt: skip
        self.say(depth, f'{name} = ctx.run("{name}", "x", {options})')
        return name if "continue_on_error" in options else f"{name}!"

    @staticmethod
    def _plain(handle: str) -> str:
        return handle.rstrip("!")

    def handle(self, handles: list[str]) -> str:
        return self._plain(self.draw(st.sampled_from(handles)))

    def question(self, handles: list[str]) -> str:
        if not handles:
            return "True"
        handle = self.draw(st.sampled_from(handles))
        name = self._plain(handle)
        unhandled = [f'{name}.stdout == "a"', f'"b" in {name}.stdout', f'{name}.outputs.get("n", "0") == "1"',
                     f"{name}.log.tail(1)", f'{name}.state == "succeeded"']  # fmt: skip
        handled = [f"{name}.ok", f"not {name}.ok", f"{name}.exit_code == 1"]
        return str(
            self.draw(st.sampled_from(unhandled if handle.endswith("!") else unhandled + handled))
        )

    def until(self, depth: int) -> None:
        test, fix = self.name(), self.name()
        self.say(depth, "for round in range(3):")
        self.say(depth + 1, f'{test} = ctx.run("{test}", "x", continue_on_error=True)')
        self.say(depth + 1, f"if {test}.ok:")
        self.say(depth + 2, "break")
        self.say(depth + 1, f'ctx.run("{fix}", "x", continue_on_error=True)')

    def parallel(self, depth: int, handles: list[str], level: int) -> None:
        functions = []
        for _ in range(self.draw(st.integers(1, 3))):
            function = f"f{self.name()}"
            functions.append(function)
            self.say(depth, f"def {function}():")
            self.block(depth + 1, list(handles), level - 1)
        self.say(depth, f"ctx.parallel([{', '.join(f'{f}()' for f in functions)}])")


@st.composite
def programs(draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """Give the source of a workflow `ci`."""
    writer = _Writer(draw)
    for _ in range(draw(st.integers(1, 3))):
        writer.block(1, [], 3)
    return (
        "from plue import workflow, push\n@workflow(triggers=[push()])\ndef ci(ctx):\n"
        + "\n".join(writer.lines)
        + "\n"
    )


def evaluated(
    source: str,
    known: Mapping[str, Any],
    before: Plan | None = None,
    asked: list[Await] | None = None,
) -> Plan:
    """Evaluate one stage in this process; the sandbox's process would cost most of the time."""
    request = {
        "op": "plan", "files": {FILE: source}, "workflow": "ci", "names": [], "inputs": {}, "event": {},
        "text_inputs": False, "known": known, "stage": before.stage + 1 if before else 1,
        "recorded": [s.model_dump(mode="json") for s in before.steps] if before else [],
        "asked": [[a.ref, a.field, list(a.path), a.tail] for a in asked or ()], "config": None,
    }  # fmt: skip
    job = Job(request, _CACHE)
    _, fresh = job.prepare()
    _CACHE.update(fresh)
    answer = job.run()
    assert answer["plan"] is not None, (answer["diagnostics"], source)
    return Plan.model_validate(answer["plan"])


class Paper:
    """A run on paper: its steps end in a random order, and it is evaluated whenever it is due."""

    def __init__(self, source: str, results: int, order: int) -> None:
        """*results* decides what each step gives by its name, *order* who ends when."""
        self.source = source
        self.chance = _dice(order)
        self.seed = results
        self.results: dict[str, StepResult] = {}
        self.sent: list[StepValue] = []
        self.stages = 1
        self.plan = evaluated(source, {})
        self.asked = list(self.plan.awaits)
        self.order = Order(self.plan.steps)
        self.running: list[Decision] = self.order.first()

    @property
    def known(self) -> dict[str, Any]:
        return Results(self.results, self.sent).known()

    def play(self) -> Plan:
        """Let it end; return its plan."""
        while True:
            is_due = due(self.plan, Results(self.results, self.sent))
            if is_due and (not self.running or self.chance.random() < 0.5):
                self.grow()
            elif self.running:
                self.end(self.running.pop(self.chance.randrange(len(self.running))))
            else:
                return self.plan

    def grow(self) -> None:
        after = evaluated(self.source, self.known, self.plan, self.asked)
        extension = extension_of(self.plan, after)
        assert extended(self.plan, extension) == after
        assert fault_in(after) is None
        self.plan = after
        self.stages += 1
        self.asked += after.awaits
        self.running += self.order.extend([placed.step for placed in extension.steps])
        self.send()

    def end(self, decision: Decision) -> None:
        step = decision.step
        draw = _dice(self.seed, step.name)
        reason: Reason | None = decision.skip
        state, tries = StepState.SKIPPED, 0
        if decision.skip is None:
            state = draw.choice([StepState.SUCCEEDED, StepState.SUCCEEDED, StepState.FAILED])
            reason, tries = None, 1
        code = None if state is StepState.SKIPPED else int(state is StepState.FAILED)
        outputs = {"n": draw.choice("123")} if tries else {}
        self.results[step.name] = StepResult(step.name, state, reason, code, outputs)
        self.running += self.order.end(step, state, reason, tries)
        self.send()

    def send(self) -> None:
        """Send what is asked for of what steps printed, as a runner would."""
        done = {(one.step, one.field, one.tail) for one in self.sent}
        for one in self.plan.awaits:
            key = (one.ref, one.field, one.tail or 0)
            if one.field in STREAMS and one.ref in self.results and key not in done:
                draw = _dice(self.seed, one.ref)
                self.sent.append(StepValue(*key, draw.choice(["", "a", "b", "a b"]), None))

"""docs/language.md tells the truth: each example gives what stands below it."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from authoring.commands import inputs_of, known_of
from authoring.sandboxed import Sandbox
from examples.conftest import House

PAGE = Path(__file__).parents[2] / "docs" / "language.md"
FILE = ".plue/workflows/ci.py"
RULE = re.compile(r"^### (\d+)\. (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)[ \t]*(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """An example, a command, and what comes of them."""

    rule: int
    files: Mapping[str, str]
    command: Sequence[str]
    kind: str
    expected: Sequence[str]
    offset: int = 0
    """How many lines stand above the example's own."""


@dataclass
class Reader:
    """Puts the blocks of one rule together."""

    head: str
    files: dict[str, str] = field(default_factory=dict)
    offset: int = 0
    answered: bool = False

    def take(self, language: str, path: str, text: str) -> None:
        """Take a block of a file; the first after an answer begins another example."""
        if self.answered:
            self.files, self.answered = {}, False
        if path or "@workflow" in text:
            self.files[path or FILE] = text
            self.offset = 0 if not path else self.offset
        else:
            lines = "\n".join(f"    {line}" if line else "" for line in text.splitlines())
            self.files[FILE] = self.head + lines + "\n"
            self.offset = self.head.count("\n")


def shown() -> Iterator[Shown]:
    """Yield every example of the page with its answer."""
    page = PAGE.read_text("utf-8")
    head = next(text for _, path, text in BLOCK.findall(page) if path == "head")
    _, *pieces = RULE.split(page)
    for number, body in zip(pieces[::3], pieces[2::3], strict=True):
        reader, command = Reader(re.sub(r"\s*\.\.\.\n", "\n", head)), list[str]()
        for language, path, text in BLOCK.findall(body):
            if language == "sh":
                command = shlex.split(text)
            elif language in ("plan", "run"):
                lines = text.splitlines()
                yield Shown(int(number), dict(reader.files), command, language, lines, reader.offset)
                reader.answered, command = True, []
            else:
                reader.take(language, path, text)


EXAMPLES = list(shown())


def text_of(parts: Sequence[Any]) -> str:
    """Return text with its references in angle brackets."""
    found = ""
    for part in parts:
        if (ref := getattr(part, "ref", None)) is not None:
            found += f"<{ref_of(part)}>"
        else:
            found += next(
                str(value)
                for name in ("text", "data")
                if (value := getattr(part, name, None)) is not None
            )
    return found


def ref_of(part: Any) -> str:
    """Return a reference as the page writes it."""
    names = [part.ref, *([part.field] if part.field != "value" else []), *map(str, part.path)]
    return ".".join(names)


def lines_of(plan: Any) -> list[str]:
    """Return a plan as the page writes it."""
    found = []
    for step in plan.steps:
        after = f" after {', '.join(step.needs)}" if step.needs else ""
        found.append(step.name + after)
    found += [f"fails: {text_of(failure.reason)}" for failure in plan.fails]
    if plan.awaits:
        found.append("waits for " + ", ".join(ref_of(ref) for ref in plan.awaits))
    elif not plan.fails and plan.end is not None and plan.end.outputs:
        outputs = (f"{name}={text_of(value)}" for name, value in plan.end.outputs.items())
        found.append("ends: " + ", ".join(outputs))
    return found


def test_every_rule_has_an_example() -> None:
    """36 rules, in order, each with at least one."""
    numbers = [int(number) for number in RULE.findall(PAGE.read_text("utf-8")) for number in number[:1]]
    assert numbers == list(range(1, 37))
    assert {example.rule for example in EXAMPLES} == set(numbers)


def named(kind: str) -> list[Any]:
    """Return the examples of a kind, named by their rule."""
    found, seen = [], dict[int, int]()
    for example in EXAMPLES:
        if example.kind == kind:
            seen[example.rule] = seen.get(example.rule, 0) + 1
            found.append(pytest.param(example, id=f"{example.rule}-{seen[example.rule]}"))
    return found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Plan the page's examples."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize("example", named("plan"))
def test_plans_are_as_they_stand(sandbox: Sandbox, example: Shown) -> None:
    """The plan, or the one thing that is wrong, at its line and with its remedy."""
    found = sandbox.describe(files=example.files).diagnostics
    plan = None
    if not found:
        work = sandbox.evaluator.plan(
            example.files,
            "ci",
            inputs=inputs_of(example.command),
            event={"kind": "push", "ref": "refs/heads/main"},
            text_inputs=True,
            known=known_of(example.command),
        )
        planned = sandbox.call(work)
        found, plan = planned.diagnostics, planned.plan
    if example.expected[0].startswith("PLU"):
        (expected,) = example.expected
        match = re.fullmatch(r"(PLU\d+) line (\d+): (.+)", expected)
        assert match is not None
        assert found, lines_of(plan)
        first = found[0]
        assert (match[1], int(match[2])) == (first.code, first.line - example.offset), first
        assert match[3] in f"{first.message} {first.remedy}", first
    else:
        assert plan is not None, found
        assert lines_of(plan) == list(example.expected)


@pytest.mark.parametrize("example", named("run"))
def test_runs_end_as_they_stand(house: House, example: Shown) -> None:
    """State, steps and outputs of a run on a real server."""
    root = house.empty("language")
    for path, text in example.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    run = house.run(root, "ci", **inputs_of(example.command))
    state, *rest = example.expected
    assert state == run.state, run.message
    outputs = [line.removeprefix("outputs: ") for line in rest if line.startswith("outputs: ")]
    assert [json.loads(text) for text in outputs] == ([dict(run.outputs)] if run.outputs else [])
    steps = [line for line in rest if not line.startswith("outputs: ")]
    assert steps == [f"{name} {step['state']}" for name, step in run.steps.items()]

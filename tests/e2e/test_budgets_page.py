"""docs/budgets.md tells the truth: its files are run, and its commands say what stands there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from e2e.stage import Project, Said, eventually

PAGE = Path(__file__).parents[2] / "docs" / "budgets.md"
BLOCK = re.compile(r"^```(\w+)[ \t]*(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_of_budgets_is_true(tmp_path: Path) -> None:
    """One block after the other: files are written, commands typed, answers compared."""
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    files = {path: text for language, path, text in blocks if "." in path}
    commands = [
        (kind, shlex.split(text)[1:], blocks[place + 1][2])
        for place, (language, kind, text) in enumerate(blocks)
        if language == "sh"
    ]
    (shown,) = (json.loads(text) for language, _, text in blocks if language == "json")
    project = Project.make(tmp_path, {})
    for path, text in files.items():
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        (project.root / path).write_text(text)
    (_, up_words, _), (_, run_words, said_of_run), *others = commands
    with project.up(*up_words[1:]) as up, project.started(*run_words) as run:
        said = Said(run.stdout)
        _compare(said.until("waits: the run's budget"), said_of_run)
        for kind, words, expected in others:
            if kind == "after":
                assert run.wait(60) == 0, said.rest()
            elif words[:2] == ["run", "budgets"]:
                (entry,) = _entries(up.get("/runs/mend-1/budgets"), shown["scope"])
                assert {key: entry[key] for key in shown} == shown
            # Usage is counted a moment after a call has ended.
            answers: list[str] = []

            def right(
                words: list[str] = words, expected: str = expected, told: list[str] = answers
            ) -> bool:
                told[:] = [project.plue(*words).stdout]
                return _fits(told[0], expected)

            if words[:2] == ["run", "extend"]:
                _compare(project.plue(*words).stdout, expected)
            else:
                eventually(right, f"{shlex.join(words)} says\n{expected}", patience=10)


def _entries(report: Any, scope: str) -> list[Any]:
    return [entry for entry in report["budgets"] if entry["scope"] == scope]


def _compare(said: str, expected: str) -> None:
    assert _fits(said, expected), f"\n{said}\nis not\n{expected}"


def _fits(said: str, expected: str) -> bool:
    """Whether the lines are the same, word by word; `…` stands for anything."""
    lines = [" ".join(line.split()) for line in said.strip().splitlines()]
    patterns = [
        re.escape(" ".join(line.split())).replace("…", ".*")
        for line in expected.strip().splitlines()
    ]
    return len(lines) == len(patterns) and all(
        re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines, strict=True)
    )

"""What `plue explain` shows is true: wrong examples give their code and right ones nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from authoring.commands import ENDED, inputs_of, known_of
from authoring.sandboxed import Sandbox

from plue.authoring.code_examples import Half, examples
from plue.authoring.codes import EXPLANATIONS, Code
from plue.authoring.results import Diagnostic
from plue.wire.plan import Ref

# What no page can show, written out.
LONG = {
    "<600 KiB of text>": "x" * (600 * 1024),
    "<NUL>": "\0",
    "<4,000 minus signs>": "-" * 4000,
}

# Faults that need more than files: each has a test of its own in test_evaluator or test_stages.
NO_FILE_SHOWS = {
    Code.UNREADABLE: "it is about who may read the file, not about what it says",
    Code.IMPORT_BROKEN: "it stands beside the error of the file that is imported",
    Code.IMPORT_CYCLE: "whoever imports such a file has PLU026 as well",
    Code.TEMPLATE_LIMIT: "it shows when a prompt is rendered: tests/templating has it",
    Code.TEMPLATE_VALUE: "it shows when a prompt is rendered: tests/templating has it",
    Code.PROMPT_BROKEN: "it stands beside the error of the prompt that is imported",
    Code.CRASHED: "the evaluator's process has to die",
    Code.FORBIDDEN_CALL: "the sandbox has to have a hole first",
    Code.REPLAY: "it takes a stage that an older file recorded",
}

# What must have happened before, and stands in no file.
KNOWN: dict[Code, dict[str, dict[str, Any]]] = {
    Code.OUTPUT_TOO_LARGE: {
        "build": {**ENDED, "stdout.tail(100)": "", "errors": {"stdout": "it has 3 MiB"}}
    },
    Code.TOO_MANY_STAGES: {
        name if number == 1 else f"{name}#{number}": {
            **ENDED,
            "ok": False,
            "exit_code": 1,
            "state": state,
        }
        for name, state in (("test", "failed"), ("fix", "succeeded"))
        for number in range(1, 60)
    },
}

SLOW = {Code.TIMEOUT, Code.MEMORY}


def test_every_code_has_an_example_or_a_reason() -> None:
    """A code without an example says why no file can show it."""
    assert set(examples()) == set(Code) - set(NO_FILE_SHOWS)
    assert set(EXPLANATIONS) == set(Code)


def written_out(files: Mapping[str, str]) -> dict[str, str]:
    """Put what is too long for a page into *files*."""
    found = dict(files)
    for short, long in LONG.items():
        found = {path: text.replace(short, long) for path, text in found.items()}
    return found


def diagnostics_of(sandbox: Sandbox, half: Half, code: Code) -> Sequence[Diagnostic]:
    """Return what lint, else the plan that the example's command makes, finds wrong."""
    files = written_out(half.files)
    found = sandbox.describe(files=files).diagnostics
    if found or not (half.command or code in KNOWN):
        return found
    work = sandbox.evaluator.plan(
        files,
        half.command[3] if half.command else "ci",
        inputs=inputs_of(half.command),
        event={},
        text_inputs=True,
        known=known_of(half.command) or KNOWN.get(code),
        asked=[Ref(ref=name, field="exit_code") for name in KNOWN.get(code, ())],
        stage=60,
    )
    return sandbox.call(work).diagnostics


@pytest.mark.parametrize("code", [pytest.param(code, id=code) for code in examples()])
def test_examples_are_true(sandbox: Sandbox, impatient: Sandbox, code: Code) -> None:
    """The wrong example gives exactly its code, the right one gives nothing."""
    example = examples()[code]
    wrong = diagnostics_of(impatient if code in SLOW else sandbox, example.wrong, code)
    assert {code} == {Code(found.code) for found in wrong}, wrong
    assert list(diagnostics_of(sandbox, example.right, code)) == []


def test_an_example_is_shown_with_paths_and_command() -> None:
    """A reader sees which file is meant where it is not the usual one."""
    half = Half({".plue/lib/x.py": "x = 1\n", ".plue/workflows/ci.py": "y = 1\n"}, ["plue", "up"])
    assert half.shown() == (
        "# .plue/lib/x.py\nx = 1\n\n# .plue/workflows/ci.py\ny = 1\n\n$ plue up"
    )

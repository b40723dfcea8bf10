"""What steps leave for others: ``$PLUE_OUTPUT``, typed JSON, captured streams, references."""

import errno
import os
from pathlib import Path

import pytest
from pydantic import JsonValue

from plue.wire.events import Reason, StepState
from plue.wire.frames import Limits
from plue.wire.plan import Data, Lit, Ref, RefField
from plue_runner.capture import Capture, Tail
from plue_runner.explain import disk_fault
from plue_runner.faults import Fault
from plue_runner.outputs import parse, read
from plue_runner.typed import parsed
from plue_runner.values import Result, Values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("a=1\nb=two words\n", {"a": "1", "b": "two words"}, id="lines"),
        pytest.param("a=1", {"a": "1"}, id="without-last-newline"),
        pytest.param("a=1\n\n  \na=2\n", {"a": "2"}, id="last-write-wins"),
        pytest.param("url=https://x?a=b<<c\n", {"url": "https://x?a=b<<c"}, id="signs-in-value"),
        pytest.param("a=\n", {"a": ""}, id="empty-value"),
        pytest.param(
            "a<<EOF\none\n\ntwo=2\nEOF\nb=3\n", {"a": "one\n\ntwo=2", "b": "3"}, id="block"
        ),
        pytest.param("a<<EOF\nEOF\n", {"a": ""}, id="empty-block"),
        pytest.param("a<<E O\nx\nE O", {"a": "x"}, id="end-with-blank"),
    ],
)
def test_parse_reads_lines_and_blocks(text: str, expected: dict[str, str]) -> None:
    """``NAME=value`` and ``NAME<<EOF`` blocks are read; the last write wins."""
    assert expected == parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a=1\nhello\n", "line 2", id="no-sign"),
        pytest.param("1a=1\n", "line 1", id="bad-name"),
        pytest.param("ä=1\n", "line 1", id="not-ascii"),
        pytest.param("a =1\n", "line 1", id="blank-before-sign"),
        pytest.param("a=1\nb<<EOF\nx\n", "line 2", id="block-without-end"),
        pytest.param("a<<\n", "line 1", id="block-without-name"),
    ],
)
def test_parse_names_the_line_that_is_wrong(text: str, said: str) -> None:
    """Bad syntax is InvalidOutput, and the message names the line."""
    with pytest.raises(Fault, match=said) as caught:
        parse(text)
    assert caught.value.reason == Reason.INVALID_OUTPUT


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a=" + "x" * 101, id="one"),
        pytest.param("a=" + "x" * 90 + "\nb=" + "x" * 90 + "\nc=" + "x" * 90, id="together"),
        pytest.param("a=1\n" * 300, id="file"),
    ],
)
def test_read_refuses_what_is_too_large(tmp_path: Path, text: str) -> None:
    """One output, all of them, and the file have limits."""
    path = tmp_path / "output"
    path.write_text(text)
    with pytest.raises(Fault) as caught:
        read(path, Limits(output_bytes=100, outputs_bytes=200))
    assert caught.value.reason == Reason.OUTPUT_TOO_LARGE


def test_read_is_not_held_up_by_what_is_no_file(tmp_path: Path) -> None:
    """A pipe in the place of the file, or nothing, is no outputs."""
    path = tmp_path / "output"
    assert read(path, Limits()) == {}
    os.mkfifo(path)
    assert read(path, Limits()) == {}


SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "required": ["version", "tags"],
    "properties": {
        "version": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "integer"}},
        "level": {"enum": ["low", 1, None]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "flag": {"const": True},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param('{"version": "1", "tags": [1, 2.0]}', None, id="fits"),
        pytest.param('{"version": "1", "tags": [], "note": null, "level": 1}', None, id="all"),
        pytest.param("hello", "not JSON", id="no-json"),
        pytest.param("[1]", "is not an object", id="no-object"),
        pytest.param('{"version": "1"}', "output.tags is missing", id="missing"),
        pytest.param('{"version": 1, "tags": []}', "output.version: 1 is not text", id="type"),
        pytest.param('{"version": "1", "tags": [true]}', "tags\\[0\\]: true is not a", id="bool"),
        pytest.param('{"version": "1", "tags": [], "level": true}', 'one of "low"', id="enum"),
        pytest.param('{"version": "1", "tags": [], "note": 1}', "note: 1 is not text", id="any-of"),
        pytest.param('{"version": "1", "tags": [], "flag": 1}', "is not true", id="const"),
        pytest.param('{"version": "1", "tags": [], "x": 1}', "output.x is not", id="additional"),
    ],
)
def test_parsed_checks_standard_output(text: str, problem: str | None) -> None:
    """What does not fit the schema is InvalidOutput and names the place."""
    if problem is None:
        assert parsed(text, SCHEMA)["version"] == "1"
        return
    with pytest.raises(Fault, match=problem) as caught:
        parsed(text, SCHEMA)
    assert caught.value.reason == Reason.INVALID_OUTPUT


def _values() -> Values:
    values = Values()
    out = Capture(11)
    out.feed("two\nlines\n\n")
    long = Capture(10)
    long.feed("0123456789\nabc\n")
    captures: dict[RefField, Capture] = {"stdout": out, "stderr": long}
    outputs: dict[str, JsonValue] = {
        "v": "1.2",
        "n": 3,
        "t": True,
        "o": {"a": [1, {"b": "x"}]},
        "z": None,
    }
    values.record("ok", Result(StepState.SUCCEEDED, None, 0, captures, outputs))
    values.record("no", Result(StepState.FAILED, Reason.EXIT_CODE, 2))
    values.record("off", Result(StepState.SKIPPED, Reason.CONDITION))
    values.record("cut", Result(StepState.SKIPPED, Reason.DEPENDENCY_FAILED))
    return values


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        pytest.param(Ref(ref="ok", field="stdout"), "two\nlines", id="stdout"),
        pytest.param(Ref(ref="ok", field="stdout", tail=1), "lines", id="tail"),
        pytest.param(Ref(ref="ok", field="stderr", tail=1), "abc", id="tail-of-too-long"),
        pytest.param(Ref(ref="ok", field="exit_code"), "0", id="exit-code"),
        pytest.param(Ref(ref="ok", field="ok"), "true", id="ok"),
        pytest.param(Ref(ref="no", field="ok"), "false", id="not-ok"),
        pytest.param(Ref(ref="no", field="exit_code"), "2", id="exit-code-of-failure"),
        pytest.param(Ref(ref="cut", field="state"), "skipped", id="state"),
        pytest.param(Ref(ref="ok", field="outputs", path=("v",)), "1.2", id="text"),
        pytest.param(Ref(ref="ok", field="outputs", path=("n",)), "3", id="number"),
        pytest.param(Ref(ref="ok", field="outputs", path=("t",)), "true", id="bool"),
        pytest.param(Ref(ref="ok", field="outputs", path=("o", "a")), '[1,{"b":"x"}]', id="json"),
        pytest.param(Ref(ref="ok", field="outputs", path=("o", "a", 1, "b")), "x", id="deep"),
        pytest.param(Ref(ref="ok", field="outputs", path=("w",), default="d"), "d", id="default"),
        pytest.param(Ref(ref="off", field="stdout"), "", id="stdout-of-false-condition"),
    ],
)
def test_text_resolves_references(ref: Ref, expected: str) -> None:
    """A reference renders as verbatim text, true/false, a number or compact JSON."""
    assert f"<{expected}>" == _values().text((Lit(text="<"), ref, Data(data=">")))


@pytest.mark.parametrize(
    ("ref", "reason", "said"),
    [
        pytest.param(
            Ref(ref="ok", field="outputs", path=("w",)), Reason.MISSING_VALUE, "w=…", id="absent"
        ),
        pytest.param(
            Ref(ref="ok", field="outputs", path=("z",)), Reason.MISSING_VALUE, "z", id="null"
        ),
        pytest.param(
            Ref(ref="ok", field="outputs", path=("o", "a", 7)),
            Reason.MISSING_VALUE,
            "ok.outputs.o.a.7",
            id="outside-a-list",
        ),
        pytest.param(Ref(ref="off", field="exit_code"), Reason.MISSING_VALUE, "skipped", id="off"),
        pytest.param(Ref(ref="cut", field="stdout"), Reason.MISSING_VALUE, "skipped", id="cut"),
        pytest.param(Ref(ref="later", field="ok"), Reason.MISSING_VALUE, "not ended", id="later"),
        pytest.param(
            Ref(ref="ok", field="stderr"), Reason.OUTPUT_TOO_LARGE, "ok.stderr", id="too-long"
        ),
    ],
)
def test_text_fails_on_what_has_no_value(ref: Ref, reason: Reason, said: str) -> None:
    """Absent and null are MissingValue, a stream beyond its limit is OutputTooLarge."""
    with pytest.raises(Fault) as caught:
        _values().text((ref,))
    assert reason == caught.value.reason
    assert said in str(caught.value)


def test_tail_keeps_the_end_of_any_amount() -> None:
    """The last characters are kept, in bounded memory."""
    tail = Tail(1000)
    for number in range(100_000):
        tail.feed(f"line {number}\n")
    assert tail.lines(2) == "line 99998\nline 99999"
    assert len(tail.text) == 1000
    assert sum(map(len, tail._parts)) <= 1100


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        pytest.param(errno.ENOSPC, Reason.DISK_FULL, id="no-space"),
        pytest.param(errno.EDQUOT, Reason.DISK_FULL, id="quota"),
        pytest.param(errno.EROFS, Reason.CANNOT_START, id="read-only"),
    ],
)
def test_disk_fault_tells_a_full_disk_from_other_trouble(number: int, reason: Reason) -> None:
    """A step whose files do not fit on the disk ends the run as DiskFull."""
    assert disk_fault(OSError(number, os.strerror(number))).reason == reason

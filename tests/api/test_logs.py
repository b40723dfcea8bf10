"""GET /runs/{id}/logs, and how lines are put together from chunks."""

import json
from typing import Any

import pytest
from api.memory_engine import START, Record
from api.served import Served

from plue.api.logs import HELD, Line, Lines, as_text
from plue.api.models import LogLine
from plue.domain.run import RunId, StoredEvent
from plue.wire.events import EventType

SECOND_TRY: dict[str, Any] = {"try": 2}
"""A word of Python cannot name an argument."""


def a_chunk(text: str, *, line: int = 1, step: str = "build", **more: Any) -> StoredEvent:
    """Return a chunk of output as it is stored."""
    body = {"attempt": 1, "try": 1, "stream": "stdout", "text": text, "line": line} | more
    return StoredEvent(RunId("r"), 1, START, EventType.STEP_OUTPUT, step, json.dumps(body))


def a_completion(step: str = "build") -> StoredEvent:
    """Return a step's end."""
    return StoredEvent(RunId("r"), 1, START, EventType.STEP_COMPLETED, step, '{"attempt":1}')


def lines_of(
    *events: StoredEvent, step: str | None = None, stream: str | None = None
) -> list[Line]:
    """Return all lines of *events*."""
    lines = Lines(step=None, stream=None)
    found = [line for event in events for line in lines.feed(event)]
    return found + list(lines.close())


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([a_chunk("a\nb\n")], [(1, "a"), (2, "b")], id="whole-lines"),
        pytest.param([a_chunk("a\n\nb\n")], [(1, "a"), (2, ""), (3, "b")], id="empty-line"),
        pytest.param([a_chunk("a\nb")], [(1, "a"), (2, "b")], id="no-last-newline"),
        pytest.param(
            [a_chunk("a\nb", partial=True), a_chunk("c\nd\n", line=2)],
            [(1, "a"), (2, "bc"), (3, "d")],
            id="line-in-two-chunks",
        ),
        pytest.param(
            [a_chunk("a", partial=True), a_chunk("b", partial=True), a_chunk("c\n")],
            [(1, "abc")],
            id="line-in-three-chunks",
        ),
        pytest.param(
            [a_chunk("a", partial=True), a_chunk("")], [(1, "a")], id="ended-by-an-empty-chunk"
        ),
        pytest.param(
            [a_chunk("a", partial=True), a_chunk("\n")], [(1, "a")], id="only-its-newline-missing"
        ),
        pytest.param([a_chunk("a", partial=True)], [(1, "a")], id="never-ended"),
        pytest.param(
            [a_chunk("a\r\nb\x0bc\u2028d\n")],
            [(1, "a\r"), (2, "b\x0bc\u2028d")],
            id="only-newline-ends-a-line",
        ),
    ],
)
def test_lines_are_put_together(events: list[StoredEvent], expected: list[tuple[int, str]]) -> None:
    """Chunks become numbered lines, wherever they were cut."""
    assert [(line.number, line.text) for line in lines_of(*events)] == expected


def test_lines_of_other_streams_do_not_mix() -> None:
    """An unfinished line waits for its own stream, step and try."""
    found = lines_of(
        a_chunk("out", partial=True),
        a_chunk("err\n", line=2, stream="stderr"),
        a_chunk("other\n", step="unit"),
        a_chunk("again\n", **SECOND_TRY),
        a_chunk(" put\n"),
    )
    assert [line.text for line in found] == ["err", "other", "again", "out put"]
    assert [line.source.try_ for line in found] == [1, 1, 2, 1]


def test_an_unfinished_line_comes_out_when_its_step_ends() -> None:
    """A line that a killed step left stands before what comes after the step."""
    found = lines_of(
        a_chunk("prompt> ", partial=True), a_completion(), a_chunk("next\n", step="unit")
    )
    assert [line.text for line in found] == ["prompt> ", "next"]


def test_a_very_long_line_is_given_in_parts_and_is_one_line_of_text() -> None:
    """What waits is bounded, and nothing of the line is lost."""
    size = 64 * 1024
    chunks = [a_chunk("x" * size, partial=True) for _ in range(2 * HELD // size + 5)]
    found = lines_of(*chunks, a_chunk("end\n"), a_chunk("next\n", line=2))
    assert max(len(line.text) for line in found) <= HELD + size
    assert [line.partial for line in found] == [True, True, False, False]
    text = as_text(found, names=True).decode()
    assert text == "build\t" + "x" * size * len(chunks) + "end\nbuild\tnext\n"


def test_a_long_line_that_is_interrupted_is_broken_visibly() -> None:
    """Another stream's line never stands inside of it."""
    chunks = [a_chunk("x" * (HELD + 1), partial=True)]
    found = lines_of(*chunks, a_chunk("err\n", line=2, stream="stderr"), a_chunk("end\n"))
    assert as_text(found) == b"x" * (HELD + 1) + b"\nerr\nend\n"


async def a_run(served: Served) -> Record:
    """Return a run with output of two steps."""
    record = served.engine.add_run()
    await record.say("build", "one\ntwo\n")
    await record.say("build", "careful\n", line=3, stream="stderr")
    await record.say("unit", "caf\u00e9\n")
    return record


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", "build\tone\nbuild\ttwo\nbuild\tcareful\nunit\tcaf\u00e9\n", id="all"),
        pytest.param("?step=build", "one\ntwo\ncareful\n", id="one-step-as-written"),
        pytest.param("?step=build&stream=stderr", "careful\n", id="one-stream"),
        pytest.param(
            "?step=unit&timestamps=true", "2026-01-02T03:04:05.003Z caf\u00e9\n", id="with-times"
        ),
        pytest.param("?step=build&stream=stdout", "one\ntwo\n", id="the-other-stream"),
    ],
)
async def test_logs_are_text(served: Served, query: str, expected: str) -> None:
    """A running run's output so far, filtered and prefixed as asked."""
    await a_run(served)
    async with served.client.get(f"/api/v1/runs/latest/logs{query}") as response:
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert await response.text() == expected


async def test_logs_are_lines_by_accept(served: Served) -> None:
    """NDJSON has one LogLine a line."""
    await a_run(served)
    headers = {"Accept": "application/x-ndjson"}
    async with served.client.get("/api/v1/runs/1/logs", headers=headers) as response:
        lines = [LogLine.model_validate_json(one) for one in (await response.read()).splitlines()]
    assert [(one.step, one.line, one.stream, one.text) for one in lines] == [
        ("build", 1, "stdout", "one"),
        ("build", 2, "stdout", "two"),
        ("build", 3, "stderr", "careful"),
        ("unit", 1, "stdout", "caf\u00e9"),
    ]


async def test_logs_of_an_unknown_step_name_the_nearest(served: Served) -> None:
    """An empty answer would look as if the step had said nothing."""
    await a_run(served)
    async with served.client.get("/api/v1/runs/1/logs?step=biuld") as response:
        assert response.status == 404
        problem = await response.json(content_type=None)
        assert (problem["field"], problem["remedy"]) == ("step", "did you mean `build`?")


@pytest.mark.parametrize("query", ["stream=both", "timestamps=yes", "timestamps=", "follow=true"])
async def test_logs_refuse_a_bad_parameter(served: Served, query: str) -> None:
    """What cannot be meant is refused, not taken for no."""
    await a_run(served)
    async with served.client.get(f"/api/v1/runs/1/logs?{query}") as response:
        assert response.status == 422


async def test_logs_that_retention_dropped_are_410(served: Served) -> None:
    """Gone, before any text is sent."""
    await a_run(served)
    served.engine.dropped_through = 2
    async with served.client.get("/api/v1/runs/1/logs") as response:
        assert response.status == 410


async def test_logs_of_many_pages_are_complete_and_in_order(served: Served) -> None:
    """A log of several pages comes out whole."""
    record = served.engine.add_run()
    body = {"try": 1, "stream": "stdout"}
    await record.add_all(
        [
            (EventType.STEP_OUTPUT, "build", body | {"text": f"{n}\n", "line": n})
            for n in range(2000)
        ]
    )
    await record.finish()
    async with served.client.get("/api/v1/runs/1/logs?step=build") as response:
        assert (await response.text()).split() == [str(n) for n in range(2000)]

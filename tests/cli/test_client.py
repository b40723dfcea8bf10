"""The API's client against a real loopback server that breaks its streams."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from plue.cli.client import Address, Api
from plue.errors import (
    ConflictError,
    InternalError,
    NotFoundError,
    PlueError,
    RejectedError,
    UnavailableError,
)


def _line(n: int, kind: str = "step_output") -> str:
    return json.dumps({"run": "r", "n": n, "type": kind}) + "\n"


class _Script(ThreadingHTTPServer):
    """Answers each request with the next of its bodies, and notes what was asked."""

    daemon_threads = True

    def __init__(self, answers: list[tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, str | None, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Script

    def do_GET(self) -> None:
        """Send the next answer and close, in the middle of whatever it is."""
        headers = self.headers
        self.server.asked.append(
            (self.path, headers.get("Last-Event-ID"), headers.get("Authorization"))
        )
        status, body = self.server.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def script() -> Iterator[_Script]:
    """Give a server to be given its answers."""
    server = _Script([])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(script: _Script) -> Iterator[Api]:
    """Give a client of that server."""
    api = Api(lambda: Address(f"http://127.0.0.1:{script.server_address[1]}", "t0ken"))
    yield api
    api.close()


def test_a_broken_stream_goes_on_where_it_was(script: _Script, api: Api) -> None:
    """Cut lines are asked for again, repeated events are dropped, heartbeats are nothing."""
    script.answers = [
        (200, _line(1) + "\n" + _line(2) + _line(3)[:9]),
        (200, _line(2) + _line(3)),
        (200, _line(4) + _line(5, "run_completed")),
    ]
    assert [event.json["n"] for event in api.events("r")] == [1, 2, 3, 4, 5]
    assert [after for _, after, _ in script.asked] == [None, "2", "3"]
    assert script.asked[0][2] == "Bearer t0ken"


def test_events_are_passed_on_byte_for_byte(script: _Script, api: Api) -> None:
    """What JSON output prints is what the server sent."""
    line = '{"n":1, "type":"run_completed", "odd":  "\\u00fc"}'
    script.answers = [(200, line + "\n")]
    assert [line] == [event.line for event in api.events("r")]


def test_a_restarted_server_is_found_at_its_new_address(script: _Script) -> None:
    """The address is looked up again for each connection."""
    script.answers = [(200, _line(1)), (200, _line(2, "run_completed"))]
    found = iter([*(f"http://127.0.0.1:{port}" for port in (script.server_address[1], 1)), ""])
    last = f"http://127.0.0.1:{script.server_address[1]}"
    api = Api(lambda: Address(next(found, "") or last, "t"))
    assert [event.json["n"] for event in api.events("r")] == [1, 2]
    api.close()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(404, NotFoundError, id="404"),
        pytest.param(409, ConflictError, id="409"),
        pytest.param(422, RejectedError, id="422"),
        pytest.param(500, InternalError, id="500"),
        pytest.param(503, UnavailableError, id="503"),
    ],
)
def test_problems_become_our_errors(
    script: _Script, api: Api, status: int, expected: type[PlueError]
) -> None:
    """Message, field, remedy and diagnostics arrive as the server sent them."""
    diagnostics = [{"code": "PLU001", "message": "m", "file": "f", "line": 1}]
    problem = {"detail": "what", "field": "inputs.x", "remedy": "do", "diagnostics": diagnostics}
    script.answers = [(status, json.dumps(problem))]
    with pytest.raises(expected, match="what") as caught:
        api.get("/runs")
    assert caught.value.remedy == "do"
    if expected is not UnavailableError:
        assert caught.value.details["diagnostics"] == diagnostics


def test_an_answer_that_is_no_problem_is_an_error_all_the_same(script: _Script, api: Api) -> None:
    """A proxy's page does not confuse the client."""
    script.answers = [(502, "<html>")]
    with pytest.raises(InternalError, match="answered 502"):
        api.get("/runs")


def test_nobody_listening_is_an_error_with_a_remedy() -> None:
    """A server that does not answer is named."""
    api = Api(lambda: Address("http://127.0.0.1:1", "t"))
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 does not answer") as caught:
        api.get("/runs")
    assert caught.value.remedy
    api.close()


def test_no_server_is_an_error_with_a_remedy() -> None:
    """A server that has ended is not waited for."""
    api = Api(lambda: None)
    with pytest.raises(UnavailableError, match="has ended"):
        api.post("/runs")
    api.close()

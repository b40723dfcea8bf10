"""Problem JSON for everything that goes wrong, and the line in the log for every request."""

import asyncio
import io
import json
from typing import Any

import pytest
from api.served import TOKEN, Served
from structlog.testing import capture_logs
from yarl import URL

from plue.errors import ConflictError, FencedError, InternalError, PlueError, RejectedError

RUNS = "/api/v1/runs"


async def problem_of(
    served: Served, method: str, path: str | URL, **arguments: Any
) -> tuple[int, dict[str, Any]]:
    """Return the status and the problem of a request that must fail."""
    async with served.client.request(method, path, **arguments) as response:
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = json.loads(await response.text())
        assert problem["status"] == response.status
        return response.status, problem


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        pytest.param(RejectedError("no"), 422, "rejected", id="rejected"),
        pytest.param(ConflictError("no"), 409, "conflict", id="conflict"),
        pytest.param(FencedError("no"), 409, "conflict", id="fenced"),
    ],
)
async def test_an_error_of_the_family_has_its_status(
    served: Served, error: PlueError, status: int, kind: str
) -> None:
    """The branch of the family decides the status; the message is the detail."""
    served.engine.failure = error
    got, problem = await problem_of(served, "GET", RUNS)
    assert (got, problem["type"], problem["detail"]) == (status, f"urn:plue:problem:{kind}", "no")


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(InternalError("the password is hunter2"), id="ours"),
        pytest.param(PlueError("the password is hunter2"), id="unbranched"),
        pytest.param(ZeroDivisionError("the password is hunter2"), id="unknown"),
        pytest.param(TimeoutError("the password is hunter2"), id="timeout"),
    ],
)
async def test_a_fault_shows_an_id_and_nothing_else(served: Served, error: Exception) -> None:
    """What is inside stays inside; the log has it under the id."""
    served.engine.failure = error
    with capture_logs() as logs:
        status, problem = await problem_of(served, "GET", RUNS)
    assert status == 500
    assert "hunter2" not in json.dumps(problem)
    (line,) = [one for one in logs if one["event"] == "request_failed"]
    assert (line["id"], line["exc_info"]) == (problem["id"], error)
    assert problem["id"] in problem["detail"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"{", "line 1 column 2", id="cut-off"),
        pytest.param(b"\xff", "UTF-8", id="not-utf-8"),
        pytest.param(b'{"a": NaN}', "NaN", id="nan"),
        pytest.param(b"[" * 100_000, "deep", id="too-deep"),
        pytest.param(b'{"priority": ' + b"9" * 5000 + b"}", "JSON", id="endless-number"),
    ],
)
async def test_a_body_that_is_no_json_is_400(served: Served, body: bytes, says: str) -> None:
    """Malformed JSON is 400 with the place in it."""
    status, problem = await problem_of(
        served, "POST", RUNS, data=body, headers={"Content-Type": "application/json"}
    )
    assert status == 400
    assert says in problem["detail"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param('{"workflow": "ci", "event": {"a": 1e999}}', "finite", id="infinite"),
        pytest.param(
            '{"workflow": "ci", "event": {"a": ' + "[" * 200 + "]" * 200 + "}}",
            "levels",
            id="nested-200-deep",
        ),
    ],
)
async def test_json_that_cannot_be_kept_is_422(served: Served, body: str, says: str) -> None:
    """JSON that Postgres cannot keep, or nobody can mean, is refused with its field."""
    status, problem = await problem_of(
        served, "POST", RUNS, data=body, headers={"Content-Type": "application/json"}
    )
    assert status == 422
    assert says in problem["detail"]
    assert problem["field"].startswith("event.a")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_beyond_four_mebibytes_is_413(served: Served, announced: bool) -> None:
    """The limit holds for announced and for chunked bodies."""
    data = b'{"workflow": "' + b"x" * (4 * 1024 * 1024) + b'"}'

    async def chunks() -> Any:
        for at in range(0, len(data), 65536):
            yield data[at : at + 65536]

    status, problem = await problem_of(
        served,
        "POST",
        RUNS,
        data=io.BytesIO(data) if announced else chunks(),
        headers={"Content-Type": "application/json"},
    )
    assert (status, problem["type"]) == (413, "urn:plue:problem:too-large")


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
async def test_a_body_that_is_not_sent_as_json_is_415(served: Served, kind: str) -> None:
    """Only JSON in UTF-8; a form of another site cannot even be sent as that."""
    status, _ = await problem_of(
        served, "POST", RUNS, data=b'{"workflow": "ci"}', headers={"Content-Type": kind}
    )
    assert status == 415


async def test_a_bad_encoding_is_400(served: Served) -> None:
    """A body that says gzip and is not is the client's fault."""
    status, _ = await problem_of(
        served,
        "POST",
        RUNS,
        data=b"not gzip at all",
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert status == 400


async def test_a_wrong_method_is_405_with_what_is_allowed(served: Served) -> None:
    """405 has Allow, and says it in words."""
    async with served.client.delete(RUNS) as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
        assert "GET" in (await response.json(content_type=None))["remedy"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/runs/a%00b", 422), (f"/api/v1/runs/{'x' * 301}", 422), ("/api/v1/runs/%ff", 404)],
)
async def test_a_bad_path_is_no_fault_of_ours(served: Served, path: str, status: int) -> None:
    """Whatever stands in the path is refused, not stumbled over."""
    got, _ = await problem_of(served, "GET", URL(served.url + path, encoded=True))
    assert got == status


async def test_every_request_has_one_line_with_its_route(served: Served) -> None:
    """The line names the route's template, so that it holds no names and no tokens."""
    served.engine.add_run()
    with capture_logs() as logs:
        for path in ("/api/v1/runs/ci-1", "/api/v1/runs/nope", f"/login?token={TOKEN}"):
            async with served.client.get(path, allow_redirects=False):
                pass
    lines = [one for one in logs if one["event"] == "request"]
    assert [(one["method"], one["route"], one["status"]) for one in lines] == [
        ("GET", "/api/v1/runs/{id}", 200),
        ("GET", "/api/v1/runs/{id}", 404),
        ("GET", "/login", 303),
    ]
    assert all(one["ms"] >= 0 for one in lines)
    assert TOKEN not in json.dumps(logs)


async def test_a_client_that_leaves_in_mid_upload_leaves_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """No error in the log, no part of a file on the disk."""
    with capture_logs() as logs:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            f"POST /api/v1/blobs HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: 1000000\r\n\r\npart".encode()
        )
        await writer.drain()
        folder = served.tree.root / "blobs"
        async with asyncio.timeout(5):
            while not list(folder.iterdir()):  # noqa: ASYNC110 - the disk has no signal
                await asyncio.sleep(0.01)
            writer.close()
            while not logs:  # noqa: ASYNC110 - nor has the log
                await asyncio.sleep(0.01)
    assert [one["status"] for one in logs] == [499]
    assert list(folder.iterdir()) == []
    assert caplog.records == []

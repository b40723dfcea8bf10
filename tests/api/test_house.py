"""Workflows, archives, and what the server says about itself."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api.memory_engine import an_info
from api.served import Served, serving

from plue.api.keys import ApiLimits
from plue.api.models import Health
from plue.authoring.results import Description, Diagnostic


async def test_workflows_carry_what_is_wrong_in_their_own_file(served: Served) -> None:
    """A broken file hides no other; its diagnostics stand apart when it gave no workflow."""
    warning = Diagnostic("PLU002", "odd", ".plue/workflows/ci.py", 4, severity="warning")
    error = Diagnostic("PLU001", "invalid syntax", ".plue/workflows/bad.py", 1, field="x")
    served.engine.description = Description((an_info(),), (warning, error))
    async with served.client.get("/api/v1/workflows") as response:
        listed = await response.json()
    (workflow,) = listed["workflows"]
    assert (workflow["name"], workflow["inputs"]["type"]) == ("ci", "object")
    assert [one["code"] for one in workflow["diagnostics"]] == ["PLU002"]
    assert [one["code"] for one in listed["diagnostics"]] == ["PLU001"]
    async with served.client.get("/api/v1/workflows/ci") as response:
        assert await response.json() == workflow


async def test_an_unknown_workflow_is_404_with_the_nearest(served: Served) -> None:
    """`/workflows/cii` is answered with `ci`."""
    async with served.client.get("/api/v1/workflows/cii") as response:
        assert response.status == 404
        assert (await response.json(content_type=None))["remedy"] == "did you mean `ci`?"


async def test_parse_gives_workflows_diagnostics_and_the_plan(served: Served) -> None:
    """The wrong file is told, the right one planned, nothing recorded."""
    body = {"files": {"a.py": "def ci(ctx): ...", "b.py": "?"}, "workflow": "ci"}
    async with served.client.post("/api/v1/workflows/parse", json=body) as response:
        assert response.status == 200
        parsed = await response.json()
    assert [one["file"] for one in parsed["workflows"]] == ["a.py"]
    assert [(one["file"], one["code"]) for one in parsed["diagnostics"]] == [("b.py", "PLU001")]
    assert parsed["plan"]["steps"][0]["name"] == "build"
    assert served.engine.records == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"files": {}}, "files", id="nothing"),
        pytest.param({"files": {"a.py": "def"}, "workflow": "cj"}, "workflow", id="unknown"),
        pytest.param({"files": {"a.py": "def"}, "inputs": {"a": 1}}, "workflow", id="inputs-alone"),
    ],
)
async def test_parse_refuses_what_cannot_be_meant(served: Served, body: object, field: str) -> None:
    """An error of the call, unlike one of the source, is a 422."""
    async with served.client.post("/api/v1/workflows/parse", json=body) as response:
        assert response.status == 422
        assert (await response.json(content_type=None))["field"] == field


async def test_an_archive_is_stored_under_its_digest(served: Served) -> None:
    """The answer has id and size; the same bytes give the same id."""
    data = b"tar" * 100_000

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 10_000):
            yield data[at : at + 10_000]

    for body in (data, chunks()):
        async with served.client.post("/api/v1/blobs", data=body) as response:
            assert response.status == 201
            blob = await response.json()
        assert blob == {"id": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert served.blobs.path(blob["id"]).read_bytes() == data


@pytest.mark.parametrize("announced", [True, False])
async def test_an_archive_beyond_the_limit_is_413_and_leaves_nothing(
    tmp_path: Path, announced: bool
) -> None:
    """The limit holds also when the size is not announced."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 600
        yield b"x" * 600

    async with (
        serving(tmp_path, limits=ApiLimits(blob_bytes=1000)) as served,
        served.client.post(
            "/api/v1/blobs", data=b"x" * 1001 if announced else chunks()
        ) as response,
    ):
        assert response.status == 413
        assert list((tmp_path / "blobs").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        pytest.param("multipart/form-data; boundary=x", b"--x--", 415, id="form"),
        pytest.param("application/octet-stream", b"", 422, id="empty"),
    ],
)
async def test_what_is_no_archive_is_refused(
    served: Served, kind: str, data: bytes, status: int
) -> None:
    """Curl's usual mistakes are named."""
    headers = {"Content-Type": kind}
    async with served.client.post("/api/v1/blobs", data=data, headers=headers) as response:
        assert response.status == status
        assert (await response.json(content_type=None))["detail"]


async def test_ready_says_part_by_part_what_is_wrong(served: Served) -> None:
    """503 with the same body, so that a person sees which part."""
    async with served.client.get("/readyz") as response:
        assert (response.status, (await response.json())["ok"]) == (200, True)
    served.health.ok = False
    served.health.checks["store"] = "the database does not answer"
    async with served.client.get("/readyz") as response:
        assert response.status == 503
        body = Health.model_validate(await response.json())
        assert body.checks == {"store": "the database does not answer"}


async def test_alive_is_alive_even_when_not_ready(served: Served) -> None:
    """Restarting us would not heal the database."""
    served.health.ok = False
    async with served.client.get("/healthz") as response:
        assert (response.status, (await response.json())["ok"]) == (200, True)


async def test_metrics_are_prometheus_text(served: Served) -> None:
    """Type and bytes are those of the registry."""
    async with served.client.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert await response.read() == b"plue_runs_total 1\n"


async def test_metrics_are_absent_when_there_are_none(tmp_path: Path) -> None:
    """A server without metrics says 404, not an empty page."""
    async with (
        serving(tmp_path, metrics=False) as served,
        served.client.get("/metrics") as response,
    ):
        assert response.status == 404


async def test_info_and_first_page_say_where_things_are(served: Served) -> None:
    """The start page is safe to show: no script may run in it."""
    async with served.client.get("/api/v1/info") as response:
        assert (await response.json())["mode"] == "local"
    async with served.client.get("/") as response:
        assert response.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "/openapi.json" in await response.text()


async def test_head_is_possible_where_get_ends(served: Served) -> None:
    """`curl -I` works, with the length and without the body."""
    async with served.client.head("/api/v1/runs") as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 0
        assert await response.read() == b""

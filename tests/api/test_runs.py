"""The routes of runs: list, create, show, cancel, rerun."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from api.memory_engine import BLOB
from api.served import Served, serving

from plue.errors import UnavailableError
from plue.wire.events import Reason, RunState


async def asked(served: Served, path: str, status: int = 200) -> dict[str, Any]:
    """Return the JSON at *path*."""
    async with served.client.get(path) as response:
        assert response.status == status, await response.text()
        return dict(await response.json(content_type=None))


async def posted(
    served: Served, path: str, body: object, status: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the answer's JSON and headers."""
    async with served.client.post(path, json=body) as response:
        assert response.status == status, await response.text()
        return dict(await response.json(content_type=None)), dict(response.headers)


async def test_list_gives_full_rows_newest_first(served: Served) -> None:
    """Every row has every field, also those that are null."""
    served.engine.add_run()
    served.engine.add_run(state=RunState.RUNNING, waiting_reason=None, waiting_since=None)
    page = await asked(served, "/api/v1/runs")
    assert [row["number"] for row in page["runs"]] == [2, 1]
    newest, oldest = page["runs"]
    assert set(newest) == set(oldest)
    assert newest["waiting"] is None
    assert newest["ended_at"] is None
    assert oldest["name"] == "ci-1"
    assert oldest["waiting"]["reason"] == Reason.NO_IDLE_RUNNER
    assert oldest["created_at"] == "2026-01-02T03:04:05Z"


async def test_list_filters_by_every_parameter(served: Served) -> None:
    """Workflow, state (repeated) and trigger narrow the list."""
    served.engine.add_run(workflow="deploy", state=RunState.FAILED)
    served.engine.add_run(state=RunState.RUNNING, trigger="push")
    served.engine.add_run(state=RunState.SUCCEEDED)
    for query, numbers in (
        ("workflow=deploy", [1]),
        ("state=running&state=failed", [2, 1]),
        ("trigger=push", [2]),
        ("workflow=deploy&state=running", []),
    ):
        page = await asked(served, f"/api/v1/runs?{query}")
        assert [row["number"] for row in page["runs"]] == numbers, query


async def test_list_pages_by_cursor_without_gap_or_double(served: Served) -> None:
    """Following `next` gives every run once."""
    for _ in range(7):
        served.engine.add_run()
    seen: list[int] = []
    path: str | None = "/api/v1/runs?limit=3"
    while path:
        page = await asked(served, path)
        seen += [row["number"] for row in page["runs"]]
        path = f"/api/v1/runs?limit=3&cursor={page['next']}" if page["next"] else None
    assert seen == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param("limit=0", "limit", id="limit-zero"),
        pytest.param("limit=201", "limit", id="limit-above-200"),
        pytest.param("limit=", "limit", id="limit-empty"),
        pytest.param("limit=1&limit=2", "limit", id="limit-twice"),
        pytest.param("state=done", "state.0", id="no-such-state"),
        pytest.param("trigger=cron", "trigger", id="no-such-trigger"),
        pytest.param("cursor=abc", "cursor", id="cursor-not-ours"),
        pytest.param("workflow=a%00b", "workflow", id="nul"),
        pytest.param("limt=3", "limt", id="unknown"),
    ],
)
async def test_list_refuses_a_bad_parameter_by_name(served: Served, query: str, field: str) -> None:
    """A parameter that cannot be meant is a 422 that names it."""
    problem = await asked(served, f"/api/v1/runs?{query}", 422)
    assert problem["field"] == field


async def test_an_unknown_parameter_gets_the_nearest_known_one(served: Served) -> None:
    """A typing error is answered with what was probably meant."""
    problem = await asked(served, "/api/v1/runs?limt=3", 422)
    assert problem["remedy"] == "did you mean `limit`?"


async def test_create_answers_201_with_the_run_and_where_it_is(served: Served) -> None:
    """The new run can be fetched at its Location at once."""
    run, headers = await posted(
        served, "/api/v1/runs", {"workflow": "ci", "inputs": {"env": "staging"}}, 201
    )
    assert headers["Location"] == f"/api/v1/runs/{run['id']}"
    assert await asked(served, headers["Location"]) == run
    assert run["inputs"] == {"env": "staging"}
    assert [step["name"] for step in run["steps"]] == ["build", "unit"]


async def test_create_hands_everything_to_the_engine(served: Served) -> None:
    """Each field of the body arrives in the submission, in its own unit."""
    body: dict[str, Any] = {
        "workflow": "ci",
        "inputs": {"env": "1"},
        "text_inputs": True,
        "trigger": "push",
        "event": {"ref": "refs/heads/main", "payload": {"deep": [{"a": None}]}},
        "priority": -5,
        "workspace": {"kind": "none"},
        "files": {"ci.py": "def ci(ctx): ..."},
        "timeout_seconds": 90,
        "queue_timeout_seconds": 1.5,
        "idempotency_key": "once",
    }
    await posted(served, "/api/v1/runs", body, 201)
    made = served.engine.records[0].submission
    assert made.files == body["files"]
    assert made.inputs == body["inputs"]
    assert made.event == {"kind": "push", "branch": "main", **body["event"]}
    assert (made.text_inputs, made.trigger, made.priority) == (True, "push", -5)
    assert made.timeout == timedelta(seconds=90)
    assert made.queue_timeout == timedelta(seconds=1.5)
    assert made.idempotency_key == "once"
    assert made.workspace.kind == "none"
    assert served.tree.snapshots == 0


async def test_create_takes_tree_and_source_of_the_server_by_default(served: Served) -> None:
    """Without files and workspace the run sees a copy of the working tree."""
    await posted(served, "/api/v1/runs", {"workflow": "ci"}, 201)
    made = served.engine.records[0].submission
    assert made.files == await served.tree.files()
    assert (made.workspace.kind, made.workspace.blob) == ("blob", BLOB)


async def test_create_takes_an_uploaded_archive(served: Served) -> None:
    """A blob that was uploaded can be the workspace."""
    async with served.client.post("/api/v1/blobs", data=b"archive") as response:
        blob = (await response.json())["id"]
    workspace = {"kind": "blob", "blob": blob}
    await posted(served, "/api/v1/runs", {"workflow": "ci", "workspace": workspace}, 201)
    assert served.engine.records[0].submission.workspace.blob == blob


async def test_create_in_place_runs_in_the_tree_itself(served: Served) -> None:
    """`in_place` is the server's own root, with or without saying so."""
    for workspace in ({"kind": "in_place"}, {"kind": "in_place", "path": str(served.tree.root)}):
        await posted(served, "/api/v1/runs", {"workflow": "ci", "workspace": workspace}, 201)
        made = served.engine.records[-1].submission
        assert (made.workspace.kind, made.workspace.path) == ("in_place", str(served.tree.root))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({}, "workflow", id="missing"),
        pytest.param({"workflow": ""}, "workflow", id="empty"),
        pytest.param({"workflow": 3}, "workflow", id="not-text"),
        pytest.param({"workflow": "ci", "priority": "5"}, "priority", id="text-is-no-number"),
        pytest.param({"workflow": "ci", "priority": 1001}, "priority", id="priority-too-high"),
        pytest.param({"workflow": "ci", "timeout_seconds": 0}, "timeout_seconds", id="no-time"),
        pytest.param({"workflow": "ci", "imputs": {}}, "imputs", id="unknown-field"),
        pytest.param(
            {"workflow": "ci", "workspace": {"knd": "tree"}}, "workspace.knd", id="unknown-inside"
        ),
        pytest.param({"workflow": "ci", "inputs": {"a": "x\0y"}}, "inputs.a", id="nul"),
        pytest.param({"workflow": "ci", "inputs": {"a": ["\ud800"]}}, "inputs.a.0", id="surrogate"),
        pytest.param({"workflow": "ci", "event": {"k\0": 1}}, "event.k\\0", id="nul-in-a-name"),
        pytest.param({"workflow": "ci", "files": {"a.py": "\0"}}, "files.a.py", id="nul-in-file"),
        pytest.param(
            {"workflow": "ci", "workspace": {"kind": "blob"}}, "workspace.blob", id="which-blob"
        ),
        pytest.param(
            {"workflow": "ci", "workspace": {"kind": "blob", "blob": "cd" * 32}},
            "workspace.blob",
            id="no-such-blob",
        ),
        pytest.param(
            {"workflow": "ci", "workspace": {"kind": "blob", "blob": "../../etc"}},
            "workspace.blob",
            id="blob-is-no-path",
        ),
        pytest.param(
            {"workflow": "ci", "workspace": {"kind": "none", "blob": "cd" * 32}},
            "workspace.blob",
            id="blob-without-its-kind",
        ),
        pytest.param(
            {"workflow": "ci", "workspace": {"kind": "in_place", "path": "/"}},
            "workspace.path",
            id="another-folder",
        ),
        pytest.param([], None, id="not-an-object"),
    ],
)
async def test_create_refuses_a_bad_body_by_field(
    served: Served, body: object, field: str | None
) -> None:
    """A body that cannot be meant is a 422 that names the field, and makes no run."""
    problem, _ = await posted(served, "/api/v1/runs", body, 422)
    assert problem.get("field") == field
    assert served.engine.records == []


async def test_create_names_all_bad_fields(served: Served) -> None:
    """`errors` has every field, `field` the first."""
    problem, _ = await posted(
        served, "/api/v1/runs", {"workflow": 1, "trigger": "cron", "prioritty": 1}, 422
    )
    assert {one["field"] for one in problem["errors"]} == {"workflow", "trigger", "prioritty"}
    assert problem["field"] == problem["errors"][0]["field"]


async def test_create_gives_the_diagnostics_of_a_bad_input(served: Served) -> None:
    """What the workflow says against an input comes with its place."""
    problem, _ = await posted(
        served, "/api/v1/runs", {"workflow": "ci", "inputs": {"env": "wrong"}}, 422
    )
    assert problem["field"] == "inputs.env"
    assert problem["diagnostics"][0]["code"] == "PLU101"
    assert problem["diagnostics"][0]["line"] == 2


async def test_create_of_an_unknown_workflow_is_404_with_a_remedy(served: Served) -> None:
    """The nearest workflow is named."""
    problem, _ = await posted(served, "/api/v1/runs", {"workflow": "cl"}, 404)
    assert (problem["field"], problem["remedy"]) == ("workflow", "did you mean `ci`?")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"workflow": "ci"}, "files", id="source"),
        pytest.param({"workflow": "ci", "files": {}}, "workspace.kind", id="tree"),
        pytest.param(
            {"workflow": "ci", "files": {}, "workspace": {"kind": "in_place"}},
            "workspace.kind",
            id="in-place",
        ),
    ],
)
async def test_create_without_a_tree_says_what_must_be_sent(
    tmp_path: Path, body: object, field: str
) -> None:
    """A server without a working tree refuses what needs one."""
    async with serving(tmp_path, with_tree=False) as served:
        problem, _ = await posted(served, "/api/v1/runs", body, 422)
        assert problem["field"] == field
        assert problem["remedy"]


@pytest.mark.parametrize("reference", ["ci-1", "1", "latest"])
async def test_a_run_is_found_by_any_of_its_names(served: Served, reference: str) -> None:
    """Name, number and `latest` do what the id does."""
    record = served.engine.add_run()
    assert (await asked(served, f"/api/v1/runs/{reference}"))["id"] == record.id


async def test_cancel_is_accepted_with_and_without_a_body(served: Served) -> None:
    """202 with the run as it is now; the reason and `now` reach the engine."""
    record = served.engine.add_run()
    async with served.client.post("/api/v1/runs/ci-1/cancel") as response:
        assert response.status == 202
        assert (await response.json())["cancel_requested_at"] is not None
    await posted(served, "/api/v1/runs/1/cancel", {"reason": "mistake", "now": True}, 202)
    assert served.engine.cancelled == [(record.id, None, False), (record.id, "mistake", True)]


async def test_rerun_makes_a_new_run(served: Served) -> None:
    """201 with the new run, which names the old one."""
    old = served.engine.add_run()
    run, headers = await posted(served, "/api/v1/runs/1/rerun", {}, 201)
    assert headers["Location"] == f"/api/v1/runs/{run['id']}"
    assert (run["number"], run["rerun_of"]) == (2, old.id)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/runs/nope"),
        ("POST", "/api/v1/runs/nope/cancel"),
        ("POST", "/api/v1/runs/nope/rerun"),
        ("GET", "/api/v1/runs/nope/logs"),
        ("POST", "/api/v1/runs/1/approve"),
        ("GET", "/api/v1/pools"),
    ],
)
async def test_what_is_not_there_is_a_404_problem(served: Served, method: str, path: str) -> None:
    """Unknown runs and routes of later versions are 404."""
    async with served.client.request(method, path) as response:
        assert response.status == 404
        assert response.headers["Content-Type"] == "application/problem+json"
        assert json.loads(await response.text())["type"] == "urn:plue:problem:not-found"


async def test_a_store_that_is_away_is_503_with_retry_after(served: Served) -> None:
    """The client is told when to come back."""
    served.engine.failure = UnavailableError(
        "the database does not answer", retry_in=timedelta(seconds=2.5), remedy="plue doctor"
    )
    async with served.client.get("/api/v1/runs") as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "3"
        assert (await response.json(content_type=None))["remedy"] == "plue doctor"

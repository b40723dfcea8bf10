"""A faulty API server, a database that is away, operators that die: nothing is lost or doubled."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from aiohttp import web
from cluster.bed.control_plane import ControlPlane
from cluster.faulty_api import FaultyApi
from cluster.operating import (
    RUNNERS,
    Cluster,
    Operator,
    a_workflow,
    operator_at,
    run_of,
    until,
    workflow_run,
)
from cluster.played import PlayedNode
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from plue.local.postgres import EmbeddedPostgres

SHORT = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("work", "echo work")
"""

_AWAY = 503
_LONGER_THAN_THE_LEASE = 12
_A_MINUTE = float(os.environ.get("OUTAGE_SECONDS", "60"))
"""How long the database is away, and two operators act at once; for one's own tries, another."""

LONG = SHORT.replace("echo work", "echo work; sleep 60")


@pytest.fixture(scope="module")
def faulty(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultyApi]:
    """Give a proxy before the API server."""
    folder = tmp_path_factory.mktemp("faulty")
    with FaultyApi(control_plane.url, control_plane.token, folder) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def behind(
    bare: Cluster,
    node: PlayedNode,
    faulty: FaultyApi,
    postgres_server: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operator]:
    """Give an operator that reaches the API server through the proxy alone."""
    assert node.failure is None
    name = f"behind_{uuid4().hex[:8]}"
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    folder = tmp_path_factory.mktemp("behind")
    dsn = postgres_server.dsn(name)
    with operator_at(bare, dsn, folder, port=0, kubeconfig=str(faulty.kubeconfig)) as operator:
        bare.pool("default", warm=2, maximum=8)
        bare.wait("condition=Ready", "rp", "default", 60, RUNNERS)
        try:
            yield operator
        finally:
            faulty.fault = None
            bare.kubectl("delete", "wfr,wf", "--all", "-A", "--wait=false")
            bare.kubectl("delete", "rp", "--all", "-n", RUNNERS, "--wait=false")
            bare.kubectl("delete", "pod", "--all", "-n", RUNNERS, "--grace-period=1")


def _apply(cluster: Cluster, count: int, source: str = SHORT) -> list[str]:
    runs = [workflow_run(source) for _ in range(count)]
    cluster.apply(*runs)
    return [run["metadata"]["name"] for run in runs]


def _assert_each_ran_once(cluster: Cluster, operator: Operator, names: list[str]) -> None:
    which = [f"wfr/{name}" for name in names]
    cluster.kubectl("wait", "--for=condition=Complete", *which, "--timeout=110s")
    found = {run["metadata"]["name"]: run for run in cluster.items("wfr", "default")}
    for name in names:
        kinds = [e["type"] for e in operator.events(found[name]["metadata"]["uid"])]
        assert (kinds.count("step_started"), kinds.count("run_completed")) == (1, 1)


def _status(code: int, reason: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "code": code}
    return web.json_response(body, status=code, headers={"Retry-After": "1"})


def _expired() -> web.Response:
    """Return what an API server says to who watches from where it knows nothing any more."""
    status = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}
    body = json.dumps({"type": "ERROR", "object": status}) + "\n"
    return web.Response(text=body, content_type="application/json")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(429, "TooManyRequests", id="too-many-requests"),
        pytest.param(500, "InternalError", id="internal-error"),
        pytest.param(503, "ServiceUnavailable", id="unavailable"),
    ],
)
def test_api_server_that_fails_is_tried_again(
    bare: Cluster, behind: Operator, faulty: FaultyApi, code: int, reason: str
) -> None:
    """While every second request fails, and then all of them do, runs wait and then go on."""
    count = 0

    def every_second(request: web.Request) -> web.Response | None:
        nonlocal count
        if "watch" in request.query:
            return None
        count += 1
        return _status(code, reason) if count % 2 else None

    faulty.fault = every_second
    try:
        names = _apply(bare, 3)
        for name in names:
            bare.wait("condition=Complete", "wfr", name, 120)
        faulty.fault = lambda request: None if "watch" in request.query else _status(code, reason)
        later = _apply(bare, 2)
        before = len(behind.log)
        until("somebody was refused", lambda: "run_pass_failed" in behind.log[before:])
        if code == _AWAY:
            time.sleep(_LONGER_THAN_THE_LEASE)  # the outage itself, which nothing ends
    finally:
        faulty.fault = None
    _assert_each_ran_once(bare, behind, [*names, *later])


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(lambda: _expired(), id="in-the-stream"),  # noqa: PLW0108 - a fresh one each
        pytest.param(lambda: _status(410, "Expired"), id="as-the-status"),
    ],
)
def test_watches_that_end_lose_nothing(
    bare: Cluster, behind: Operator, faulty: FaultyApi, said: Callable[[], web.Response]
) -> None:
    """Cut watches, and watches that are too old (410), begin anew; what came meanwhile is seen."""
    assert faulty.close_watches() > 0
    first = _apply(bare, 2)
    gone = 0

    def expired(request: web.Request) -> web.Response | None:
        nonlocal gone
        if "watch" in request.query and gone < 6:
            gone += 1
            return said()
        return None

    faulty.fault = expired
    try:
        faulty.close_watches()
        second = _apply(bare, 2)
        _assert_each_ran_once(bare, behind, [*first, *second])
    finally:
        faulty.fault = None
    assert gone > 0
    assert behind.is_alive


def test_run_deleted_in_a_gap_of_the_watch_ends(
    bare: Cluster, behind: Operator, faulty: FaultyApi
) -> None:
    """A deletion that no watch told of is found, at the latest, when the operator starts."""
    (name,) = _apply(bare, 1, LONG)
    bare.wait("jsonpath={.status.phase}=Running", "wfr", name)
    uid = bare.get("wfr", name)["metadata"]["uid"]
    behind.kill()
    bare.kubectl("delete", "wfr", name)
    behind.start()
    until("the run is cancelled", lambda: behind.state(uid) == "cancelled")


def test_lost_rights_cancel_nothing(bare: Cluster, behind: Operator, faulty: FaultyApi) -> None:
    """An API server that knows neither us nor our kinds any more proves nothing about runs."""
    (name,) = _apply(bare, 1, LONG)
    bare.wait("jsonpath={.status.phase}=Running", "wfr", name)
    uid = bare.get("wfr", name)["metadata"]["uid"]
    for code, reason in ((403, "Forbidden"), (404, "NotFound")):
        faulty.fault = lambda request, code=code, reason=reason: (
            _status(code, reason) if "workflowruns" in request.path else None
        )
        try:
            faulty.close_watches()
            behind.kill()
            behind.begin()
            until(
                "it was refused",
                lambda reason=reason: reason in behind.log or "not found" in behind.log,
            )
        finally:
            faulty.fault = None
        behind.kill()
    behind.start()
    assert behind.state(uid) == "running"
    bare.kubectl("delete", "wfr", name)


def _refuse(server: EmbeddedPostgres, dsn: str, *, refused: bool) -> None:
    """Let nobody into a database, and put out who is in it; or let everybody in again."""
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(allow.format(name, sql.SQL("false" if refused else "true")))
        if refused:
            ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(ending, (conninfo_to_dict(dsn)["dbname"],))


def test_database_away_for_a_minute(
    bare: Cluster, behind: Operator, postgres_server: EmbeddedPostgres
) -> None:
    """Without its database nothing is lost: what ran goes on, what was applied is run after it.

    One run ends meanwhile and one later; neither begins again.
    """
    running = _apply(bare, 1, SHORT.replace("echo work", "sleep 8; echo work"))
    running += _apply(bare, 1, SHORT.replace("echo work", f"sleep {_A_MINUTE + 10}; echo work"))
    for name in running:
        bare.wait("jsonpath={.status.phase}=Running", "wfr", name)
    _refuse(postgres_server, behind.dsn, refused=True)
    end = time.monotonic() + _A_MINUTE
    try:
        applied = _apply(bare, 2)
        for name in applied:
            bare.wait("jsonpath={.status.reason}=Unavailable", "wfr", name, 90)
        time.sleep(max(0.0, end - time.monotonic()))  # the outage itself, which nothing ends
        assert behind.is_alive
    finally:
        _refuse(postgres_server, behind.dsn, refused=False)
    _assert_each_ran_once(bare, behind, [*running, *applied])


def test_killed_in_the_middle_of_fifty_runs(bare: Cluster, behind: Operator) -> None:
    """Killed again and again while fifty runs go on, the operator loses none and doubles none."""
    names = _apply(bare, 50)
    ended = 0
    for _ in range(3):
        before = ended
        until(
            "some runs have ended",
            lambda before=before: _ended(bare, names) > before,
            seconds=90,
        )
        ended = _ended(bare, names)
        behind.kill()
        behind.start()
    _assert_each_ran_once(bare, behind, names)


def _ended(cluster: Cluster, names: list[str]) -> int:
    return sum(
        item["metadata"]["name"] in names and item.get("status", {}).get("phase") == "Succeeded"
        for item in cluster.items("wfr", "default")
    )


def test_two_operators_for_a_minute(bare: Cluster, behind: Operator, tmp_path: Path) -> None:
    """Two at once, runs applied all the while, the active one killed: each run runs once."""
    with operator_at(bare, behind.dsn, tmp_path, port=0) as second:
        names: list[str] = []
        end = time.monotonic() + _A_MINUTE
        while time.monotonic() < end:
            names += _apply(bare, 2)
            # One after the other, so that a minute's runs are not looked at for another.
            bare.wait("condition=Complete", "wfr", names[-1], 60)
        behind.kill()
        names += _apply(bare, 4)
        _assert_each_ran_once(bare, second, names)
        second.stop()
    behind.start()


def test_deleted_workflow_ends_no_run(bare: Cluster, behind: Operator) -> None:
    """A run's source was pinned when it was submitted: it goes on without its Workflow."""
    name = f"wf-{uuid4().hex[:8]}"
    bare.apply(a_workflow(name, SHORT.replace("echo work", "sleep 3; echo work")))
    run = run_of(name)
    bare.apply(run)
    bare.wait("jsonpath={.status.phase}=Running", "wfr", run["metadata"]["name"])
    bare.kubectl("delete", "wf", name)
    _assert_each_ran_once(bare, behind, [run["metadata"]["name"]])


def test_deleted_namespace_ends_its_runs(bare: Cluster, behind: Operator) -> None:
    """A namespace's end is its runs' end, and nothing of ours keeps it from going."""
    space = f"team-{uuid4().hex[:6]}"
    bare.kubectl("create", "namespace", space)
    run = workflow_run(LONG)
    run["metadata"]["namespace"] = space
    bare.apply(run)
    name = run["metadata"]["name"]
    bare.wait("jsonpath={.status.phase}=Running", "wfr", name, ns=space)
    uid = bare.get("wfr", name, space)["metadata"]["uid"]
    bare.kubectl("delete", "namespace", space, "--wait=false")
    until("the run is cancelled", lambda: behind.state(uid) == "cancelled")
    until("the namespace is gone", lambda: not bare.get("namespace", space), seconds=60)


def test_run_deleted_while_it_runs_ends(bare: Cluster, behind: Operator) -> None:
    """Who deletes the resource ends the run, and its pod goes."""
    (name,) = _apply(bare, 1, LONG)
    bare.wait("jsonpath={.status.phase}=Running", "wfr", name)
    found = bare.get("wfr", name)
    bare.kubectl("delete", "wfr", name)
    uid, pod = found["metadata"]["uid"], found["status"]["runner"]
    until("the run is cancelled", lambda: behind.state(uid) == "cancelled")
    until("the pod is gone", lambda: not bare.get("pod", pod, RUNNERS))

"""Operators that die, double or lose their database, in the middle of runs."""

import json
import time
from pathlib import Path

import psycopg
from cluster.operating import Cluster, Operator, operator_at, until, workflow_run

SHORT = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("work", "echo work; sleep 1")
"""

LONG = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("work", "echo work; sleep 60")
"""


def _names(cluster: Cluster, count: int, source: str = SHORT) -> list[str]:
    runs = [workflow_run(source) for _ in range(count)]
    cluster.apply(*runs)
    return [run["metadata"]["name"] for run in runs]


def _assert_each_ran_once(cluster: Cluster, operator: Operator, names: list[str]) -> None:
    for name in names:
        cluster.wait("condition=Complete", "wfr", name, 120)
        kinds = [e["type"] for e in operator.events(cluster.get("wfr", name)["metadata"]["uid"])]
        assert (kinds.count("step_started"), kinds.count("run_completed")) == (1, 1)


def test_operator_killed_in_the_middle(cluster: Cluster, operator: Operator) -> None:
    """Killed and started again, the operator loses no run, and none runs twice."""
    names = _names(cluster, 12, SHORT.replace("sleep 1", "sleep 3"))
    until("runs run", lambda: "Running" in cluster.kubectl("get", "wfr", *names))
    operator.kill()
    operator.start()
    _assert_each_ran_once(cluster, operator, names)


def test_two_operators_do_no_harm(
    cluster: Cluster, operator: Operator, operator_database: str, tmp_path: Path
) -> None:
    """With two operators every run runs once; when the active one is killed, the other acts."""
    with operator_at(cluster, operator_database, tmp_path, port=8710) as second:
        _assert_each_ran_once(cluster, operator, _names(cluster, 8))
        operator.kill()
        killed = time.monotonic()
        (name,) = _names(cluster, 1)
        until(
            "the standby submits",
            lambda: cluster.get("wfr", name).get("status", {}).get("phase"),
            seconds=15,
        )
        assert time.monotonic() - killed < 15
        _assert_each_ran_once(cluster, second, [name])
        second.stop()
    operator.start()


def test_emptied_database_is_refilled(
    cluster: Cluster, operator: Operator, operator_database: str
) -> None:
    """What had started fails with StoreLost, what had not is queued again, an end stays."""
    (finished,) = _names(cluster, 1)
    cluster.wait("condition=Complete", "wfr", finished)
    before = cluster.get("wfr", finished)["status"]
    (running,) = _names(cluster, 1, LONG)
    cluster.wait("jsonpath={.status.phase}=Running", "wfr", running)
    cluster.pool("empty", warm=0, maximum=1, pod={"nodeSelector": {"no-such": "node"}})
    waiting = workflow_run(SHORT, pool="empty")
    cluster.apply(waiting)
    name = waiting["metadata"]["name"]
    cluster.wait("jsonpath={.status.phase}=Queued", "wfr", name)
    operator.kill()
    _empty(operator_database)
    operator.start()
    cluster.wait("condition=Failed", "wfr", running)
    assert cluster.get("wfr", running)["status"]["reason"] == "StoreLost"
    uid = cluster.get("wfr", name)["metadata"]["uid"]
    path = f"/api/v1/runs/{uid}"
    until(
        "the run is known again",
        lambda: operator.status(path, token=operator.token(), method="GET") == 200,
    )
    assert json.loads(operator.ask(path))["state"] == "queued"
    assert cluster.get("wfr", finished)["status"] == before
    cluster.kubectl("delete", "wfr", name)
    cluster.kubectl("delete", "rp", "empty", "-n", "plue-runners")
    _assert_each_ran_once(cluster, operator, _names(cluster, 2))


def _empty(dsn: str) -> None:
    """Leave of the database what a new one would have."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")

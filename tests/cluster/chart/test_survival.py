"""Whatever dies in the middle of runs: they end rightly, none twice at once, no line is lost.

Each fault meets fifty runs, on at most eight runners. One more run is applied the moment the fault
begins; when it is complete, a user would call Plue recovered. At the end a table is printed: fault,
what a user saw, and how long that took. `docs/operations.md` has one.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cluster.bed.second import SECOND, TAINT, SecondNode, second_node
from cluster.faulting import (
    Users,
    delete_pods_at_random,
    halt_postgres,
    kill,
    kubelet_halted,
    replace_credentials,
    restart,
    without_rights,
)
from cluster.installed import NAMESPACE, Installed
from cluster.operating import RUNNERS, until, workflow_run

RUNS = int(os.environ.get("RUNS", "50"))
LINES = 20
SOURCE = f"""
from plue import workflow

@workflow(attempts={{attempts}})
def ci(ctx):
    ctx.run("count", "for i in $(seq {LINES}); do echo $i; sleep 0.1; done")
"""
Fault = Callable[[Installed], None]


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen of one fault; times in seconds."""

    fault: str
    away: float
    """The longest time in which the API answered nobody."""
    recovery: float
    """From the fault's begin to the end of the run that was applied then."""
    last: float
    """From the fault's begin to the end of the last of the runs that it met."""
    attempts: int
    """Attempts beyond the first, over all runs."""
    failed: int


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[list[Row]]:
    """Give the list that becomes the printed table."""
    rows: list[Row] = []
    yield rows
    heads = ("fault", "no answer for", "next run", "all runs", "started over", "failed")
    lines = ["", f"| {' | '.join(heads)} |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        times = f"{row.away:.1f} s | {row.recovery:.1f} s | {row.last:.1f} s"
        lines.append(f"| {row.fault} | {times} | {row.attempts} | {row.failed} |")
    plugins = pytestconfig.pluginmanager
    # What a fixture writes is shown only where a test of it failed.
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        plugins.getplugin("terminalreporter").write_line("\n".join(lines))


def _apply_at_last(plue: Installed, run: dict[str, Any]) -> None:
    """Apply a run as a user would who tries again while the API server is away."""

    def applied() -> bool:
        try:
            plue.cluster.apply(run)
        except (AssertionError, subprocess.TimeoutExpired):
            return False
        return True

    until("a run can be applied", applied, seconds=60)


def _is_whole(events: list[dict[str, Any]]) -> None:
    """Fail unless the events are numbered without a gap, and each attempt's step told once."""
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events].count("run_completed") == 1
    begun = [event["body"]["attempt"] for event in events if event["type"] == "step_started"]
    assert sorted(set(begun)) == begun, "an attempt began its step twice"
    for attempt in begun:
        said = [
            event["body"]["text"]
            for event in events
            if event["type"] == "step_output" and event["body"]["attempt"] == attempt
        ]
        lines = "".join(said).split()
        # What was told of an attempt that was lost is its begin, without a gap.
        assert lines == [str(n) for n in range(1, len(lines) + 1)]
    if events[-1]["body"]["state"] == "succeeded":
        assert len(lines) == LINES


def _survive(plue: Installed, name: str, fault: Fault, *, attempts: int = 1) -> Row:
    plue.wait_until_warm()
    source = SOURCE.format(attempts=attempts)
    with Users(plue) as users:
        names = plue.apply(source, RUNS)
        until("some run", lambda: list(plue.phases().values()).count("Running") >= 3, seconds=90)
        first = workflow_run(source, priority=100)
        begun = time.monotonic()
        fault(plue)
        _apply_at_last(plue, first)
        plue.all_ended([first["metadata"]["name"]], 180)
        recovery = time.monotonic() - begun
        runs = plue.all_ended([*names, first["metadata"]["name"]], 300)
        last = time.monotonic() - begun
    again = sum(_attempts(plue, run) - 1 for run in runs.values())
    failed = [run for run in runs.values() if run["status"]["phase"] != "Succeeded"]
    return Row(name, users.away, recovery, last, again, len(failed))


def _attempts(plue: Installed, run: dict[str, Any]) -> int:
    """Return how many attempts a run took, of whose events none is missing."""
    events = plue.events(run["metadata"]["name"], run["metadata"]["uid"])
    _is_whole(events)
    attempts: int = events[-1]["body"]["attempt"]
    return attempts


def _nothing(_: Installed) -> None:
    """Be what the others are compared with."""


def _rights(plue: Installed) -> None:
    with without_rights(plue):
        time.sleep(15)


def _kubelet(plue: Installed) -> None:
    with kubelet_halted(plue):
        time.sleep(25)


FAULTS: dict[str, Fault] = {
    "nothing": _nothing,
    "operator killed": lambda plue: kill(plue, "operator"),
    "API killed, both": lambda plue: kill(plue, "api"),
    "gateway killed, one of two": lambda plue: kill(plue, "gateway", 1),
    "gateway killed, both": lambda plue: kill(plue, "gateway"),
    "evaluator killed, both": lambda plue: kill(plue, "evaluator"),
    "API server killed, away for 5 s": lambda plue: restart(plue, "kube-apiserver", away=5),
    "etcd and API server killed, away for 5 s": lambda plue: restart(
        plue, "etcd", "kube-apiserver", away=5
    ),
    "kubelet halted for 25 s": _kubelet,
    "Postgres halted for a minute, then killed": lambda plue: halt_postgres(plue, 60),
    "rights taken away for 15 s": _rights,
    "passwords and tokens replaced": replace_credentials,
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_run_ends_well_whatever_dies(plue: Installed, table: list[Row], name: str) -> None:
    """No run fails and none starts over: what its runner could not tell, it tells afterwards."""
    row = _survive(plue, name, FAULTS[name])
    table.append(row)
    assert (row.attempts, row.failed) == (0, 0), row


def test_runs_start_over_when_their_pods_are_deleted(plue: Installed, table: list[Row]) -> None:
    """With attempts=, a run whose pod goes begins anew, never beside itself, and ends well."""
    name = "ten pods deleted at random"
    row = _survive(
        plue, name, lambda plue: delete_pods_at_random(plue, 1, rounds=10, every=0.7), attempts=9
    )
    table.append(row)
    assert row.failed == 0


HELD = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hold", "sleep 900")
"""


@pytest.fixture
def spread(plue: Installed) -> Iterator[SecondNode]:
    """Give a second machine that has runners of the pool ``spread``, and can be lost."""
    cluster = plue.cluster
    where = ("-n", RUNNERS)
    with second_node(cluster.running) as second:
        try:
            until("the second node", lambda: cluster.get("node", SECOND), seconds=60)
            cluster.wait("condition=Ready", "node", SECOND, 60)
            tolerations = [{"key": TAINT, "operator": "Exists"}]
            cluster.pool("spread", warm=2, maximum=6, pod={"tolerations": tolerations})
            plue.wait_until_warm("spread")
            yield second
        finally:
            second.lose()
            cluster.kubectl("delete", "rp", "spread", *where, "--ignore-not-found")
            cluster.kubectl("delete", "node", SECOND, "--ignore-not-found")
            # Of pods on a machine that is no more nobody says that they have ended.
            on_it = f"--field-selector=spec.nodeName={SECOND}"
            cluster.kubectl("delete", "pod", *where, on_it, "--force", "--grace-period=0")


def _is_on(plue: Installed, node: str, name: str) -> bool:
    """Return whether the run works on a pod of that node."""
    status = plue.cluster.get("wfr", name).get("status", {})
    if status.get("phase") != "Running":
        return False
    found = plue.cluster.get("pod", status["runner"], RUNNERS)
    return bool(found["spec"]["nodeName"] == node)


def test_a_lost_node_takes_its_own_runs_alone(
    plue: Installed, table: list[Row], spread: SecondNode
) -> None:
    """They fail with NodeLost when their lease is over; runs on other nodes go on."""
    (once,) = plue.apply(HELD, pool="spread")
    until("it runs there", lambda: _is_on(plue, SECOND, once), seconds=90)
    plue.wait_until_warm()
    beside = plue.apply(SOURCE.format(attempts=1), RUNS)
    until("some run", lambda: list(plue.phases().values()).count("Running") >= 4, seconds=90)
    with Users(plue) as users:
        begun = time.monotonic()
        spread.lose()
        runs = plue.all_ended(beside, 300)
        last = time.monotonic() - begun
        lost = plue.all_ended([once], 240)[once]["status"]
        recovery = time.monotonic() - begun
    assert (lost["phase"], lost["reason"]) == ("Failed", "NodeLost"), lost
    assert SECOND in lost["message"]
    assert {run["status"]["phase"] for run in runs.values()} == {"Succeeded"}
    assert {_attempts(plue, run) for run in runs.values()} == {1}
    table.append(Row("a node lost", users.away, recovery, last, 0, 1))


def test_an_emptied_database_is_refilled(plue: Installed, table: list[Row]) -> None:
    """What had started fails with StoreLost or is finished; what had not runs; ends stay."""
    plue.wait_until_warm()
    (finished,) = plue.apply(SOURCE.format(attempts=1))
    before = plue.ended(finished)
    names = plue.apply(SOURCE.format(attempts=1), RUNS)
    until("some run", lambda: list(plue.phases().values()).count("Running") >= 3, seconds=90)
    first = workflow_run(SOURCE.format(attempts=1), priority=100)
    begun = time.monotonic()
    with Users(plue) as users:
        (pod,) = plue.pods("postgres")
        where = ("-n", NAMESPACE, "--grace-period=1", "--wait=true")
        plue.cluster.kubectl("delete", "pod", pod["metadata"]["name"], *where)
        plue.cluster.apply(first)
        assert plue.ended(first["metadata"]["name"], 180)["phase"] == "Succeeded"
        recovery = time.monotonic() - begun
        statuses = [run["status"] for run in plue.all_ended(names, 300).values()]
        last = time.monotonic() - begun
    reasons = {status["reason"] for status in statuses}
    assert reasons <= {"Succeeded", "StoreLost"}, json.dumps(statuses)
    assert plue.cluster.get("wfr", finished)["status"] == before
    failed = sum(status["phase"] == "Failed" for status in statuses)
    table.append(Row("Postgres emptied", users.away, recovery, last, 0, failed))

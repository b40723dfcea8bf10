"""``python -m cluster.finished COUNT``: what finished WorkflowRuns cost an operator.

An API server of its own with etcd, no node: the runners are processes. The operator is measured
with none and with COUNT finished runs: until it is ready and a new run is submitted, its memory,
and what it asks the API server, by the API server's own count.
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.bed.control_plane import without_a_node
from cluster.counting import MEASURER, Counts, everybodys, ours
from cluster.operating import RUNNERS, RUNTIME, Cluster, Operator, operator_at, until, workflow_run
from cluster.played import PlayedNode

from plue.kube.client import ApiClient
from plue.kube.login import find_login
from plue.kube.objects import RUNS
from plue.local.postgres import EmbeddedPostgres

__all__ = ["Figures", "create_finished", "measure"]

HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""
_AT_ONCE = 32
_SETTLED = 3.0
"""Seconds after the last run until memory is read: what the start needed has been given back."""
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_OTHERS = frozenset(
    {
        ("POST", "pods/binding"),
        ("PATCH", "pods/status"),
        ("POST", "serviceaccounts/token"),
        ("POST", "workflowruns"),
    }
)
"""Writes of the played kubelet and of whoever applies a run."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one operator needed beside *finished* runs; memory is in bytes, times in seconds."""

    finished: int
    ready: float
    submitted: float
    resident: int
    peak: int
    lists: Counts
    """By the API server's count, from the operator's begin until a new run was submitted; of pods
    none is counted, since the played kubelet lists those all the time."""
    beginning: int
    """Writes and reads of WorkflowRuns in the same time, by the operator's own count."""
    writes: Counts
    """Of *runs* runs after it, by the API server's count."""
    reads: Counts
    """Of the same runs, by the operator's count: kubectl reads too."""
    runs: int

    def lines(self) -> Iterator[str]:
        """Say them, a figure a line."""
        yield f"with {self.finished} finished runs"
        yield f"  ready after            {self.ready:8.1f} s"
        yield f"  a new run is submitted {self.submitted:8.1f} s"
        yield f"  resident memory        {self.resident / 1e6:8.1f} MB"
        yield f"  at its peak            {self.peak / 1e6:8.1f} MB"
        shown = ", ".join(f"{resource} {n}" for (_, resource), n in sorted(self.lists.items()))
        yield f"  LISTs of the start     {shown}"
        for (verb, resource), n in sorted((self.writes + self.reads).items()):
            yield f"  a run's {verb:6} {resource:24} {n / self.runs:6.2f}"
        yield f"  a run's writes {sum(self.writes.values()) / self.runs:6.2f}"
        yield f"  a run's reads  {sum(self.reads.values()) / self.runs:6.2f}"


async def create_finished(cluster: Cluster, count: int, status: dict[str, Any]) -> None:
    """Create *count* runs that have ended with this status."""
    places_free = asyncio.Semaphore(_AT_ONCE)
    async with ApiClient(find_login({"KUBECONFIG": cluster.kubeconfig})) as api:

        async def one() -> None:
            async with places_free:
                made = await api.create(RUNS, "default", workflow_run(HELLO))
                own = {**status, "runId": made["metadata"]["uid"]}
                name = made["metadata"]["name"]
                await api.patch(RUNS, "default", name, {"status": own}, sub="status")

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())


def a_finished_run(operator: Operator) -> dict[str, Any]:
    """Let a run end and return its status."""
    cluster = operator.cluster
    run = workflow_run(HELLO)
    cluster.apply(run)
    cluster.wait("condition=Complete", "wfr", run["metadata"]["name"])
    status: dict[str, Any] = cluster.get("wfr", run["metadata"]["name"])["status"]
    return status


def measure(
    cluster: Cluster, dsn: str, folder: Path, *, finished: int, runs: int
) -> tuple[Figures, dict[str, Any]]:
    """Start an operator and give it *runs* runs; return its figures, and the last run's status."""
    folder.mkdir()
    cluster.apply(*MEASURER)
    before = everybodys(cluster)
    begun = time.monotonic()
    with operator_at(cluster, dsn, folder, port=0) as operator:
        ready = time.monotonic() - begun
        run = workflow_run(HELLO)
        name = run["metadata"]["name"]
        cluster.apply(run)
        until("a new run is submitted", lambda: _is_submitted(cluster, name), seconds=600)
        submitted = time.monotonic() - begun
        lists = {
            k: n
            for k, n in (everybodys(cluster) - before).items()
            if k[0] == "LIST" and k[1] != "pods"
        }
        beginning = sum(n for (_, kind), n in ours(operator).items() if kind == RUNS.plural)
        cluster.pool("default", warm=2, maximum=6)
        cluster.wait("condition=Complete", "wfr", name, seconds=90)
        cluster.wait("condition=Ready", "rp", "default", 90, RUNNERS)
        first, first_ours = everybodys(cluster), ours(operator)
        status = {}
        for _ in range(runs):
            status = a_finished_run(operator)
            cluster.wait("condition=Ready", "rp", "default", 60, RUNNERS)
        spent, spent_ours = everybodys(cluster) - first, ours(operator) - first_ours
        time.sleep(_SETTLED)
        resident, peak = operator.memory()
        operator.stop()  # gives its Lease back: who comes next does not wait for its end
    figures = Figures(
        finished=finished,
        ready=ready,
        submitted=submitted,
        resident=resident,
        peak=peak,
        lists=Counter(lists),
        beginning=beginning,
        writes=Counter({k: n for k, n in spent.items() if k[0] in _WRITES and k not in _OTHERS}),
        reads=Counter({k: n for k, n in spent_ours.items() if k[0] == "GET"}),
        runs=runs,
    )
    return figures, status


def _is_submitted(cluster: Cluster, name: str) -> bool:
    return bool(cluster.get("wfr", name).get("status", {}).get("runId"))


@contextmanager
def nodeless(folder: Path) -> Iterator[Cluster]:
    """Give a cluster of an API server and a played node. Raises BedError."""
    with without_a_node(folder) as plane:
        cluster = Cluster(str(plane.kubeconfig), image="played", gateway="127.0.0.1")
        cluster.install(Path(__file__).parents[2] / "crds")
        cluster.apply(*RUNTIME)
        with PlayedNode(cluster, folder / "node"):
            yield cluster


def main(count: int, runs: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as where, nodeless(Path(where)) as cluster:
        folder = Path(where)
        postgres = EmbeddedPostgres(folder / "postgres")
        with asyncio.Runner() as runner:
            runner.run(postgres.start())
            try:
                few, status = measure(
                    cluster, postgres.dsn(), folder / "few", finished=0, runs=runs
                )
                begun = time.monotonic()
                runner.run(create_finished(cluster, count, status))
                made = time.monotonic() - begun
                many, _ = measure(
                    cluster, postgres.dsn(), folder / "many", finished=count, runs=runs
                )
            finally:
                runner.run(postgres.close())
    lines = [*few.lines(), f"{count} runs were created within {made:.0f} s", *many.lines()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [10_000, 50][len(given) :]))

"""``python -m cluster.bench COUNT``: how long an applied run takes to its first output, and why.

One at a time, on warm gVisor pods of the node that is up, beside everything that the node runs. The
clock is this process's own: it starts before the object is sent to the API server.
"""

import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from cluster.bed.namespaces import network_of
from cluster.bed.node import GATEWAY
from cluster.bed.places import places
from cluster.bed.state import find_running
from cluster.operating import RUNNERS, Cluster, Operator, operator_at, until, workflow_run

from plue.errors import NotFoundError
from plue.kube.client import ApiClient
from plue.kube.login import find_login
from plue.kube.objects import RUNS
from plue.local.postgres import EmbeddedPostgres

HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""
_WARM = 4
_STAGES = ("created", "run_queued", "run_claimed", "run_started", "step_output", "run_completed")


async def _one(api: ApiClient, http: aiohttp.ClientSession) -> dict[str, float]:
    """Apply one run and follow it; seconds from the beginning to each stage."""
    body = workflow_run(HELLO)
    name = body["metadata"]["name"]
    begun = time.perf_counter()
    made = await api.create(RUNS, "default", body)
    seen = {"created": time.perf_counter() - begun}
    async for event in _events(http, made["metadata"]["uid"]):
        seen.setdefault(event, time.perf_counter() - begun)
    while not _is_complete(  # noqa: ASYNC110 - another program's state
        await api.get(RUNS, "default", name)
    ):
        await asyncio.sleep(0.01)
    seen["Complete"] = time.perf_counter() - begun
    await api.delete(RUNS, "default", name)
    return seen


async def _events(http: aiohttp.ClientSession, run: str) -> AsyncIterator[str]:
    while True:
        async with http.get(f"/api/v1/runs/{run}/events") as answer:
            if answer.status == 404:  # not submitted yet
                await asyncio.sleep(0.003)
                continue
            async for line in answer.content:
                if line.startswith(b"event: "):
                    yield line[7:].strip().decode()
            return


def _is_complete(run: dict[str, Any]) -> bool:
    return (run.get("status") or {}).get("phase") == "Succeeded"


async def _measure(cluster: Cluster, operator: Operator, count: int) -> list[dict[str, float]]:
    headers = {"Authorization": f"Bearer {operator.token()}", "Accept": "text/event-stream"}
    base = f"http://127.0.0.1:{operator.api_port}"
    login = find_login({"KUBECONFIG": cluster.kubeconfig})
    results = []
    async with ApiClient(login) as api, aiohttp.ClientSession(base, headers=headers) as http:
        for _ in range(count):
            while (await _warm(api)) < _WARM:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
            results.append(await _one(api, http))
    return results


async def _warm(api: ApiClient) -> int:
    from plue.kube.objects import POOLS

    try:
        pool = await api.get(POOLS, RUNNERS, "default")
    except NotFoundError:
        return 0
    return int((pool.get("status") or {}).get("warm", 0))


def _requests(operator: Operator) -> dict[str, float]:
    text = operator.ask("/metrics", accept="text/plain").decode()
    found = re.findall(r"^plue_kubernetes_requests_total\{([^}]*)\} (\S+)", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def _quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def main(count: int) -> None:
    """Measure and print."""
    running = find_running(places())
    if running is None:
        sys.exit("the cluster is not up; `make cluster-up` starts it")
    with tempfile.TemporaryDirectory() as folder, network_of(running.init):
        cluster = Cluster(running.inner_kubeconfig, image=running.runner_image, gateway=GATEWAY)
        cluster.install(Path(__file__).parents[2] / "crds")
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        with asyncio.Runner() as runner:
            runner.run(postgres.start())
            try:
                with operator_at(cluster, postgres.dsn(), Path(folder)) as operator:
                    cluster.pool("default", warm=_WARM, maximum=_WARM * 4)
                    until(
                        "the pool is warm",
                        lambda: cluster.get("rp", "default", RUNNERS).get("status", {}).get("warm"),
                        seconds=90,
                    )
                    before = _requests(operator)
                    results = runner.run(_measure(cluster, operator, count))
                    after = _requests(operator)
                    _print(results, {k: after[k] - before.get(k, 0.0) for k in after})
            finally:
                cluster.kubectl("delete", "rp", "--all", "-n", RUNNERS)
                runner.run(postgres.close())


def _print(results: Sequence[dict[str, float]], requests: dict[str, float]) -> None:
    lines = []
    for stage in (*_STAGES, "Complete"):
        values = [result[stage] * 1000 for result in results if stage in result]
        shown = " ".join(f"p{q * 100:.0f} {_quantile(values, q):7.1f}" for q in (0.5, 0.9, 0.99))
        lines.append(f"{stage:14} {shown}  ms  (n={len(values)})")
    per_run = {k: round(v / len(results), 2) for k, v in sorted(requests.items()) if v}
    sys.stdout.write("\n".join(lines) + "\n" + json.dumps(per_run, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)

"""Runs that work in a git repository, on the real node with the chart's own networks.

The git host is one outside, as far as the chart knows: an address of the node that these tests make
and serve themselves, behind TLS with a certificate of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.bed.control_plane import SERVICE_RANGE
from cluster.bed.machine import POD_RANGE
from cluster.installed import STEP, Installed, node_has
from cluster.operating import run_of
from git_host import GitHost, git_host

OUTSIDE = "10.246.0.9"
FOLLOWS = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("read", f"cat greeting; git status --short; git rev-parse HEAD; echo {ctx.repo.sha}")
"""


@pytest.fixture(scope="module")
def fetching(plue: Installed) -> Iterator[Installed]:
    """Give the release with git sources, set up as docs/install.md says."""
    plue.values["evaluator"] = {"git": {"enabled": True, "refused": [POD_RANGE, SERVICE_RANGE]}}
    plue.upgrade()
    yield plue
    del plue.values["evaluator"]
    plue.upgrade()


@pytest.fixture
async def host(fetching: Installed, tmp_path: Path) -> AsyncIterator[GitHost]:
    """Give a git host that wants a password, at the port that the chart's networks allow."""
    with node_has(OUTSIDE):
        async with git_host(tmp_path, OUTSIDE, 443) as host:
            host.private = True
            yield host


def _objects(host: GitHost) -> list[dict[str, Any]]:
    """Return a Workflow that follows the repository, and the Secret that opens it."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "git-app",
            "namespace": "default",
            "labels": {"workflow.plue.dev/app": "true"},
        },
        "stringData": {"ca.crt": host.ca, "password": "secret"},
    }
    git = {"url": host.url, "secretRef": {"name": "git-app"}}
    workflow = {
        "apiVersion": "plue.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"source": {"git": git}},
    }
    return [secret, workflow]


async def test_a_run_works_in_a_repository(fetching: Installed, host: GitHost) -> None:
    """At the commit that it names, cloned by the evaluator through the chart's networks alone."""
    cluster = fetching.cluster
    first = host.commit({".plue/workflows/ci.py": FOLLOWS, "greeting": "one\n"})
    second = host.commit({".plue/workflows/ci.py": FOLLOWS, "greeting": "two\n"})
    await asyncio.to_thread(cluster.apply, *_objects(host))
    await asyncio.to_thread(cluster.wait, "condition=Ready", "wf", "app")

    def said(**spec: Any) -> str:
        run = run_of("app", **spec)
        cluster.apply(run)
        name = run["metadata"]["name"]
        fetching.assert_each_ran_once([name])
        told = [e["body"]["text"] for e in fetching.events(name) if e["type"] == "step_output"]
        return "".join(told)

    assert await asyncio.to_thread(said) == f"two\n{second}\n{second}\n"
    of_first = {"repository": {"sha": first}}
    assert await asyncio.to_thread(said, **of_first) == f"one\n{first}\n{first}\n"


def test_a_repository_inside_is_refused(fetching: Installed) -> None:
    """What the values call inside is not fetched from, and the run says so."""
    address = f"https://{fetching.service('api')}/app.git"
    (name,) = fetching.apply(
        STEP.format(command="true", options=""), repository={"url": address, "ref": "main"}
    )
    status = fetching.ended(name)
    assert status["reason"] == "WorkspaceFailed"
    assert "inside of the cluster" in status["message"]

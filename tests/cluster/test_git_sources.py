"""Workflows from git, against a real API server and a real git host on loopback."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cluster.operating import Cluster, Operator, run_of, until, workflow_run
from git_host import GitHost, git_host

WORKFLOW = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("say", "echo {}")
"""


@pytest.fixture
async def host(tmp_path: Path) -> AsyncGenerator[GitHost, None]:
    """Give a git host that wants a password."""
    async with git_host(tmp_path) as host:
        host.private = True
        yield host


def _workflow(name: str, host: GitHost, **git: Any) -> dict[str, Any]:
    return {
        "apiVersion": "plue.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "source": {
                "git": {
                    "url": host.url,
                    "intervalSeconds": 30,
                    "secretRef": {"name": f"git-{name}"},
                    **git,
                }
            }
        },
    }


def _secret(name: str, host: GitHost) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"git-{name}",
            "namespace": "default",
            "labels": {f"workflow.plue.dev/{name}": "true"},
        },
        "stringData": {"ca.crt": host.ca, "password": "secret"},
    }


def _ready(cluster: Cluster, name: str) -> dict[str, Any]:
    conditions = cluster.get("wf", name).get("status", {}).get("conditions", [])
    found: dict[str, Any] = next((c for c in conditions if c["type"] == "Ready"), {})
    return found


def _said(operator: Operator, cluster: Cluster, run: str) -> str:
    events = operator.events(cluster.get("wfr", run)["metadata"]["uid"])
    return "".join(e["body"]["text"] for e in events if e["type"] == "step_output")


READS = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("read", "cat greeting && git rev-parse HEAD")
    ctx.run("know", f"echo {ctx.repo.sha} {ctx.event.branch}")
"""


async def test_runs_work_in_the_repository(host: GitHost, bare: Cluster, at_work: Operator) -> None:
    """At the commit of the Workflow's source, or where the run says; else the field is named."""
    name = f"wf-{uuid4().hex[:8]}"
    first = host.commit({".plue/workflows/ci.py": READS, "greeting": "one\n"})
    await asyncio.to_thread(bare.apply, _secret(name, host), _workflow(name, host))
    await asyncio.to_thread(bare.wait, "condition=Ready", "wf", name)
    second = host.commit({".plue/workflows/ci.py": READS, "greeting": "two\n"})

    def run(condition: str, body: dict[str, Any]) -> str:
        bare.apply(body)
        bare.wait(f"condition={condition}", "wfr", body["metadata"]["name"])
        return str(body["metadata"]["name"])

    def said(**spec: Any) -> str:
        return _said(at_work, bare, run("Complete", run_of(name, **spec)))

    def refused(body: dict[str, Any]) -> tuple[str, str]:
        status = bare.get("wfr", run("Failed", body))["status"]
        return status["reason"], status["message"]

    for _ in range(2):
        assert await asyncio.to_thread(said) == f"one\n{first}\n{first} main\n"
    of_main = {"repository": {"ref": "main"}}
    assert (await asyncio.to_thread(said, **of_main)).startswith(f"two\n{second}")
    of_first = {"repository": {"sha": first, "url": host.url}}
    assert (await asyncio.to_thread(said, **of_first)).startswith(f"one\n{first}")

    reason, message = await asyncio.to_thread(refused, run_of(name, repository={"ref": "nonesuch"}))
    assert reason == "WorkspaceFailed"
    assert message.startswith("spec.repository.ref: the repository has no branch")
    # Somebody else's run is not given what the Workflow's Secret opens, though it was cloned.
    alone = workflow_run(READS, repository={"url": host.url, "sha": first})
    reason, message = await asyncio.to_thread(refused, alone)
    assert reason == "WorkspaceFailed"
    assert message.startswith("spec.repository: localhost")


async def test_runs_follow_the_repository(host: GitHost, bare: Cluster, at_work: Operator) -> None:
    """What is pushed is what the next runs do; a host that goes takes nothing away."""
    name = f"wf-{uuid4().hex[:8]}"

    def ready_at(commit: str) -> bool:
        found = _ready(bare, name)
        status = bare.get("wf", name).get("status", {})
        return found.get("status") == "True" and status.get("commit") == commit

    def run() -> str:
        body = run_of(name)
        bare.apply(body)
        bare.wait("condition=Complete", "wfr", body["metadata"]["name"])
        return _said(at_work, bare, body["metadata"]["name"])

    first = host.commit({".plue/workflows/ci.py": WORKFLOW.format("one")})
    # Without the Secret: the condition says what is missing. With it: no more than that is needed.
    await asyncio.to_thread(bare.apply, _workflow(name, host))
    await asyncio.to_thread(
        until, "the condition", lambda: _ready(bare, name).get("reason") == "InvalidSource"
    )
    assert "does not let this Workflow have it" in _ready(bare, name)["message"]
    await asyncio.to_thread(bare.apply, _secret(name, host))
    await asyncio.to_thread(until, "the fetch", lambda: ready_at(first), seconds=60)
    assert "one" in await asyncio.to_thread(run)

    second = host.commit({".plue/workflows/ci.py": WORKFLOW.format("two")})
    await asyncio.to_thread(until, "the next fetch", lambda: ready_at(second), seconds=60)
    assert "two" in await asyncio.to_thread(run)

    host.commit({".plue/workflows/ci.py": "from plue import workflow\nimport os\n"})
    await asyncio.to_thread(
        until,
        "the broken file",
        lambda: ".plue/workflows/ci.py:2" in _ready(bare, name).get("message", ""),
        seconds=60,
    )
    assert _ready(bare, name)["status"] == "False"

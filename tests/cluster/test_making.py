"""Runs asked for over the API of a cluster: each has its WorkflowRun, and is there at once.

There is no node here: the runs stay queued, which is all that making them is about.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg
import pytest
from cluster.operating import RUNNERS, Cluster, Operator, operator_at
from cluster.people import NAMESPACES, People
from cluster.served import WORKS
from psycopg import sql

from plue.errors import RejectedError
from plue.kube.client import ApiClient
from plue.kube.making import CREATED_BY, inline_source
from plue.kube.objects import RUNS, WORKFLOWS
from plue.local.postgres import EmbeddedPostgres

SPEAKING = """
from plue import manual, workflow
from lib.words import WORD

@workflow(triggers=[manual(inputs={"times": 1})])
def say_it(ctx):
    ctx.run("say", f"for i in $(seq {ctx.inputs.times}); do echo {WORD}; done")
"""
PLAIN = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""
FILES = {".plue/workflows/ci.py": PLAIN}


@pytest.fixture(scope="module")
def operator(
    bare: Cluster,
    postgres_server: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operator]:
    """Give an operator at work in a cluster without a node, with pools that make no runners."""
    name = f"making_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    folder = tmp_path_factory.mktemp("operator")
    for pool, allowed in (("default", "*"), ("private", "somebody-elses")):
        bare.pool(pool, warm=0, maximum=1, allowedNamespaces=[allowed])
    with operator_at(bare, postgres_server.dsn(name), folder, port=0) as operator:
        yield operator
    bare.kubectl("delete", "rp", "--all", "-n", RUNNERS)


@dataclass
class Asking:
    """One caller of the API, who works in one namespace."""

    api: ApiClient
    client: aiohttp.ClientSession
    token: str
    namespace: str

    async def __call__(self, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Return status and JSON of an answer; POST when there is something to send."""
        more |= {} if body is None else {"json": body}
        headers = {"Authorization": f"Bearer {self.token}"}
        method = "POST" if more else "GET"
        async with self.client.request(method, f"/api/v1{path}", headers=headers, **more) as answer:
            return answer.status, await answer.json(content_type=None)

    async def make(self, **body: Any) -> tuple[int, Any]:
        """Ask for a run in the namespace."""
        whole = {"namespace": self.namespace, "workflow": "ci", "workspace": {"kind": "none"}}
        return await self("/runs", whole | body)

    async def resources(self) -> list[dict[str, Any]]:
        """Return the WorkflowRuns of the namespace."""
        return [
            one
            async for page in self.api.pages(RUNS, namespace=self.namespace)
            for one in page["items"]
        ]


@pytest.fixture
async def asking(api: ApiClient, operator: Operator) -> AsyncIterator[Asking]:
    """Give a caller who may work in a namespace of this test's own."""
    people = People(api)
    namespace = await people.namespace()
    token = await people.caller(inside={namespace: WORKS})
    async with aiohttp.ClientSession(f"http://127.0.0.1:{operator.api_port}") as client:
        yield Asking(api, client, token, namespace)
    await api.delete(NAMESPACES, None, namespace)


async def test_a_run_is_there_at_once_and_has_its_resource(asking: Asking) -> None:
    """A GET right after the POST finds it; the resource has its id, and says who asked."""
    status, made = await asking.make(files=FILES)
    assert status == 201, made
    status, found = await asking(f"/runs/{made['id']}")
    assert (status, found["name"]) == (200, made["name"])
    assert found["namespace"] == asking.namespace
    (resource,) = await asking.resources()
    assert resource["metadata"]["uid"] == made["id"]
    assert resource["metadata"]["name"].startswith("ci-")
    assert "system:serviceaccount:people:" in resource["metadata"]["annotations"][CREATED_BY]


async def test_a_run_of_a_workflow_resource_takes_typed_inputs(asking: Asking) -> None:
    """Without source the Workflow of that name runs, with what its source and inputs say."""
    inline = {"workflows": {"ci.py": SPEAKING}, "lib": {"words.py": 'WORD = "aye"\n'}}
    workflow = {
        "apiVersion": WORKFLOWS.api_version,
        "kind": "Workflow",
        "metadata": {"name": "speaking"},
        "spec": {"source": {"inline": inline}},
    }
    status, problem = await asking.make(workflow="speaking")
    assert (status, problem["field"]) == (404, "workflow")
    await asking.api.create(WORKFLOWS, asking.namespace, workflow)
    status, made = await asking.make(workflow="speaking", inputs={"times": 2}, idempotency_key="a")
    for _ in range(50):
        if status == 201:
            break
        # The operator may hear of the run before it has evaluated the Workflow.
        status, made = await asking.make(
            workflow="speaking", inputs={"times": 2}, idempotency_key="a"
        )
    assert status == 201, made
    assert made["inputs"] == {"times": 2}
    (resource,) = await asking.resources()
    assert resource["spec"]["workflowRef"] == {"name": "speaking"}
    status, problem = await asking.make(workflow="speaking", inputs={"times": "many"})
    assert status == 422
    assert "times" in problem["detail"]
    assert "kubectl describe wfr" in problem["remedy"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"files": {".plue/workflows/ci.py": "def ci(ctx"}}, None, id="source"),
        pytest.param({"files": FILES, "inputs": {"env": "x"}}, "inputs.env", id="input"),
        pytest.param({"files": FILES, "workflow": "other"}, "workflow", id="name"),
        pytest.param(
            {"files": FILES, "workspace": {"kind": "tree"}}, "workspace.kind", id="no-tree-here"
        ),
        pytest.param(
            {"files": FILES, "workspace": {"kind": "blob", "blob": "0" * 64}},
            "workspace.blob",
            id="no-such-archive",
        ),
    ],
)
async def test_what_can_be_known_to_be_wrong_makes_no_resource(
    asking: Asking, operator: Operator, body: dict[str, Any], field: str | None
) -> None:
    """It is told with all its places, as locally."""
    status, problem = await asking.make(**body)
    assert status in {404, 422}, problem
    assert field is None or problem["field"] == field
    assert await asking.resources() == []
    with psycopg.connect(operator.dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM workflow_runs WHERE namespace = %s", (asking.namespace,)
        ).fetchone()
    assert row == (0,)


async def test_a_pool_that_does_not_allow_the_namespace_is_told(asking: Asking) -> None:
    """As the resource says it, which stays."""
    private = PLAIN.replace("@workflow()", '@workflow(pool="private")')
    status, problem = await asking.make(files={".plue/workflows/ci.py": private})
    assert status == 422
    assert "does not allow runs of namespace" in problem["detail"]
    (resource,) = await asking.resources()
    assert resource["status"]["phase"] == "Failed"


async def test_the_same_key_gives_the_same_run(asking: Asking) -> None:
    """However often it is sent, also at the same moment, there is one resource and one run."""
    answers = await asyncio.gather(
        *(asking.make(files=FILES, idempotency_key="of-a-push") for _ in range(5))
    )
    assert {status for status, _ in answers} == {201}
    assert len({made["id"] for _, made in answers}) == 1
    assert len(await asking.resources()) == 1


async def test_an_uploaded_tree_is_the_runs_and_its_reruns_workspace(
    asking: Asking, operator: Operator
) -> None:
    """The caller's tree travels as a blob; a rerun has its own resource and the same files."""
    packed = f"of {uuid4()}".encode()
    status, blob = await asking(f"/blobs?namespace={asking.namespace}", data=packed)
    assert (status, blob["id"]) == (201, hashlib.sha256(packed).hexdigest())
    event = {"ref": "refs/heads/main", "sha": "a" * 40}
    workspace = {"kind": "blob", "blob": blob["id"]}
    status, made = await asking.make(files=FILES, workspace=workspace, event=event)
    assert status == 201, made
    assert made["event"]["sha"] == "a" * 40
    status, again = await asking(f"/runs/{made['name']}/rerun", {})
    assert status == 201, again
    assert again["rerun_of"] == made["id"]
    assert again["event"] == made["event"]
    resources = {one["metadata"]["uid"]: one for one in await asking.resources()}
    assert resources.keys() == {made["id"], again["id"]}
    assert resources[again["id"]]["spec"]["rerunOf"] == made["id"]
    with psycopg.connect(operator.dsn) as connection:
        rows = connection.execute(
            "SELECT workspace ->> 'blob' FROM workflow_run_specs WHERE run_id = ANY (%s)",
            ([made["id"], again["id"]],),
        ).fetchall()
    assert rows == [(blob["id"],), (blob["id"],)]


async def test_no_run_is_made_where_the_caller_may_make_none(asking: Asking) -> None:
    """The right is asked for in the very namespace, and a rerun stays in the old run's."""
    people = People(asking.api)
    other = await people.namespace()
    status, problem = await asking.make(namespace=other, files=FILES)
    assert status == 403
    assert other in problem["detail"]
    status, problem = await asking.make(namespace=None, files=FILES)
    assert (status, problem["field"]) == (422, "namespace")
    token = await people.caller(inside={other: WORKS})
    theirs = Asking(asking.api, asking.client, token, other)
    status, made = await theirs.make(files=FILES)
    assert status == 201
    assert (await asking(f"/runs/{made['id']}/rerun", {}))[0] == 404
    # Nor by a resource of their own that names it.
    thief = {"apiVersion": RUNS.api_version, "kind": "WorkflowRun", "metadata": {"name": "thief"}}
    await asking.api.create(RUNS, asking.namespace, {**thief, "spec": {"rerunOf": made["id"]}})
    async with asyncio.timeout(30):
        while True:
            found = await asking.api.get(RUNS, asking.namespace, "thief")
            if (found.get("status") or {}).get("phase") == "Failed":
                break
            await asyncio.sleep(0.05)
    assert "there is no run" in found["status"]["message"]
    await asking.api.delete(NAMESPACES, None, other)


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        pytest.param(".plue/workflows/deep/ci.py", True, id="in-a-folder"),
        pytest.param("src/main.py", True, id="elsewhere"),
        pytest.param(".plue/tools/grep.sh", False, id="tool"),
        pytest.param(".plue/config.yaml", False, id="config"),
    ],
)
def test_files_that_a_resource_cannot_hold_are_named(path: str, refused: bool) -> None:
    """What would be missing is refused; what a run finds in its workspace is left out."""
    files = {**FILES, path: "x"}
    if refused:
        with pytest.raises(RejectedError, match=path):
            inline_source(files)
    else:
        source = inline_source(files)
        assert source["workflows"] == {"ci.py": PLAIN}
        assert ("config" in source) is (path == ".plue/config.yaml")

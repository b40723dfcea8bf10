"""Tests that need a real API server or a real node; `make test` runs most, after all others.

Each has one of three marks, and each mark a pytest session of its own. ``played``: an API server
with etcd, processes of any user; no node, or one that the tests play. ``cluster``: the real node,
whose network the session enters. ``chart``: the real node before anything of Plue is on it. Where
the machine cannot give what they need they say why, and under ``CI=true`` that is a failure.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import yaml
from cluster.bed.__main__ import down, up
from cluster.bed.control_plane import ControlPlane, without_a_node
from cluster.bed.namespaces import network_of
from cluster.bed.node import GATEWAY
from cluster.bed.places import places
from cluster.bed.say import BedError
from cluster.bed.state import find_running
from cluster.operating import RUNNERS, RUNTIME, Cluster, Operator, operator_at
from cluster.played import PlayedNode
from lacking import cannot
from psycopg import sql

from plue.errors import PlueError
from plue.kube.client import ApiClient, Place
from plue.kube.login import find_login
from plue.local.postgres import EmbeddedPostgres
from plue.resources.crds import KINDS

CRDS = Path(__file__).parents[2] / "crds"
_SHORT_FAULT = "gateway killed, both"
DEFINITIONS = Place("apiextensions.k8s.io/v1", "customresourcedefinitions")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder by what they ask for, and put them last."""
    here = Path(__file__).parent
    ours = [item for item in items if item.path.is_relative_to(here)]
    for item in ours:
        assert isinstance(item, pytest.Function)
        if item.path.is_relative_to(here / "chart"):
            item.add_marker(pytest.mark.chart)
            # Of the faults one, for the sake of time, where everything works together.
            if item.path.name == "test_survival.py" and _SHORT_FAULT not in item.name:
                item.add_marker(pytest.mark.long)
        elif "cluster" in item.fixturenames:
            item.add_marker(pytest.mark.cluster)
        else:
            item.add_marker(pytest.mark.played)
        # The first one may have to make the images and start the node.
        item.add_marker(pytest.mark.timeout(900))
    items[:] = [item for item in items if item not in ours] + ours


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give an API server with our resources, and without a node."""
    try:
        with without_a_node(tmp_path_factory.mktemp("control-plane")) as plane:
            asyncio.run(_install(plane.kubeconfig))
            yield plane
    except BedError as error:
        cannot(str(error))


@pytest.fixture(scope="session")
def api_server(control_plane: ControlPlane) -> Path:
    """Give the kubeconfig of an API server with our resources, and without a node."""
    return control_plane.kubeconfig


async def _install(kubeconfig: Path) -> None:
    """Create the definitions and wait until they are served."""
    async with ApiClient(find_login({"KUBECONFIG": str(kubeconfig)})) as api:
        for file in sorted(CRDS.glob("*.yaml")):
            await api.create(DEFINITIONS, None, yaml.safe_load(file.read_text()))
        async with asyncio.timeout(30):
            for file in CRDS.glob("*.yaml"):
                name = yaml.safe_load(file.read_text())["metadata"]["name"]
                while not _is_established(  # noqa: ASYNC110 - another program's state
                    await api.get(DEFINITIONS, None, name)
                ):
                    await asyncio.sleep(0.05)
            # `kubectl explain` reads what the server publishes of them, some moments later.
            while not await _is_published(api):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)


async def _is_published(api: ApiClient) -> bool:
    try:
        found = await api.document("/openapi/v3/apis/plue.dev/v1alpha1")
    except PlueError:
        return False
    return all(kind.kind in json.dumps(found) for kind in KINDS)


def _is_established(definition: dict[str, object]) -> bool:
    status = definition.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


@pytest.fixture
async def api(api_server: Path) -> AsyncIterator[ApiClient]:
    """Give a client of the API server, as its administrator."""
    async with ApiClient(find_login({"KUBECONFIG": str(api_server)})) as client:
        yield client


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Give the real node, with our resources; this process is in its network meanwhile.

    A node that was up stays up; one that was started for the tests is ended after them.
    """
    where = places()
    running = find_running(where)
    was_up = running is not None
    try:
        running = running or up(where)
    except BedError as error:
        cannot(str(error))
    try:
        with network_of(running.init):
            node = Cluster(running.inner_kubeconfig, image=running.runner_image, gateway=GATEWAY)
            node.install(CRDS)
            yield node
    finally:
        if not was_up:
            down(where)


@pytest.fixture(scope="session")
def operator_database(postgres_server: EmbeddedPostgres) -> str:
    """Give the connection string of the operator's database."""
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE operator")
    return postgres_server.dsn("operator")


@pytest.fixture(scope="session")
def operator(
    cluster: Cluster, operator_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Give an operator at work, with a pool of two warm gVisor pods."""
    folder = tmp_path_factory.mktemp("operator")
    with operator_at(cluster, operator_database, folder) as at_work:
        cluster.pool("default", warm=2, maximum=8)
        cluster.wait("condition=Ready", "rp", "default", 60, RUNNERS)
        yield at_work
    cluster.kubectl("delete", "rp,pod", "--all", "-n", RUNNERS, "--grace-period=1")
    cluster.kubectl("delete", "wfr,wf", "--all", "-n", "default")


@pytest.fixture(scope="session")
def bare(api_server: Path) -> Cluster:
    """Give a cluster without a node, in which what an operator needs stands."""
    cluster = Cluster(str(api_server), image="played", gateway="127.0.0.1")
    cluster.install(CRDS)
    cluster.apply(*RUNTIME)
    return cluster


@pytest.fixture(scope="session")
def node(bare: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedNode]:
    """Give the played node of that cluster."""
    with PlayedNode(bare, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def at_work(
    bare: Cluster,
    node: PlayedNode,
    postgres_server: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operator]:
    """Give an operator of these tests' own on the played node, with a pool of two warm runners."""
    assert node.failure is None
    name = f"operator_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    folder = tmp_path_factory.mktemp("operator")
    with operator_at(bare, postgres_server.dsn(name), folder, port=0) as operator:
        bare.pool("default", warm=2, maximum=6)
        bare.wait("condition=Ready", "rp", "default", 60, RUNNERS)
        try:
            yield operator
        finally:
            bare.kubectl("delete", "wfr,wf", "--all", "-A", "--wait=false")
            bare.kubectl("delete", "rp", "--all", "-n", RUNNERS, "--wait=false")
            bare.kubectl("delete", "pod", "--all", "-n", RUNNERS, "--grace-period=1")

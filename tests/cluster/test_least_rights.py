"""What each component may do in a cluster, compared with what it does: the API server's audit log.

The three are started by themselves, each as the service account of the chart with exactly the
chart's roles, and do all that they do. What was granted and not used must be said here with its
reason; what was not granted and is needed would be refused, and is in the log too.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
import yaml
from cluster.bed.control_plane import ControlPlane, write_kubeconfig
from cluster.installed import CHART, helm
from cluster.operating import (
    RUNNERS,
    Cluster,
    a_workflow,
    run_of,
    until,
    workflow_run,
)
from cluster.people import verbs
from cluster.played import PlayedNode
from psycopg import sql

from plue.kube.pod_template import RUN_LABEL
from plue.local.postgres import EmbeddedPostgres

SYSTEM: Final = "plue-system"
COMPONENTS: Final = ("operator", "gateway", "api")

Right = tuple[str, str, str]
"""Verb, resource with its subresource, and where: ``*`` or a namespace."""

_MISSED: Final = "one that is missing from a list is gone only when a get says so"
UNUSED: Final[dict[str, dict[Right, str]]] = {
    "operator": {
        ("get", "pods", RUNNERS): "a runner whose pod no watch told of, made by another operator",
        ("get", "runnerpools", RUNNERS): _MISSED,
        ("get", "workflowruns", "*"): _MISSED,
        ("get", "workflows", "*"): _MISSED,
    },
}
"""What is granted to a component and not used below, and when it is."""

USING = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("use", 'test "$TOKEN" = s3cret', env={"TOKEN": ctx.secrets.TOKEN})
"""
HELLO = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("hello", "echo hello")
"""


def rendered() -> list[dict[str, Any]]:
    """Return what the chart makes of accounts and roles."""
    text = helm(
        "none",
        *("template", "plue", CHART, "--namespace", SYSTEM, "-s", "templates/rbac.yaml"),
        *("--kube-version", "1.33"),
        *("--set", "postgres.enabled=true", "--set", "secretsFrom={default}"),
    )
    return [one for one in yaml.safe_load_all(text) if one]


def granted(objects: list[dict[str, Any]], component: str) -> set[Right]:
    """Return the rights of a component, as its bindings and roles say."""
    roles = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]): o for o in objects}
    found = set()
    for binding in objects:
        names = {subject["name"] for subject in binding.get("subjects", [])}
        if f"plue-{component}" not in names:
            continue
        place = binding["metadata"].get("namespace")
        role = roles[binding["roleRef"]["kind"], place, binding["roleRef"]["name"]]
        found |= {
            (verb, resource, place or "*")
            for rule in role["rules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
    return found


@dataclass
class Apart:
    """The three components, and what the API server wrote down of them."""

    cluster: Cluster
    audit: Path
    api: str
    token: str

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what the API answers."""
        request = urllib.request.Request(
            f"{self.api}/api/v1{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                made: dict[str, Any] = json.load(answer)
                return made
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()) from error

    def asked(self, component: str) -> list[dict[str, Any]]:
        """Return the audit log's entries of a component."""
        who = f"system:serviceaccount:{SYSTEM}:plue-{component}"
        lines = (json.loads(line) for line in self.audit.read_text().splitlines())
        return [one for one in lines if one["user"]["username"] == who and "objectRef" in one]


def used(entries: list[dict[str, Any]], allowed: set[Right]) -> set[Right]:
    """Return the rights by which a component was let do what it did."""
    found = set()
    for one in entries:
        what = one["objectRef"]
        sub = f"/{what['subresource']}" if "subresource" in what else ""
        resource = what["resource"] + sub
        for place in ("*", what.get("namespace", "*")):
            right = (one["verb"], resource, place)
            if right in allowed:
                found.add(right)
    return found


@contextmanager
def running(command: str, kubeconfig: Path, folder: Path, **settings: str) -> Iterator[None]:
    """Run a component until it is ready, and end it afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        health = f"127.0.0.1:{free.getsockname()[1]}"
    ours = {
        "KUBECONFIG": str(kubeconfig),
        "PLUE_DATA": str(folder / "data"),
        "PLUE_HEALTH_LISTEN": health,
        "PLUE_ALONE": "true",
        **settings,
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("PLUE_")}
    log = folder / f"{command}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", "from plue.cli.main import main; main()", command],
            env=others | ours,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(f"http://{health}/readyz", timeout=2) as said:
                return bool(said.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    try:
        until(f"{command} is ready", is_ready, seconds=60)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0, log.read_text(errors="replace")[-3000:]


@pytest.fixture(scope="module")
def apart(
    bare: Cluster,
    node: PlayedNode,
    control_plane: ControlPlane,
    postgres_server: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Apart]:
    """Give the three components, each with the chart's rights and no others."""
    assert node.failure is None
    folder = tmp_path_factory.mktemp("apart")
    bare.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    bare.apply(*rendered())
    # An operator of earlier tests may have left its lease: this one shall have to create it.
    bare.kubectl("delete", "lease", "--all", "-n", RUNNERS)
    name = f"apart_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    gateway, egress, api = (f"127.0.0.1:{s.getsockname()[1]}" for s in sockets)
    for one in sockets:
        one.close()
    with ExitStack() as parts:
        for component in COMPONENTS:
            token = bare.kubectl("create", "token", f"plue-{component}", "-n", SYSTEM).strip()
            kubeconfig = folder / f"{component}.kubeconfig"
            write_kubeconfig(kubeconfig, control_plane.url, token)
            parts.enter_context(
                running(
                    component,
                    kubeconfig,
                    folder,
                    PLUE_DATABASE=postgres_server.dsn(name),
                    PLUE_GATEWAY_URL=f"http://{gateway}",
                    PLUE_GATEWAY_LISTEN=gateway,
                    PLUE_EGRESS_LISTEN=egress,
                    PLUE_API_LISTEN=api,
                )
            )
        bare.kubectl("create", "serviceaccount", "maker", "-n", "default")
        _let_make_runs(bare)
        token = bare.kubectl("create", "token", "maker", "--audience=plue-api").strip()
        yield Apart(bare, control_plane.audit_log, f"http://{api}", token)
        bare.kubectl("delete", "wfr,wf", "--all", "-A", "--wait=false")
        bare.kubectl("delete", "rp", "--all", "-n", RUNNERS, "--wait=false")
        bare.kubectl("delete", "pod", "--all", "-n", RUNNERS, "--grace-period=1")


def _let_make_runs(cluster: Cluster) -> None:
    group = "rbac.authorization.k8s.io"
    name = {"name": "maker", "namespace": "default"}
    cluster.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": name,
            "rules": list(verbs("get", "list", "create", "patch")),
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "maker"},
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
    )


def _work(apart: Apart) -> None:
    """Have the components do all that they do."""
    cluster = apart.cluster
    cluster.pool("default", warm=2, maximum=6)
    cluster.wait("condition=Ready", "rp", "default", 60, RUNNERS)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "of-using",
            "namespace": "default",
            "labels": {"workflow.plue.dev/using": "true"},
        },
        "stringData": {"token": "s3cret"},
    }
    named = [{"name": "TOKEN", "secretName": "of-using", "key": "token"}]
    cluster.apply(secret, a_workflow("using", USING, secrets=named), a_workflow("bad", "def"))
    applied = run_of("using")
    cluster.apply(applied)
    cluster.wait("condition=Complete", "wfr", applied["metadata"]["name"])
    brief = workflow_run(HELLO, ttlSecondsAfterFinished=1)
    cluster.apply(brief)
    source = {".plue/workflows/ci.py": HELLO}
    body = {"namespace": "default", "workspace": {"kind": "none"}}
    made = apart.post("/runs", {**body, "workflow": "ci", "files": source})
    for _ in range(2):
        apart.post("/runs", {**body, "workflow": "using", "idempotency_key": "of-a-push"})
    apart.post(f"/runs/{made['id']}/rerun", {})
    _claim_for_long(cluster)
    gone = ("get", "wfr", brief["metadata"]["name"], "-n", "default", "-o", "name")
    until("the run's time is over", lambda: not cluster.kubectl(*gone, check=False), seconds=60)
    cluster.pool("default", warm=0, maximum=6)
    pods = ("get", "pod", "-n", RUNNERS, "-o", "name")
    until("the pool is empty", lambda: not cluster.kubectl(*pods), seconds=60)


def _claim_for_long(cluster: Cluster) -> None:
    """Have a run until its pod is protected, and cancel it."""
    run = workflow_run(HELLO.replace("echo hello", "sleep 100"))
    name = run["metadata"]["name"]
    cluster.apply(run)
    protected = ("get", "pod", "-n", RUNNERS, "-l", RUN_LABEL, "-o", "name")
    until("its pod is protected", lambda: cluster.kubectl(*protected))
    cancel = json.dumps({"spec": {"cancel": True}})
    cluster.kubectl("patch", "wfr", name, "-n", "default", "--type=merge", "-p", cancel)
    cluster.wait("condition=Failed", "wfr", name)


def test_each_component_does_its_work_with_exactly_its_rights(apart: Apart) -> None:
    """Nothing is refused; what is granted and was not used is known, with its reason."""
    _work(apart)
    objects = rendered()
    refused, idle = {}, {}
    for component in COMPONENTS:
        entries = apart.asked(component)
        assert entries, component
        refused[component] = [
            (one["verb"], one["objectRef"])
            for one in entries
            if one["annotations"]["authorization.k8s.io/decision"] != "allow"
        ]
        allowed = granted(objects, component)
        idle[component] = allowed - used(entries, allowed)
    assert not any(refused.values()), refused
    assert idle == {component: set(UNUSED.get(component, {})) for component in COMPONENTS}

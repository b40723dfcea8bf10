"""Secrets of runs, against a real API server: whose they are, who may have them, where they go."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from cluster.operating import Cluster, Operator, a_workflow, run_of, workflow_run
from psycopg import sql

VALUE = "s3cret-of-the-test"

USING = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("use", 'echo "it is $TOKEN"', env={"TOKEN": ctx.secrets.TOKEN})
"""

IN_STAGES = """
from plue import workflow

@workflow()
def ci(ctx):
    first = ctx.run("first", "echo go")
    if first.stdout == "go":
        ctx.run("use", 'test "$TOKEN" = s3cret-of-the-test', env={"TOKEN": ctx.secrets.TOKEN})
"""


def _secret(workflow: str, *, allowed: str = "true", **data: str) -> dict[str, Any]:
    """Return a Secret that runs of *workflow* may have."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"of-{workflow}",
            "namespace": "default",
            "labels": {f"workflow.plue.dev/{workflow}": allowed},
        },
        "stringData": data,
    }


def _applied(cluster: Cluster, source: str = USING, **more: Any) -> tuple[str, str]:
    """Apply a Workflow that names a Secret, and a run of it; return both names."""
    name = f"wf-{uuid4().hex[:8]}"
    named = [{"name": "TOKEN", "secretName": f"of-{name}", "key": "token"}]
    run = run_of(name)
    cluster.apply(a_workflow(name, source, secrets=named), *more.pop("beside", lambda _: [])(name))
    cluster.apply(run)
    return name, run["metadata"]["name"]


def _said(cluster: Cluster, operator: Operator, run: str) -> str:
    events = operator.events(cluster.get("wfr", run)["metadata"]["uid"])
    return "".join(e["body"]["text"] for e in events if e["type"] == "step_output")


def test_run_has_the_secrets_that_its_workflow_names(bare: Cluster, at_work: Operator) -> None:
    """A step gets the value, nobody else: it is in no table, no resource and no event."""
    name, run = _applied(bare, beside=lambda name: [_secret(name, token=VALUE)])
    bare.wait("condition=Complete", "wfr", run)
    assert "it is ***" in _said(bare, at_work, run)
    assert VALUE not in bare.kubectl("get", "wfr,wf,events", "-o", "json")
    with psycopg.connect(at_work.dsn) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for (table,) in tables:
            found = connection.execute(
                sql.SQL("SELECT count(*) FROM {} t WHERE t::text LIKE %s").format(
                    sql.Identifier(table)
                ),
                (f"%{VALUE}%",),
            ).fetchone()
            assert found == (0,), table
    # Resolved at the claim: the next run has what the Secret says then.
    bare.apply(_secret(name, token="another-value-now"))
    after = run_of(name)
    bare.apply(after)
    bare.wait("condition=Complete", "wfr", after["metadata"]["name"])
    assert "it is ***" in _said(bare, at_work, after["metadata"]["name"])


def test_later_stage_has_its_secrets(bare: Cluster, at_work: Operator) -> None:
    """A step that a later stage plans gets its secrets too."""
    _, run = _applied(bare, IN_STAGES, beside=lambda name: [_secret(name, token=VALUE)])
    bare.wait("condition=Complete", "wfr", run)


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param(lambda _: [], id="no-such-secret"),
        pytest.param(lambda name: [_secret(name, other=VALUE)], id="no-such-key"),
        pytest.param(lambda name: [_secret(name, allowed="no", token=VALUE)], id="label-says-no"),
        pytest.param(
            lambda name: [
                _secret("another", token=VALUE)
                | {"metadata": {"name": f"of-{name}", "namespace": "default"}}
            ],
            id="no-label",
        ),
        pytest.param(
            lambda name: [
                {
                    **_secret(name, token=VALUE),
                    "metadata": _secret(name)["metadata"] | {"namespace": "kube-public"},
                }
            ],
            id="another-namespace",
        ),
    ],
)
def test_missing_secret_refuses_the_run(bare: Cluster, at_work: Operator, beside: Any) -> None:
    """A run whose secret is not there, or not for it, never starts, and says what to do."""
    name, run = _applied(bare, beside=beside)
    bare.wait("condition=Failed", "wfr", run)
    status = bare.get("wfr", run)["status"]
    assert status["reason"] == "MissingSecret"
    assert f"the Secret of-{name} of namespace default needs the key token" in status["message"]
    assert "runId" not in status


def test_inline_run_has_no_secrets(bare: Cluster, at_work: Operator) -> None:
    """Who may only make runs cannot write code that reads a Secret."""
    run = workflow_run(USING)
    bare.apply(run)
    bare.wait("condition=Failed", "wfr", run["metadata"]["name"])
    status = bare.get("wfr", run["metadata"]["name"])["status"]
    assert status["reason"] == "MissingSecret"
    assert "this run may have no secrets" in status["message"]

"""Runs that have ended cost an operator next to nothing; `cluster.finished` measures with many."""

from pathlib import Path
from uuid import uuid4

import psycopg
from cluster.finished import create_finished, measure
from cluster.operating import RUNNERS, Cluster
from cluster.played import PlayedNode
from psycopg import sql

from plue.local.postgres import EmbeddedPostgres

FINISHED = 300
_ENDED = {"phase": "Succeeded", "endedAt": "2026-01-01T00:00:00Z", "lastEvent": 7}


async def test_finished_runs_are_skipped(
    bare: Cluster, node: PlayedNode, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """An operator that starts beside them lists them in pages, and asks for and writes none."""
    assert node.failure is None
    name = f"operator_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    await create_finished(bare, FINISHED, _ENDED)
    try:
        figures, _ = measure(
            bare, postgres_server.dsn(name), tmp_path / "operator", finished=FINISHED, runs=2
        )
    finally:
        bare.kubectl("delete", "wfr", "--all", "-A", "--wait=false")
        bare.kubectl("delete", "rp", "--all", "-n", RUNNERS, "--wait=false")
        bare.kubectl("delete", "pod", "--all", "-n", RUNNERS, "--grace-period=1")
    said = "\n".join(figures.lines())
    # Of a page or two each: kopf's list and our own two, and what a starting API server refused.
    assert 2 <= figures.lists["LIST", "workflowruns"] <= 10, said
    assert figures.beginning <= FINISHED / 10, said
    assert sum(figures.writes.values()) <= 2 * 8, said
    assert figures.reads["GET", "workflowruns"] <= 2, said
    assert figures.resident < 250e6, said

"""The roles at a real API server: what each lets somebody do over our API, and what not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster.people import KINDS
from cluster.served import Served, serving

from plue.kube.client import ApiClient
from plue.resources.roles import role_documents


@pytest.fixture
async def served(api: ApiClient, tmp_path: Path, postgres_dsn: str) -> AsyncIterator[Served]:
    """Serve our API, with the roles in the cluster."""
    for role in role_documents():
        await api.create(KINDS["ClusterRole"], None, role)
    async with serving(api, tmp_path, postgres_dsn) as one:
        yield one
    for role in role_documents():
        await api.delete(KINDS["ClusterRole"], None, role["metadata"]["name"])


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        pytest.param("plue-viewer", {"read"}, id="viewer"),
        pytest.param("plue-editor", {"read", "cancel", "rerun", "parse"}, id="editor"),
        pytest.param(
            "plue-admin", {"read", "cancel", "rerun", "parse", "token", "audit"}, id="admin"
        ),
        pytest.param("plue-connect", set(), id="connect"),
    ],
)
async def test_what_a_role_lets_somebody_do(served: Served, role: str, allowed: set[str]) -> None:
    """In the namespace of its binding; in another one nothing."""
    people = served.people
    mine, other = await people.namespace(), await people.namespace()
    account = await people.account()
    await people.bind("ClusterRole", role, account, mine)
    token = await people.token(account)
    for namespace, expected in ((mine, allowed), (other, set())):
        run = served.run(namespace)
        asked = {
            "read": (f"/runs/{run}", "GET", None),
            "cancel": (f"/runs/{run}/cancel", "POST", {}),
            "rerun": (f"/runs/{run}/rerun", "POST", {}),
            "parse": (
                f"/workflows/parse?namespace={namespace}",
                "POST",
                {"files": {"a.py": "def"}},
            ),
            "token": ("/tokens", "POST", {"name": "bot", "namespaces": [namespace]}),
            "audit": (f"/audit?namespace={namespace}", "GET", None),
        }
        done = set()
        for name, (path, method, body) in asked.items():
            more = {} if body is None else {"json": body}
            status, said = await served.ask(token, path, method, **more)
            assert status in {200, 201, 202, 403, 404}, said
            if status < 300:
                done.add(name)
        assert done == expected

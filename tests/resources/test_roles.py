"""The roles that people are given: all that they grant, and nothing else."""

from pathlib import Path

from plue.resources.__main__ import roles_text
from plue.resources.roles import CONNECT, ROLES, role_documents

CHART = Path(__file__).parents[2] / "helm" / "plue" / "templates" / "roles.yaml"

GRANTED = """
plue-viewer   runnerpools        get list watch
plue-viewer   workflowruns       get list watch
plue-viewer   workflows          get list watch
plue-editor   runnerpools        get list watch
plue-editor   workflowruns       create delete get list patch update watch
plue-editor   workflows          create delete get list patch update watch
plue-admin    apitokens          create delete list
plue-admin    auditevents        list
plue-admin    runnerpools        create delete get list patch update watch
plue-admin    runnerpools/scale  get patch update
plue-admin    workflowruns       create delete get list patch update watch
plue-admin    workflows          create delete get list patch update watch
plue-connect  services/proxy     create delete get
"""


def test_what_is_granted() -> None:
    """A grant that is added or taken away is seen here, line by line."""
    lines = []
    for role in role_documents():
        granted = {
            resource: " ".join(sorted(rule["verbs"]))
            for rule in role["rules"]
            for resource in rule["resources"]
        }
        name = role["metadata"]["name"]
        lines += [f"{name:<13} {r:<18} {v}" for r, v in sorted(granted.items())]
    assert lines == GRANTED.strip().splitlines()


def test_no_role_grants_by_a_wildcard() -> None:
    """Groups, resources and verbs are named, and the way to the API is one Service's."""
    for role in role_documents():
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if role["metadata"]["name"] == CONNECT:
            assert all("plue-api" in name for name in role["rules"][0]["resourceNames"])


def test_each_role_is_part_of_one_of_kubernetes() -> None:
    """Who views, edits or administers a namespace does so with our resources too."""
    for role in role_documents()[: len(ROLES)]:
        part_of, _ = ROLES[role["metadata"]["name"]]
        label = f"rbac.authorization.k8s.io/aggregate-to-{part_of}"
        assert role["metadata"]["labels"][label] == "true"


def test_the_charts_roles_are_these() -> None:
    """`make crds` was run after the last change."""
    assert CHART.read_text() == roles_text()

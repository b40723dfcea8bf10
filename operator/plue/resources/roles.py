"""The roles that people are given, declared once: ``roles/`` and the chart's are made from them.

They are ClusterRoles, bound by RoleBindings in teams' namespaces, and are part of Kubernetes' own
view, edit and admin by aggregation. ``apitokens`` and ``auditevents`` are no objects: our API asks
for the rights to them by SubjectAccessReview. No role has a wildcard, so that what a later version
adds is not granted by an earlier decision.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from plue.resources.crds import GROUP

__all__ = ["CONNECT", "ROLES", "role_documents"]

Rules = Sequence[tuple[str, Sequence[str]]]
"""Resource → verbs, all of our group."""

_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "update", "patch", "delete")

_VIEWER: Final[Rules] = (
    ("workflows", _READ),
    ("workflowruns", _READ),
    ("runnerpools", _READ),
)
_EDITOR: Final[Rules] = (
    ("workflows", (*_READ, *_WRITE)),
    ("workflowruns", (*_READ, *_WRITE)),
    ("runnerpools", _READ),
)
_ADMIN: Final[Rules] = (
    ("workflows", (*_READ, *_WRITE)),
    ("workflowruns", (*_READ, *_WRITE)),
    ("runnerpools", (*_READ, *_WRITE)),
    ("runnerpools/scale", ("get", "update", "patch")),
    ("apitokens", ("create", "list", "delete")),
    ("auditevents", ("list",)),
)

ROLES: Final[Mapping[str, tuple[str, Rules]]] = {
    "plue-viewer": ("view", _VIEWER),
    "plue-editor": ("edit", _EDITOR),
    "plue-admin": ("admin", _ADMIN),
}
"""Name → the role of Kubernetes that it becomes a part of, and its rules."""

CONNECT: Final = "plue-connect"
"""Lets the command line through to the API's Service; says nothing of what may be done there."""


def role_documents() -> list[dict[str, Any]]:
    """Return the roles as objects of the API."""
    people = [
        _role(
            name,
            [{"apiGroups": [GROUP], "resources": [r], "verbs": [*v]} for r, v in rules],
            labels={f"rbac.authorization.k8s.io/aggregate-to-{part_of}": "true"},
        )
        for name, (part_of, rules) in ROLES.items()
    ]
    names = ["plue-api", "plue-api:api", "http:plue-api:api", "https:plue-api:api"]
    through = {
        "apiGroups": [""],
        "resources": ["services/proxy"],
        # What a proxied request needs is the verb of its method: DELETE revokes a token.
        "verbs": ["get", "create", "delete"],
        "resourceNames": names,
    }
    return [*people, _role(CONNECT, [through], labels={})]


def _role(name: str, rules: list[dict[str, Any]], *, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/part-of": "plue", **labels},
        },
        "rules": rules,
    }

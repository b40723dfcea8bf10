"""Service accounts with rights of their own in a real API server, and their tokens for our API."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from plue.errors import ConflictError
from plue.kube.client import ApiClient, Json, Place

__all__ = ["NAMESPACES", "People"]

NAMESPACES = Place("v1", "namespaces")
ACCOUNTS = Place("v1", "serviceaccounts")
_RBAC = "rbac.authorization.k8s.io"
KINDS = {
    name: Place(f"{_RBAC}/v1", f"{name.lower()}s")
    for name in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
}

Rules = Sequence[Json]


def verbs(*allowed: str, on: str = "workflowruns") -> Rules:
    """Return rules that allow so much on one of our resources."""
    return [{"apiGroups": ["plue.dev"], "resources": [on], "verbs": list(allowed)}]


@dataclass
class People:
    """Makes callers; *home* is the namespace in which they all live, but not act."""

    api: ApiClient
    home: str = "people"

    async def namespace(self, name: str | None = None) -> str:
        """Make a namespace of this test's own, or that of *name*."""
        name = name or f"team-{uuid4().hex[:8]}"
        with contextlib.suppress(ConflictError):
            await self.api.create(NAMESPACES, None, {"metadata": {"name": name}})
        return name

    async def account(self, *, inside: Mapping[str, Rules] = {}, everywhere: Rules = ()) -> str:
        """Make a service account with rights *inside* namespaces and *everywhere*; its name."""
        await self.namespace(self.home)
        name = f"person-{uuid4().hex[:8]}"
        await self.api.create(ACCOUNTS, self.home, {"metadata": {"name": name}})
        for namespace, rules in inside.items():
            await self._grant("Role", namespace, name, rules)
        if everywhere:
            await self._grant("ClusterRole", None, name, everywhere)
        return name

    async def token(self, account: str, audience: str = "plue-api") -> str:
        """Return a token of an account, as TokenRequest gives it."""
        said = await self.api.create_sub(
            ACCOUNTS, self.home, account, "token", {"spec": {"audiences": [audience]}}
        )
        return str(said["status"]["token"])

    async def caller(self, *, inside: Mapping[str, Rules] = {}, everywhere: Rules = ()) -> str:
        """Make an account with such rights; return its token."""
        return await self.token(await self.account(inside=inside, everywhere=everywhere))

    async def let(self, user: str, rules: Rules, *, group: bool = False) -> None:
        """Give a user or a group of another origin rights everywhere."""
        name = f"person-{uuid4().hex[:8]}"
        await self.api.create(
            KINDS["ClusterRole"], None, {"metadata": {"name": name}, "rules": list(rules)}
        )
        await self.api.create(
            KINDS["ClusterRoleBinding"],
            None,
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
                "subjects": [
                    {"kind": "Group" if group else "User", "apiGroup": _RBAC, "name": user}
                ],
            },
        )

    async def take_away(self, account: str, namespace: str) -> None:
        """Take an account's rights inside *namespace* away."""
        await self.api.delete(KINDS["RoleBinding"], namespace, account)

    async def _grant(self, kind: str, namespace: str | None, name: str, rules: Rules) -> None:
        await self.api.create(
            KINDS[kind], namespace, {"metadata": {"name": name}, "rules": list(rules)}
        )
        await self.bind(kind, name, name, namespace)

    async def bind(self, kind: str, role: str, account: str, namespace: str | None) -> None:
        """Bind a role to an account, in *namespace* or everywhere."""
        binding: dict[str, Any] = {
            "metadata": {"name": account},
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.home}],
        }
        place = KINDS["ClusterRoleBinding" if namespace is None else "RoleBinding"]
        await self.api.create(place, namespace, binding)

"""The secrets of a run in a cluster: Secrets of its own namespace, named by its Workflow.

What a run may have is written down with it as names (``secrets_of_workflow``); the values are
read at the claim, for each stage anew, and stored nowhere. A Secret must also say itself, by a
label, that runs of that workflow may have it: who may write Workflows cannot thereby read every
Secret of the namespace.
"""

import asyncio
import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from plue.engine.ports import SecretsFrom
from plue.errors import NotFoundError, RejectedError, UnavailableError
from plue.kube.client import CORE, ApiClient, Json, Place
from plue.resources.crds import GROUP
from plue.resources.parts import SecretReference

__all__ = ["WORKFLOW_LABEL", "ClusterSecrets", "secrets_of_workflow"]

_SECRETS = Place(CORE, "secrets")

WORKFLOW_LABEL = f"workflow.{GROUP}"
"""``workflow.plue.dev/NAME: "true"`` lets runs of the Workflow NAME have a Secret."""


def secrets_of_workflow(
    namespace: str, workflow: str, named: Sequence[SecretReference]
) -> Mapping[str, JsonValue]:
    """Return what a run of *workflow* may have, as it is recorded with the run."""
    return {
        "namespace": namespace,
        "label": f"{WORKFLOW_LABEL}/{workflow}",
        "owner": f"the Workflow {workflow}",
        "secrets": {one.name: [one.secret_name, one.key or one.name] for one in named},
    }


class ClusterSecrets:
    """The engine's Secrets in a cluster."""

    def __init__(self, api: ApiClient) -> None:
        """Read at *api*."""
        self._api = api

    async def values(self, names: Collection[str], allowed: SecretsFrom) -> Mapping[str, str]:
        """Return the values that there are and that are allowed. Raises UnavailableError."""
        places = {n: place for n, place in _places(allowed).items() if n in names}
        wanted = sorted({secret for secret, _ in places.values()})
        read = await asyncio.gather(*(self._read(allowed, secret) for secret in wanted))
        found = dict(zip(wanted, read, strict=True))
        values = {n: found[secret].get(key) for n, (secret, key) in places.items()}
        return {n: value for n, value in values.items() if value is not None}

    async def of_workflow(self, namespace: str, workflow: str, secret: str) -> Mapping[str, str]:
        """Return what a Secret lets *workflow* have: all of it. Raises as ``values`` does.

        Raises RejectedError when there is no such Secret, or it does not let it.
        """
        allowed = secrets_of_workflow(namespace, workflow, ())
        found = await self._read(allowed, secret)
        if not found:
            raise RejectedError(
                f"the Secret {secret} is not there, or does not let this Workflow have it",
                field="source.git.secretRef",
                remedy=f'give it the label {allowed["label"]}: "true"',
            )
        return found

    async def _read(self, allowed: SecretsFrom, secret: str) -> Mapping[str, str]:
        """Return a Secret's data; nothing unless it is there and lets these runs have it."""
        try:
            body = await self._api.get(_SECRETS, str(allowed["namespace"]), secret)
        except NotFoundError:
            return {}
        except UnavailableError as error:
            if "forbidden" not in error.message:
                raise
            # Somebody may still give the right; until then the run says what it waits for.
            raise UnavailableError(
                f"{error.message}; the chart's value secretsFrom must list {allowed['namespace']}",
                retry_in=error.retry_in,
            ) from error
        labels = body["metadata"].get("labels") or {}
        return _decoded(body) if labels.get(allowed["label"]) == "true" else {}

    def remedy(self, name: str, allowed: SecretsFrom) -> str:
        """Say what must be there for the secret *name* to have a value."""
        if not allowed:
            return f"remove ctx.secrets.{name}: this run may have no secrets"
        place = _places(allowed).get(name)
        if place is None:
            return f"name {name} in spec.secrets of {allowed['owner']}"
        secret, key = place
        return (
            f"the Secret {secret} of namespace {allowed['namespace']} needs the key {key} and the"
            f' label {allowed["label"]}: "true"'
        )


def _places(allowed: SecretsFrom) -> dict[str, tuple[str, str]]:
    secrets: Any = allowed.get("secrets") or {}
    return {name: (str(place[0]), str(place[1])) for name, place in secrets.items()}


def _decoded(body: Json) -> Mapping[str, str]:
    """Return the values that are text; a step's environment can hold no others."""
    values = {}
    for key, encoded in (body.get("data") or {}).items():
        try:
            values[key] = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return values

"""The pod of a runner: what isolates it, what it may use, and how it finds the gateway.

A pure function of the pool's spec. Nothing here can be loosened by a pool's overlay.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plue.domain.run import RunnerId
from plue.resources.crds import GROUP
from plue.resources.runner_pool import PodOverlay, RunnerPoolSpec

__all__ = [
    "AUDIENCE",
    "POOL_LABEL",
    "RUNNER_LABEL",
    "RUN_LABEL",
    "PoolIdentity",
    "RunnerPlacing",
    "runner_pod",
    "template_hash",
]

AUDIENCE = "plue-gateway"
POOL_LABEL = f"{GROUP}/pool"
RUNNER_LABEL = f"{GROUP}/runner"
RUN_LABEL = f"{GROUP}/run"
"""The run that a claimed runner executes, by the UID of its WorkflowRun."""
TEMPLATE_ANNOTATION = f"{GROUP}/template"

_TOKEN_FOLDER = "/var/run/plue"  # noqa: S105 - a folder, not a secret
_TOKEN_SECONDS = 3600
_USER = 1000
_GRACE_SECONDS = 15
_NO_RESOLVER = "127.0.0.1"
"""A pod's resolver must be some address; at this one nobody answers, because DNS is a way out."""


@dataclass(frozen=True, slots=True)
class PoolIdentity:
    """The RunnerPool object that owns the pods."""

    name: str
    namespace: str
    uid: str


@dataclass(frozen=True, slots=True)
class RunnerPlacing:
    """What all pools of an installation share: the gateway's address and the pods' account."""

    gateway: str
    service_account: str = "plue-runner"


def runner_pod(
    runner: RunnerId, pool: PoolIdentity, spec: RunnerPoolSpec, placing: RunnerPlacing
) -> dict[str, Any]:
    """Return the pod of *runner*: its name is the runner's id."""
    overlay = spec.pod or PodOverlay()
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": runner,
            "namespace": pool.namespace,
            "labels": {
                **(overlay.labels or {}),
                "app.kubernetes.io/name": "plue",
                "app.kubernetes.io/component": "runner",
                POOL_LABEL: pool.name,
                RUNNER_LABEL: runner,
            },
            "annotations": {
                **(overlay.annotations or {}),
                TEMPLATE_ANNOTATION: template_hash(spec, placing),
            },
            # The pool's end is the end of its pods, also when no operator is there to see it.
            "ownerReferences": [
                {
                    "apiVersion": f"{GROUP}/v1alpha1",
                    "kind": "RunnerPool",
                    "name": pool.name,
                    "uid": pool.uid,
                    "controller": True,
                }
            ],
        },
        "spec": _pod_spec(runner, spec, overlay, placing),
    }


def template_hash(spec: RunnerPoolSpec, placing: RunnerPlacing) -> str:
    """Return a name for the template: pods with another one are replaced when they are idle."""
    counts = {"warm", "max", "allowed_namespaces", "egress", "recycle_seconds"}
    shape = [spec.model_dump(mode="json", exclude=counts), placing.gateway, placing.service_account]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]


def _pod_spec(
    runner: RunnerId, spec: RunnerPoolSpec, overlay: PodOverlay, placing: RunnerPlacing
) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": placing.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": [_NO_RESOLVER]},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(runner, spec, placing)],
        "volumes": [
            {"name": "workspace", "emptyDir": {"sizeLimit": spec.workspace_size}},
            {"name": "tmp", "emptyDir": {"sizeLimit": spec.tmp_size}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": _token()}]}},
        ],
    }
    if spec.runtime_class_name:
        pod["runtimeClassName"] = spec.runtime_class_name
    return pod | _overlaid(overlay)


def _container(runner: RunnerId, spec: RunnerPoolSpec, placing: RunnerPlacing) -> dict[str, Any]:
    return {
        "name": "runner",
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "args": [
            *("--runner", runner, "--home", "/workspace", "--gateway", placing.gateway),
            "--host-explains",
        ],
        "env": [{"name": "PLUE_TOKEN_FILE", "value": f"{_TOKEN_FOLDER}/token"}],
        "resources": {
            "requests": spec.resources.requests.json_amounts(),
            "limits": spec.resources.limits.json_amounts(),
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "workspace", "mountPath": "/workspace"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount point
            {"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True},
        ],
    }


def _token() -> Mapping[str, Any]:
    return {"audience": AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}


def _overlaid(overlay: PodOverlay) -> dict[str, Any]:
    """Return the allowed fields of an overlay that are given, as a pod spells them."""
    return overlay.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        include={"node_selector", "tolerations", "image_pull_secrets", "priority_class_name"},
    )

"""The CustomResourceDefinitions: names, columns and subresources around the generated schemas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from plue.resources.runner_pool import RunnerPoolSpec, RunnerPoolStatus
from plue.resources.schema import structural_schema
from plue.resources.workflow import WorkflowSpec, WorkflowStatus
from plue.resources.workflow_run import WorkflowRunSpec, WorkflowRunStatus

__all__ = ["API_VERSION", "GROUP", "KINDS", "VERSION", "Column", "Kind", "definition"]

GROUP = "plue.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``; *wide* ones are shown with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    description: str = ""

    def json(self) -> dict[str, Any]:
        """Return the entry of ``additionalPrinterColumns``."""
        column: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            column["description"] = self.description
        return column | {"priority": 1} if self.wide else column


_AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource: what a CRD needs beside the two schemas."""

    kind: str
    plural: str
    short: str
    description: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: Sequence[Column]
    selectable: Sequence[str] = ()
    scale: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The CRD's name."""
        return f"{self.plural}.{GROUP}"


WORKFLOW = Kind(
    kind="Workflow",
    plural="workflows",
    short="wf",
    description="A workflow that runs can be made of: a Python function, evaluated in a sandbox.",
    spec=WorkflowSpec,
    status=WorkflowStatus,
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Function", ".status.function"),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        Column("Last run", ".status.lastRunTime", "date"),
        Column("Revision", ".status.revision", wide=True),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', wide=True),
        _AGE,
    ),
)

WORKFLOW_RUN = Kind(
    kind="WorkflowRun",
    plural="workflowruns",
    short="wfr",
    description="One execution of a workflow. Its events and logs are in Plue's API; this object"
    " says what is wanted and, in short, how it goes.",
    spec=WorkflowRunSpec,
    status=WorkflowRunStatus,
    columns=(
        Column("Workflow", ".status.workflow"),
        Column("Phase", ".status.phase"),
        Column("Steps", ".status.progress", description="Ended steps of planned steps."),
        Column("Reason", ".status.reason"),
        Column("Duration", ".status.duration"),
        Column("Run", ".status.runName", wide=True),
        Column("Runner", ".status.runner", wide=True),
        Column("Attempt", ".status.attempt", "integer", wide=True),
        Column("Message", ".status.message", wide=True),
        _AGE,
    ),
    selectable=(".spec.workflowRef.name", ".status.phase"),
)

RUNNER_POOL = Kind(
    kind="RunnerPool",
    plural="runnerpools",
    short="rp",
    description="Runners of one kind: how many wait warm, and how many there may be.",
    spec=RunnerPoolSpec,
    status=RunnerPoolStatus,
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Want", ".spec.warm", "integer", description="Warm runners that are wanted."),
        Column("Warm", ".status.warm", "integer"),
        Column("Claimed", ".status.claimed", "integer"),
        Column("Starting", ".status.starting", "integer"),
        Column("Max", ".spec.max", "integer"),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        Column("Queued", ".status.queued", "integer", wide=True),
        Column("Image", ".spec.image", wide=True),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', wide=True),
        _AGE,
    ),
    scale={
        "specReplicasPath": ".spec.warm",
        "statusReplicasPath": ".status.warm",
        "labelSelectorPath": ".status.selector",
    },
)

KINDS = (WORKFLOW, WORKFLOW_RUN, RUNNER_POOL)


def definition(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of *kind*."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = dict(kind.scale)
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": subresources,
        "additionalPrinterColumns": [column.json() for column in kind.columns],
        "schema": {"openAPIV3Schema": _object_schema(kind)},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["plue"],
            },
            "versions": [version],
        },
    }


def _object_schema(kind: Kind) -> dict[str, Any]:
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{API_VERSION}."},
            "kind": {"type": "string", "description": f"{kind.kind}."},
            "metadata": {"type": "object"},
            "spec": structural_schema(kind.spec),
            "status": structural_schema(kind.status),
        },
    }

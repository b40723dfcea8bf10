"""The RunnerPool resource: runners of one kind, how many wait warm, and how many there may be."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from plue.resources.parts import (
    Conditions,
    LabelValue,
    ObjectName,
    Part,
    Quantity,
    Rule,
    cel_name,
    checked,
)
from plue.wire.hosts import HOST_RULE

__all__ = [
    "Amounts",
    "LocalReference",
    "PodOverlay",
    "Resources",
    "RunnerPoolSpec",
    "RunnerPoolStatus",
    "Toleration",
]


class Amounts(Part):
    """Amounts of what a container uses, as text: "2", 500m, 4Gi."""

    cpu: Quantity | None = Field(default=None, description="Processors, such as 2 or 500m.")
    memory: Quantity | None = Field(default=None, description="Memory, such as 4Gi.")
    ephemeral_storage: Quantity | None = Field(
        default=None,
        alias="ephemeral-storage",
        description="Disk for the workspace, /tmp and the container itself.",
    )

    def json_amounts(self) -> dict[str, str]:
        """Return the amounts that are given, by the names that pods use."""
        return self.model_dump(by_alias=True, exclude_none=True)


_REQUESTS = Amounts(cpu="500m", memory="1Gi")
_LIMITS = Amounts(cpu="2", memory="4Gi", ephemeral_storage="10Gi")


def _limit_covers(name: str) -> Rule:
    request, limit = f"self.requests.{cel_name(name)}", f"self.limits.{cel_name(name)}"
    return Rule(
        f"!has({request}) || !has({limit})"
        f" || quantity({request}).compareTo(quantity({limit})) <= 0",
        f"the request of {name} is more than its limit",
        field="requests",
    )


class Resources(Part):
    """What a runner's container may use."""

    model_config = ConfigDict(
        json_schema_extra=checked(
            *(_limit_covers(name) for name in ("cpu", "memory", "ephemeral-storage"))
        )
    )

    requests: Amounts = Field(
        default=_REQUESTS,
        description="What the scheduler sets aside for a runner.",
        json_schema_extra={"default": {**_REQUESTS.json_amounts()}},
    )
    limits: Amounts = Field(
        default=_LIMITS,
        description="What a runner cannot exceed.",
        json_schema_extra={"default": {**_LIMITS.json_amounts()}},
    )


class Toleration(Part):
    """A taint that a runner's pod may be scheduled onto."""

    key: str | None = Field(default=None, max_length=316, description="The taint's key.")
    operator: Literal["Exists", "Equal"] = Field(
        default="Equal", description="How the value is compared."
    )
    value: LabelValue | None = Field(default=None, description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; unset means all."
    )


class LocalReference(Part):
    """A Secret of the runners' namespace."""

    name: ObjectName = Field(description="Its name.")


class PodOverlay(Part):
    """What may be set on a runner's pod; everything else about it is Plue's to decide."""

    labels: dict[str, LabelValue] | None = Field(
        default=None, max_length=32, description="More labels. Those of plue.dev are ours."
    )
    annotations: dict[str, Annotated[str, Field(max_length=4096)]] | None = Field(
        default=None, max_length=32, description="More annotations."
    )
    node_selector: dict[str, LabelValue] | None = Field(
        default=None, max_length=16, description="Labels that a node must have."
    )
    tolerations: list[Toleration] | None = Field(
        default=None,
        max_length=16,
        description="Taints of nodes that runners may go to.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    image_pull_secrets: list[LocalReference] | None = Field(
        default=None,
        max_length=8,
        description="Secrets for the image's registry.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="The pods' PriorityClass."
    )


class RunnerPoolSpec(Part):
    """What is wanted of a pool."""

    model_config = ConfigDict(
        json_schema_extra=checked(
            Rule("self.warm <= self.max", "warm cannot be more than max", field="warm")
        )
    )

    warm: int = Field(
        default=2, ge=0, le=1000, description="Runners that wait, started, for a run."
    )
    max: int = Field(default=10, ge=1, le=1000, description="Runners at most, claimed or not.")
    image: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[^\s]+$",
        description="The runner image; pin it by its digest.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When the node pulls the image."
    )
    runtime_class_name: str = Field(
        default="gvisor",
        max_length=253,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$",
        description="The RuntimeClass that isolates the runners. Empty: the node's own default,"
        " which isolates nothing that you would trust.",
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="What a runner may use.",
        # Whole, although its parts have defaults: rules are tried on a default as it stands here.
        json_schema_extra={
            "default": {
                "requests": {**_REQUESTS.json_amounts()},
                "limits": {**_LIMITS.json_amounts()},
            }
        },
    )
    workspace_size: Quantity = Field(
        default="10Gi", description="The size limit of a run's working tree."
    )
    tmp_size: Quantity = Field(default="1Gi", description="The size limit of /tmp.")
    allowed_namespaces: list[
        Annotated[str, Field(max_length=63, pattern=r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$")]
    ] = Field(
        default=["*"],
        min_length=1,
        max_length=256,
        description="Namespaces whose runs may use this pool; * is all of them.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    recycle_seconds: int = Field(
        default=86400,
        ge=60,
        le=30 * 86400,
        description="The age at which a runner that still waits is replaced by a new one.",
    )
    egress: list[Annotated[str, Field(max_length=260, pattern=HOST_RULE)]] = Field(
        default=[],
        max_length=256,
        description="Host names that runs may reach by https, through the gateway: pypi.org,"
        " *.pythonhosted.org, git.example:8443. None: a run reaches nothing but the gateway.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    pod: PodOverlay | None = Field(
        default=None, description="What else may be set on the runners' pods."
    )


class RunnerPoolStatus(Part):
    """How the pool stands."""

    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that this status is about."
    )
    warm: int = Field(default=0, ge=0, description="Runners that wait and can be claimed.")
    starting: int = Field(default=0, ge=0, description="Runners that are not ready yet.")
    claimed: int = Field(default=0, ge=0, description="Runners that execute a run.")
    retiring: int = Field(default=0, ge=0, description="Runners that are about to go.")
    failed: int = Field(
        default=0, ge=0, description="Runners of the last minutes that never became ready."
    )
    queued: int = Field(default=0, ge=0, description="Runs that wait for a runner of this pool.")
    selector: str | None = Field(
        default=None,
        max_length=512,
        description="The runners' pods, as the scale subresource says.",
    )
    template_hash: str | None = Field(
        default=None, max_length=64, description="Names the pod template that new runners get."
    )
    conditions: Conditions | None = Field(
        default=None,
        description="Ready is True when as many runners wait as are wanted. If not, its reason"
        " says what is short: Quota, ImagePull, Unschedulable, AtMaximum …",
    )
    last_claim_time: datetime | None = Field(
        default=None, description="When a runner was last claimed."
    )

"""What every resource is made of: the base of its parts, validation rules, names, conditions.

A part is a pydantic model whose JSON Schema becomes the structural schema of a CRD (see
``schema``). So every field has a description, and every string, list and map a bound: the API
server refuses expensive rules over unbounded values, and etcd objects have a limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

__all__ = [
    "Condition",
    "ConditionType",
    "Conditions",
    "LabelValue",
    "Message",
    "ObjectName",
    "Part",
    "Quantity",
    "ReasonWord",
    "Rule",
    "SecretName",
    "SecretReference",
    "cel_name",
    "checked",
    "unchanging",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in CEL that the API server checks; ``field`` is what its message points to."""

    rule: str
    message: str
    field: str | None = None

    def json(self) -> dict[str, JsonValue]:
        """Return the entry of ``x-kubernetes-validations``."""
        entry: dict[str, JsonValue] = {"rule": self.rule, "message": self.message}
        if self.field is not None:
            entry["fieldPath"] = f".{self.field}"
        return entry


def checked(*rules: Rule, **more: JsonValue) -> dict[str, JsonValue]:
    """Return what ``json_schema_extra`` needs for *rules*, and *more* keys beside them."""
    return {"x-kubernetes-validations": [rule.json() for rule in rules], **more}


def unchanging(fields: Sequence[str], why: str) -> tuple[Rule, ...]:
    """Return a rule per field (its name as in YAML) that refuses every change of it."""
    return tuple(_unchanging(field, why) for field in fields)


def _unchanging(field: str, why: str) -> Rule:
    name = cel_name(field)
    return Rule(
        f"has(self.{name}) == has(oldSelf.{name})"
        f" && (!has(self.{name}) || self.{name} == oldSelf.{name})",
        f"{field} cannot be changed: {why}",
    )


def cel_name(field: str) -> str:
    """Return how CEL calls a field whose name it keeps for itself, or that has a dash."""
    return "__function__" if field == "function" else field.replace("-", "__dash__")


class Part(BaseModel):
    """A piece of a resource: camelCase in YAML, frozen here; what we do not know is left out."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        frozen=True,
        extra="ignore",
    )


ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    ),
]
"""The name of an object that also has to fit into a label."""

SecretName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""The name of a Secret of the same namespace."""

LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]

Message = Annotated[str, Field(max_length=32768)]
"""A text for people."""

ReasonWord = Annotated[
    str, Field(max_length=1024, pattern=r"^([A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?)?$")
]

Quantity = Annotated[
    str,
    Field(
        min_length=1,
        max_length=32,
        json_schema_extra=checked(
            Rule(
                "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
                "must be a quantity above zero, such as 500m or 1Gi",
            )
        ),
    ),
]
"""An amount as Kubernetes writes it: ``500m``, ``1Gi``. Always text, so that rules can read it."""


class SecretReference(Part):
    """A secret of a workflow, and the key of a Secret that holds it."""

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="Its name in the workflow: ctx.secrets.NAME.",
    )
    secret_name: SecretName = Field(
        description="The Secret of the same namespace. It must let runs have it, by a label."
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=r"^[-._A-Za-z0-9]+$",
        description="The key in the Secret; the same as name when it is left out.",
    )


class ConditionType(StrEnum):
    """The conditions that resources carry."""

    ACCEPTED = "Accepted"
    COMPLETE = "Complete"
    FAILED = "Failed"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(Part):
    """One fact about the object, as every Kubernetes tool reads it."""

    type: str = Field(min_length=1, max_length=316, description="What the condition is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that was judged."
    )
    last_transition_time: datetime = Field(description="When the status last changed.")
    reason: ReasonWord = Field(min_length=1, description="One word that says why, for programs.")
    message: Message = Field(description="A sentence that says why, for people.")


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    ),
]

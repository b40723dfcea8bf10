"""The Workflow resource: where a workflow's source is, and what evaluating it gave."""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from plue.resources.parts import (
    Conditions,
    Message,
    ObjectName,
    Part,
    Rule,
    SecretName,
    SecretReference,
    checked,
)

__all__ = [
    "Function",
    "GitRef",
    "GitSecret",
    "GitSource",
    "GitUrl",
    "InlineSource",
    "Source",
    "WorkflowInput",
    "WorkflowSpec",
    "WorkflowStatus",
]

_FILE_NAME = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"


def _files(folder: str, example: str) -> dict[str, JsonValue]:
    return checked(
        Rule(
            f"self.all(name, name.matches('{_FILE_NAME}'))",
            f"names of files in {folder} are plain names such as {example}",
        )
    )


FileText = Annotated[str, Field(max_length=131072)]

Function = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


GitUrl = Annotated[
    str,
    Field(min_length=1, max_length=2048, pattern=r"^(https://|ssh://|[A-Za-z0-9_.-]+@)[^\s]+$"),
]

GitRef = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9_./@+-]*$")
]


class InlineSource(Part):
    """Source text in the resource itself: names of files, and what is in them."""

    workflows: dict[str, FileText] = Field(
        min_length=1,
        max_length=32,
        description="Files of .plue/workflows: file name, such as ci.py, to its text.",
        json_schema_extra=_files(".plue/workflows", "ci.py"),
    )
    prompts: dict[str, FileText] | None = Field(
        default=None,
        max_length=32,
        description="Files of .plue/prompts: file name, such as review.prompt.md, to its text.",
        json_schema_extra=_files(".plue/prompts", "review.prompt.md"),
    )
    lib: dict[str, FileText] | None = Field(
        default=None,
        max_length=32,
        description="Files of .plue/lib, which workflow files can import: file name to text.",
        json_schema_extra=_files(".plue/lib", "shared.py"),
    )

    config: FileText | None = Field(
        default=None, description="The text of .plue/config.yaml: defaults of all workflows."
    )

    def files(self) -> dict[str, str]:
        """Return the text of each file by its path in a repository."""
        folders = {"workflows": self.workflows, "prompts": self.prompts, "lib": self.lib}
        found = {
            f".plue/{folder}/{name}": text
            for folder, files in folders.items()
            for name, text in (files or {}).items()
        }
        return found if self.config is None else {**found, ".plue/config.yaml": self.config}


class GitSecret(Part):
    """Names the Secret that a git host wants, which must let this Workflow have it."""

    name: SecretName = Field(
        description='Its name. It needs the label workflow.plue.dev/NAME: "true", where NAME is'
        " this Workflow's name.",
    )


class GitSource(Part):
    """Source in a git repository, fetched again at an interval."""

    url: GitUrl = Field(description="The repository's address: https or ssh.")
    ref: GitRef = Field(default="HEAD", description="A branch, a tag or a commit.")
    path: str = Field(
        default=".",
        min_length=1,
        max_length=1024,
        description="The folder that holds .plue/, from the repository's root.",
    )
    interval_seconds: int = Field(
        default=300, ge=30, le=86400, description="Seconds between two fetches."
    )
    secret_ref: GitSecret | None = Field(
        default=None,
        description="The Secret of this namespace with what the host wants: username and password"
        " for https, and ca.crt for a host of your own; ssh-privatekey and known_hosts for ssh.",
    )


class Source(Part):
    """Where the text of a workflow comes from: exactly one of its fields."""

    model_config = ConfigDict(
        json_schema_extra=checked(
            Rule(
                "has(self.inline) != has(self.git)",
                "give exactly one source: inline or git",
            )
        )
    )

    inline: InlineSource | None = Field(
        default=None, description="The text itself, for what is small or generated."
    )
    git: GitSource | None = Field(default=None, description="A folder of a git repository.")


class WorkflowSpec(Part):
    """What is wanted of a workflow."""

    source: Source = Field(description="Where the workflow's text is: exactly one of its fields.")
    function: Function | None = Field(
        default=None,
        description="The decorated function's name. May be left out when the source has only one.",
    )
    pool: ObjectName | None = Field(
        default=None,
        description="The RunnerPool of its runs; without it the one that the decorator names.",
    )
    suspend: bool = Field(
        default=False,
        description="Set to true to let new runs wait; those that were submitted go on.",
    )
    secrets: list[SecretReference] | None = Field(
        default=None,
        max_length=64,
        description="The secrets that its runs may have, from Secrets of this namespace that carry"
        ' the label workflow.plue.dev/NAME: "true", where NAME is this Workflow\'s name.',
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class WorkflowInput(Part):
    """One input that a run of the workflow can be given."""

    name: str = Field(max_length=100, description="The input's name.")
    type: str = Field(max_length=4096, description="Its type, as the workflow declares it.")
    required: bool = Field(default=False, description="Whether a run must give it.")
    description: Message | None = Field(default=None, description="What it is for.")


class WorkflowStatus(Part):
    """What the operator found when it evaluated the workflow."""

    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that this status is about."
    )
    conditions: Conditions | None = Field(
        default=None,
        description="Ready is True when runs can be made. If not, its message names each error's"
        " file and line.",
    )
    revision: str | None = Field(
        default=None, max_length=128, description="SHA-256 of the source that is in use."
    )
    commit: str | None = Field(
        default=None, max_length=64, description="The commit that was fetched, of a git source."
    )
    function: str | None = Field(
        default=None, max_length=100, description="The function that runs execute."
    )
    inputs: list[WorkflowInput] | None = Field(
        default=None,
        max_length=64,
        description="The inputs that runs can be given.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    triggers: list[Annotated[str, Field(max_length=256)]] | None = Field(
        default=None, max_length=64, description="What the workflow says that it is started by."
    )
    last_run: str | None = Field(
        default=None, max_length=253, description="The youngest WorkflowRun of this workflow."
    )
    last_run_time: datetime | None = Field(default=None, description="When that run was created.")

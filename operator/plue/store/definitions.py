"""Versions of workflows and prompts with their source, so that each can be evaluated again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plue.store.database import Database

__all__ = ["DefinitionStore", "PromptVersion", "WorkflowVersion"]

_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class WorkflowVersion:
    """One revision of a workflow: *file* declares it, *files* are all that the revision covers."""

    revision: str
    name: str
    file: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One version of a prompt, with its front matter as JSON."""

    digest: str
    name: str
    file: str
    kind: str
    definition: Mapping[str, Any]
    files: Mapping[str, str]


class DefinitionStore:
    """The tables of versions."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database

    async def record(
        self, workflows: Sequence[WorkflowVersion], prompts: Sequence[PromptVersion] = ()
    ) -> None:
        """Keep these versions; those that are there are only seen again."""
        statements = [("insert_definition", _workflow(one)) for one in workflows]
        statements += [("insert_prompt_definition", _prompt(one)) for one in prompts]
        for at in range(0, len(statements), _AT_ONCE):
            await self._database.transaction(statements[at : at + _AT_ONCE])

    async def forget(self, *, days: int) -> tuple[int, int]:
        """Delete versions that nobody has met for *days*; return how many of each table."""
        row = (await self._database.rows("delete_old_definitions", {"days": days}))[0]
        return row["workflows"], row["prompts"]


def _workflow(one: WorkflowVersion) -> dict[str, Any]:
    return {
        "revision": one.revision,
        "name": one.name,
        "file": one.file,
        "files": json.dumps(dict(one.files)),
    }


def _prompt(one: PromptVersion) -> dict[str, Any]:
    return {
        "digest": one.digest,
        "name": one.name,
        "file": one.file,
        "kind": one.kind,
        "definition": json.dumps(dict(one.definition)),
        "files": json.dumps(dict(one.files)),
    }

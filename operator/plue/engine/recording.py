"""Keeping what a project declares: each version of a workflow or prompt is recorded once."""

import asyncio
from collections.abc import Hashable, Iterable, Mapping
from typing import Final, TypeVar

from plue.authoring.results import Description, PromptInfo, WorkflowInfo
from plue.store.definitions import DefinitionStore, PromptVersion, WorkflowVersion

__all__ = ["Recorder"]

_AGAIN_SECONDS: Final = 12 * 3600.0
"""After so long a version is recorded again, so that the store knows that it is still used."""

_DEFINITION: Final = (
    "description",
    "client",
    "inputs_schema",
    "output_schema",
    "tools",
    "max_turns",
)

T = TypeVar("T", WorkflowInfo, PromptInfo)


class Recorder:
    """Remembers what this process has recorded; the tables hold each version once anyway."""

    def __init__(self, store: DefinitionStore) -> None:
        """Record into *store*."""
        self._store = store
        self._recorded: dict[Hashable, float] = {}

    async def workflow(self, info: WorkflowInfo, files: Mapping[str, str]) -> None:
        """Keep the source of a workflow's revision. Raises UnavailableError."""
        await self._record([info], [], files)

    async def description(self, found: Description, files: Mapping[str, str]) -> None:
        """Keep everything that was found in *files*. Raises UnavailableError."""
        await self._record(found.workflows, found.prompts, files)

    async def _record(
        self,
        workflows: Iterable[WorkflowInfo],
        prompts: Iterable[PromptInfo],
        files: Mapping[str, str],
    ) -> None:
        now = asyncio.get_running_loop().time()
        new_workflows = [one for one in workflows if self._is_new((one.revision, one.name), now)]
        new_prompts = [
            one
            for one in prompts
            if not one.broken and self._is_new((one.digest, one.name, "prompt"), now)
        ]
        if not new_workflows and not new_prompts:
            return
        await self._store.record(
            [
                WorkflowVersion(one.revision, one.name, one.file, _covered(one, files))
                for one in new_workflows
            ],
            [
                PromptVersion(
                    one.digest,
                    one.name,
                    one.file,
                    one.kind,
                    {name: getattr(one, name) for name in _DEFINITION},
                    _covered(one, files),
                )
                for one in new_prompts
            ],
        )
        self._recorded |= {(one.revision, one.name): now for one in new_workflows}
        self._recorded |= {(one.digest, one.name, "prompt"): now for one in new_prompts}

    def _is_new(self, key: Hashable, now: float) -> bool:
        recorded = self._recorded.get(key)
        return recorded is None or now - recorded > _AGAIN_SECONDS


def _covered(info: T, files: Mapping[str, str]) -> dict[str, str]:
    return {path: files[path] for path in info.files if path in files}

"""Prompts as engine, API and command line ask for them: all of a project, or one's text.

Parsing and rendering happen in the evaluator's process, behind the same fence as workflow code.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from plue.authoring.answers import diagnostic_of, ended, parsed_answer
from plue.authoring.config import config_of
from plue.authoring.imports import prompt_files
from plue.authoring.results import Description, Diagnostic, PromptInfo, Rendered, read_as
from plue.authoring.sources import content_key

__all__ = ["PromptParser", "render_prompt"]

Ask: TypeAlias = Callable[[Mapping[str, object]], Awaitable[tuple[str, bytes]]]

_SUFFIX = ".prompt.md"


class PromptParser:
    """Parses the prompts of a project; as long as no file of them changes, it remembers."""

    def __init__(self, ask: Ask, wall: float) -> None:
        """Ask the evaluator's process by *ask*; *wall* is its limit in seconds, for messages."""
        self._ask = ask
        self._wall = wall
        self._last: tuple[str, Description] | None = None

    async def describe(self, files: Mapping[str, str]) -> Description:
        """Return the prompts among *files* and all that is wrong in them."""
        wanted = prompt_files(files)
        if not wanted:
            return Description()
        models = config_of(files).models()
        digest = hashlib.sha256(json.dumps(models, sort_keys=True).encode())
        for path, text in wanted.items():
            digest.update(bytes.fromhex(content_key(path, text)))
        key = digest.hexdigest()
        if self._last is None or self._last[0] != key:
            self._last = key, await self._describe(wanted, models)
        return self._last[1]

    async def _describe(
        self, files: Mapping[str, str], models: Mapping[str, object]
    ) -> Description:
        whole = await self._parse(files, models, None)
        if isinstance(whole, Description):
            return whole
        # One of them broke the process. Alone, each breaks only its own.
        paths = [path for path in files if path.endswith(_SUFFIX)]
        found = await asyncio.gather(*(self._parse_alone(files, models, path) for path in paths))
        return Description(
            prompts=[info for one in found for info in one.prompts],
            diagnostics=list(dict.fromkeys(d for one in found for d in one.diagnostics)),
        )

    async def _parse_alone(
        self, files: Mapping[str, str], models: Mapping[str, object], path: str
    ) -> Description:
        answer = await self._parse(files, models, path)
        if isinstance(answer, Description):
            return answer
        return Description(diagnostics=[ended(answer, path, 1, self._wall)])

    async def _parse(
        self, files: Mapping[str, str], models: Mapping[str, object], only: str | None
    ) -> Description | str:
        request = {"op": "prompts", "only": only, "config": {"models": models}}
        answer = await _answer(self._ask, request, files)
        if isinstance(answer, str):
            return answer
        return Description(
            prompts=[read_as(PromptInfo, item) for item in answer["prompts"]],
            diagnostics=_diagnostics(answer),
        )


async def render_prompt(
    ask: Ask, files: Mapping[str, str], request: Mapping[str, object], wall: float
) -> Rendered:
    """Render the prompt that *request* names, with its ``inputs``."""
    wanted = prompt_files(files)
    config = {"models": config_of(files).models()}
    answer = await _answer(ask, {"op": "render", "config": config, **request}, wanted)
    if isinstance(answer, str):
        path = next((p for p in wanted if str(request["prompt"]) in p), ".plue/prompts")
        return Rendered(diagnostics=[ended(answer, path, 1, wall)])
    info = answer["prompt"]
    return Rendered(
        answer["text"],
        None if info is None else read_as(PromptInfo, info),
        answer["inputs"],
        _diagnostics(answer),
    )


async def _answer(
    ask: Ask, request: Mapping[str, object], files: Mapping[str, str]
) -> dict[str, Any] | str:
    """Return the answer, or how the process ended without one."""
    kind, body = await ask({**request, "files": {}, "prompts": dict(files)})
    return body.decode() if kind == "E" else parsed_answer(body)


def _diagnostics(answer: Mapping[str, Any]) -> Sequence[Diagnostic]:
    return [diagnostic_of(item) for item in answer["diagnostics"]]

"""The workflow pass: evaluate what a Workflow holds, and say in its condition what is wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import ValidationError

from plue.authoring.results import Description, Diagnostic, WorkflowInfo
from plue.engine.service import Engine
from plue.errors import ConflictError, NotFoundError, PlueError
from plue.kube.announcing import Announcer
from plue.kube.client import ApiClient
from plue.kube.conditions import Fact, conditions_of
from plue.kube.git_sources import GitSources
from plue.kube.objects import WORKFLOWS, Known, is_gone, write_status
from plue.resources.parts import ConditionType, SecretReference
from plue.resources.workflow import GitSource, WorkflowSpec

__all__ = ["Registered", "Workflows", "chosen", "lines_of"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """A Workflow that was evaluated: what a run of it needs, or why there can be none."""

    generation: int
    files: Mapping[str, str]
    function: str | None
    pool: str | None
    problem: str | None
    secrets: Sequence[SecretReference] = ()
    is_suspended: bool = False
    git: GitSource | None = None
    commit: str | None = None
    """The commit of that source whose files these are."""
    ref: str | None = None
    """The full name of the branch or tag that has it."""


class Workflows:
    """The Workflows of all namespaces, as the watch tells of them."""

    def __init__(
        self,
        api: ApiClient,
        *,
        engine: Engine,
        announcer: Announcer,
        git: GitSources,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Evaluate with *engine* what the resources hold, or what *git* fetches."""
        self._api = api
        self._git = git
        git.on_change = self._fetched
        self._engine = engine
        self._announcer = announcer
        self._clock = clock
        self._known: dict[tuple[str, str], Known] = {}
        self._registered: dict[tuple[str, str], Registered] = {}
        self._changed: set[tuple[str, str]] = set()
        self.wake: Callable[[], None] = lambda: None
        self.on_registered: Callable[[tuple[str, str]], None] = lambda _key: None

    def saw(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take in what the watch says about a workflow."""
        known = Known.of(body)
        if deleted:
            self.gone(known.uid)
            return
        before = self._registered.get(known.key)
        self._known[known.key] = known
        if before is None or before.generation != known.generation:
            self._changed.add(known.key)
            self.wake()

    def identities(self) -> Mapping[str, tuple[str, str]]:
        """Return UID → (namespace, name) of all workflows that are known."""
        return {known.uid: known.key for known in self._known.values()}

    def gone(self, uid: str) -> None:
        """Take in that a workflow was deleted. Its runs go on: their source was pinned."""
        for key in [key for key, known in self._known.items() if known.uid == uid]:
            del self._known[key]
            self._git.forget(uid)
            self._registered.pop(key, None)

    def get(self, namespace: str, name: str) -> Registered | None:
        """Return a workflow that was evaluated; None when there is none (yet)."""
        return self._registered.get((namespace, name))

    async def pass_(self) -> None:
        """Evaluate what changed; what could not be done now is done at the next pass."""
        for key in list(self._changed):
            self._changed.discard(key)
            known = self._known.get(key)
            try:
                if known is not None:
                    await self._one(known)
            except PlueError as error:
                # The others must not wait for one that cannot be evaluated or reported.
                self._changed.add(key)
                _log.warning("workflow_pass_failed", name=key[1], error=error.message)

    async def _one(self, known: Known) -> None:
        ready, status, registered = await self._evaluated(known)
        if registered is None:
            self._registered.pop(known.key, None)
        else:
            self._registered[known.key] = registered
            self.on_registered(known.key)
        bad = ready.holds is False
        facts = (
            ready,
            Fact(ConditionType.RECONCILING, holds=ready.holds is None, reason=ready.reason),
            Fact(ConditionType.STALLED, holds=bad, reason=ready.reason, message=ready.message),
        )
        conditions = conditions_of(
            facts,
            known.status.get("conditions") or (),
            generation=known.generation,
            now=self._clock(),
        )
        whole = {"observedGeneration": known.generation, "conditions": conditions, **status}
        try:
            await write_status(self._api, WORKFLOWS, known, whole)
        except ConflictError:
            self._changed.add(known.key)
            self.wake()
        except NotFoundError as error:
            if not is_gone(error, known.name):
                raise
            self.gone(known.uid)
        else:
            if bad:
                await self._announcer.say("Workflow", known, "Warning", ready.reason, ready.message)

    def _fetched(self, known: Known) -> None:
        self._changed.add(known.key)
        self.wake()

    async def _evaluated(self, known: Known) -> tuple[Fact, dict[str, Any], Registered | None]:
        """Return how it stands, its status, and what runs need; None while nobody knows yet."""
        nothing: dict[str, Any] = {
            "revision": None,
            "commit": None,
            "function": None,
            "inputs": None,
        }
        try:
            spec = WorkflowSpec.model_validate(known.spec)
        except ValidationError as error:
            return self._unready(known, "Invalid", str(error), nothing)
        files, held = {}, None
        if spec.source.git is None:
            self._git.forget(known.uid)
        if spec.source.inline is not None:
            files = spec.source.inline.files()
        elif spec.source.git is not None:
            held = self._git.get(known, spec.source.git)
            if held is None:
                message = f"{spec.source.git.url} is being fetched"
                return Fact(ConditionType.READY, None, "Fetching", message), nothing, None
            if held.files is None:
                return self._unready(known, *(held.problem or ("FetchFailed", "")), nothing)
            files = dict(held.files)
        described = await self._engine.describe(files)
        info, problem = chosen(described, spec.function)
        if info is None:
            return self._unready(known, "InvalidSource", problem or "", nothing)
        registered = Registered(
            known.generation,
            files,
            info.name,
            spec.pool,
            None,
            secrets=spec.secrets or (),
            is_suspended=spec.suspend,
            git=spec.source.git,
            commit=None if held is None else held.commit,
            ref=None if held is None else held.ref,
        )
        message = f"{info.name} of {info.file}"
        if held is not None:
            message += f" at {held.commit}"
            if held.problem is not None:
                message += f"; the last fetch failed: {held.problem[1]}"
        commit = None if held is None else held.commit
        return Fact.ready("Evaluated", message), {**_described(info), "commit": commit}, registered

    def _unready(
        self, known: Known, reason: str, message: str, status: dict[str, Any]
    ) -> tuple[Fact, dict[str, Any], Registered]:
        _log.info("workflow_unready", namespace=known.namespace, name=known.name, reason=reason)
        registered = Registered(known.generation, {}, None, None, message)
        return Fact.unready(reason, message), status, registered


def chosen(described: Description, function: str | None) -> tuple[WorkflowInfo | None, str | None]:
    """Return the workflow that is meant, or why there is none: every error with file and line."""
    errors = [d for d in described.diagnostics if d.severity == "error"]
    if errors:
        return None, lines_of(errors)
    names = [info.name for info in described.workflows]
    if function is not None:
        for info in described.workflows:
            if info.name == function:
                return info, None
        there = ", ".join(names) or "no workflow at all"
        return None, f"there is no workflow {function!r} in the source; there is {there}"
    if len(names) == 1:
        return described.workflows[0], None
    if not names:
        return None, "the source has no function decorated with @workflow"
    return None, f"the source has several workflows, so name one in function: {', '.join(names)}"


def lines_of(diagnostics: Sequence[Diagnostic]) -> str:
    """Return one line for each: file, line, what is wrong, what to write instead."""
    return "\n".join(
        f"{d.file}:{d.line}:{d.column}: {d.message}" + (f"; {d.remedy}" if d.remedy else "")
        for d in diagnostics
    )


def _described(info: WorkflowInfo) -> dict[str, Any]:
    properties = info.inputs_schema.get("properties", {})
    required = set(info.inputs_schema.get("required", ()))
    return {
        "revision": info.revision,
        "function": info.name,
        "inputs": [
            {
                "name": name,
                "type": "enum" if "enum" in schema else str(schema.get("type", "any")),
                "required": name in required,
                **({"description": schema["description"]} if "description" in schema else {}),
            }
            for name, schema in list(properties.items())[:64]
        ],
        "triggers": [trigger.kind for trigger in info.triggers][:64],
    }

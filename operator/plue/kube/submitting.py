"""From a WorkflowRun to what the engine is asked to run: pure but for the workflows' cache."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from pydantic import JsonValue, ValidationError

from plue.domain.event import with_tree
from plue.domain.run import RunId, Submission
from plue.engine.service import Engine
from plue.errors import NotFoundError, PlueError, RejectedError, UnavailableError
from plue.kube.objects import Known
from plue.kube.secrets import secrets_of_workflow
from plue.kube.trees import CLONING, Opener, Tree, Trees
from plue.kube.workflows import Registered, Workflows, chosen
from plue.resources.workflow_run import WorkflowRunSpec
from plue.wire.events import Reason
from plue.wire.frames import Workspace

__all__ = ["KEY_PREFIX", "NotYetError", "Submitter", "field_of", "reason_of", "said", "tree_of"]


KEY_PREFIX = "wfr:"
"""How the idempotency keys of resources' runs begin; the resource's UID follows."""


class NotYetError(PlueError):
    """The run cannot be submitted yet."""

    def __init__(self, reason: str, message: str) -> None:
        """Wait for what *reason* names, in one word."""
        super().__init__(message)
        self.reason = reason


class Submitter:
    """Hands runs to the engine."""

    def __init__(
        self,
        engine: Engine,
        *,
        workflows: Workflows,
        trees: Trees,
        may_use: Callable[[str, str], bool],
    ) -> None:
        """Submit to *engine*; *may_use* says whether a pool may be used by a namespace."""
        self._engine = engine
        self._trees = trees
        self._workflows = workflows
        self._may_use = may_use

    async def submit(self, known: Known) -> None:
        """Submit the run of a resource; to repeat it does nothing.

        Raises NotYetError when it waits for another resource, RejectedError when it can never be.
        """
        submission = await self._submission(known)
        planned = await self._engine.plan(submission)
        pool = submission.pool or (planned.info.pool if planned.info else None)
        self._check_pool(pool, known.namespace)
        await self._engine.submit(submission)

    def _check_pool(self, pool: str | None, namespace: str) -> None:
        if pool is not None and not self._may_use(pool, namespace):
            raise RejectedError(
                f"the pool {pool!r} does not allow runs of namespace {namespace!r}",
                remedy="name another in spec.pool, or add the namespace to the pool's"
                " allowedNamespaces",
            )

    async def _submission(self, known: Known) -> Submission:
        try:
            spec = WorkflowRunSpec.model_validate(known.spec)
        except ValidationError as error:
            raise RejectedError(f"the spec cannot be read: {error}") from error
        if spec.rerun_of is not None:
            return await self._again(spec, known)
        function: str | None
        secrets: Mapping[str, JsonValue] = {}
        found: Registered | None = None
        if spec.workflow_ref is not None:
            found = self._workflows.get(known.namespace, spec.workflow_ref.name)
            if found is None:
                name = spec.workflow_ref.name
                raise NotYetError(
                    "WorkflowNotFound", f"there is no Workflow {name!r} in {known.namespace!r} yet"
                )
            if found.function is None:
                raise NotYetError("WorkflowNotReady", found.problem or "it is not evaluated yet")
            if found.is_suspended:
                raise NotYetError(
                    "WorkflowSuspended",
                    f"the Workflow {spec.workflow_ref.name!r} is suspended; it goes on when"
                    " spec.suspend is false",
                )
            files, function, pool = found.files, found.function, spec.pool or found.pool
            secrets = secrets_of_workflow(known.namespace, spec.workflow_ref.name, found.secrets)
        elif spec.source is not None:
            files, function, pool = spec.source.inline.files(), spec.function, spec.pool
        else:
            raise RejectedError("neither workflowRef nor source is given")
        event, workspace = await self._worked_on(spec, found, known)
        return Submission(
            workflow=function or await self._only_function(files),
            files=files,
            inputs=dict(spec.inputs or {}),
            text_inputs=True,
            trigger=spec.trigger,
            event=event,
            workspace=workspace,
            pool=pool,
            priority=spec.priority,
            timeout=_seconds(spec.timeout_seconds),
            queue_timeout=_seconds(spec.queue_timeout_seconds),
            secrets_from=secrets,
            idempotency_key=f"{KEY_PREFIX}{known.uid}",
            id=RunId(known.uid),
            namespace=known.namespace,
        )

    async def _worked_on(
        self, spec: WorkflowRunSpec, found: Registered | None, known: Known
    ) -> tuple[Mapping[str, JsonValue], Workspace]:
        """Return a run's event and the files that its steps see."""
        event = _event(spec.event)
        if spec.workspace is not None:
            return event, Workspace(kind="blob", blob=spec.workspace.blob)
        tree = tree_of(spec, found, known)
        if tree is None:
            return event, Workspace()
        try:
            made = await self._trees.get(tree)
        except RejectedError as error:
            field = field_of(spec, error)
            raise RejectedError(
                f"spec.{field}: {error.message}", field=field, remedy=error.remedy
            ) from error
        except UnavailableError as error:
            raise UnavailableError(
                f"spec.{field_of(spec, error)}: {error.message}", retry_in=error.retry_in
            ) from error
        if made is None:
            raise NotYetError(CLONING, f"{tree.url} is being cloned at {tree.ref}")
        ref = made.ref
        if found is not None and found.git is not None and found.commit == made.commit:
            ref = ref or found.ref  # asked for by the commit that its branch had
        facts = {"ref": ref, "sha": made.commit, "repository": {"url": tree.url}}
        return with_tree(event, facts), Workspace(kind="blob", blob=made.blob)

    async def _again(self, spec: WorkflowRunSpec, known: Known) -> Submission:
        """Return the submission of an earlier run, for this resource."""
        earlier = str(spec.rerun_of)
        nothing = RejectedError(
            f"there is no run {earlier} in the namespace {known.namespace!r}", field="rerunOf"
        )
        try:
            old = await self._engine.submission_of(RunId(str(UUID(earlier))))
        except (NotFoundError, ValueError) as error:
            raise nothing from error
        if old.namespace != known.namespace:
            raise nothing
        return replace(
            old,
            pool=spec.pool,
            priority=spec.priority,
            timeout=_seconds(spec.timeout_seconds) or old.timeout,
            queue_timeout=_seconds(spec.queue_timeout_seconds),
            idempotency_key=f"{KEY_PREFIX}{known.uid}",
            id=RunId(known.uid),
        )

    async def _only_function(self, files: Mapping[str, str]) -> str:
        info, problem = chosen(await self._engine.describe(files), None)
        if info is None:
            raise RejectedError(problem)
        return info.name


def reason_of(error: RejectedError) -> str:
    """Return the one word for why a run can never be."""
    field = error.field or ""
    if field.startswith("secrets."):
        return Reason.MISSING_SECRET.value
    if field.partition(".")[0] in _OF_TREES:
        return Reason.WORKSPACE_FAILED.value
    return Reason.INVALID_PLAN.value


def said(error: RejectedError) -> str:
    """Return an error with every place that it names."""
    diagnostics = error.details.get("diagnostics")
    if isinstance(diagnostics, list) and diagnostics:
        return "\n".join(
            f"{d['file']}:{d['line']}: {d['message']}" for d in diagnostics if isinstance(d, dict)
        )
    return error.message + (f"; {error.remedy}" if error.remedy else "")


def _event(text: str | None) -> Mapping[str, JsonValue]:
    """Return a run's event. Raises RejectedError when the text is no JSON object."""
    try:
        event = json.loads(text or "{}")
    except ValueError as error:
        raise RejectedError(f"event is not JSON: {error}", field="event") from error
    if not isinstance(event, dict):
        raise RejectedError("event is not a JSON object", field="event")
    return event


def tree_of(spec: WorkflowRunSpec, found: Registered | None, known: Known) -> Tree | None:
    """Return the repository that a run works in, if any. Raises RejectedError."""
    own = None if found is None else found.git
    wanted = spec.repository
    url = own.url if own is not None else None
    if wanted is not None:
        url = wanted.url or url
        if url is None:
            raise RejectedError(
                "spec.repository.url is missing, and the Workflow's source is no repository",
                field="repository.url",
            )
    if url is None:
        return None
    ref, opener = "HEAD", None
    if found is not None and own is not None and own.url == url:
        ref = found.commit or own.ref
        if own.secret_ref is not None and spec.workflow_ref is not None:
            # Credentials go to the repository that the Workflow names them for, nowhere else.
            opener = Opener(known.namespace, spec.workflow_ref.name, own.secret_ref.name)
    if wanted is not None:
        ref = wanted.sha or wanted.ref or ref
    return Tree(url, ref, opener)


_OF_TREES = {"repository", "workflowRef"}


def field_of(spec: WorkflowRunSpec, error: PlueError) -> str:
    """Return the field of the run that says what could not be cloned."""
    if spec.repository is None:
        return "workflowRef"
    if error.field == "ref":
        return "repository.ref" if spec.repository.sha is None else "repository.sha"
    return "repository"


def _seconds(value: int | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)

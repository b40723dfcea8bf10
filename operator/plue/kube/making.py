"""Runs that are asked for over the API in a cluster: a WorkflowRun is made, and waited for.

The resource comes first, so that no run is without one: quotas, owners and what watches resources
see it as any other. The operator submits it by its UID, as it does every other; the caller is
answered when that is done, so that a GET right after finds the run. That the API submits by itself
was rejected: it would need the rights to read Workflows' Secrets and to fetch from git, and there
would be two ways into the engine. Source that comes along is planned before, so that what is wrong
with it makes no resource and is told with all its places.
"""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from plue.api.callers import Caller
from plue.api.models import CreateRun
from plue.domain.run import RunDetails, RunId, Submission
from plue.engine.service import Engine
from plue.errors import ConflictError, NotFoundError, RejectedError, UnavailableError
from plue.kube.client import ApiClient, Json
from plue.kube.objects import RUNS, WORKFLOWS
from plue.kube.trees import CLONING
from plue.resources.crds import API_VERSION, GROUP

__all__ = ["CREATED_BY", "ClusterRuns", "inline_source"]

CREATED_BY: Final = f"{GROUP}/created-by"
"""The annotation that says who asked for a run; Kubernetes itself only knows of our API."""

PATIENCE: Final = timedelta(seconds=30)
"""How long a run may take to be submitted; a standby operator takes over within half of it."""

_LOOKS: Final = (0.01, 0.02, 0.04, 0.08, 0.15, 0.25)
_SAYS_WHY: Final = 1.0
"""Seconds after which the resource is asked why its run is not there yet."""

_PLACES = re.compile(r"^\.plue/(workflows|prompts|lib)/([A-Za-z0-9_][A-Za-z0-9_.-]{0,99})$")
_CONFIG: Final = ".plue/config.yaml"
_KEPT_APART = re.compile(r"^\.plue/(workflows|prompts|lib)/|^(?!\.plue/)")


class ClusterRuns:
    """Makes WorkflowRuns, and waits until they are runs."""

    def __init__(self, api: ApiClient, *, engine: Engine) -> None:
        """Make them at *api*; *engine* plans, and knows which runs there are."""
        self._api = api
        self._engine = engine

    async def make(self, body: CreateRun, namespace: str, by: Caller) -> RunId:
        """Make the run that *body* asks for in *namespace*; the same key gives the same run.

        Raises RejectedError, with diagnostics where source came along, NotFoundError for an
        unknown Workflow, UnavailableError when nobody has submitted it in time.
        """
        spec: Json = _spec(body)
        if body.files is None:
            await self._find_workflow(namespace, body.workflow)
            spec["workflowRef"] = {"name": body.workflow}
        else:
            spec["source"] = {"inline": inline_source(body.files)}
            spec["function"] = body.workflow
            await self._engine.check(_submission(body, namespace))
        return await self._make(namespace, body.workflow, spec, by, key=body.idempotency_key)

    async def again(self, old: RunDetails, by: Caller) -> RunId:
        """Make a run of the same revision, inputs and workspace as *old* in its namespace."""
        run = old.run
        spec: Json = {"rerunOf": run.id, "trigger": run.trigger, "priority": run.priority}
        return await self._make(run.namespace, run.workflow, spec, by)

    async def _find_workflow(self, namespace: str, name: str) -> None:
        try:
            await self._api.get(WORKFLOWS, namespace, name)
        except NotFoundError as error:
            raise NotFoundError(
                f"there is no Workflow {name!r} in the namespace {namespace!r}",
                field="workflow",
                remedy=f"`kubectl get workflows -n {namespace}` shows them; or send `files`",
            ) from error

    async def _make(
        self, namespace: str, workflow: str, spec: Json, by: Caller, *, key: str | None = None
    ) -> RunId:
        metadata: Json = {"annotations": {CREATED_BY: by.name}}
        if key is None:
            metadata["generateName"] = f"{_dashed(workflow)}-"
        else:
            digest = hashlib.sha256(key.encode()).hexdigest()[:16]
            metadata["name"] = f"{_dashed(workflow)}-{digest}"
        body = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "metadata": metadata}
        try:
            made = await self._api.create(RUNS, namespace, {**body, "spec": spec})
        except ConflictError:
            if key is None:
                raise
            made = await self._api.get(RUNS, namespace, metadata["name"])
        return await self._submitted(namespace, made["metadata"]["name"], made["metadata"]["uid"])

    async def _submitted(self, namespace: str, name: str, uid: str) -> RunId:
        """Return the run of a resource as soon as there is one, or raise why there is none."""
        run, now = RunId(uid), asyncio.get_running_loop().time
        begun, asked, looks = now(), now(), iter(_LOOKS)
        while True:
            try:
                await self._engine.namespace_of(run)
            except NotFoundError:
                pass
            else:
                return run
            if now() - asked > _SAYS_WHY:
                asked = now()
                await self._refuse(namespace, name)
            if now() - begun > PATIENCE.total_seconds():
                raise UnavailableError(
                    f"the WorkflowRun {name} is made, but nobody has submitted it yet",
                    remedy=f"it will run by itself: see `kubectl describe wfr {name} -n"
                    f" {namespace}`, and whether an operator is at work",
                )
            await asyncio.sleep(next(looks, _LOOKS[-1]))

    async def _refuse(self, namespace: str, name: str) -> None:
        """Raise RejectedError when the resource says that its run cannot be, or waits."""
        found = await self._api.get(RUNS, namespace, name)
        status = found.get("status") or {}
        if status.get("reason") == CLONING:
            return  # it ends by itself
        if status.get("runId") is None and status.get("phase") in {"Failed", "Pending"}:
            raise RejectedError(
                str(status.get("message") or status.get("reason") or "it cannot be submitted"),
                remedy=f"the WorkflowRun {name} stays: see `kubectl describe wfr {name} -n"
                f" {namespace}`",
                details={"resource": name},
            )


def inline_source(files: Mapping[str, str]) -> Json:
    """Return *files* as the inline source of a resource. Raises RejectedError, naming the file.

    Other files of ``.plue`` (tools, data) are left out: a run finds them in its workspace.
    """
    source: dict[str, Any] = {}
    for path, text in files.items():
        placed = _PLACES.match(path)
        if placed:
            source.setdefault(placed[1], {})[placed[2]] = text
        elif path == _CONFIG:
            source["config"] = text
        elif _KEPT_APART.match(path):
            raise RejectedError(
                f"a WorkflowRun cannot hold the file {path}",
                field="files",
                remedy="in a cluster, files lie directly in .plue/workflows, .plue/prompts or"
                " .plue/lib, and have plain names",
            )
    if not source.get("workflows"):
        raise RejectedError("there is no file in .plue/workflows/", field="files")
    return source


def _submission(body: CreateRun, namespace: str) -> Submission:
    """Return what the operator will submit, as far as planning it goes."""
    return Submission(
        workflow=body.workflow,
        files=dict(body.files or {}),
        inputs={name: _text(value) for name, value in body.inputs.items()},
        text_inputs=True,
        trigger=body.trigger,
        event=body.event,
        namespace=namespace,
    )


def _spec(body: CreateRun) -> Json:
    """Return what a WorkflowRun's spec takes from *body*, but for the source."""
    spec: Json = {"trigger": body.trigger, "priority": body.priority}
    if body.inputs:
        spec["inputs"] = {name: _text(value) for name, value in body.inputs.items()}
    if body.event:
        spec["event"] = json.dumps(body.event)
    if body.workspace.blob is not None:
        spec["workspace"] = {"blob": body.workspace.blob}
    times = {
        "timeoutSeconds": body.timeout_seconds,
        "queueTimeoutSeconds": body.queue_timeout_seconds,
    }
    return spec | {name: math.ceil(time) for name, time in times.items() if time is not None}


def _text(value: object) -> str:
    """Return an input as a command line would give it."""
    return value if isinstance(value, str) else json.dumps(value)


def _dashed(workflow: str) -> str:
    """Return a workflow's name as a part of an object's name."""
    return re.sub(r"[^a-z0-9]+", "-", workflow.lower()).strip("-")[:40] or "run"

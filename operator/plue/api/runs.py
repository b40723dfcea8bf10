"""Runs: list, create, show, cancel, rerun."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from aiohttp import web

from plue.api.callers import Verb, caller_of, found_run, place_of, readable
from plue.api.keys import ARCHIVES, ENGINE, TREE
from plue.api.making import MAKER
from plue.api.models import CancelRun, CreateRun, Rerun, RunDetail, WorkspaceBody
from plue.api.notes import noted
from plue.api.queries import RunsQuery
from plue.api.routes import Call, Nothing, Outcome, Reply
from plue.api.views import run_detail, run_page, run_plan
from plue.domain.event import event_of, with_tree
from plue.domain.run import RunFilter, RunId, Submission
from plue.engine.ports import Repository
from plue.engine.service import Engine
from plue.errors import NotFoundError, RejectedError
from plue.store.archives import Archives
from plue.wire.frames import Workspace

__all__ = ["cancel_run", "create_run", "get_run", "get_run_plan", "list_runs", "rerun_run"]


async def list_runs(call: Call[RunsQuery, Nothing]) -> Outcome:
    """List runs, newest first."""
    query = call.query
    page = await call.request.app[ENGINE].runs(
        RunFilter(
            workflow=query.workflow,
            states=tuple(query.state),
            trigger=query.trigger,
            before=None if query.cursor is None else int(query.cursor),
            limit=query.limit,
            namespaces=await readable(call.request, query.namespace),
        )
    )
    return run_page(page)


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


def _no_tree(field: str, remedy: str) -> RejectedError:
    return RejectedError("this server has no working tree", field=field, remedy=remedy)


async def _source(body: CreateRun, tree: Repository | None) -> Mapping[str, str]:
    """Return the files that the run is made from."""
    if body.files is not None:
        return body.files
    if tree is None:
        raise _no_tree("files", "send the source in `files`")
    return await tree.files()


def _in_place(wanted: WorkspaceBody, tree: Repository | None) -> Workspace:
    """Return the tree itself as the workspace; no other folder of the machine."""
    if tree is None:
        raise _no_tree("workspace.kind", "use `none` or `blob`")
    if wanted.path is not None and Path(wanted.path) != tree.root:
        raise RejectedError(
            f"a run in place runs in {tree.root}, the tree of this server",
            field="workspace.path",
            remedy="leave `path` out, or start a server in that folder",
        )
    return Workspace(kind="in_place", path=str(tree.root))


async def _blob(wanted: WorkspaceBody, archives: Archives) -> Workspace:
    """Return an uploaded archive as the workspace."""
    if wanted.blob is None:
        raise RejectedError("a workspace of kind `blob` names its blob", field="workspace.blob")
    try:
        await archives.check(wanted.blob)
    except NotFoundError as error:
        raise RejectedError(
            error.message, field="workspace.blob", remedy="upload it with POST /api/v1/blobs"
        ) from error
    return Workspace(kind="blob", blob=wanted.blob)


async def _workspace(
    wanted: WorkspaceBody, tree: Repository | None, archives: Archives
) -> Workspace:
    """Return the workspace that is asked for; what does not belong to its kind is refused.

    Of a tree nothing is copied yet: that is the dear part, and the rest may be wrong.
    """
    for name, kind in (("blob", "blob"), ("path", "in_place")):
        if getattr(wanted, name) is not None and wanted.kind != kind:
            raise RejectedError(
                f"`{name}` belongs to a workspace of kind `{kind}`, not `{wanted.kind}`",
                field=f"workspace.{name}",
            )
    match wanted.kind:
        case "none":
            return Workspace()
        case "blob":
            return await _blob(wanted, archives)
        case "in_place":
            return _in_place(wanted, tree)
        case "tree":
            if tree is None:
                raise _no_tree("workspace.kind", "use `none` or `blob`")
            return Workspace()


def _made(request: web.Request, detail: RunDetail) -> Reply:
    noted(request, target=detail.name, run=detail.id)
    return _created(detail)


async def _shown(engine: Engine, run: RunId) -> RunDetail:
    return run_detail(await engine.details(run))


def _created(detail: RunDetail) -> Reply:
    return Reply(detail, headers={"Location": f"/api/v1/runs/{detail.id}"})


async def create_run(call: Call[Nothing, CreateRun]) -> Outcome:
    """Make a run."""
    app, body = call.request.app, call.body
    tree = app[TREE]
    namespace = await place_of(call.request, body.namespace)
    maker = app[MAKER]
    if maker is not None:
        await _workspace(body.workspace, tree, app[ARCHIVES])
        run = await maker.make(body, namespace, caller_of(call.request))
        return _made(call.request, await _shown(app[ENGINE], run))
    event = event_of(body.trigger, body.event)
    if tree is not None and body.workspace.kind in {"tree", "in_place"}:
        event = with_tree(event, await tree.facts())
    submission = Submission(
        workflow=body.workflow,
        files=await _source(body, tree),
        inputs=body.inputs,
        text_inputs=body.text_inputs,
        trigger=body.trigger,
        event=event,
        workspace=await _workspace(body.workspace, tree, app[ARCHIVES]),
        priority=body.priority,
        timeout=_seconds(body.timeout_seconds),
        queue_timeout=_seconds(body.queue_timeout_seconds),
        idempotency_key=body.idempotency_key,
        namespace=namespace,
    )
    copied = tree.snapshot if tree is not None and body.workspace.kind == "tree" else None
    run = await app[ENGINE].submit(submission, workspace=copied)
    return _made(call.request, await _shown(app[ENGINE], run))


async def get_run(call: Call[Nothing, Nothing]) -> Outcome:
    """Show a run with its steps."""
    engine = call.request.app[ENGINE]
    return await _shown(engine, await found_run(call))


async def get_run_plan(call: Call[Nothing, Nothing]) -> Outcome:
    """Show a run's plan as far as it has grown, and what is known of its steps."""
    engine = call.request.app[ENGINE]
    return run_plan(await engine.grown(await found_run(call)))


async def cancel_run(call: Call[Nothing, CancelRun]) -> Outcome:
    """Ask for a run's end."""
    engine = call.request.app[ENGINE]
    run = await found_run(call, Verb.PATCH)
    await engine.cancel(run, reason=call.body.reason, now=call.body.now)
    return await _shown(engine, run)


async def rerun_run(call: Call[Nothing, Rerun]) -> Outcome:
    """Make a new run like an old one."""
    engine = call.request.app[ENGINE]
    maker, old = call.request.app[MAKER], await found_run(call, Verb.CREATE)
    if maker is None:
        run = await engine.rerun(old)
    else:
        run = await maker.again(await engine.details(old), caller_of(call.request))
    detail = await _shown(engine, run)
    noted(call.request, made=detail.name)
    return _created(detail)

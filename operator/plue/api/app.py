"""The users' API as one aiohttp application: its table of routes, and how it is assembled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from plue.api import events, house, logs, prompts, runs, uploads, usage, workflows
from plue.api.access import access_middleware
from plue.api.auditing import AUDIT, audit_middleware
from plue.api.budget_page import BUDGET_PAGES
from plue.api.callers import ACCESS, Access
from plue.api.journal import journal_middleware
from plue.api.keys import ARCHIVES, DOCUMENT, ENGINE, HOUSE, STREAMS, TREE, ApiLimits, House
from plue.api.making import MAKER, RunMaker
from plue.api.models import (
    Blob,
    BudgetReport,
    CancelRun,
    CreateRun,
    EventBody,
    EventFrame,
    ExtendBudget,
    Health,
    LogLine,
    ParsePrompts,
    ParseRequest,
    ParseResult,
    PromptsResult,
    RenderedPrompt,
    RenderPrompt,
    Rerun,
    RunDetail,
    RunPage,
    RunPlan,
    ServerInfo,
    UsageReport,
    WorkflowBody,
    WorkflowList,
)
from plue.api.openapi import openapi_document
from plue.api.problems import problem_middleware
from plue.api.queries import EventsQuery, LogsQuery, PlaceQuery, RunsQuery, UsageQuery
from plue.api.routes import JSON, Nothing, Route, register
from plue.api.streams import OpenStreams
from plue.engine.ports import Repository
from plue.engine.service import Engine
from plue.store.access import AccessStore
from plue.store.archives import Archives

__all__ = ["ROUTES", "make_api"]

_V1 = "/api/v1"

ROUTES: tuple[Route[Any, Any], ...] = (
    Route(
        method="GET",
        path=f"{_V1}/workflows",
        handler=workflows.list_workflows,
        summary="List the workflows as their files declare them now",
        query=Nothing,
        body=Nothing,
        produces={JSON: WorkflowList},
        errors=(404,),
    ),
    Route(
        method="POST",
        path=f"{_V1}/workflows/parse",
        handler=workflows.parse_workflows,
        summary="Check source without running or storing it",
        description="What is wrong in the source is in `diagnostics` of a 200, not an error.",
        query=PlaceQuery,
        body=ParseRequest,
        produces={JSON: ParseResult},
    ),
    Route(
        method="GET",
        path=f"{_V1}/workflows/{{name}}",
        handler=workflows.get_workflow,
        summary="Show one workflow",
        query=Nothing,
        body=Nothing,
        produces={JSON: WorkflowBody},
    ),
    Route(
        method="POST",
        path=f"{_V1}/prompts/parse",
        handler=prompts.parse_prompts,
        summary="Check prompts without running or storing anything",
        description=(
            "All that is wrong in all files is in `diagnostics` of a 200, not an error. Without "
            "`files`: the prompts of the server's own tree."
        ),
        query=PlaceQuery,
        body=ParsePrompts,
        produces={JSON: PromptsResult},
        errors=(404,),
    ),
    Route(
        method="POST",
        path=f"{_V1}/prompts/render",
        handler=prompts.render_prompt,
        summary="Show the text that a model would be given",
        description=(
            "No model is asked. What is wrong in the prompt or its inputs is in `diagnostics` of "
            "a 200, not an error; `text` is null then."
        ),
        query=PlaceQuery,
        body=RenderPrompt,
        produces={JSON: RenderedPrompt},
        errors=(404,),
    ),
    Route(
        method="GET",
        path=f"{_V1}/runs",
        handler=runs.list_runs,
        summary="List runs, newest first",
        query=RunsQuery,
        body=Nothing,
        produces={JSON: RunPage},
    ),
    Route(
        method="POST",
        path=f"{_V1}/runs",
        handler=runs.create_run,
        audited="run.create",
        summary="Make a run",
        description="Where the workflow or an input is wrong, the problem has `diagnostics`.",
        query=Nothing,
        body=CreateRun,
        produces={JSON: RunDetail},
        status=201,
        errors=(404, 409),
    ),
    Route(
        method="GET",
        path=f"{_V1}/runs/{{id}}",
        handler=runs.get_run,
        summary="Show a run with its steps",
        query=Nothing,
        body=Nothing,
        produces={JSON: RunDetail},
    ),
    Route(
        method="GET",
        path=f"{_V1}/runs/{{id}}/plan",
        handler=runs.get_run_plan,
        summary="Show a run's plan as far as it has grown",
        description=(
            "With the values that are known of its steps: enough to plan another version of its "
            "workflow with the same results, as `plue workflow plan --like` does."
        ),
        query=Nothing,
        body=Nothing,
        produces={JSON: RunPlan},
    ),
    Route(
        method="GET",
        path=f"{_V1}/runs/{{id}}/events",
        handler=events.get_run_events,
        summary="Follow a run's events, or read them",
        description=(
            "Server-sent events whose `id` is the event's number; the header `Last-Event-ID`, or "
            "`?after=`, resumes exactly. `data` is the same bytes live and later. Every 15 s "
            "without an event there is a `heartbeat` without id. The stream ends after "
            "`run_completed`; an end without it means: connect again. A reconnect of an "
            "EventSource to a run that is over gets 204. With `Accept: application/x-ndjson`: one "
            "event a line, an empty line as heartbeat."
        ),
        query=EventsQuery,
        body=Nothing,
        produces={events.SSE: EventFrame, events.NDJSON: EventBody},
        errors=(400, 410),
        empty="The run is over and everything was sent: stop reconnecting.",
        streams=True,
    ),
    Route(
        method="GET",
        path=f"{_V1}/runs/{{id}}/logs",
        handler=logs.get_run_logs,
        summary="Read the output of a run's steps so far",
        description=(
            "Text: with `step`, its lines as they were written; without, each line begins with "
            "the step's name and a tab. With `Accept: application/x-ndjson`: one LogLine a line."
        ),
        query=LogsQuery,
        body=Nothing,
        produces={logs.TEXT: None, events.NDJSON: LogLine},
        errors=(410,),
        streams=True,
    ),
    Route(
        method="POST",
        path=f"{_V1}/runs/{{id}}/cancel",
        handler=runs.cancel_run,
        audited="run.cancel",
        summary="Ask for a run's end",
        description="A run that has ended already stays as it is.",
        query=Nothing,
        body=CancelRun,
        produces={JSON: RunDetail},
        status=202,
    ),
    Route(
        method="POST",
        path=f"{_V1}/runs/{{id}}/rerun",
        handler=runs.rerun_run,
        audited="run.rerun",
        summary="Make a new run of the same revision, inputs and workspace",
        query=Nothing,
        body=Rerun,
        produces={JSON: RunDetail},
        status=201,
        errors=(409, 410),
    ),
    Route(
        method="GET",
        path=f"{_V1}/runs/{{id}}/usage",
        handler=usage.get_run_usage,
        summary="Show what a run's steps used of models, and what it cost",
        query=Nothing,
        body=Nothing,
        produces={JSON: UsageReport},
    ),
    Route(
        method="GET",
        path=f"{_V1}/runs/{{id}}/budgets",
        handler=usage.get_budgets,
        summary="Show the budgets that a run's calls count in, and what is left of them",
        description="There are none before a step has asked a model.",
        query=Nothing,
        body=Nothing,
        produces={JSON: BudgetReport},
    ),
    Route(
        method="POST",
        path=f"{_V1}/runs/{{id}}/budget",
        handler=usage.extend_budget,
        audited="run.extend-budget",
        summary="Allow a run, or one of its steps, more than its budget",
        description="Steps that wait with reason `Budget` go on when it is enough.",
        query=Nothing,
        body=ExtendBudget,
        produces={JSON: UsageReport},
    ),
    Route(
        method="GET",
        path=f"{_V1}/usage",
        handler=usage.get_usage,
        summary="Sum model usage up, by day, workflow, repository and model",
        query=UsageQuery,
        body=Nothing,
        produces={JSON: UsageReport},
    ),
    Route(
        method="POST",
        path=f"{_V1}/blobs",
        handler=uploads.upload_blob,
        audited="blob.upload",
        summary="Store a tar archive under its SHA-256, for a run's workspace",
        query=PlaceQuery,
        body=Nothing,
        produces={JSON: Blob},
        status=201,
        errors=(413, 415),
        uploads="application/octet-stream",
    ),
    Route(
        method="GET",
        path=f"{_V1}/info",
        handler=house.get_info,
        summary="Say what this server is",
        query=Nothing,
        body=Nothing,
        produces={JSON: ServerInfo},
    ),
    Route(
        method="GET",
        path="/healthz",
        handler=house.healthz,
        summary="Whether the process answers",
        query=Nothing,
        body=Nothing,
        produces={JSON: Health},
        public=True,
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=house.readyz,
        summary="Whether the server can work, part by part; 503 when it cannot",
        query=Nothing,
        body=Nothing,
        produces={JSON: Health},
        also={503: Health},
        public=True,
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=house.get_metrics,
        summary="Numbers for Prometheus",
        query=Nothing,
        body=Nothing,
        produces={"text/plain": None},
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        handler=house.get_openapi,
        summary="This document",
        query=Nothing,
        body=Nothing,
        produces={JSON: None},
    ),
    *BUDGET_PAGES,
    Route(
        method="GET",
        path="/",
        handler=house.get_index,
        summary="Where things are",
        query=Nothing,
        body=Nothing,
        produces={"text/html": None},
    ),
)
"""All routes but those that signing in needs. Fixed paths stand before those with parameters."""


async def _sweeping(app: web.Application) -> AsyncIterator[None]:
    """Look for clients that left, as long as the application runs."""
    sweep = asyncio.create_task(app[STREAMS].sweep_forever())
    yield
    sweep.cancel()
    with suppress(asyncio.CancelledError):
        await sweep


async def _end_streams(app: web.Application) -> None:
    """End the open streams before aiohttp waits for their handlers."""
    app[STREAMS].close()


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    """Keep browsers from guessing types: a step's output must never become a page."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")


def make_api(
    *,
    engine: Engine,
    archives: Archives,
    access: Access,
    info: ServerInfo,
    metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None,
    ready: Callable[[], Awaitable[Health]],
    local_tree: Repository | None,
    limits: ApiLimits | None = None,
    maker: RunMaker | None = None,
    audit: AccessStore | None = None,
) -> web.Application:
    """Return the application; who runs it decides where it listens.

    *metrics* gives the text and its content type; None leaves /metrics away. *local_tree* is the
    working tree whose workflows the server offers; None, and every run must bring its source.
    *maker* makes runs where each has a resource; None, and they are submitted as they are.
    Changes are written down in *audit*, if there is one.
    """
    limits = limits or ApiLimits()
    middlewares = [
        journal_middleware,
        problem_middleware,
        access_middleware(access),
        audit_middleware,
    ]
    # The body limits are our own: aiohttp's applies to helpers that are not used here.
    app = web.Application(middlewares=middlewares)
    routes = (*ROUTES, *access.routes())
    register(app, routes)
    app[ENGINE], app[ARCHIVES], app[TREE] = engine, archives, local_tree
    app[ACCESS], app[AUDIT], app[MAKER] = access, audit, maker
    app[HOUSE] = House(info=info, limits=limits, metrics=metrics, ready=ready)
    app[STREAMS] = OpenStreams(unread=limits.unread, sweep=limits.sweep)
    app[DOCUMENT] = to_json(openapi_document(routes, version=info.version))
    app.cleanup_ctx.append(_sweeping)
    app.on_shutdown.append(_end_streams)
    app.on_response_prepare.append(_harden)
    return app

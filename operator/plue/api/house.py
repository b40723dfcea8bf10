"""What the server says about itself: health, metrics, the document, and a first page."""

from aiohttp import web

from plue.api.callers import ACCESS, caller_of
from plue.api.keys import DOCUMENT, HOUSE
from plue.api.models import Health
from plue.api.pages import page
from plue.api.problems import ForbiddenError
from plue.api.routes import Call, Nothing, Outcome, Reply

__all__ = ["get_index", "get_info", "get_metrics", "get_openapi", "healthz", "readyz"]

_INDEX = """<p>Of the web pages there is one yet: <a href="/runs/latest/budget">the newest run's
budgets</a>, those of any run at <code>/runs/RUN/budget</code>. On a terminal:
<code>plue run watch</code>.</p>
<ul>
<li><a href="/api/v1/runs">/api/v1/runs</a> the runs
<li><a href="/api/v1/workflows">/api/v1/workflows</a> the workflows of the working tree
<li><a href="/api/v1/info">/api/v1/info</a> what this server is
<li><a href="/openapi.json">/openapi.json</a> all of the API
<li><a href="/readyz">/readyz</a> whether it can work, <a href="/metrics">/metrics</a> how it does
</ul>
"""


async def get_index(_call: Call[Nothing, Nothing]) -> Outcome:
    """Say where things are."""
    return page("Plue is up", _INDEX)


async def get_info(call: Call[Nothing, Nothing]) -> Outcome:
    """Say what this server is."""
    return call.request.app[HOUSE].info


async def healthz(_call: Call[Nothing, Nothing]) -> Outcome:
    """Answer, which is all that liveness asks."""
    return Health(ok=True)


async def readyz(call: Call[Nothing, Nothing]) -> Outcome:
    """Say whether the server can work, part by part."""
    health = await call.request.app[HOUSE].ready()
    return Reply(health, status=200 if health.ok else 503)


async def get_metrics(call: Call[Nothing, Nothing]) -> Outcome:
    """Give Prometheus its numbers."""
    request = call.request
    if not await request.app[ACCESS].may_measure(caller_of(request)):
        raise ForbiddenError(
            f"{caller_of(request).name} may not get /metrics",
            remedy="a ClusterRole with nonResourceURLs [/metrics] and the verb get allows it",
        )
    metrics = request.app[HOUSE].metrics
    if metrics is None:
        raise web.HTTPNotFound
    text, kind = await metrics()
    return web.Response(body=text, headers={"Content-Type": kind})


async def get_openapi(call: Call[Nothing, Nothing]) -> Outcome:
    """Give the OpenAPI document."""
    return web.Response(body=call.request.app[DOCUMENT], content_type="application/json")

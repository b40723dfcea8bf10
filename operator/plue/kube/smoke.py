"""One run from applied to complete, as its user would make it: what `helm test` does."""

import asyncio
import secrets
from http import HTTPStatus

import aiohttp

from plue.errors import UnavailableError
from plue.kube.client import ApiClient
from plue.kube.login import Login
from plue.kube.objects import RUNS
from plue.resources.crds import API_VERSION

__all__ = ["try_one_run"]

_SOURCE = """
from plue import workflow

@workflow()
def smoke(ctx):
    ctx.run("greet", "echo hello from $(hostname)")
"""
_EVERY = 0.25


async def try_one_run(login: Login, *, pool: str, api_url: str | None, seconds: float) -> str:
    """Return what was seen.

    Raises UnavailableError that says what the run waits for, or why it failed.
    """
    if api_url is not None:
        await _ask_api(api_url)
    name = f"plue-smoke-{secrets.token_hex(4)}"
    async with ApiClient(login) as api:
        await api.create(
            RUNS,
            login.namespace,
            {
                "apiVersion": API_VERSION,
                "kind": "WorkflowRun",
                "metadata": {"name": name, "namespace": login.namespace},
                "spec": {"pool": pool, "source": {"inline": {"workflows": {"smoke.py": _SOURCE}}}},
            },
        )
        begun = asyncio.get_running_loop().time()
        try:
            await _complete(api, login.namespace, name, seconds)
        finally:
            await api.delete(RUNS, login.namespace, name)
    took = asyncio.get_running_loop().time() - begun
    return f"{name} was complete {took:.1f} s after it was applied"


async def _complete(api: ApiClient, namespace: str, name: str, seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while True:
        status = (await api.get(RUNS, namespace, name)).get("status") or {}
        held = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
        standing = ", ".join(str(status[k]) for k in ("phase", "reason", "message") if k in status)
        if "Complete" in held:
            return
        if "Failed" in held:
            raise UnavailableError(f"the run {name} failed: {standing}")
        if asyncio.get_running_loop().time() > end:
            raise UnavailableError(
                f"the run {name} is not complete after {seconds:.0f} s: {standing}",
                remedy="look at the operator's log, and at `kubectl describe` of the RunnerPool",
            )
        await asyncio.sleep(_EVERY)


async def _ask_api(url: str) -> None:
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url.rstrip('/')}/readyz") as answer,
        ):
            said = await answer.text()
            if answer.status != HTTPStatus.OK:
                raise UnavailableError(f"the API is not ready: {said[:300]}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UnavailableError(f"the API at {url} does not answer: {error}") from error

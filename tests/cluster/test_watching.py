"""What the watch of a real API server tells, and what of it takes the long way."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.operating import RUNNERS, workflow_run

from plue.kube.client import ApiClient
from plue.kube.login import find_login
from plue.kube.objects import RUNS
from plue.kube.watching import watch

ENDED = {"status": {"phase": "Succeeded", "endedAt": "2026-01-01T00:00:00Z"}}


class Told:
    """What was told of the runs of one test, in its order."""

    def __init__(self) -> None:
        self._label = f"test-{uuid4().hex[:8]}"
        self._told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def made(self, api: ApiClient, *, ended: bool) -> str:
        """Create a run, and return its name."""
        body = workflow_run("")
        body["metadata"]["labels"] = {"test": self._label}
        name: str = (await api.create(RUNS, "default", body))["metadata"]["name"]
        if ended:
            await api.patch(RUNS, "default", name, ENDED, sub="status")
        return name

    def saw(self, body: Mapping[str, Any], deleted: bool) -> None:
        self._tell("deleted" if deleted else "saw", body)

    def takes(self, body: Mapping[str, Any]) -> bool:
        is_ended = (body.get("status") or {}).get("phase") == "Succeeded"
        self._tell("listed, ended" if is_ended else "listed", body)
        return is_ended

    def _tell(self, what: str, body: Mapping[str, Any]) -> None:
        if (body["metadata"].get("labels") or {}).get("test") == self._label:
            self._told.put_nowait((what, body["metadata"]["name"]))

    async def next(self) -> tuple[str, str]:
        """Return what is told next."""
        async with asyncio.timeout(30):
            return await self._told.get()


async def test_listed_runs_that_have_ended_pass_kopf_by(api: ApiClient, api_server: Path) -> None:
    """They are handed over at once and not told again; what becomes of them later is told."""
    told, stop, ready = Told(), asyncio.Event(), asyncio.Event()
    ended = await told.made(api, ended=True)
    open_ = await told.made(api, ended=False)
    watching = asyncio.create_task(
        watch(
            find_login({"KUBECONFIG": str(api_server)}),
            namespace=RUNNERS,
            workflows=_ignored,
            runs=told.saw,
            ended_runs=told.takes,
            pools=_ignored,
            pods=_ignored,
            nodes=_ignored,
            stop=stop,
            ready=ready,
        )
    )
    try:
        listed = {await told.next() for _ in range(2)}
        assert listed == {("listed, ended", ended), ("listed", open_)}
        assert await told.next() == ("saw", open_)
        await api.patch(RUNS, "default", ended, {"metadata": {"annotations": {"a": "b"}}})
        assert await told.next() == ("saw", ended)
        await api.delete(RUNS, "default", ended)
        assert await told.next() == ("deleted", ended)
        late = await told.made(api, ended=False)
        assert await told.next() == ("saw", late)
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await watching


def _ignored(body: Mapping[str, Any], deleted: bool) -> None:
    """Take in nothing."""

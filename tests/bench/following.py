"""Runs as a client of the API makes and follows them."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

__all__ = ["follow", "read_run", "started"]


async def started(
    client: aiohttp.ClientSession, workflow: str, *, workspace: str = "none", **fields: Any
) -> str:
    """Make a run; return its id."""
    body = {"workflow": workflow, "workspace": {"kind": workspace}, **fields}
    async with client.post("/api/v1/runs", json=body) as response:
        answer = await response.json()
        if response.status != 201:
            raise RuntimeError(f"no run was made: {answer}")
        return str(answer["id"])


async def follow(client: aiohttp.ClientSession, run: str) -> AsyncIterator[Mapping[str, Any]]:
    """Yield a run's events as they arrive at an SSE client, heartbeats left out."""
    headers = {"Accept": "text/event-stream"}
    async with client.get(f"/api/v1/runs/{run}/events", headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data: ") and line != b"data: {}\n":
                yield json.loads(line[6:])


async def read_run(client: aiohttp.ClientSession, run: str) -> list[Mapping[str, Any]]:
    """Return all events of a run, once it has ended well. Raises RuntimeError otherwise."""
    events = [event async for event in follow(client, run)]
    if events[-1]["type"] != "run_completed" or events[-1]["body"]["state"] != "succeeded":
        raise RuntimeError(f"the run did not succeed: {events[-1]}")
    return events

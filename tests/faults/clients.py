"""The users' side: submits, cancels and follows runs through every fault, and keeps a record."""

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from faults.world import World

__all__ = ["Clients", "Follower"]

RETRY_SECONDS = 0.1
_FAULTS = (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError)


@dataclass
class Follower:
    """One client of one run's events: what it was sent, event by event, as bytes."""

    run: str
    seen: list[tuple[int, bytes]] = field(default_factory=list)
    connections: int = 0
    refused: list[str] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last(self) -> int:
        """The last event's number; 0 before the first."""
        return self.seen[-1][0] if self.seen else 0


class Clients:
    """All clients of one world."""

    def __init__(self, world: World, chance: random.Random) -> None:
        """Speak to *world*'s server, wherever it is at the moment."""
        self._world = world
        self._chance = chance
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: set[aiohttp.ClientResponse] = set()
        self.followers: dict[str, list[Follower]] = {}
        self.keys: dict[str, str] = {}
        """Idempotency key → run, for every submission that was answered."""
        self.wrong: list[str] = []
        """Answers that a client should never get."""

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    # ── submit, cancel ───────────────────────────────────────────────────────────────────────────

    async def submit(self, workflow: str, key: str, **inputs: Any) -> str:
        """Make a run; asks again with the same key until it is answered."""
        body = {
            "workflow": workflow,
            "inputs": {"salt": self._chance.randrange(10**9), **inputs},
            "idempotency_key": key,
        }
        while True:
            status, answer = await self._post("/api/v1/runs", body)
            if status == 201:
                run: str = answer["id"]
                if self.keys.setdefault(key, run) != run:
                    self.wrong.append(f"key {key} gave two runs: {self.keys[key]} and {run}")
                return run
            if status and status < 500:
                self.wrong.append(f"submit {workflow}: {status} {answer}")
                raise AssertionError(self.wrong[-1])
            await asyncio.sleep(RETRY_SECONDS)

    async def cancel(self, run: str, *, now: bool = False) -> None:
        """Cancel a run; asks again until it is answered."""
        while True:
            status, answer = await self._post(f"/api/v1/runs/{run}/cancel", {"now": now})
            if status in {200, 202}:
                return
            if status and status < 500:
                self.wrong.append(f"cancel {run}: {status} {answer}")
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        with contextlib.suppress(*_FAULTS):
            url, token = self._world.address()
            headers = {"Authorization": f"Bearer {token}"}
            async with self._http.post(url + path, json=body, headers=headers) as answer:
                return self._checked(path, answer.status, await answer.json())
        return 0, None

    async def upload(self, data: bytes) -> None:
        """Store an archive, if the server lives long enough for it."""
        with contextlib.suppress(*_FAULTS):
            url, token = self._world.address()
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/octet-stream",
            }
            async with self._http.post(f"{url}/api/v1/blobs", data=data, headers=headers) as answer:
                self._checked("upload", answer.status, await answer.text())

    def _checked(self, what: str, status: int, answer: Any) -> tuple[int, Any]:
        if status == 500:
            self.wrong.append(f"{what}: 500 {answer}")
        # A token of the server before: its file is read anew for the next try.
        return (0, None) if status == 401 else (status, answer)

    # ── follow ───────────────────────────────────────────────────────────────────────────────────

    def follow(self, run: str, count: int = 1) -> None:
        """Follow *run* to its end with *count* clients."""
        for _ in range(count):
            follower = Follower(run)
            self.followers.setdefault(run, []).append(follower)
            task = asyncio.create_task(self._follow(follower))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cut_some(self, share: float) -> int:
        """Break the connections of some clients; they come back. Return how many."""
        chosen = [a for a in self._reading if self._chance.random() < share]
        for answer in chosen:
            if answer.connection is not None and answer.connection.transport is not None:
                answer.connection.transport.abort()
        return len(chosen)

    async def _follow(self, follower: Follower) -> None:
        while not follower.complete.is_set():
            with contextlib.suppress(*_FAULTS):
                await self._read(follower)
            await asyncio.sleep(RETRY_SECONDS)

    async def _read(self, follower: Follower) -> None:
        url, token = self._world.address()
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        if follower.last:
            headers["Last-Event-ID"] = str(follower.last)
        follower.connections += 1
        address = f"{url}/api/v1/runs/{follower.run}/events"
        async with self._http.get(address, headers=headers) as answer:
            if answer.status == 204:
                follower.complete.set()
                return
            if answer.status != 200:
                if answer.status not in {401, 503}:
                    follower.refused.append(f"{answer.status} {await answer.text()}")
                return
            self._reading.add(answer)
            try:
                await self._take(follower, answer)
            finally:
                self._reading.discard(answer)

    async def _take(self, follower: Follower, answer: aiohttp.ClientResponse) -> None:
        rest = b""
        async for chunk in answer.content.iter_any():
            *blocks, rest = (rest + chunk).split(b"\n\n")
            for block in blocks:
                number = _number(block)
                if number is not None:
                    follower.seen.append((number, block))
                    if b"\nevent: run_completed" in b"\n" + block:
                        follower.complete.set()

    async def fresh(self, run: str) -> list[tuple[int, bytes]]:
        """Read all events of an ended run anew."""
        follower = Follower(run)
        async with asyncio.timeout(30):
            while not follower.complete.is_set():
                follower.seen.clear()
                with contextlib.suppress(*_FAULTS):
                    await self._read(follower)
                await asyncio.sleep(0.02)
        return follower.seen

    async def state(self, run: str) -> str | None:
        """Return the run's state; None while nobody answers."""
        with contextlib.suppress(*_FAULTS):
            url, token = self._world.address()
            headers = {"Authorization": f"Bearer {token}"}
            async with self._http.get(f"{url}/api/v1/runs/{run}", headers=headers) as answer:
                status, body = self._checked("state", answer.status, await answer.json())
                if status == 200:
                    return str(body["state"])
        return None


def _number(block: bytes) -> int | None:
    """Return the id of an SSE block; None for heartbeats and the opening."""
    for line in block.split(b"\n"):
        if line.startswith(b"id: "):
            return int(line[4:])
    return None


def body_of(block: bytes) -> Any:
    """Return the JSON of an SSE block."""
    lines = [line[6:] for line in block.split(b"\n") if line.startswith(b"data: ")]
    return json.loads(b"\n".join(lines))

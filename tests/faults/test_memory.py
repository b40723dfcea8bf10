"""Much output and clients that do not read: every process stays small, and nobody is held up."""

import asyncio
import os
import select
import socket

import psutil
import pytest
from faults.conftest import Open
from faults.disk import missing_lines
from faults.rounds import Round
from faults.world import World

LINES = int(os.environ.get("FAULTS_LINES", "300000"))
"""300,000 in the suite; FAULTS_LINES=10000000 for the whole claim."""

SERVER_BYTES, RUNNER_BYTES = 400 << 20, 200 << 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200 + LINES / 500)]


class Peaks:
    """The largest resident sizes of the server and of its runners, looked at all the time."""

    def __init__(self, world: World) -> None:
        """Look at *world*'s processes."""
        self._world = world
        self.server = self.runner = 0

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            if self._world.process is not None:
                self.server = max(self.server, resident(self._world.process.pid))
            for pid in self._world.runner_pids().values():
                self.runner = max(self.runner, resident(pid))
            await asyncio.sleep(0.1)


def resident(pid: int) -> int:
    """Return the bytes that a process has in memory; 0 when it has gone."""
    try:
        size: int = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0
    return size


def client_that_never_reads(world: World, run: str) -> socket.socket:
    """Ask for all events of *run*, and take none of them."""
    url, token = world.address()
    port = int(url.rpartition(":")[2])
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    made.connect(("127.0.0.1", port))
    head = f"GET /api/v1/runs/{run}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    head += f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
    made.sendall(head.encode())
    return made


async def cut(lazy: socket.socket) -> None:
    """Wait until the server has cut a client off, without reading anything."""
    poll = select.poll()
    poll.register(lazy, 0)  # the end of a connection is told in any case
    found = await asyncio.to_thread(poll.poll, 60_000)
    assert found, "the client that does not read was not cut"


async def taken(lazy: socket.socket) -> bytes:
    """Return what a client finds in its socket when it reads at last, up to the end."""
    lazy.settimeout(0)
    found = b""
    async with asyncio.timeout(120):
        while True:
            try:
                part = await asyncio.get_running_loop().sock_recv(lazy, 1 << 20)
            except ConnectionError:
                return found
            if not part:
                return found
            found += part


async def test_a_flood_and_clients_that_never_read_leave_everything_small(
    world: World, fault_round: Open
) -> None:
    """The run goes on, the sizes stay, who does not read is cut, and may come back where it was."""
    world.unread = 3.0
    async with fault_round() as r:
        peaks = Peaks(world)
        watching = asyncio.create_task(peaks.watch())
        run = await r.one("flood", {"lines": LINES})
        lazy = [client_that_never_reads(world, run) for _ in range(5)]
        try:
            verdict_of_run = await followed(r, run)
            # A quick machine is done with the run before it has lost its patience with a client.
            await cut(lazy[0])
            last = last_number(await taken(lazy[0]))
        finally:
            for one in lazy:
                one.close()
            watching.cancel()
        rest = await rest_of(r, run, last)
        fresh = await r.clients.fresh(run)
        print(f"{LINES} lines: server {peaks.server >> 20} MiB, runner {peaks.runner >> 20} MiB")
        verdict = await r.finish()
    assert verdict_of_run == []
    assert 0 < last < fresh[-1][0], "the client that does not read was not cut in the middle"
    assert rest == [number for number, _ in fresh][last:]
    assert not verdict.violations
    assert 0 < peaks.server < SERVER_BYTES
    assert 0 < peaks.runner < RUNNER_BYTES


async def followed(r: Round, run: str) -> list[str]:
    """Wait until a client that reads has everything; return what is missing."""
    async with asyncio.timeout(300 + LINES / 1000):
        await r.clients.followers[run][0].complete.wait()
    return missing_lines(r, run, LINES)


def last_number(answer: bytes) -> int:
    """Return the id of the last whole event in what a client has read."""
    whole = answer.rpartition(b"\n\n")[0]
    return int(whole.rpartition(b"\nid: ")[2].split(b"\n")[0])


async def rest_of(r: Round, run: str, after: int) -> list[int]:
    """Return the numbers that a client gets that comes back with its last id."""
    from faults.clients import Follower

    follower = Follower(run, seen=[(after, b"")])
    async with asyncio.timeout(300):
        while not follower.complete.is_set():
            await r.clients._read(follower)
    return [number for number, _ in follower.seen[1:]]

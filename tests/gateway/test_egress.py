"""The way out: per run, by name, to addresses of the internet only; refusals are in the log."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from factories import a_run
from scripted_runner import connected, hello_events
from server import Server, a_server

from plue.domain.egress import is_allowed, is_public, target_of
from plue.gateway.egress import EgressProxy
from plue.wire import frames
from plue.wire.events import EventType
from plue.wire.model_access import StepClaim, step_token


@pytest.mark.parametrize(
    ("rule", "authority", "allowed"),
    [
        ("pypi.org", "pypi.org:443", True),
        ("pypi.org", "PyPI.org.:443", True),
        ("pypi.org", "pypi.org:80", False),
        ("pypi.org", "evil-pypi.org:443", False),
        ("pypi.org", "files.pypi.org:443", False),
        ("*.pypi.org", "files.pypi.org:443", True),
        ("*.pypi.org", "a.b.pypi.org:443", True),
        ("*.pypi.org", "pypi.org:443", False),
        ("*.pypi.org", "evilpypi.org:443", False),
        ("git.example:8443", "git.example:8443", True),
        ("git.example:8443", "git.example:443", False),
    ],
)
def test_a_rule_means_its_name_and_port(rule: str, authority: str, *, allowed: bool) -> None:
    """A star is everything below a name, never the name itself or one that ends alike."""
    target = target_of(authority)
    assert target is not None
    assert allowed == is_allowed([rule], *target)


@pytest.mark.parametrize(
    "authority",
    [
        *("1.2.3.4:443", "[::1]:443", "::1:443", "localhost:443", "2130706433:443", "0x7f.1:443"),
        *("pypi.org", "pypi.org:", "pypi.org:0", "pypi.org:99999", "pypi.org:4٤3", "a..b:443"),
        *("pypi.org\0.evil.example:443", "user@pypi.org:443", "pypi.org/x:443", "-a.example:443"),
    ],
)
def test_what_is_no_name_and_port_is_nothing(authority: str) -> None:
    """Addresses in any spelling, names of one label and tricks with signs are no target."""
    assert target_of(authority) is None


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        *((one, False) for one in ("127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254")),
        *((one, False) for one in ("100.64.0.1", "224.0.0.1", "::1", "fe80::1")),
        *((one, False) for one in ("fd00:ec2::254", "::ffff:10.0.0.1", "::ffff:169.254.169.254")),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, *, public: bool) -> None:
    """Wherever a name is made to lead: not to a cluster, a node, or a metadata server."""
    assert public == is_public(address)


@pytest.fixture
async def server(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Server, None]:
    """Give a server on a fresh database."""
    async with a_server(postgres_dsn, tmp_path) as server:
        yield server


async def _ask(port: int, authority: str, token: str, *, method: str = "CONNECT") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    basic = base64.b64encode(f"step:{token}".encode()).decode()
    head = f"{method} {authority} HTTP/1.1\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
    writer.write(head.encode() + b"ping")
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_a_step_reaches_what_its_pool_allows_and_is_told_of_the_rest(server: Server) -> None:
    """Its own token opens the way; another's, another host and an inner address are refused."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()) + b" pong")
        writer.close()

    there = await asyncio.start_server(echo, "127.0.0.1", 0)
    near = there.sockets[0].getsockname()[1]
    context = server.engine.context

    async def look_up(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    open_proxy = EgressProxy(context, look_up=look_up, may_reach=lambda _: True)
    strict = EgressProxy(context, look_up=look_up)
    port, strict_port = await open_proxy.start("127.0.0.1", 0), await strict.start("127.0.0.1", 0)
    allowed = [f"files.example:{near}"]
    await context.runners.record_pool("default", host="nobody", warm=0, maximum=100, egress=allowed)
    run = a_run()
    assert await context.runs.insert(run)
    context.wake_claims()
    runner_id, token = await server.runner()
    async with connected(server.url, runner_id, token) as runner:
        await runner.hello()
        await runner.hear(frames.Welcome)
        assignment = await runner.take()
        step = assignment.plan.steps[0].name
        await runner.events(assignment, hello_events()[:1])
        await runner.hear(frames.Ack)
        claim = StepClaim(run=run.id, attempt=1, step=step)
        good = step_token(claim, token, purpose="egress")
        target = f"files.example:{near}"
        answer = await _ask(port, target, good)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"ping pong")
        for wrong in (step_token(claim, token), step_token(claim, "x", purpose="egress"), "x"):
            assert (await _ask(port, target, wrong)).startswith(b"HTTP/1.1 407 ")
        assert (await _ask(port, target, good, method="GET")).startswith(b"HTTP/1.1 405 ")
        assert (await _ask(port, "pypi.org:443", good)).startswith(b"HTTP/1.1 403 ")
        assert (await _ask(strict_port, target, good)).startswith(b"HTTP/1.1 403 ")
        await runner.finish(assignment, 1)
        await runner.hear(frames.Done)
    refused = [e for e in await server.events(run.id) if e.type is EventType.EGRESS_REFUSED]
    assert [json.loads(e.body)["reason"] for e in refused] == [
        "HostNotAllowed",
        "AddressNotAllowed",
    ]
    assert {e.step for e in refused} == {step}
    for proxy in (open_proxy, strict):
        await proxy.close()
    there.close()

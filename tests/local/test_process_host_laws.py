"""Processes as runners keep the laws of hosts."""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from host_laws import Hosted, HostLaws

from plue.engine.ports import Host
from plue.local.processes import ProcessHost, runner_environment
from plue.local.server import runner_command


@pytest.fixture
async def hosted(tmp_path: Path) -> AsyncIterator[Hosted]:
    """Give a host over a folder; a successor takes the folder over."""
    hosts: list[ProcessHost] = []

    async def another() -> Host:
        if hosts:
            hosts[-1].detach()
        # Nobody listens there: the runners wait for a gateway.
        command = runner_command("http://127.0.0.1:9", tmp_path / "gateway")
        environment = runner_environment(os.environ)
        hosts.append(ProcessHost(tmp_path / "runners", command=command, environment=environment))
        await hosts[-1].start()
        return hosts[-1]

    yield Hosted(await another(), another)
    await hosts[-1].close(grace=timedelta(0))
    for host in hosts[:-1]:
        for runner in host._runners.values():
            if runner.child is not None:
                runner.child.wait()  # after a real server's death, init does


class TestProcessHost(HostLaws):
    """The suite of all hosts."""

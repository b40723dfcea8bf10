"""Full disks under the spool and under the database."""

import asyncio
import os
import subprocess
import sys

import pytest
from faults.world import HERE
from lacking import cannot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def may_mount() -> bool:
    """Whether this user may mount in a namespace of its own."""
    words = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("disk", ["spool", "database"])
async def test_a_full_disk_loses_nothing(disk: str) -> None:
    """What has no room waits; when there is room again everything is there, once and in order."""
    if not await asyncio.to_thread(may_mount):
        cannot("this user may not mount a small disk in a namespace")
    process = await asyncio.create_subprocess_exec(
        *["unshare", "-m", sys.executable, "-m", "faults.disk", disk],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-4000:]

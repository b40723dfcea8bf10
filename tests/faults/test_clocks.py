"""Wall clocks that disagree by an hour, and jump: the whole server, its database, its runners.

The clock is a library that is loaded before the C library (``clock.c``): neither a time namespace
(which moves monotonic clocks only) nor the machine's own clock will do.
"""

import asyncio
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from faults.conftest import Open
from faults.world import HERE, World
from lacking import cannot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Give the library that moves clocks."""
    compiler = shutil.which("cc")
    if compiler is None:
        cannot("no C compiler: clocks cannot be moved")
    built = tmp_path / "clock.so"
    words = [compiler, "-shared", "-fPIC", "-O2", "-o", str(built), str(HERE / "clock.c"), "-ldl"]
    subprocess.run(words, check=True)
    built.chmod(0o755)
    tmp_path.chmod(0o755)  # the database's user loads it too
    return built


def set_clock(path: Path, hours: float) -> None:
    """Set how far a clock is ahead; who has the file mapped sees it at once."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(struct.pack("q", int(hours * 3600)))
    path.chmod(0o644)


@pytest.mark.parametrize("jump", [1.0, -1.0], ids=["ahead", "back"])
async def test_jumping_clocks_break_no_law(
    world: World, fault_round: Open, library: Path, tmp_path: Path, jump: float
) -> None:
    """Runners an hour behind the server, and then the server's clock jumps by an hour."""
    servers, runners = tmp_path / "server-clock", tmp_path / "runner-clock"
    set_clock(servers, 0)
    set_clock(runners, -1)
    world.environment = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(servers)}
    world.runner_clock = runners
    async with fault_round() as r:
        run = await r.one("long", {"ticks": 160})
        await r.executes(run)
        await r.one("deploy", {"ticks": 100})
        await asyncio.sleep(7)  # a lease: from now on silence means something
        before = r.world.query("SELECT now() AS now")[0]["now"]
        set_clock(servers, jump)
        moved = r.world.query("SELECT now() AS now")[0]["now"] - before
        assert abs(moved.total_seconds() / 3600 - jump) < 0.1
        await asyncio.sleep(1)
        await r.one("short", {})
        r.proxy.cut()
        verdict = await r.finish()
    assert not verdict.violations
    assert sum(verdict.ends.values()) == 3

"""Full disks, inside a mount namespace of this process: ``unshare -m python -m faults.disk WHICH``.

``spool``: the runners' homes lie on a few megabytes, and the gateway is away while a step floods.
``database``: the server's whole folder lies on a small disk, which something else fills.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from faults.rounds import Round, opened
from faults.world import QUICK, World

__all__ = ["main"]

SPOOL_BYTES = 12 << 20
LINES = 400_000
"""Some 34 MB: more than the spool's disk and what the runner keeps in memory."""

PAD = "of a flood that fills whatever there is to be filled and then goes on"
"""As in the workflow `flood`."""


def mount(place: Path, size: int) -> None:
    """Put a disk of *size* bytes at *place*; it goes with this process."""
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(place)]
    subprocess.run(words, check=True)


@contextlib.asynccontextmanager
async def a_round_on(folder: Path, disk: str, size: int) -> AsyncIterator[Round]:
    """Give a round whose *disk* (a part of the server's folder) has *size* bytes."""
    world = World(folder, engine={**QUICK, "lease": 60.0})
    mount(world.data / disk, size)
    try:
        async with opened(world, 1) as this:
            await world.start()
            yield this
    finally:
        await world.sweep()


async def full_spool(folder: Path) -> list[str]:
    """Nothing that a step printed is lost, however little room there is to keep it."""
    async with a_round_on(folder, "runners", SPOOL_BYTES) as r:
        run = await r.one("flood", {"lines": LINES})
        await r.executes(run, step="flood")
        r.proxy.refusing = True
        r.proxy.cut()
        async with asyncio.timeout(60):
            while not await is_full(r.world.data / "runners"):  # noqa: ASYNC110 - a disk
                await asyncio.sleep(0.02)
        assert "end" not in r.world.journal.read_text(), "the step did not wait"
        await asyncio.sleep(1)
        await r.heal()
        verdict = await r.finish()
        return [*verdict.violations, *missing_lines(r, run, LINES)]


async def full_database(folder: Path) -> list[str]:
    """Nothing that was acknowledged is lost, and everything goes on once there is room again."""
    async with a_round_on(folder, "", 250 << 20) as r:
        runs = [await r.one("long", {"ticks": 150}), await r.one("flood", {"lines": LINES})]
        await r.executes(runs[0])
        await r.executes(runs[1], step="flood")
        ballast = r.world.data / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"\0" * (1 << 16))
        async with asyncio.timeout(60):
            while not complains(r.world):  # noqa: ASYNC110 - a log of others
                await asyncio.sleep(0.1)
        await asyncio.sleep(4)
        ballast.unlink()
        await r.one("short", {})
        verdict = await r.finish()
        return [*verdict.violations, *missing_lines(r, runs[1], LINES)]


def complains(world: World) -> bool:
    """Whether the database has said that its disk is full."""
    with contextlib.suppress(OSError):
        return "No space left" in (world.data / "postgres.log").read_text(errors="replace")
    return False


async def is_full(place: Path) -> bool:
    """Whether nothing more fits, as far as a spool's segment is concerned."""
    words = ["df", "--output=avail", "-B1", str(place)]
    shown = await asyncio.to_thread(subprocess.check_output, words, text=True)
    return int(shown.split()[1]) < 1 << 16


def missing_lines(r: Round, run: str, lines: int) -> list[str]:
    """Return what is wrong with the output of a flood, as its follower has it."""
    from faults.clients import body_of

    text = "".join(
        event["body"]["text"]
        for _, block in r.clients.followers[run][0].seen
        if (event := body_of(block))["type"] == "step_output"
    )
    expected = "".join(f"line {n:010} {PAD}\n" for n in range(1, lines + 1))
    return [] if text == expected else [f"the flood has {len(text)} of {len(expected)} characters"]


def main() -> None:
    """Do what the command line says; print violations and exit with 1 when there are any."""
    what = {"spool": full_spool, "database": full_database}[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="plue-faults-") as folder:
        try:
            violations = asyncio.run(what(Path(folder)))
        finally:
            for place in ("data/runners", "data"):
                subprocess.run(
                    ["umount", "-l", str(Path(folder) / place)], check=False, capture_output=True
                )
    print("\n".join(violations))
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()

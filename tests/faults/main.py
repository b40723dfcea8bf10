"""``make faults``: rounds of faults, and what the laws say of them.

    python -m faults.main --seeds 20 --first 1

A round prints its seed, what was killed, how many runs and checks there were, and how many
violations; the last line sums up. A round with violations leaves its evidence in a folder.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path

from faults.nemesis import crash_at_marks, random_faults
from faults.rounds import Round, Verdict, a_round
from faults.world import World

from plue.marks import Mark

__all__ = ["main"]

GROUPS_A_ROUND = 10
MARKS_SEED = 9000


@dataclass
class Tally:
    """What all rounds came to."""

    rounds: int = 0
    runs: int = 0
    checks: int = 0
    violations: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count a round."""
        self.rounds += 1
        self.runs += verdict.runs
        self.checks += verdict.checks
        self.violations += len(verdict.violations)
        self.kills += verdict.kills


async def one_round(
    options: argparse.Namespace, tally: Tally, seed: int, faults: Callable[[Round], Awaitable[None]]
) -> set[str]:
    """Do a round on a world of its own; return the marks that were reached."""
    folder = Path(tempfile.mkdtemp(prefix="plue-faults-"))
    world = World(folder)
    try:
        verdict = await a_round(world, seed, faults, evidence=Path(options.evidence))
    finally:
        await world.sweep()
        reached = world.reached
        shutil.rmtree(folder, ignore_errors=True)
    report(seed, verdict)
    tally.add(verdict)
    if verdict.violations:
        print(f"  evidence in {options.evidence}/seed-{seed}")
    return reached


async def rounds(options: argparse.Namespace) -> int:
    """Do the rounds; return the number of violations."""
    tally, begun = Tally(), time.monotonic()
    reached: set[str] = set()
    marks = [mark.name for mark in Mark] if options.marks else []
    runners = [mark for mark in marks if mark.startswith("R_")]
    pairs = zip_longest([mark for mark in marks if mark not in runners], runners)
    groups = [[mark for mark in pair if mark is not None] for pair in pairs]
    for part in range(0, len(groups), GROUPS_A_ROUND):
        crashes = partial(_crashes, tally, groups[part : part + GROUPS_A_ROUND])
        reached |= await one_round(options, tally, MARKS_SEED + part, crashes)
    if again := tally.missed:
        # A busy machine may not have come so far in its time: each once more, alone.
        tally.missed = []
        crashes = partial(_crashes, tally, [[mark] for mark in again])
        reached |= await one_round(options, tally, MARKS_SEED + len(groups), crashes)
    for seed in range(options.first, options.first + options.seeds):
        if time.monotonic() - begun > options.within:
            break
        faults = partial(random_faults, seconds=options.seconds)
        reached |= await one_round(options, tally, seed, faults)
    for mark in tally.missed:
        print(f"  VIOLATION {mark} was never reached: nothing crashed there")
    tally.violations += len(tally.missed)
    crashed = len(marks) - len(tally.missed)
    print(
        f"faults: {tally.rounds} rounds, {tally.kills.total()} faults, {crashed} of {len(marks)}"
        f" marks crashed at, {len(reached)} reached, {tally.runs} runs, {tally.checks} checks,"
        f" {tally.violations} violations, {time.monotonic() - begun:.0f} s"
    )
    return tally.violations


async def _crashes(tally: Tally, groups: list[list[str]], r: Round) -> None:
    await r.load(2)
    tally.missed += await crash_at_marks(r, groups)


def report(seed: int, verdict: Verdict) -> None:
    """Print one round."""
    kills = ", ".join(f"{count} {name}" for name, count in sorted(verdict.kills.items()))
    ends = ", ".join(f"{count} {name}" for name, count in sorted(verdict.ends.items()))
    print(
        f"seed {seed}: {verdict.runs} runs ({ends}); faults: {kills}; {verdict.checks} checks,"
        f" {len(verdict.violations)} violations, {verdict.seconds:.0f} s",
        flush=True,
    )
    for violation in verdict.violations[:20]:
        print(f"  VIOLATION {violation[:400]}", flush=True)


def main() -> None:
    """Read the command line and do as it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="how many rounds")
    parser.add_argument("--first", type=int, default=1, help="the first round's seed")
    parser.add_argument("--no-marks", dest="marks", action="store_false", help="random faults only")
    parser.add_argument("--seconds", type=float, default=12.0, help="faults in a round")
    parser.add_argument("--within", type=float, default=3600.0, help="begin no round after that")
    parser.add_argument("--evidence", default="faults-evidence", help="where evidence is kept")
    options = parser.parse_args()
    sys.exit(1 if asyncio.run(rounds(options)) else 0)


if __name__ == "__main__":
    main()

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
from functools import partial
from pathlib import Path

from faults.nemesis import random_faults
from faults.rounds import Verdict, a_round
from faults.world import World

__all__ = ["main"]


async def rounds(options: argparse.Namespace) -> int:
    """Do the rounds; return the number of violations."""
    folder = Path(tempfile.mkdtemp(prefix="plue-faults-"))
    evidence = Path(options.evidence)
    total, kills, checks, runs = 0, Counter[str](), 0, 0
    begun = time.monotonic()
    done = 0
    try:
        for seed in range(options.first, options.first + options.seeds):
            world = World(folder / "world")
            try:
                faults = partial(random_faults, seconds=options.seconds)
                verdict = await a_round(world, seed, faults, evidence=evidence)
            finally:
                await world.sweep()
            report(seed, verdict)
            done += 1
            total += len(verdict.violations)
            kills += verdict.kills
            checks += verdict.checks
            runs += verdict.runs
            if verdict.violations:
                print(
                    f"  evidence in {evidence}/seed-{seed}; again: make faults SEEDS=1 SEED={seed}"
                )
                shutil.rmtree(folder / "world", ignore_errors=True)
            if time.monotonic() - begun > options.within:
                break
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"faults: {done} rounds, {kills.total()} faults, {runs} runs, {checks} checks,"
        f" {total} violations, {time.monotonic() - begun:.0f} s"
    )
    return total


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
    parser.add_argument("--seconds", type=float, default=12.0, help="faults in a round")
    parser.add_argument("--within", type=float, default=3600.0, help="begin no round after that")
    parser.add_argument("--evidence", default="faults-evidence", help="where evidence is kept")
    options = parser.parse_args()
    sys.exit(1 if asyncio.run(rounds(options)) else 0)


if __name__ == "__main__":
    main()

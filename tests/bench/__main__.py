"""`python -m bench`: measure, show a table, and perhaps write JSON and the README's section."""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from bench import report
from bench.cases.registry import CASES
from bench.figures import Figure
from bench.world import World, a_world

HISTORIES = "10000,100000,1000000"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 when everything that was asked for was measured."""
    options = _options(words)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    broken: Sequence[str] = ()
    if options.from_json:
        measured = report.load(options.from_json)
    else:
        command = "make bench" + (f" ONLY={','.join(options.only)}" if options.only else "")
        figures, broken = asyncio.run(_measure(options))
        measured = report.document(figures, command=command)
    if options.json:
        # Also of what was measured before something broke: it took minutes.
        options.json.write_text(json.dumps(measured, indent=1) + "\n")
    if broken:
        _tell(f"BROKEN: {', '.join(broken)}")
        print(report.table(measured))
        return 1
    if options.readme:
        report.rewrite(options.readme, measured)
    print(report.table(measured))
    return 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    names = "\n".join(f"  {name:18}{case.summary}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Plue against its goals and its references.",
        epilog=f"benchmarks:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("only", nargs="*", metavar="NAME", help="only these benchmarks [default: all]")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    add("--readme", type=Path, metavar="FILE", help="put the table between that page's markers")
    add("--from-json", type=Path, metavar="FILE", help="measure nothing: show figures of before")
    add("--history", default=HISTORIES, metavar="N,…", help=f"runs in the store [{HISTORIES}]")
    add("--smoke", action="store_true", help="tiny: shows that the benchmarks still run")
    options = parser.parse_args(words)
    options.only = [name for word in options.only for name in word.split(",") if name]
    unknown = sorted(set(options.only) - CASES.keys())
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(CASES)}")
    return options


class _Measuring:
    """What was measured so far; a benchmark that breaks does not keep the others from running."""

    def __init__(self, world: World) -> None:
        self.figures: list[Figure] = []
        self.broken: list[str] = []
        self._world = world

    async def run(self, name: str, history: int | None = None) -> None:
        case = CASES[name]
        begun = time.monotonic()
        at = "" if history is None else f" at {history:,} runs"
        _tell(f"{name}{at}: {case.summary}")
        try:
            self.figures += await case.run(self._world, history)
        except Exception as error:
            if self._world.smoke:
                raise
            _tell(f"{name} broke: {type(error).__name__}: {error}")
            self.broken.append(name)
        _tell(f"{name}{at}: took {time.monotonic() - begun:.1f} s")


async def _measure(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    """Return the figures, and the names of benchmarks that broke."""
    chosen = [name for name in CASES if not options.only or name in options.only]
    histories = [int(part) for part in options.history.split(",")]
    async with a_world(smoke=options.smoke, tell=_tell) as world:
        measuring = _Measuring(world)
        for name in chosen:
            if not CASES[name].grows:
                await measuring.run(name)
        for history in histories[: 1 if options.smoke else None]:
            for name in chosen:
                if CASES[name].grows:
                    await measuring.run(name, history)
    order = list(CASES)
    return sorted(measuring.figures, key=lambda f: order.index(f.bench)), measuring.broken


def _tell(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

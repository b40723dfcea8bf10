"""Log lines through one gateway to Postgres, from simulated runners that batch as real ones do."""

import asyncio
import time
from datetime import UTC, datetime

import psycopg

from bench.figures import Figure, Goal
from bench.paper import a_stage
from bench.simulated import Runner, step_completed, step_output, step_started
from bench.usage import metered
from bench.world import World

__all__ = ["log_lines", "sustained_lines"]

_RUNS = 20
_IN_FLIGHT = 64
_TEXT = "2026-01-01T00:00:00Z INFO module.submodule: what a program says in a line of its log"


def _chunk(first: int, lines: int) -> str:
    return "".join(f"{number} {_TEXT}\n" for number in range(first, first + lines))


class _Chatty:
    """Prints as fast as its lines are taken, with so much in flight as a real spool allows."""

    def __init__(self, lines: int, per_event: int, per_frame: int) -> None:
        self._left = lines
        self._per_event, self._per_frame = per_event, per_frame
        self._n, self._line = 1, 1
        self._frames = 0
        self._sent: list[int] = []

    def started(self, runner: Runner) -> None:
        runner.events(step_started(1))

    def acked(self, runner: Runner, through: int) -> None:
        self._sent = [n for n in self._sent if n > through]
        while self._left and len(self._sent) < _IN_FLIGHT:
            self._send(runner)
        if not self._left and through == self._n:
            self._n += 1
            runner.events(step_completed(self._n))
            runner.finish(self._n)
            self._n += 1

    def _send(self, runner: Runner) -> None:
        events = []
        for _ in range(self._per_frame):
            lines = min(self._left, self._per_event)
            if not lines:
                break
            self._n += 1
            events.append(step_output(self._n, _chunk(self._line, lines), self._line))
            self._line += lines
            self._left -= lines
        runner.events(*events)
        self._sent.append(self._n)


async def log_lines(world: World, history: int | None) -> list[Figure]:
    """Measure short-term: lines in chunks of 25, as 20 busy steps send them, and one by one."""
    figures = []
    for per_event, per_frame, lines, what in (
        (25, 1, 1_500_000, "log lines, in chunks of 25"),
        (1, 100, 400_000, "log lines, each an event of its own"),
    )[: world.n(2, 1)]:
        total = world.n(lines, 2000)
        each = total // _RUNS

        def script(
            each: int = each, per_event: int = per_event, per_frame: int = per_frame
        ) -> _Chatty:
            return _Chatty(each, per_event, per_frame)

        dsn = await world.database(history)
        async with a_stage(world, dsn, script, warm=_RUNS, maximum=2 * _RUNS) as stage:
            await stage.up.idle(_RUNS)
            before = await _newest(dsn)
            with metered(stage.parts(world)) as usage:
                rate = each * _RUNS / await stage.run(_RUNS, at_once=_RUNS)
        await _check(dsn, before, each)
        bare = await _copy(await world.database(), min(total, 200_000), per_event)
        figures.append(
            Figure(
                bench="log-lines",
                what=what,
                unit="/s",
                rate=rate,
                n=each * _RUNS,
                goal=Goal(at_least=50_000) if per_event > 1 else None,
                reference=f"COPY of the same rows into a bare table: {bare:,.0f} lines/s",
                cpu=usage.cpu,
                memory=usage.memory,
                history=history,
                note="every line found again in the store, in order",
            )
        )
    return figures


class _Steady:
    """Prints at a steady rate and notes how long each frame took to be stored."""

    def __init__(self, rate: float, seconds: float, took: list[float]) -> None:
        self._rate, self._seconds, self._took = rate, seconds, took
        self._sent: dict[int, float] = {}
        self._n = self._line = 1
        self._task: asyncio.Task[None] | None = None

    def started(self, runner: Runner) -> None:
        runner.events(step_started(1))

    def acked(self, runner: Runner, through: int) -> None:
        now = time.perf_counter()
        for n in [n for n in self._sent if n <= through]:
            self._took.append((now - self._sent.pop(n)) * 1000)
        if through == 1 and self._task is None:
            self._task = asyncio.create_task(self._print(runner))

    async def _print(self, runner: Runner) -> None:
        begun, total = time.perf_counter(), int(self._rate * self._seconds)
        while self._line <= total:
            due = min(total, int((time.perf_counter() - begun) * self._rate))
            if due >= self._line:
                self._n += 1
                lines = due - self._line + 1
                runner.events(step_output(self._n, _chunk(self._line, lines), self._line))
                self._sent[self._n] = time.perf_counter()
                self._line += lines
            await asyncio.sleep(0.01)
        self._n += 1
        runner.events(step_completed(self._n))
        runner.finish(self._n)


async def sustained_lines(world: World, _history: int | None) -> list[Figure]:
    """Print 5,000 lines a second for five minutes, and look whether the time to store grows."""
    seconds, took = world.n(300, 1), list[float]()
    dsn = await world.database()
    rate = 5000 / _RUNS

    def script() -> _Steady:
        return _Steady(rate, seconds, took)

    async with a_stage(world, dsn, script, warm=_RUNS, maximum=2 * _RUNS) as stage:
        await stage.up.idle(_RUNS)
        with metered(stage.parts(world)) as usage:
            lasted = await stage.run(_RUNS, at_once=_RUNS, seconds=2 * seconds + 60)
    await _check(dsn, 0, int(rate * seconds))
    return [
        Figure(
            bench="log-lines-sustained",
            what=f"a frame of lines sent → acknowledged, 5,000 lines/s for {seconds} s",
            values=took,
            cpu=usage.cpu,
            memory=usage.memory,
            goal=Goal(p99=1000),
            note=f"{rate * seconds * _RUNS / lasted:,.0f} lines/s in fact; none lost or reordered",
        )
    ]


async def _newest(dsn: str) -> int:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        found = await connection.execute("SELECT coalesce(max(number), 0) FROM workflow_runs")
        row = await found.fetchone()
        return int(row[0]) if row else 0


_GAPS = """
WITH line AS (
    SELECT r.id, l.n, (l.body::json ->> 'line')::bigint AS first,
           regexp_count(l.body::json ->> 'text', E'\\n') AS lines
      FROM workflow_runs r JOIN workflow_logs l ON l.run_id = r.id AND l.log_day = r.log_day
     WHERE r.number > %(before)s AND l.type = 'step_output'
), place AS (
    SELECT id, first, lines,
           coalesce(sum(lines) OVER (PARTITION BY id ORDER BY n
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) + 1 AS expected
      FROM line
)
SELECT count(DISTINCT id), sum(lines), count(*) FILTER (WHERE first <> expected) FROM place
"""


async def _check(dsn: str, before: int, each: int) -> None:
    """Raise RuntimeError unless every line of the newest runs is there, once and in order."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        row = await (await connection.execute(_GAPS, {"before": before})).fetchone()
    if row != (_RUNS, each * _RUNS, 0):
        raise RuntimeError(f"(runs, lines, out of order) are {row}, not {(_RUNS, each * _RUNS, 0)}")


async def _copy(dsn: str, lines: int, per_row: int) -> float:
    """Return lines a second of COPY into a table of the same columns, 1,000 rows a commit."""
    rows = lines // per_row
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            "CREATE TABLE bare (log_day date, run_id uuid, n bigint, type text, step text,"
            " time timestamptz, body text, PRIMARY KEY (run_id, n, log_day))"
        )
        now, run = datetime.now(UTC), "00000000-0000-0000-0000-000000000001"
        body = step_output(1, _chunk(1, per_row), 1).decode()
        begun = time.perf_counter()
        for first in range(0, rows, 1000):
            async with (
                connection.cursor() as cursor,
                cursor.copy("COPY bare FROM STDIN") as copy,
            ):
                for n in range(first, min(rows, first + 1000)):
                    await copy.write_row((now.date(), run, n, "step_output", "hello", now, body))
        return rows * per_row / (time.perf_counter() - begun)

"""A round: load, faults, healing, and the laws."""

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from faults.clients import Clients
from faults.laws import Evidence, judge, read_journal
from faults.proxy import Proxy
from faults.world import World

__all__ = ["MIX", "MIX_INPUTS", "Round", "Verdict", "a_round", "opened"]

END_SECONDS = 120.0
SETTLE_SECONDS = 45.0

MIX: tuple[tuple[str, dict[str, Any]], ...] = (
    ("short", {}),
    ("staged", {}),
    ("long", {"ticks": 25}),
    ("chatty", {}),
    ("failing", {}),
    ("cancelled", {"ticks": 300}),
    ("timed_out", {"ticks": 300}),
    ("parallel", {"ticks": 12}),
    ("deploy", {"ticks": 15}),
    ("retrying", {}),
    ("fragile", {"ticks": 15}),
    ("step_timeout", {}),
    ("stubborn", {"ticks": 300}),
)


MIX_INPUTS = dict(MIX)


@dataclass
class Verdict:
    """What became of a round."""

    violations: list[str]
    checks: int
    runs: int
    kills: Counter[str]
    ends: Counter[str]
    seconds: float


@dataclass
class Round:
    """A round that goes on: its parts, and what was done to them."""

    world: World
    proxy: Proxy
    clients: Clients
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    _load: set[asyncio.Task[None]] = field(default_factory=set)
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    _count: int = 0

    def note(self, text: str) -> None:
        """Write down what was done, for who looks for the cause of a violation."""
        self.story.append(f"{time.monotonic() - self.begun:7.2f} {text}")

    # ── load ─────────────────────────────────────────────────────────────────────────────────────

    def submit(self, workflow: str, inputs: dict[str, Any]) -> None:
        """Make a run in the background, follow it, and cancel it when it is of that kind."""
        self._load.add(asyncio.create_task(self._until_ended(workflow, inputs)))

    async def one(self, workflow: str, inputs: dict[str, Any]) -> str:
        """Make a run and follow it; return it."""
        self._count += 1
        run = await self.clients.submit(workflow, f"{self.name}-{self._count}", **inputs)
        self.clients.follow(run, self.chance.choice((1, 1, 2)))
        return run

    async def _until_ended(self, workflow: str, inputs: dict[str, Any]) -> None:
        run = await self.one(workflow, inputs)
        if workflow in {"cancelled", "stubborn"}:
            await asyncio.sleep(self.chance.uniform(0.2, 6.0))
            await self.clients.cancel(run, now=self.chance.random() < 0.3)

    async def load(self, kinds: int) -> None:
        """Make some runs of all kinds."""
        for workflow, inputs in self.chance.sample(MIX, min(kinds, len(MIX))):
            self.submit(workflow, dict(inputs))

    def runner_of(self, run: str) -> str:
        """Return the runner that has the run now; empty when none has it."""
        rows = self.world.query("SELECT runner_id FROM workflow_runs WHERE id = %s", run)
        return str(rows[0]["runner_id"] or "")

    async def executes(
        self, run: str, attempt: int = 1, *, step: str = "ticking", within: float = 60.0
    ) -> None:
        """Wait until *step* of the run's *attempt* says that it is executed."""
        async with asyncio.timeout(within):
            said = f"{run} {attempt} {step} 1 "
            while said not in self.world.journal.read_text():  # noqa: ASYNC110 - a file of others
                await asyncio.sleep(0.02)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    async def heal(self) -> None:
        """End all faults; the server serves afterwards."""
        self.world.disarm()
        self.proxy.heal()
        for process in self.world.processes():
            with contextlib.suppress(Exception):
                process.resume()
        if not self.world.alive:
            await self.world.start()
        self.note("healed")

    async def finish(self, *, within: float = END_SECONDS) -> Verdict:
        """Wait until everything has ended, and judge."""
        try:
            async with asyncio.timeout(within):
                await asyncio.gather(*self._load)
                for followers in self.clients.followers.values():
                    for follower in followers:
                        await follower.complete.wait()
        except (TimeoutError, AssertionError) as error:
            self.note(f"not everything ended: {error!r}")
        left = await self._revived()
        left += await self._settled(min(within, SETTLE_SECONDS))
        evidence = await self._evidence()
        violations = [*judge(evidence), *left]
        ends = Counter(f"{r['state']} {r['reason']}" for r in evidence.runs)
        if self.world.alive:
            violations += await self._stopped()
        seconds = time.monotonic() - self.begun
        return Verdict(violations, evidence.checks, len(evidence.runs), self.kills, ends, seconds)

    async def _revived(self) -> list[str]:
        """Start a server that has ended by itself, and say so: nobody killed it."""
        if self.world.alive or self.world.process is None:
            return []
        code = self.world.process.returncode
        await self.world.start()
        return [f"the server ended by itself, with {code}"]

    async def _settled(self, within: float) -> list[str]:
        """Wait until nothing but warm runners is left; return what will not go."""
        left = ["nobody looked"]
        deadline = time.monotonic() + within
        while left and time.monotonic() < deadline:
            left = await asyncio.to_thread(self._left)
            await asyncio.sleep(0.1)
        return left

    def _left(self) -> list[str]:
        try:
            active = self.world.query(
                "SELECT name, state FROM workflow_runs WHERE ended_at IS NULL ORDER BY number"
            )
            rows = self.world.query("SELECT id, state FROM runners WHERE state <> 'gone'")
        except psycopg.Error as error:
            return [f"the database does not answer: {error}"]
        found = [f"left over: {row['name']} is {row['state']}" for row in active]
        found += [
            f"left over: runner {row['id']} is {row['state']}"
            for row in rows
            if row["state"] not in {"idle", "starting"}
        ]
        processes = self.world.runner_pids()
        if {row["id"] for row in rows} != set(processes):
            found.append(f"left over: rows {[r['id'] for r in rows]}, processes {[*processes]}")
        if len(rows) > self.world.runners:
            found.append(f"left over: {len(rows)} runners, {self.world.runners} are wanted")
        homes = {path for path in (self.world.data / "runners").iterdir() if path.is_dir()}
        steps = [p.pid for p in self.world.processes() if _cwd(p).startswith((*map(str, homes),))]
        if set(steps) - set(processes.values()):
            found.append(f"left over: processes {steps} in the homes of runners")
        return found

    async def _evidence(self) -> Evidence:
        return await evidence_of(self.world, self.clients, self.proxy)

    async def _stopped(self) -> list[str]:
        """Stop the server as a person does; return what is left of it."""
        code = await self.world.stop()
        found = [] if code == 0 else [f"left over: the server ended with {code}"]
        processes = [p for p in self.world.processes() if p.is_running()]
        found += [f"left over: process {p.pid} {p.name()}" for p in processes]
        data = self.world.data
        found += [f"left over: {p}" for p in (data / "runners").iterdir() if p.is_dir()]
        found += [f"left over: {p}" for p in data.rglob("*.new")]
        found += [f"left over: {p}" for p in data.rglob("*.part")]
        return found


async def evidence_of(world: World, clients: Clients, proxy: Proxy) -> Evidence:
    """Gather what is known of the runs that *clients* made."""
    ids = list(clients.followers)
    runs = world.query(
        "SELECT r.*, s.attempts AS attempts_allowed FROM workflow_runs r JOIN workflow_run_specs s"
        " ON s.run_id = r.id WHERE r.id = ANY(%s::uuid[]) ORDER BY r.number",
        ids,
    )
    events: dict[str, list[Any]] = defaultdict(list)
    for row in world.query(
        "SELECT run_id, n, type, step, body FROM workflow_logs WHERE run_id = ANY(%s::uuid[])"
        " ORDER BY run_id, n",
        ids,
    ):
        events[str(row["run_id"])].append(row)
    steps = world.query("SELECT * FROM workflow_steps WHERE run_id = ANY(%s::uuid[])", ids)
    fresh = {}
    for run in runs:
        if run["ended_at"] is not None and world.alive:
            fresh[str(run["id"])] = await clients.fresh(str(run["id"]))
    return Evidence(
        runs=runs,
        events=events,
        steps=steps,
        journal=read_journal(world.journal.read_text()),
        record=proxy.record,
        followers=clients.followers,
        fresh=fresh,
        submitted=clients.keys,
        wrong=clients.wrong,
    )


@contextlib.asynccontextmanager
async def opened(world: World, seed: int) -> AsyncIterator[Round]:
    """Put clients and a proxy around *world*, whose server is not started yet."""
    chance = random.Random(seed)
    proxy = Proxy(world.data / "gateway.url", chance)
    await proxy.start()
    world.proxy = proxy.url
    world.prepare()
    clients = Clients(world, chance)
    try:
        yield Round(world, proxy, clients, chance)
    finally:
        await clients.close()
        await proxy.close()


async def a_round(
    world: World, seed: int, faults: Callable[[Round], Awaitable[None]], *, evidence: Path
) -> Verdict:
    """Do one round with *faults* on *world*; what shows violations is kept in *evidence*."""
    async with opened(world, seed) as this:
        await world.start()
        await faults(this)
        await this.heal()
        verdict = await this.finish()
    if verdict.violations:
        _keep(evidence / f"seed-{seed}", this, verdict)
    return verdict


def _keep(folder: Path, this: Round, verdict: Verdict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "violations.txt").write_text("\n".join(verdict.violations) + "\n")
    (folder / "story.txt").write_text("\n".join(this.story) + "\n")
    (folder / "journal").write_text(this.world.journal.read_text())
    for path in (*this.world.data.glob("*.log"), this.world.folder / "up.log"):
        with contextlib.suppress(OSError):
            (folder / path.name).write_bytes(path.read_bytes())
    seen = {
        run: [[n, b.decode()] for n, b in f[0].seen] for run, f in this.clients.followers.items()
    }
    (folder / "events.json").write_text(json.dumps(seen, indent=1))


def _cwd(process: psutil.Process) -> str:
    """Return where *process* works; one that has ended meanwhile works nowhere."""
    try:
        return process.cwd()
    except psutil.Error:
        return ""

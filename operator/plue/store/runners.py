"""Runners and pools: rows that count until their runner was seen gone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from plue.domain.pool import PoolView, RunnerView
from plue.domain.run import RunId, RunnerId
from plue.store.database import Database, seconds
from plue.store.together import Together
from plue.wire.events import Reason

__all__ = ["HelloAnswer", "RunnerStore", "token_hash"]


def token_hash(token: str) -> bytes:
    """Return what is stored of a runner's token. Tokens are random, so that one hash suffices."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True, slots=True)
class HelloAnswer:
    """A runner as its row says it stands, after its ``hello``."""

    state: str
    epoch: int
    pool: str
    run: RunId | None
    attempt: int | None


@dataclass(frozen=True, slots=True)
class _Hello:
    runner: RunnerId
    token_hash: bytes
    gateway: str
    lease: timedelta


class RunnerStore:
    """Rows of runners and pools."""

    def __init__(self, database: Database) -> None:
        """Read and write through *database*."""
        self._database = database
        self._hellos = Together(self._hello)

    async def record_pool(
        self, name: str, *, host: str, warm: int, maximum: int, egress: Sequence[str] = ()
    ) -> None:
        """Make or change a pool; *egress* are the hosts that its runs may reach."""
        await self._database.rows(
            "upsert_pool",
            {
                "name": name,
                "host": host,
                "warm": warm,
                "maximum": maximum,
                "egress": list(egress),
            },
        )

    async def pools_of(self, host: str) -> list[str]:
        """Return the names of the pools whose runners *host* makes."""
        return [row["name"] for row in await self._database.rows("pools_of_host", {"host": host})]

    async def view(self, pool: str) -> PoolView | None:
        """Return the pool, its runners and its queue; None when there is no such pool."""
        pools, runners, queued, failed = await self._database.transaction(
            [
                ("lock_pool", {"pool": pool}),
                ("runners_of_pool", {"pool": pool}),
                ("queued_in_pool", {"pool": pool}),
                ("failures_in_pool", {"pool": pool}),
            ]
        )
        if not pools:
            return None
        return PoolView(
            warm=pools[0]["warm"],
            maximum=pools[0]["maximum"],
            queued=queued[0]["queued"],
            failures=failed[0]["failures"],
            last_failure_age=failed[0]["last_age_seconds"],
            runners=[
                RunnerView(
                    RunnerId(row["id"]),
                    row["state"],
                    row["connected"],
                    row["age_seconds"],
                    row["retired_seconds"],
                )
                for row in runners
            ],
        )

    async def insert(self, runners: Sequence[tuple[RunnerId, str]], *, pool: str, host: str) -> int:
        """Insert rows for (id, token) while the pool's count allows it; return how many."""
        async with self._database.locked("lock_pool", {"pool": pool}) as (pools, transaction):
            if not pools:
                return 0
            present = await transaction.rows("runners_of_pool", {"pool": pool})
            maximum: int = pools[0]["maximum"]
            room = max(0, maximum - len(present))
            if room:
                await transaction.send(
                    "insert_runners",
                    {
                        "ids": [runner for runner, _ in runners[:room]],
                        "token_hashes": [token_hash(token) for _, token in runners[:room]],
                        "pool": pool,
                        "host": host,
                    },
                )
        return min(room, len(runners))

    async def present(self, host: str) -> list[tuple[RunnerId, str, float]]:
        """Return (id, state, age in seconds) of the rows of *host* that still count."""
        rows = await self._database.rows("runners_of_host", {"host": host})
        return [(RunnerId(r["id"]), r["state"], r["age_seconds"]) for r in rows]

    async def claimed_until(self, host: str) -> list[tuple[RunnerId, RunId, datetime]]:
        """Return (runner, run, time by which the run has surely ended) of started runs."""
        rows = await self._database.rows("claimed_until", {"host": host})
        return [(RunnerId(r["id"]), RunId(str(r["run_id"])), r["until"]) for r in rows]

    async def retire(self, runner: RunnerId, reason: str) -> bool:
        """Retire a runner that has no run; False when it has one or is gone."""
        row = await self._database.row("retire_runner", {"id": runner, "reason": reason})
        return row is not None

    async def gone(
        self, runners: Sequence[tuple[RunnerId, Reason | None, str | None]]
    ) -> list[tuple[RunnerId, RunId | None]]:
        """Record that these runners are gone; return those that this call recorded."""
        rows = await self._database.rows(
            "runners_gone",
            {
                "ids": [runner for runner, _, _ in runners],
                "reasons": [None if r is None else r.value for _, r, _ in runners],
                "messages": [message for _, _, message in runners],
            },
        )
        return [
            (RunnerId(r["id"]), None if r["run_id"] is None else RunId(str(r["run_id"])))
            for r in rows
        ]

    async def hello(
        self, runner: RunnerId, token: str, *, gateway: str, lease: timedelta
    ) -> HelloAnswer | None:
        """Record a runner's session; None when it is not what it says it is, or is gone."""
        return await self._hellos.ask(_Hello(runner, token_hash(token), gateway, lease))

    async def _hello(self, hellos: Sequence[_Hello]) -> list[HelloAnswer | None]:
        answers: list[HelloAnswer | None] = [None] * len(hellos)
        left = list(enumerate(hellos))
        while left:
            # A runner that says hello twice has two sessions, one after the other. Sorted, so
            # that no two statements wait for each other's rows.
            first = {one[1].runner: one for one in reversed(left)}
            left = [one for one in left if first[one[1].runner] is not one]
            now = [first[runner] for runner in sorted(first)]
            rows = await self._database.rows(
                "runner_hellos",
                {
                    "ids": [hello.runner for _, hello in now],
                    "token_hashes": [hello.token_hash for _, hello in now],
                    "gateways": [hello.gateway for _, hello in now],
                    "leases": [seconds(hello.lease) for _, hello in now],
                },
            )
            known = {row["id"]: _hello_answer(row) for row in rows}
            for place, hello in now:
                answers[place] = known.get(hello.runner)
        return answers

    async def close(self) -> None:
        """End what is on its way."""
        await self._hellos.close()

    async def admit(self, runner: RunnerId, token: str) -> bool:
        """Let a runner whose host vouches for it in with *token*: once, before any session of it.

        False when it had a session already, or is not expected any more.
        """
        row = await self._database.row(
            "admit_runner", {"id": runner, "token_hash": token_hash(token)}
        )
        return row is not None

    async def forget_pool(self, name: str) -> None:
        """Remove a pool: nothing is made or claimed in it any more."""
        await self._database.rows("delete_pool", {"name": name})

    async def session_closed(self, runner: RunnerId, *, gateway: str, epoch: int) -> None:
        """Record that a session ended, unless a newer one stands."""
        await self._database.rows(
            "session_closed", {"id": runner, "gateway": gateway, "epoch": epoch}
        )

    async def renew(
        self, runners: Sequence[RunnerId], *, gateway: str, lease: timedelta
    ) -> set[RunnerId]:
        """Renew leases; return the runners whose lease runs anew."""
        rows = await self._database.rows(
            "renew_leases",
            {"ids": list(runners), "gateway": gateway, "lease": seconds(lease)},
        )
        return {RunnerId(row["id"]) for row in rows}

    async def retired_at(self, gateway: str) -> list[RunnerId]:
        """Return the runners at *gateway* that are needed no more."""
        rows = await self._database.rows("retired_at_gateway", {"gateway": gateway})
        return [RunnerId(row["id"]) for row in rows]

    async def may_read_blob(self, runner: RunnerId, token: str, blob: str) -> bool:
        """Return whether the runner's own attempt uses this archive."""
        row = await self._database.row(
            "runner_may_read_blob", {"id": runner, "token_hash": token_hash(token), "blob": blob}
        )
        return row is not None

    async def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of runners by (pool, state)."""
        rows = await self._database.rows("runner_counts")
        return {(row["pool"], row["state"]): row["runners"] for row in rows}


def _hello_answer(row: Mapping[str, Any]) -> HelloAnswer:
    run = None if row["run_id"] is None else RunId(str(row["run_id"]))
    return HelloAnswer(row["state"], row["epoch"], row["pool"], run, row["attempt"])

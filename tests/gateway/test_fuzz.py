"""Runners that lie: whatever comes over the socket, the gateway answers, and others are safe.

One runner works honestly on its run while another one, which has a run of its own and a valid
token, sends mangled frames.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import aiohttp
import psycopg
import pytest
from factories import a_run
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from scripted_runner import ScriptedRunner, connected, hello_events
from server import QUICK, Server, a_server

from plue.domain.run import RunId
from plue.local.postgres import EmbeddedPostgres
from plue.wire import frames
from plue.wire.events import EventType, Reason, RunState

T = TypeVar("T")
PATIENCE = 10.0
PATIENT = replace(QUICK, lease=timedelta(hours=1))  # the honest runner does not renew
SECRET = "the-honest-runners-token"


class Stage:
    """A server in a thread of its own, an honest runner with its run, and a place for a liar."""

    def __init__(self, dsn: str, folder: Path) -> None:
        """Start the server and the honest runner."""
        self.faults: list[str] = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _, c: self.faults.append(repr(c)))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._exits = contextlib.AsyncExitStack()
        self.server: Server = self.call(self._enter(dsn, folder))
        self.honest_run, self.honest, self.assignment = self.call(self._set_out("honest", SECRET))
        self.liars = 0
        self.liar: tuple[str, str] = ("", "")
        self.own: frames.Assignment | None = None
        self.sent = 0

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for *work*, which happens in the server's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        """End the server."""
        self.call(self._exits.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def _enter(self, dsn: str, folder: Path) -> Server:
        return await self._exits.enter_async_context(a_server(dsn, folder, PATIENT))

    async def _set_out(
        self, name: str, token: str
    ) -> tuple[RunId, ScriptedRunner, frames.Assignment]:
        """Queue a run and take it with a new runner."""
        run = a_run(run_timeout=timedelta(hours=10))
        await self.server.runner(name, token)
        runner = await self._exits.enter_async_context(connected(self.server.url, name, token))
        await runner.hello()
        await runner.hear(frames.Welcome)
        assert await self.server.engine.context.runs.insert(run)
        self.server.engine.context.wake_claims()
        return run.id, runner, await runner.take()

    async def fresh_liar(self) -> None:
        """Have a liar with a run that goes on: a new one when the old one's run has ended."""
        if self.own is not None:
            view = (await self.server.engine.details(RunId(self.own.run))).run
            if view.state is RunState.RUNNING:
                return
        self.liars += 1
        self.liar = (f"liar-{self.liars}", f"token-{self.liars}")
        _, runner, self.own = await self._set_out(*self.liar)
        await runner.close()

    async def lie(self, lies: list[Any], *, well_met: bool) -> list[str]:
        """Send *lies* as the liar, after a proper hello or not; return all that came back."""
        assert self.own is not None
        heard: list[str] = []
        stored = 0
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.server.url}/runner/v1/session", max_msg_size=0) as socket,
        ):
            if well_met:
                held = frames.Holding(run=self.own.run, attempt=self.own.attempt, started=True)
                hello = frames.Hello(
                    protocol=1, runner=self.liar[0], token=self.liar[1], holding=held
                )
                await socket.send_str(hello.model_dump_json())
                heard.append((await socket.receive(timeout=PATIENCE)).data)
                stored = json.loads(heard[0])["holding"]["acked"]
            messages = as_messages(lies, self.own.run, self.assignment.run, stored)
            with contextlib.suppress(ConnectionError):
                for message in messages:
                    if isinstance(message, bytes):
                        await socket.send_bytes(message)
                    else:
                        await socket.send_str(message)
                await socket.send_str('{"type":"renew","sent":12345.5}')
            # The socket is closed, a renewal is answered, or the run is done: never silence.
            while True:
                try:
                    answer = await socket.receive(timeout=PATIENCE)
                except TimeoutError:
                    pytest.fail(f"silence after {messages} and {heard}")
                if answer.type is not aiohttp.WSMsgType.TEXT:
                    break
                heard.append(answer.data)
                if '"renewed"' in answer.data or '"done"' in answer.data:
                    break
        return heard

    async def honest_events(self) -> int:
        """Return how many events the honest run has; it goes on."""
        view = (await self.server.engine.details(self.honest_run)).run
        assert view.state is RunState.RUNNING
        return view.last_event

    async def log_of(self, run: str) -> list[int]:
        """Return the numbers of a run's events."""
        found = await self.server.engine.events(RunId(run), after=0, limit=10_000)
        return [event.n for event in found]


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres
) -> Iterator[Stage]:
    """Give one server for all examples: what one of them breaks is seen by the next."""
    name = f"fuzz_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type] # our own name
    stage = Stage(postgres_server.dsn(name), tmp_path_factory.mktemp("fuzz"))
    yield stage
    stage.close()


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────

# Marks in a frame that the test replaces by what it knows.
OWN, HONEST = "{own}", "{honest}"
IN_ORDER = "events, numbered as they should be"
NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 7, -1, 2**31, 2**53, 2**63, 2**70, 10**400])
TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            "hello",
            "\0",
            "a\0b",
            "\ud800",
            "../../etc/passwd",
            "\x1b]0;x\x07",
            "x" * 5000,
            "'; --",
        ]
    ),
    st.text(max_size=5),
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


def mostly(usual: Any) -> st.SearchStrategy[Any]:
    """Give *usual* most of the time, else anything."""
    kept = usual if isinstance(usual, st.SearchStrategy) else st.just(usual)
    return st.integers(0, 14).flatmap(lambda die: kept if die else ANYTHING)


RUNS = st.sampled_from([OWN, OWN, OWN, HONEST, "", "no-uuid", "\0", str(uuid4())])
KEYS = {"run": mostly(RUNS), "attempt": mostly(st.sampled_from([1, 1, 1, 2, 0]))}
BODIES = st.one_of(
    ANYTHING.filter(lambda value: isinstance(value, dict)),
    st.fixed_dictionaries(
        {},
        optional={
            "attempt": mostly(1),
            "try": mostly(NUMBERS),
            "state": mostly(st.sampled_from(["succeeded", "running", "queued", "nonsense"])),
            "reason": mostly(TEXTS),
            "message": mostly(TEXTS),
            "exit_code": mostly(NUMBERS),
            "tries": mostly(NUMBERS),
            "duration_ms": mostly(NUMBERS),
            "outputs": ANYTHING,
            "stream": mostly("stdout"),
            "text": mostly(TEXTS),
            "line": mostly(NUMBERS),
            "values": ANYTHING,
        },
    ),
)
EVENTS = st.fixed_dictionaries(
    {
        "n": mostly(st.integers(0, 6)),
        "type": mostly(st.sampled_from([str(kind) for kind in EventType])),
        "step": mostly(st.sampled_from(["hello", "hello", None, "other"])),
        "body": mostly(BODIES),
    },
    optional={"t": mostly(st.integers(0, 2**70))},
)


def a_frame(kind: str, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Give frames of *kind* whose fields are mostly right."""
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


LIKELY = st.one_of(
    a_frame(IN_ORDER, **KEYS, events=st.lists(EVENTS, min_size=1, max_size=5)),
    a_frame("events", **KEYS, events=mostly(st.lists(EVENTS, max_size=5))),
    a_frame("accepted", **KEYS),
    a_frame("refused", **KEYS, message=mostly(TEXTS)),
    a_frame("renew", sent=mostly(st.floats())),
    a_frame(
        "finished",
        **KEYS,
        n=mostly(st.integers(0, 6)),
        state=mostly(st.sampled_from([str(state) for state in RunState])),
        reason=mostly(st.sampled_from([str(reason) for reason in Reason])),
        message=mostly(TEXTS),
        outputs=mostly(st.dictionaries(TEXTS, ANYTHING, max_size=3)),
    ),
)
UNLIKELY = st.one_of(
    a_frame(
        "hello",
        protocol=mostly(1),
        runner=mostly(st.sampled_from(["honest", "liar-1", "\0", ""])),
        token=mostly(st.sampled_from(["token-1", "wrong", "\0"])),
        holding=mostly(st.fixed_dictionaries({**KEYS})),
    ),
    a_frame("start", **KEYS),
    a_frame("welcome", epoch=st.just(1), lease_seconds=st.just(10)),
    ANYTHING,
    st.binary(max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["", "{", "[" * 100_000, '{"type":"events"' + " " * 200_000, "nul\0l", "[1]"]),
)
MESSAGES = st.lists(
    st.integers(0, 9).flatmap(lambda die: LIKELY if die else UNLIKELY), min_size=1, max_size=4
)


def as_messages(lies: list[Any], own: str, honest: str, stored: int) -> list[str | bytes]:
    """Return what goes over the socket: numbers go on from *stored*, and names are filled in."""
    messages: list[str | bytes] = []
    for lie in lies:
        if isinstance(lie, (bytes, str)) and not (isinstance(lie, str) and "\ud800" in lie):
            messages.append(lie)
            continue
        said = lie
        if isinstance(lie, dict) and lie.get("type") == IN_ORDER:
            numbered = [{**one, "n": n} for n, one in enumerate(lie["events"], stored + 1)]
            said = {**lie, "type": "events", "events": numbered}
            stored += len(numbered)
        elif isinstance(lie, dict) and lie.get("type") == "finished" and lie.get("n") == 0:
            said = {**lie, "n": stored}
        messages.append(json.dumps(said).replace(OWN, own).replace(HONEST, honest))
    return messages


# ── what must hold ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.fuzz
# The server's thread uses it at any moment, also while an example is made.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@examples(60)
@given(messages=MESSAGES, well_met=st.sampled_from([True, True, True, False]))
def test_a_lying_runner_harms_only_itself(
    stage: Stage, messages: list[Any], *, well_met: bool
) -> None:
    """The gateway answers or closes, tells nothing of others, and every log stays whole."""
    stage.call(stage.fresh_liar())
    assert stage.own is not None
    honest = stage.assignment.run
    before = stage.call(stage.honest_events())
    heard = stage.call(stage.lie(messages, well_met=well_met))
    for text in heard:
        assert SECRET not in text
        frame = json.loads(text)
        if frame["type"] != "fenced":
            # Who names another's run hears that it is not theirs, and nothing else of it.
            assert honest not in text
    assert before == stage.call(stage.honest_events())
    numbers = stage.call(stage.log_of(stage.own.run))
    assert numbers == list(range(1, len(numbers) + 1))
    assert stage.faults == []


@pytest.mark.fuzz
def test_the_honest_runner_has_noticed_nothing(stage: Stage) -> None:
    """After all lies its session stands, its events are stored, and its run succeeds."""

    async def work() -> RunState:
        await stage.honest.events(stage.assignment, hello_events())
        assert (await stage.honest.hear(frames.Ack)).through == 3
        await stage.honest.finish(stage.assignment, 3)
        await stage.honest.hear(frames.Done)
        return (await stage.server.engine.details(stage.honest_run)).run.state

    assert stage.call(work()) is RunState.SUCCEEDED


def test_a_huge_frame_closes_the_session_and_not_the_gateway(stage: Stage) -> None:
    """More than 8 MiB is refused by the socket itself."""
    stage.call(stage.fresh_liar())
    heard = stage.call(stage.lie(["x" * (frames.MAX_FRAME_BYTES + 1)], well_met=True))
    assert len(heard) == 1
    assert stage.faults == []

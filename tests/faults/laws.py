"""What must be true after any fault, judged from the database and from what others wrote down.

Three witnesses that know nothing of one another: the database, the proxy between runners and
gateway (what was sent, what was acknowledged), and the side journal into which the steps
themselves write. A law returns what violates it as sentences.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from faults.clients import Follower
from faults.proxy import Record, digest

__all__ = ["Evidence", "Line", "judge", "read_journal"]

_ENDS = {"succeeded", "failed", "cancelled", "timed_out"}
_LOST = ("failed", "RunnerLost")
_GOOD = {("succeeded", "Succeeded"), _LOST}
_ALLOWED: Mapping[str, set[tuple[str, str]]] = defaultdict(
    lambda: _GOOD,
    {
        "failing": {("failed", "StepFailed"), _LOST},
        "cancelled": {("cancelled", "Cancelled"), *_GOOD},
        "stubborn": {("cancelled", "Cancelled"), *_GOOD},
        "timed_out": {("timed_out", "RunTimeout"), _LOST},
    },
)
_ENGINES_OWN = ("run_", "plan_")
"""What the engine's events begin with; all others are a runner's."""

_CHATTY = {
    "stdout": "".join(
        f"out {part} line {n:05} of a chatty step\n" for part in range(1, 21) for n in range(1, 201)
    ),
    "stderr": "".join(f"err {part} line {n:05}\n" for part in range(1, 21) for n in range(1, 21)),
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the side journal: who wrote it, and what."""

    run: str
    attempt: int
    step: str
    number: int
    pid: int
    word: str


@dataclass
class Evidence:
    """All that is known of some runs after they have ended."""

    runs: Sequence[Mapping[str, Any]]
    """Rows of workflow_runs, with `attempts_allowed`."""
    events: Mapping[str, Sequence[Mapping[str, Any]]]
    """Rows of workflow_logs by run, in order."""
    steps: Sequence[Mapping[str, Any]]
    journal: Sequence[Line]
    record: Record = field(default_factory=Record)
    followers: Mapping[str, Sequence[Follower]] = field(default_factory=dict)
    fresh: Mapping[str, Sequence[tuple[int, bytes]]] = field(default_factory=dict)
    submitted: Mapping[str, str] = field(default_factory=dict)
    wrong: Sequence[str] = ()
    checks: int = 0

    def body(self, event: Mapping[str, Any]) -> Any:
        """Return an event's body."""
        return json.loads(event["body"])


def read_journal(text: str) -> list[Line]:
    """Parse the side journal; the order of its lines is the order of what happened."""
    lines = []
    for line in text.splitlines():
        run, attempt, step, number, pid, word = line.split(" ")
        lines.append(Line(run, int(attempt), step, int(number), int(pid), word))
    return lines


def judge(evidence: Evidence) -> list[str]:
    """Return every violation of every law."""
    found: list[str] = []
    for law in (
        every_run_has_one_end,
        events_have_no_gaps,
        what_was_acknowledged_is_stored,
        only_the_recorded_runner_was_started,
        no_step_began_twice,
        no_two_attempts_at_once,
        once_means_once,
        what_began_is_known,
        what_succeeded_was_executed,
        output_is_whole,
        followers_saw_each_event_once,
        submissions_are_runs,
    ):
        name = law.__name__.replace("_", " ")
        found += [f"{name}: {violation}" for violation in law(evidence)]
    return found


def every_run_has_one_end(e: Evidence) -> Iterator[str]:
    """One end, which is the last event, and one that this workflow can come to."""
    for run in e.runs:
        e.checks += 1
        name, events = run["name"], e.events[str(run["id"])]
        if run["state"] not in _ENDS:
            yield f"{name} is {run['state']} ({run['waiting_reason']})"
            continue
        ends = [event for event in events if event["type"] == "run_completed"]
        if len(ends) != 1 or ends[0] is not events[-1]:
            yield f"{name} has {len(ends)} ends, at {[x['n'] for x in ends]} of {len(events)}"
        elif e.body(ends[0])["state"] != run["state"]:
            yield f"{name} is {run['state']}, its event says {e.body(ends[0])['state']}"
        allowed = _ALLOWED[run["workflow"]]
        if run["cancel_requested_at"] is not None:
            allowed = {*allowed, (run["cancel_state"], run["cancel_reason"])}
        if (run["state"], run["reason"]) not in allowed:
            yield f"{name} ended as {run['state']} {run['reason']}: {run['message']}"
    for step in e.steps:
        if step["ended_at"] is None:
            yield f"step {step['name']} of {step['run_id']} is {step['state']} for ever"


def events_have_no_gaps(e: Evidence) -> Iterator[str]:
    """Numbers 1, 2, 3 …, as many as the run says; within an attempt nothing is told twice."""
    for run in e.runs:
        e.checks += 1
        events = e.events[str(run["id"])]
        if [event["n"] for event in events] != list(range(1, run["last_event"] + 1)):
            yield f"{run['name']}: {len(events)} events, but the last number is {run['last_event']}"
        told: Counter[tuple[Any, ...]] = Counter()
        for event in events:
            if event["type"] in {"step_started", "step_completed"}:
                body = e.body(event)
                told[event["type"], body["attempt"], event["step"], body.get("try")] += 1
        yield from (
            f"{run['name']}: {count} times {what}" for what, count in told.items() if count > 1
        )


def what_was_acknowledged_is_stored(e: Evidence) -> Iterator[str]:
    """Each acknowledged event of a runner is in the log, once, in order, and as it was sent."""
    yield from e.record.changed
    for run in e.runs:
        stored: dict[int, list[bytes]] = defaultdict(list)
        for event in e.events[str(run["id"])]:
            if not event["type"].startswith(_ENGINES_OWN):
                body = e.body(event)
                stored[body["attempt"]].append(digest(event["type"], event["step"], body))
        for attempt in range(1, run["attempt"] + 1):
            e.checks += 1
            key = (str(run["id"]), attempt)
            acked, sent, kept = (
                e.record.acked.get(key, 0),
                e.record.sent.get(key, {}),
                stored[attempt],
            )
            if len(kept) < acked:
                yield f"{run['name']}, attempt {attempt}: {acked} acknowledged, {len(kept)} stored"
            for n, seen in enumerate(kept, 1):
                if n in sent and sent[n] != seen:
                    yield f"{run['name']}, attempt {attempt}: event {n} is not what was sent"
                    break
    for run_id, attempt in e.record.done:
        if run_id in e.events and not any(
            event["type"] == "run_completed" for event in e.events[run_id]
        ):
            yield f"{run_id}, attempt {attempt} was told `done` and has no end"


def only_the_recorded_runner_was_started(e: Evidence) -> Iterator[str]:
    """`start` went only to the one runner whose `accepted` is recorded."""
    for run in e.runs:
        recorded: dict[int, list[str]] = defaultdict(list)
        for event in e.events[str(run["id"])]:
            if event["type"] == "run_started":
                body = e.body(event)
                recorded[body["attempt"]].append(body["runner"])
        for attempt in range(1, run["attempt"] + 1):
            e.checks += 1
            started = e.record.started.get((str(run["id"]), attempt), set())
            if len(recorded[attempt]) > 1 or not started <= set(recorded[attempt]):
                yield f"{run['name']}, attempt {attempt}: started {started}, {recorded[attempt]}"


def no_step_began_twice(e: Evidence) -> Iterator[str]:
    """No try of a step of one attempt was executed twice, as the steps themselves say."""
    begun = Counter((x.run, x.attempt, x.step, x.number) for x in e.journal if x.word == "begin")
    e.checks += len(begun)
    yield from (f"{what} began {count} times" for what, count in begun.items() if count > 1)
    pids: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for x in e.journal:
        pids[x.run, x.attempt, x.step, x.number].add(x.pid)
    yield from (f"{what} ran in {len(p)} processes" for what, p in pids.items() if len(p) > 1)


def no_two_attempts_at_once(e: Evidence) -> Iterator[str]:
    """Nothing of an attempt was executed after something of a later one."""
    newest: dict[str, int] = {}
    said: set[str] = set()
    for x in e.journal:
        e.checks += 1
        newest[x.run] = max(x.attempt, newest.get(x.run, 0))
        if x.attempt < newest[x.run] and x.run not in said:
            said.add(x.run)
            yield f"{x.run}: {x.step} of attempt {x.attempt} after {newest[x.run]} had begun"


def once_means_once(e: Evidence) -> Iterator[str]:
    """A step marked once=True began at most once, over all attempts."""
    begun = Counter(x.run for x in e.journal if x.step == "once" and x.word == "begin")
    e.checks += len(begun)
    yield from (f"{run} began its `once` step {n} times" for run, n in begun.items() if n > 1)


def what_began_is_known(e: Evidence) -> Iterator[str]:
    """Of an attempt in which a step was executed, the store knows that some step started."""
    known = {
        (run, e.body(event)["attempt"])
        for run, events in e.events.items()
        for event in events
        if event["type"] == "step_started"
    }
    for run, attempt in {(x.run, x.attempt) for x in e.journal if x.run in e.events}:
        e.checks += 1
        if (run, attempt) not in known:
            yield f"{run} executed steps in attempt {attempt}, and nothing says so"


def what_succeeded_was_executed(e: Evidence) -> Iterator[str]:
    """A step that succeeded began and ended, as it says itself."""
    said = {(x.run, x.attempt, x.step, x.word) for x in e.journal}
    for step in e.steps:
        if step["state"] == "succeeded":
            e.checks += 1
            key = (str(step["run_id"]), step["attempt"], step["name"])
            if not {(*key, "begin"), (*key, "end")} <= said:
                yield f"{key} succeeded, but its journal lacks a begin or an end"


def output_is_whole(e: Evidence) -> Iterator[str]:
    """All that a chatty step printed is in the log: each line once, in each stream's order."""
    for run in e.runs:
        if run["workflow"] == "chatty" and run["state"] == "succeeded":
            text: dict[str, str] = {"stdout": "", "stderr": ""}
            for event in e.events[str(run["id"])]:
                if event["type"] == "step_output":
                    body = e.body(event)
                    if body["attempt"] == run["attempt"]:
                        text[body["stream"]] += body["text"]
            e.checks += 1
            if text != _CHATTY:
                sizes = {name: (len(text[name]), len(_CHATTY[name])) for name in text}
                yield f"{run['name']}: output differs, (has, should have) {sizes}"


def followers_saw_each_event_once(e: Evidence) -> Iterator[str]:
    """Every client, however often it came back, has the bytes of a fresh read after the end."""
    for run, followers in e.followers.items():
        fresh = list(e.fresh.get(run, ()))
        for follower in followers:
            e.checks += 1
            yield from (f"{run}: a client was refused: {text}" for text in follower.refused[:1])
            if not follower.complete.is_set():
                yield f"{run}: a client never saw the end; it has {len(follower.seen)} events"
            elif follower.seen != fresh:
                numbers = [n for n, _ in follower.seen]
                odd = [b for a, b in pairwise(numbers) if b != a + 1]
                yield (
                    f"{run}: a client with {follower.connections} connections has {len(numbers)} of"
                    f" {len(fresh)} events; out of order at {odd[:5]}"
                )
        if [n for n, _ in fresh] != [event["n"] for event in e.events.get(run, ())]:
            yield f"{run}: a fresh read has {len(fresh)} events, the store has others"


def submissions_are_runs(e: Evidence) -> Iterator[str]:
    """What was answered with 201 is a run, one a key; no client got an answer that is no answer."""
    yield from e.wrong
    known = {str(run["id"]) for run in e.runs}
    for key, run in e.submitted.items():
        e.checks += 1
        if run not in known:
            yield f"{key} was answered with {run}, which is not in the database"

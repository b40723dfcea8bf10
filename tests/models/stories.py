"""What a step did, whole, as a test can state it: every event of it, every row of its usage.

Left out is only what no two runs share: ids, times, and how a stream of words was cut into pieces.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from plue.domain.run import StoredEvent

__all__ = ["bill", "ended", "paid", "said", "started", "story", "token", "turn", "use_of", "waits"]

Event = tuple[str, dict[str, Any]]

MODEL = "claude-sonnet-5-5"
HEAD = {"attempt": 1, "try": 1}
IN_USD, OUT_USD = Decimal(2), Decimal(10)
"""Of a million tokens of MODEL."""


def story(events: Iterable[StoredEvent], step: str = "ask") -> list[Event]:
    """Return all events of *step* in their order.

    Pieces of one text that follow each other are joined, and ids of uses are numbered from 1.
    """
    found: list[Event] = []
    uses: dict[str, int] = {}
    for event in events:
        if event.step != step:
            continue
        kind, body = event.type.value, json.loads(event.body)
        body = {k: v for k, v in body.items() if v is not None and k != "duration_ms"}
        if "id" in body:
            body["id"] = uses.setdefault(body["id"], len(uses) + 1)
        if found and _is_more(found[-1], (kind, body)):
            found[-1][1]["text"] += body["text"]
        else:
            found.append((kind, body))
    return found


def _is_more(last: Event, this: Event) -> bool:
    kinds = {"llm_token", "step_output"}
    varying = {"text", "line"}
    same = [{k: v for k, v in body.items() if k not in varying} for _, body in (last, this)]
    return last[0] == this[0] and last[0] in kinds and same[0] == same[1]


# ── events ───────────────────────────────────────────────────────────────────────────────────────


def started() -> Event:
    """Return the beginning of a step that asks a model."""
    return "step_started", {**HEAD, "shown": "Task()"}


def token(number: int, text: str, *, call: int = 1, kind: str = "text") -> Event:
    """Return what the model said in one go."""
    return "llm_token", {**HEAD, "turn": number, "call": call, "kind": kind, "text": text}


def turn(
    number: int, *tools: str, stop: str = "tool_use", used: Mapping[str, int], **more: Any
) -> Event:
    """Return a turn that is whole; *used* is its usage as a script gives it."""
    names = ("input", "output", "cache_read", "cache_write")
    body: dict[str, Any] = {
        **HEAD,
        "turn": number,
        "model": MODEL,
        "stop": stop,
        "usage": {name: used.get(name, 0) for name in names},
    }
    return "agent_turn", body | ({"tools": list(tools)} if tools else {}) | more


def use_of(
    number: int, use: int, name: str, given: Mapping[str, Any], result: str, *, ok: bool = True
) -> list[Event]:
    """Return the beginning and the end of a tool's use, where nothing comes between."""
    head = {**HEAD, "turn": number, "id": use, "name": name}
    return [
        ("tool_start", {**head, "input": dict(given)}),
        ("tool_end", {**head, "ok": ok, "result": result}),
    ]


def waits(reason: str | None = None, message: str | None = None) -> Event:
    """Return that a step waits; without a *reason*, that it goes on."""
    said = {"reason": reason, "message": message} if reason else {}
    return "step_waiting", {**HEAD, **said}


def ended(state: str = "succeeded", **more: Any) -> Event:
    """Return the end of a step that was tried once."""
    return "step_completed", {"attempt": 1, "state": state, "tries": 1, **more}


def said(events: Iterable[StoredEvent], step: str = "ask") -> str:
    """Return all that a model said."""
    return "".join(body["text"] for kind, body in story(events, step) if kind == "llm_token")


# ── usage ────────────────────────────────────────────────────────────────────────────────────────


def bill(rows: Sequence[Mapping[str, Any]], step: str = "ask") -> list[dict[str, Any]]:
    """Return all usage rows of *step* in their order: all columns but ids, times and reserves.

    Of the times, whether there are any.
    """
    left_out = {"id", "run_id", "day", "created_at", "settled_at", "total_ms", "first_token_ms"}
    return [
        {
            **{k: v for k, v in row.items() if k not in left_out and not k.startswith("reserved_")},
            "heard": row["first_token_ms"] is not None,
            "timed": row["total_ms"] is not None,
        }
        for row in rows
        if row["step"] == step
    ]


def paid(
    number: int,
    tokens: tuple[int, int] = (0, 0),
    *,
    step: str = "ask",
    outcome: str = "answered",
    estimated: bool = False,
    heard: bool = True,
) -> dict[str, Any]:
    """Return the row of a call for turn *number*, with *tokens* in and out."""
    read, written = tokens
    return {
        "attempt": 1,
        "step": step,
        "turn": number,
        "workflow": "ci",
        "repository": "",
        "namespace": "_local",
        "client": "anthropic/claude-sonnet",
        "model": MODEL,
        "state": "settled",
        "outcome": outcome,
        "estimated": estimated,
        "input_tokens": read,
        "output_tokens": written,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "web_searches": 0,
        "cost_usd": (read * IN_USD + written * OUT_USD) / 1_000_000,
        "heard": heard,
        "timed": True,
    }

"""A turn of a script as the API sends it: one message, or its stream of events."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from plue.dev.requests import Prefix, Request, signature_of
from plue.dev.script import Turn

__all__ = ["Answer", "error_body"]

Json = dict[str, JsonValue]

CHARACTERS_A_TOKEN = 4
"""A rule of thumb, for turns that do not say what they use."""


def error_body(kind: str, message: str) -> Json:
    """Return the body of an error answer, or of an error event."""
    return {"type": "error", "error": {"type": kind, "message": message}}


@dataclass(frozen=True, slots=True)
class Answer:
    """What answers one request: *turn*, numbered so that its ids are its own."""

    request: Request
    turn: Turn
    number: int
    input_characters: int

    # ── content ──────────────────────────────────────────────────────────────────────────────────

    def blocks(self) -> list[Json]:
        """Return the content blocks, whole; an answer longer than ``max_tokens`` is cut."""
        turn, found = self.turn, self._resumed()
        if turn.thinking is not None:
            signature = signature_of(turn.thinking, Prefix.of(self.request))
            found.append({"type": "thinking", "thinking": turn.thinking, "signature": signature})
        text = turn.text if turn.json_ is None else json.dumps(turn.json_)
        if text:
            found.append({"type": "text", "text": text[: self._room]})
        for index, tool in enumerate(turn.tools):
            name = f"{'srvtoolu' if tool.server else 'toolu'}_{self.number:06}_{index}"
            kind = "server_tool_use" if tool.server else "tool_use"
            found.append({"type": kind, "id": name, "name": tool.name, "input": dict(tool.input)})
            if tool.server and turn.stop != "pause_turn":
                result = f"{tool.name}_tool_result"
                found.append({"type": result, "tool_use_id": name, "content": tool.result or []})
        return found

    def _resumed(self) -> list[Json]:
        """Return the results that a turn begins with whose first part was paused."""
        last = self.request.messages[-1]
        uses = [block for block in last.blocks if block.type == "server_tool_use"]
        given = {block.tool_use_id for block in last.blocks if block.type.endswith("_tool_result")}
        return [
            {"type": f"{use.name}_tool_result", "tool_use_id": use.id, "content": []}
            for use in uses
            if use.id not in given
        ]

    @property
    def _room(self) -> int:
        return self.request.max_tokens * CHARACTERS_A_TOKEN

    def stop(self) -> Json:
        """Return ``stop_reason``, ``stop_sequence`` and ``stop_details``."""
        turn, reason = self.turn, self.turn.stop
        details: Json | None = None
        if turn.refusal is not None:
            reason = "refusal"
            details = {"type": "refusal", "category": turn.refusal, "explanation": None}
        elif reason is None:
            uses = any(not tool.server for tool in turn.tools)
            text = turn.text if turn.json_ is None else json.dumps(turn.json_)
            long = len(text or "") > self._room
            reason = "max_tokens" if long else "tool_use" if uses else "end_turn"
        return {"stop_reason": reason, "stop_sequence": None, "stop_details": details}

    # ── usage ────────────────────────────────────────────────────────────────────────────────────

    def usage_in(self) -> Json:
        """Return the usage that ``message_start`` tells: all input, and one token of output."""
        usage = self.turn.usage
        given = usage.input
        if given is None:
            given = max(1, self.input_characters // CHARACTERS_A_TOKEN)
        return {
            "input_tokens": given,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write + usage.cache_write_1h,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write,
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            },
            "output_tokens": 1,
            "service_tier": "standard",
        }

    def usage_out(self) -> Json:
        """Return the usage that ``message_delta`` tells: the totals."""
        usage, output = self.turn.usage, self.turn.usage.output
        if output is None:
            characters = sum(len(json.dumps(block)) for block in self.blocks())
            output = max(1, characters // CHARACTERS_A_TOKEN)
        thinking = len(self.turn.thinking or "") // CHARACTERS_A_TOKEN
        searches: Json = {"web_search_requests": usage.web_searches, "web_fetch_requests": 0}
        begun = self.usage_in()
        return {
            "input_tokens": begun["input_tokens"],
            "cache_read_input_tokens": begun["cache_read_input_tokens"],
            "cache_creation_input_tokens": begun["cache_creation_input_tokens"],
            "output_tokens": output,
            "output_tokens_details": {"thinking_tokens": min(thinking, output)},
            "server_tool_use": searches if usage.web_searches else None,
        }

    # ── the two forms ────────────────────────────────────────────────────────────────────────────

    def message(self) -> Json:
        """Return the answer in one piece."""
        usage = {**self.usage_in(), **self.usage_out()}
        return {**self._head(), "content": list(self.blocks()), **self.stop(), "usage": usage}

    def _head(self) -> Json:
        return {
            "id": f"msg_{self.number:08}",
            "type": "message",
            "role": "assistant",
            "model": self.request.model,
        }

    def events(self) -> Iterator[Json]:
        """Yield the events of the stream, from ``message_start`` to ``message_stop``."""
        begun: Json = {
            **self._head(),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.usage_in(),
        }
        yield {"type": "message_start", "message": begun}
        yield {"type": "ping"}
        for index, block in enumerate(self.blocks()):
            empty, deltas = self._deltas(block)
            yield {"type": "content_block_start", "index": index, "content_block": empty}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        yield {"type": "message_delta", "delta": self.stop(), "usage": self.usage_out()}
        yield {"type": "message_stop"}

    def _deltas(self, block: Json) -> tuple[Json, list[Json]]:
        match block["type"]:
            case "text":
                pieces = self._pieces(str(block["text"]))
                return {**block, "text": ""}, [{"type": "text_delta", "text": p} for p in pieces]
            case "thinking":
                pieces = self._pieces(str(block["thinking"]))
                deltas: list[Json] = [{"type": "thinking_delta", "thinking": p} for p in pieces]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
                return {**block, "thinking": "", "signature": ""}, deltas
            case "tool_use" | "server_tool_use":
                pieces = self._pieces(json.dumps(block["input"]))
                deltas = [{"type": "input_json_delta", "partial_json": p} for p in ["", *pieces]]
                return {**block, "input": {}}, deltas
            case _:
                return block, []

    def _pieces(self, text: str) -> list[str]:
        size = self.turn.chunk
        return [text[start : start + size] for start in range(0, len(text), size)]

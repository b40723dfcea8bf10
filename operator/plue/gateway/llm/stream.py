"""Reads what a call used from its answer while the answer passes by, without holding it up."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plue.store.usage import Tokens

__all__ = ["Meter"]

_INTERESTING = (b'"message_start"', b'"message_delta"', b'"message_stop"', b'"error"')
_DELTA, _START = b"content_block_delta", b"content_block_start"
BYTES_A_TOKEN = 3
"""For answers whose end did not arrive: fewer bytes a token than text has, so rather too much."""


@dataclass(slots=True)
class Meter:
    """Fed with the bytes of an answer; tells usage, whether it is whole, and when it began."""

    stream: bool
    ended: bool = False
    error: str | None = None
    began: bool = False
    _usage: dict[str, Any] = field(default_factory=dict)
    _rest: bytes = b""
    _content: int = 0
    _body: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer."""
        if not self.stream:
            self._body += chunk
            return
        *events, self._rest = (self._rest + chunk).split(b"\n\n")
        for event in events:
            self._event(event)

    def close(self) -> None:
        """Say that the answer's connection has ended as it should."""
        if not self.stream:
            self._whole()

    def _whole(self) -> None:
        try:
            body = json.loads(self._body)
            self._note(body["usage"])
        except (ValueError, KeyError, TypeError):
            return
        self.began = self.ended = True

    def _event(self, event: bytes) -> None:
        head = event[:64]
        if _DELTA in head or _START in head:
            self.began = True
            self._content += len(event)
            return
        if not any(kind in event for kind in _INTERESTING):
            return
        data = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
        try:
            said = json.loads(data)
        except ValueError:
            return
        match said.get("type"):
            case "message_start":
                self._note(said["message"].get("usage") or {})
            case "message_delta":
                self._note(said.get("usage") or {})
            case "message_stop":
                self.ended = True
            case "error":
                self.error = str((said.get("error") or {}).get("type"))
            case _:
                pass

    def _note(self, usage: Mapping[str, Any]) -> None:
        self._usage.update({k: v for k, v in usage.items() if v is not None})

    def tokens(self) -> Tokens | None:
        """Return what was used; an estimate while not ``ended``, None when nothing is known."""
        usage = self._usage
        if not usage:
            return None
        created = usage.get("cache_creation") or {}
        hour = int(created.get("ephemeral_1h_input_tokens") or 0)
        written = int(usage.get("cache_creation_input_tokens") or 0)
        output = int(usage.get("output_tokens") or 0)
        if not self.ended:
            output = max(output, self._content // BYTES_A_TOKEN)
        return Tokens(
            input=int(usage.get("input_tokens") or 0),
            output=output,
            cache_read=int(usage.get("cache_read_input_tokens") or 0),
            cache_write=max(0, written - hour),
            cache_write_1h=hour,
            web_searches=int((usage.get("server_tool_use") or {}).get("web_search_requests") or 0),
        )

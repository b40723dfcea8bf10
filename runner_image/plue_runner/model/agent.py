"""The ``agent`` step: turns and tools until the task is done.

Each turn is recorded before the next one is asked for, so that a lost runner can show what
happened. An agent ends by its tool ``finish``; one that stops without it is asked again, and one
that has no turns left is asked to say what was done and what is left.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from plue.schemas import problems
from plue.wire.events import Reason
from plue.wire.model_access import BudgetState
from plue_runner.faults import Fault
from plue_runner.model.answer import ANSWER_TOKENS, given_back, refusal, text_of, turn_body
from plue_runner.model.compaction import asked_for, begun_again, transcript
from plue_runner.model.line import Line, Reply
from plue_runner.model.schemas import Room, strict_schema
from plue_runner.model.telling import clipped
from plue_runner.model.tools import Toolbox

if TYPE_CHECKING:
    from anthropic.types import Message, ToolUseBlock

__all__ = ["FINISH", "MAX_TURNS", "Agent", "Result"]

FINISH = "finish"
MAX_TURNS = 50
_REMINDERS = 2
_LONG_CONTEXT = 150_000
"""Tokens of input beyond which a conversation is summed up: well below every model's window."""

_SYSTEM = """\
You work in a sandbox, at the root of a copy of a repository. Nobody can answer questions: decide \
yourself. Use the tools; paths are relative to the workspace. Check your work before you end it. \
When the task is done, or cannot be done, call `finish` and say so truthfully there."""

_LAST = """\
There are no turns left, and no tool can be used any more. Say in words what was done and what is \
left, so that somebody else can go on."""


@dataclass(frozen=True, slots=True)
class Result:
    """How an agent ended. ``fault`` is None when it finished; the rest is always there."""

    status: str
    summary: str
    turns: int
    outputs: Mapping[str, JsonValue] = field(default_factory=dict)
    fault: Fault | None = None


@dataclass(slots=True)
class Agent:
    """One agent at work."""

    line: Line
    client: str
    toolbox: Toolbox
    server_tools: tuple[dict[str, JsonValue], ...]
    schema: Mapping[str, JsonValue] | None
    max_turns: int
    _messages: list[Any] = field(default_factory=list, init=False)
    _turn: int = field(default=0, init=False)
    _stops: int = field(default=0, init=False)
    _compacted: int = field(default=-1, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    async def run(self, prompt: str) -> Result:
        """Work on *prompt*. Raises Fault for what no result can be had of: ModelFailed."""
        self._messages = [{"role": "user", "content": prompt}]
        while self._turn < self.max_turns:
            try:
                reply = await self._ask()
                done = await self._take(reply, prompt)
                if done is not None:
                    return done
                too_long = _input_tokens(reply.message) > _LONG_CONTEXT
                if too_long and self._compacted != self._turn:
                    await self._compact(prompt)
            except Fault as fault:
                return Result("failed", str(fault), self._turn, fault=fault)
        return await self._out_of_turns()

    async def _take(self, reply: Reply, prompt: str) -> Result | None:
        """Do what a turn asks for; return the result when it was the last one."""
        message = reply.message
        match message.stop_reason:
            case "tool_use":
                return await self._use(message, reply.budget)
            case "pause_turn":
                self._messages.append(given_back(message))
            case "refusal":
                refused = refusal(message)
                return Result("refused", str(refused), self._turn, fault=refused)
            case "model_context_window_exceeded":
                await self._compact(prompt)
            case "max_tokens":
                self._go_on(message, "Your answer was cut at its limit. Go on, in smaller parts.")
            case _:
                return self._stopped(message)
        return None

    async def _ask(self, **more: Any) -> Reply:
        self._turn += 1
        reply = await self.line.turn(self._turn, {**self._request(), **more})
        self.line.tell.turn(turn_body(reply))
        return reply

    def _request(self) -> dict[str, Any]:
        # The same in every turn: thoughts are bound to the tools that they were thought with.
        room, result = Room(), strict_schema(self._result_schema())
        finish = {
            "name": FINISH,
            "description": "End the work and give its result.",
            "input_schema": result,
            "strict": room.takes(result),
        }
        tools: list[Any] = [tool.declared(room) for tool in self.toolbox.tools.values()]
        tools += [*self.server_tools, finish]
        return {
            "model": self.client,
            "max_tokens": ANSWER_TOKENS,
            "system": _SYSTEM,
            "messages": list(self._messages),
            "tools": tools,
            "cache_control": {"type": "ephemeral"},
        }

    def _result_schema(self) -> Mapping[str, JsonValue]:
        if self.schema is not None:
            return self.schema
        return {
            "type": "object",
            "properties": {"summary": {"type": "string"}},
            "required": ["summary"],
        }

    def _go_on(self, message: "Message", words: str) -> None:
        self._messages.append(given_back(message))
        results: list[Any] = [
            {
                "type": "tool_result",
                "tool_use_id": block.id,
                "content": "not run: the answer was cut",
                "is_error": True,
            }
            for block in message.content
            if block.type == "tool_use"
        ]
        self._messages.append(
            {"role": "user", "content": [*results, {"type": "text", "text": words}]}
        )

    # ── tools ────────────────────────────────────────────────────────────────────────────────────

    async def _use(self, message: "Message", budget: BudgetState | None) -> Result | None:
        """Run the tools that the model asked for, all at once; a result when it finished."""
        uses = [block for block in message.content if block.type == "tool_use"]
        self._messages.append(given_back(message))
        results = await asyncio.gather(
            *(self._use_one(block, alone=len(uses) == 1) for block in uses)
        )
        if len(uses) == 1 and uses[0].name == FINISH and self._wrong(uses[0].input) is None:
            return self._finished(uses[0].input)
        content: list[Any] = list(results)
        if (notice := self._budget_notice(budget)) is not None:
            content.append({"type": "text", "text": notice})
        self._messages.append({"role": "user", "content": content})
        return None

    async def _use_one(self, block: "ToolUseBlock", *, alone: bool) -> dict[str, Any]:
        tell, began = self.line.tell, monotonic()
        given: Any = block.input
        tell.tool_start(block.id, block.name, given)
        if block.name == FINISH:
            wrong = self._wrong(block.input)
            if not alone:
                wrong = f"call `{FINISH}` alone, after you have seen the other results"
            text, ok = wrong or "the work ends here", wrong is None
        else:
            outcome = await self.toolbox.use(block.name, given, block.id)
            text, ok = tell.masker.text(outcome.text), outcome.ok
        took = int((monotonic() - began) * 1000)
        tell.tool_end(block.id, block.name, text, ok=ok, milliseconds=took)
        shown = await self.toolbox.shown(text)
        return {
            "type": "tool_result",
            "tool_use_id": block.id,
            "content": shown or "(no output)",
            "is_error": not ok,
        }

    def _wrong(self, given: object) -> str | None:
        problem = next(problems(self._result_schema(), given, FINISH), None)
        return None if problem is None else f"the result does not fit: {problem}; call it again"

    def _finished(self, given: Mapping[str, Any]) -> Result:
        summary = given.get("summary")
        text = summary if isinstance(summary, str) else ""
        outputs = dict(given) if self.schema is not None else {}
        return Result("finished", text, self._turn, outputs)

    def _budget_notice(self, budget: BudgetState | None) -> str | None:
        """Tell the agent once when little is left of a budget, and once when next to nothing is."""
        if budget is None or budget.limit <= 0:
            return None
        share = budget.left / budget.limit
        mark = "5 %" if share < 0.05 else "20 %" if share < 0.2 else ""  # noqa: PLR2004
        if not mark or f"{budget.scope}{mark}" in self._told:
            return None
        self._told.add(f"{budget.scope}{mark}")
        return (
            f"[less than {mark} of the {budget.scope}'s budget is left"
            f" ({budget.left:f} of {budget.limit:f} {budget.unit}): finish what matters most]"
        )

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────

    def _stopped(self, message: "Message") -> Result | None:
        """Return the result of an agent that stopped by itself; None when it was reminded."""
        text = text_of(message)
        if self.schema is None and text:
            return Result("finished", text, self._turn)
        self._stops += 1
        if self._stops <= _REMINDERS:
            self._go_on(message, f"You stopped without `{FINISH}`. Go on, or call it.")
            return None
        fault = Fault(
            Reason.INVALID_OUTPUT,
            f"the agent stopped {self._stops} times without giving the output that its prompt"
            " declares",
        )
        return Result("failed", text or str(fault), self._turn, fault=fault)

    async def _out_of_turns(self) -> Result:
        """Have the agent say what was done and what is left.

        In words: current models refuse a tool that is forced, and a tool that comes with the last
        turn would part them from all that they had thought.
        """
        fault = Fault(
            Reason.MAX_TURNS,
            f"the agent had {self.max_turns} turns and was not done",
            remedy="raise max_turns, or make the task smaller; `.summary` says what is left",
        )
        last = self._messages[-1]
        if last["role"] == "user":
            content = last["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            self._messages[-1] = {"role": "user", "content": [*parts, _words(_LAST)]}
        else:
            self._messages.append({"role": "user", "content": [_words(_LAST)]})
        try:
            reply = await self._ask(tool_choice={"type": "none"})
        except Fault as failed:
            return Result("max_turns", str(failed), self.max_turns, fault=fault)
        summary = text_of(reply.message).strip() or "The agent did not say what is left."
        return Result("max_turns", summary, self.max_turns, fault=fault)

    # ── long conversations ───────────────────────────────────────────────────────────────────────

    async def _compact(self, prompt: str) -> None:
        """Put a summary in the place of a conversation that has grown too long, and record it.

        Raises Fault when the conversation is too long again at once: then it is the task itself.
        """
        if self._turn <= self._compacted + 1:
            raise Fault(
                Reason.MODEL_FAILED,
                "the conversation is too long for its model, and a summary did not help",
                remedy="give the agent a shorter prompt, or tools with shorter results",
            )
        self._turn += 1
        self._compacted = self._turn
        request = {
            "model": self.client,
            "max_tokens": ANSWER_TOKENS,
            "system": _SYSTEM,
            "messages": asked_for(self._messages),
        }
        reply = await self.line.turn(self._turn, request)
        if reply.message.stop_reason == "refusal":
            raise refusal(reply.message)
        whole = transcript(self._messages)
        summary = self.line.tell.masker.text(text_of(reply.message)) or clipped(whole)
        notice = await self.toolbox.keep(whole, "\n[the whole conversation is in {path}]")
        told: dict[str, JsonValue] = {"compacted": True, "text": clipped(summary)}
        self.line.tell.turn(turn_body(reply) | told)
        self._messages = begun_again(self._messages, prompt, summary, notice)


def _words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _input_tokens(message: "Message") -> int:
    usage = message.usage
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return usage.input_tokens + cached

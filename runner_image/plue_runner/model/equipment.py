"""Which tools a prompt's agent gets, put together from their names."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from plue.wire.events import Reason
from plue.wire.plan import Function, Prompt, Question, Server, Step
from plue_runner.command import server_environment, tool_environment
from plue_runner.faults import Fault
from plue_runner.model.commands import Commands
from plue_runner.model.functions import function_tool
from plue_runner.model.line import Line
from plue_runner.model.tools import BUILT_IN, Tool, Toolbox, built_in_tools
from plue_runner.step import Setting, with_proxy

if TYPE_CHECKING:
    from plue_runner.model.servers import Running

__all__ = ["Equipment"]

Json = dict[str, JsonValue]

_SERVER_TOOLS: dict[str, Json] = {
    "web_search": {"type": "web_search_20260318", "name": "web_search", "max_uses": 20},
}
"""Tools that run at the provider; the gateway refuses them where the pool does not allow them."""


@dataclass(slots=True)
class _Running:
    """The servers that run for one agent, each started once."""

    stack: AsyncExitStack
    found: dict[str, "Running"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Equipment:
    """Makes the tools of one try of a step.

    Long results are kept below *kept*. *line* gives a line for a tool that asks a model itself,
    *client* is who answers there if its prompt names nobody.
    """

    step: Step
    setting: Setting
    number: int
    kept: Path
    line: Callable[[], Line]
    client: str

    @asynccontextmanager
    async def of(self, prompt: Prompt) -> AsyncIterator[tuple[Toolbox, tuple[Json, ...]]]:
        """Give the tools that *prompt* names, or the usual ones, and the provider's own.

        What they need runs until the context ends. Raises Fault for a tool that cannot be had.
        """
        commands = self._commands()
        known = built_in_tools(self.setting.places.workspace, self.kept, commands)
        tools: list[Tool] = []
        server: list[Json] = []
        async with AsyncExitStack() as stack:
            running = _Running(stack)
            for name in prompt.tools or BUILT_IN:
                if name in known:
                    tools.append(known[name])
                elif name in _SERVER_TOOLS:
                    server.append(_SERVER_TOOLS[name])
                elif name != "finish":
                    tools += await self._others(prompt, name, commands, running)
            yield Toolbox({tool.name: tool for tool in tools}, self.kept), tuple(server)

    async def _others(
        self, prompt: Prompt, name: str, commands: Commands, running: "_Running"
    ) -> list[Tool]:
        source = name.partition("/")[0] if name.startswith("mcp:") else name
        shown = name.rpartition(":")[2]
        match prompt.equipment.get(source):
            case Function() as function:
                folder = self.kept.with_name(f"{self.kept.name}-tools")
                return [function_tool(shown, function, commands, folder)]
            case Question() as question:
                # Late: it brings the client library.
                from plue_runner.model.questions import question_tool

                return [question_tool(shown, question, self.line, self.client)]
            case Server() as server:
                alone = name.partition("/")[2] or None
                return (await self._server(source, server, commands, running)).tools(alone)
            case None:
                raise Fault(
                    Reason.UNSUPPORTED,
                    f"the tool {name!r} of prompt {prompt.prompt!r} cannot be run by this version",
                    remedy=f"there are: {', '.join([*BUILT_IN, *_SERVER_TOOLS])}",
                )

    async def _server(
        self, source: str, server: Server, commands: Commands, running: "_Running"
    ) -> "Running":
        """Return the server, started when this is the first of its tools."""
        # Late: an agent without servers does not pay for them.
        from plue_runner.model import servers

        if source not in running.found:
            setting, name = self.setting, source.removeprefix("mcp:")
            env = server_environment(
                server.env,
                values=setting.values,
                places=setting.places,
                host=setting.host,
                cookie=setting.cookie,
            )
            context = servers.running(name, server, env, commands)
            running.found[source] = await running.stack.enter_async_context(context)
        return running.found[source]

    def _commands(self) -> Commands:
        setting = self.setting
        env = tool_environment(
            self.step,
            setting.assignment,
            number=self.number,
            values=setting.values,
            places=setting.places,
            host=with_proxy(setting, self.step.name),
            cookie=setting.cookie,
        )
        return Commands(
            family=setting.family,
            journal=setting.journal,
            step=self.step.name,
            attempt=setting.assignment.attempt,
            number=self.number,
            workspace=setting.places.workspace,
            env=env,
        )

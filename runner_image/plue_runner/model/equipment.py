"""Which tools a prompt's agent gets, put together from their names."""

from pathlib import Path

from pydantic import JsonValue

from plue.wire.events import Reason
from plue.wire.plan import Prompt, Step
from plue_runner.command import tool_environment
from plue_runner.faults import Fault
from plue_runner.model.commands import Commands
from plue_runner.model.tools import BUILT_IN, Tool, Toolbox, built_in_tools
from plue_runner.step import Setting

__all__ = ["toolbox_of"]

_SERVER_TOOLS: dict[str, dict[str, JsonValue]] = {
    "web_search": {"type": "web_search_20260318", "name": "web_search", "max_uses": 20},
}
"""Tools that run at the provider; the gateway refuses them where the pool does not allow them."""


def toolbox_of(
    prompt: Prompt, step: Step, setting: Setting, number: int, kept: Path
) -> tuple[Toolbox, tuple[dict[str, JsonValue], ...]]:
    """Return the tools that *prompt* names, or the usual ones, and the provider's own.

    Raises Fault (Unsupported) for a tool that this version cannot run.
    """
    env = tool_environment(
        step,
        setting.assignment,
        number=number,
        values=setting.values,
        places=setting.places,
        host=setting.host,
        cookie=setting.cookie,
    )
    commands = Commands(
        family=setting.family,
        journal=setting.journal,
        step=step.name,
        attempt=setting.assignment.attempt,
        number=number,
        workspace=setting.places.workspace,
        env=env,
    )
    known = built_in_tools(setting.places.workspace, kept, commands)
    chosen: dict[str, Tool] = {}
    server: list[dict[str, JsonValue]] = []
    for name in prompt.tools or BUILT_IN:
        if name in known:
            chosen[name] = known[name]
        elif name in _SERVER_TOOLS:
            server.append(_SERVER_TOOLS[name])
        elif name != "finish":
            raise Fault(
                Reason.UNSUPPORTED,
                f"the tool {name!r} of prompt {prompt.prompt!r} cannot be run by this version",
                remedy=f"there are: {', '.join([*BUILT_IN, *_SERVER_TOOLS])}",
            )
    return Toolbox(chosen, kept), tuple(server)

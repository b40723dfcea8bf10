"""The processes of MCP servers: started in the workspace, in the step's family, for one agent."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from plue.wire.events import Reason
from plue.wire.plan import Server
from plue_runner.capture import Tail
from plue_runner.explain import start_fault
from plue_runner.faults import Fault
from plue_runner.model.commands import Commands
from plue_runner.model.mcp import Listed, McpError, Peer
from plue_runner.model.tools import Tool
from plue_runner.output import Chunk, Chunker
from plue_runner.pipes import Pipes
from plue_runner.process import Spawned

__all__ = ["running"]

_SECONDS = 60.0
_EOF_SECONDS = 1.0
_GRACE_SECONDS = 1.0
_READ_BYTES = 64 * 1024
_TAIL_CHARACTERS = 2000
_MOST_UNREAD = 8 * 1024 * 1024


@asynccontextmanager
async def running(
    name: str, server: Server, env: Mapping[bytes, bytes], commands: Commands
) -> AsyncIterator["Running"]:
    """Run *server*, called *name*, with *env* and nothing else, until the context ends.

    Raises Fault when it does not start, or offers no list of tools.
    """
    process = _Process(name, server, env, commands)
    try:
        seconds = server.timeout_seconds or _SECONDS
        try:
            listed = await process.peer.begin(seconds)
        except McpError as error:
            raise process.fault(str(error)) from None
        yield Running(name, process.peer, {tool.name: tool for tool in listed}, seconds)
    finally:
        await asyncio.shield(process.close())


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs, and what it offers."""

    name: str
    peer: Peer
    listed: Mapping[str, Listed]
    seconds: float

    def tools(self, wanted: str | None) -> list[Tool]:
        """Return its tool *wanted*, or all. Raises Fault for one that cannot be given to a model.

        Of all, those that cannot are left out.
        """
        if wanted is None:
            return [self._tool(tool) for tool in self.listed.values() if tool.wrong is None]
        tool = self.listed.get(wanted)
        if tool is None:
            known = ", ".join(sorted(self.listed)) or "none"
            raise Fault(
                Reason.CANNOT_START,
                f"the MCP server {self.name!r} has no tool {wanted!r}",
                remedy=f"it has: {known}",
            )
        if tool.wrong is not None:
            raise Fault(
                Reason.CANNOT_START,
                f"the tool {wanted!r} of the MCP server {self.name!r} cannot be used: {tool.wrong}",
            )
        return [self._tool(tool)]

    def _tool(self, tool: Listed) -> Tool:
        async def run(given: Mapping[str, object]) -> str:
            return await self.peer.call(tool.name, given, self.seconds)

        shown = "".join(c if (c.isalnum() and c.isascii()) or c in "_-" else "_" for c in tool.name)
        called = f"mcp__{self.name}__{shown}"[:128]
        description = tool.description or f"{tool.name} of {self.name}"
        return Tool(called, description, tool.schema, run, strict=False, checked=False)


class _Process:
    """A server's process with its three pipes; what it says on standard error is the step's."""

    def __init__(
        self, name: str, server: Server, env: Mapping[bytes, bytes], commands: Commands
    ) -> None:
        self._name = name
        self._commands = commands
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._writing = False
        self._tail = Tail(_TAIL_CHARACTERS)
        self._closed: str | None = None
        self.peer = Peer(self._send, lambda: self._closed)
        with ExitStack() as ours, ExitStack() as theirs:
            stdin, self._stdin = os.pipe()
            self._stdout, stdout = os.pipe()
            self._stderr, stderr = os.pipe()
            for end in (self._stdin, self._stdout, self._stderr):
                ours.callback(os.close, end)
            for end in (stdin, stdout, stderr):
                theirs.callback(os.close, end)
            argv = [word.encode("utf-8", "surrogateescape") for word in server.command]
            try:
                self._process: Spawned = commands.family.spawn(
                    argv,
                    step=commands.step,
                    env=env,
                    cwd=commands.workspace,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                )
            except (OSError, ValueError) as error:
                fault = start_fault(error, argv, None)
                raise self.fault(str(fault)) from error
            ours.pop_all()
        for end in (self._stdin, self._stdout):
            os.set_blocking(end, False)
        self._loop.add_reader(self._stdout, self._read)
        journal = commands.journal
        self._pipes = Pipes(
            {"stderr": self._stderr},
            chunker=Chunker(journal.masker, lambda _, text: self._tail.feed(text), commands.lines),
            emit=self._emit,
            spool=journal.spool,
        )

    def fault(self, why: str) -> Fault:
        """Return the fault of a server that cannot be used."""
        said = self._tail.text.strip()
        return Fault(
            Reason.CANNOT_START,
            f"the MCP server {self._name!r} did not start: {why}{_last_words(said)}",
            remedy=f"correct it, or `mcp: {self._name}:` in .plue/config.yaml",
        )

    def _emit(self, chunk: Chunk) -> None:
        commands = self._commands
        commands.journal.output(commands.step, commands.attempt, commands.number, chunk)

    # ── its standard streams ─────────────────────────────────────────────────────────────────────

    def _read(self) -> None:
        try:
            data = os.read(self._stdout, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self.peer.hear(data)
            return
        self._loop.remove_reader(self._stdout)
        self._loop.create_task(self._gone())

    async def _gone(self) -> None:
        """Say how it ended: with what code, and its last words."""
        await asyncio.wait([self._process.exit], timeout=0.5)
        await asyncio.wait([self._pipes.drained], timeout=0.2)
        code = self._process.exit.result() if self._process.exit.done() else None
        how = "it closed its standard output" if code is None else f"it ended with code {code}"
        self._closed = how + _last_words(self._tail.text.strip())
        self.peer.fail(self._closed)

    def _send(self, data: bytes) -> None:
        if len(self._unsent) > _MOST_UNREAD:
            raise McpError("it does not read what it is told")
        self._unsent += data
        self._write()

    def _write(self) -> None:
        try:
            written = os.write(self._stdin, self._unsent) if self._unsent else 0
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            # How it ended is told when its output ends.
            self._unsent.clear()
            written = 0
        del self._unsent[:written]
        if bool(self._unsent) != self._writing:
            self._writing = bool(self._unsent)
            if self._writing:
                self._loop.add_writer(self._stdin, self._write)
            else:
                self._loop.remove_writer(self._stdin)

    async def close(self) -> None:
        """End the process with all that it started: first its input, as the protocol says."""
        self._closed = self._closed or "the agent has ended"
        self._loop.remove_reader(self._stdout)
        if self._writing:
            self._loop.remove_writer(self._stdin)
        os.close(self._stdin)
        family = self._commands.family
        await asyncio.wait([self._process.exit], timeout=_EOF_SECONDS)
        if not self._process.ended:
            await family.end(self._process, _GRACE_SECONDS)
        if family.leftovers(self._process):
            await family.clear(self._process)
        await asyncio.wait([self._pipes.drained], timeout=1.0)
        self._pipes.finish()
        os.close(self._stdout)
        family.settled(self._process)


def _last_words(said: str) -> str:
    return f"; it said: {said}" if said else ""
